"""The values of settings as text, and a draft of them, without a screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from minigpt.config import Config, settings
from minigpt.presets import load_preset, with_values
from minigpt.workspace import Workspace
from tui.presets.draft import Draft
from tui.presets.fields import BAD, UNUSUAL, parsed, value_text, verdict


@pytest.mark.parametrize("preset", ["tiny", "gpt2-from-scratch", "dolma-75m"])
def test_every_value_can_be_typed_as_it_is_shown(preset: str, tmp_path: Path) -> None:
    for config in (Config(), load_preset(preset, Workspace(tmp_path))):
        for item in settings().values():
            value = item.value_in(config)
            assert parsed(item, value_text(item, value)) == value


def test_a_list_is_typed_as_one_text_or_as_several() -> None:
    item = settings()["training.sample_prompts"]
    assert parsed(item, "The cat") == ["The cat"]
    assert parsed(item, '["The cat", "A dog"]') == ["The cat", "A dog"]
    assert parsed(item, " ") == []
    with pytest.raises(ValueError, match="list of texts"):
        parsed(item, '["The cat')


def test_a_value_is_judged_by_what_is_possible_and_what_is_usual() -> None:
    item = settings()["training.learning_rate"]
    assert verdict(item, "11").sign == BAD
    assert "from 0 to 10" in verdict(item, "fast").words
    unusual = verdict(item, "0.5")
    assert (unusual.sign, item.about.too_high in unusual.words) == (UNUSUAL, True)
    assert verdict(item, "0.01").sign not in (BAD, UNUSUAL)


def test_a_draft_that_contradicts_itself_says_why(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[model]\nn_heads = 4\n")
    draft = Draft.read("mine", path, Workspace(tmp_path))
    draft.put("model.n_heads", 3)
    assert draft.config is None
    assert draft.problems[0].startswith("model.n_heads = 3 does not divide")
    draft.put("model.d_model", 96)
    assert draft.config == with_values(Config(), {"model.n_heads": 3, "model.d_model": 96}, "test")
