"""The form of all settings: typed into, chosen, judged at each letter, explained."""

from __future__ import annotations

import pytest
from textual.widgets import Input

from minigpt.config import settings
from minigpt.presets import load_preset
from minigpt.workspace import Workspace
from tests.tui.presets_pane.pane import (
    MIDDLE,
    OUTLOOK,
    SMALL,
    draft_of,
    form_of,
    line_of,
    pane_of,
    press,
    screen,
    settled,
    type_value,
)
from tests.tui.screens import differences
from tui.presets.draft import Draft
from tui.presets.fields import value_text
from tui.presets.figures import Prospects


@pytest.mark.asyncio
async def test_the_form_has_every_setting_with_its_value(workspace: Workspace) -> None:
    async with form_of(workspace, "second") as pilot:
        fields = pane_of(pilot).form.fields
        assert [row.key for row in fields.rows if row.key in settings()] == list(settings())
        config = load_preset("second", workspace)
        for row in fields.rows:
            if row.key in settings():
                item = settings()[row.key]
                assert (value_text(item, item.value_in(config)) or "none") in row.text


@pytest.mark.parametrize("size", [SMALL, MIDDLE, (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.asyncio
async def test_the_form_looks_as_it_did(
    workspace: Workspace, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned(workspace: Workspace, draft: Draft, corpus: str) -> Prospects:
        return Prospects(corpus, OUTLOOK, toml=draft.toml())  # type: ignore[arg-type]

    monkeypatch.setattr("tui.presets.form.prospects_of", planned)
    async with form_of(workspace, "second", size) as pilot:
        await type_value(pilot, "model.n_heads", "32", "up")
        await pilot.pause(0.02)
        await settled(pilot)
        changed = differences(f"presets-form-{size[0]}x{size[1]}", screen(pilot) + "\n")
        assert not changed, changed


@pytest.mark.slow
@pytest.mark.asyncio
async def test_what_is_typed_is_judged_at_each_letter(workspace: Workspace) -> None:
    async with form_of(workspace, "first", SMALL) as pilot:
        await type_value(pilot, "training.learning_rate", "5")
        assert "! above the usual 0.03" in screen(pilot)
        await press(pilot, "5")
        assert "✗ must be a number from 0 to 10" in screen(pilot)
        await press(pilot, "enter")
        assert isinstance(pilot.app.focused, Input), "a value that is not allowed is not taken"
        await press(pilot, "backspace", "backspace", *"0", "full_stop", *"02", "enter")
        assert line_of(pilot, "learning_rate").split()[1:5] == ["●", "learning_rate", "0.02", "was"]


@pytest.mark.asyncio
async def test_escape_leaves_a_value_as_it_was(workspace: Workspace) -> None:
    async with form_of(workspace, "first") as pilot:
        await type_value(pilot, "model.d_model", "96", "escape")
        assert pane_of(pilot).form.draft is not None
        assert not draft_of(pilot).changes
        assert line_of(pilot, "d_model").split()[1:3] == ["d_model", "128"]


@pytest.mark.asyncio
async def test_arrow_keys_go_through_the_choices(workspace: Workspace) -> None:
    async with form_of(workspace, "first") as pilot:
        pane_of(pilot).form.fields.go_to("model.family")
        seen = []
        for _ in range(3):
            await press(pilot, "right")
            seen.append(draft_of(pilot).value("model.family"))
        assert seen == ["gpt2", "llama", "qwen3"]
        assert not draft_of(pilot).changes, "back where it began, nothing is changed"


@pytest.mark.asyncio
async def test_a_change_can_be_taken_back_or_made_usual(workspace: Workspace) -> None:
    async with form_of(workspace, "second") as pilot:
        await type_value(pilot, "model.d_model", "64", "enter", "delete")
        draft = pane_of(pilot).form.draft
        assert draft is not None
        assert draft.changes == {"model.d_model": 128}
        await press(pilot, "u")
        assert draft.changes == {}


@pytest.mark.asyncio
async def test_sections_are_a_key_away(workspace: Workspace) -> None:
    async with form_of(workspace, "first", SMALL) as pilot:
        fields = pane_of(pilot).form.fields
        seen = []
        for _ in range(4):
            await press(pilot, "right_square_bracket")
            seen.append(fields.current.text.split()[0])  # type: ignore[union-attr]
        assert seen == ["[tokenizer]", "[model]", "[training]", "[generation]"]
        await press(pilot, "left_square_bracket")
        assert fields.current.text.startswith("[training]")  # type: ignore[union-attr]


@pytest.mark.asyncio
async def test_each_setting_has_its_help(workspace: Workspace) -> None:
    async with form_of(workspace, "first") as pilot:
        for key in ("model.dropout", "training.eval_every", "training.compile"):
            pane_of(pilot).form.fields.go_to(key)
            await settled(pilot)
            about, shown = settings()[key].about, " ".join(screen(pilot).split())
            for words in (about.meaning, about.too_low, about.too_high, about.auto):
                assert all(word in shown for word in words.split())


@pytest.mark.slow
@pytest.mark.asyncio
async def test_the_longest_help_is_whole_on_a_small_screen(workspace: Workspace) -> None:
    async with form_of(workspace, "first", SMALL) as pilot:
        for key in settings():
            pane_of(pilot).form.fields.go_to(key)
            await settled(pilot)
            assert "A good start:" in screen(pilot), key
