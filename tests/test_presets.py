"""Settings in and out: TOML, JSON, flags, and every mistake told at once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt.config import Config, settings
from minigpt.errors import UserError
from minigpt.presets import (
    ConfigError,
    convert,
    load_preset,
    parse,
    preset_paths,
    preset_summary,
    read_file,
    to_mapping,
    to_toml,
    unusual,
    with_values,
)
from minigpt.workspace import Workspace, builtin_presets

BUILT_IN = sorted(path.stem for path in builtin_presets().glob("*.toml"))


def test_all_promised_presets_are_there() -> None:
    assert set(BUILT_IN) == {
        "tiny",
        "small",
        "medium",
        "small-512",
        "gpt2-from-scratch",
        "gpt2-medium-from-scratch",
        "dolma-75m",
        "shakespeare-char",
        "words",
    }


@pytest.mark.parametrize("name", BUILT_IN)
def test_our_presets_trip_no_warning_of_ours(name: str, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert unusual(load_preset(name, workspace)) == []
    assert len(preset_summary(preset_paths(workspace)[name])) > 20


@pytest.mark.parametrize("name", BUILT_IN)
def test_toml_and_json_say_the_same(name: str, tmp_path: Path) -> None:
    config = load_preset(name, Workspace(tmp_path))
    file = tmp_path / "config.json"
    file.write_text(json.dumps(to_mapping(config)))
    assert parse(to_toml(config), "x") == config == read_file(file)


def test_all_mistakes_come_at_once_with_file_key_value_and_what_is_allowed() -> None:
    text = '[modl]\nx = 1\n[model]\nn_head = 3\nd_model = -4\n[training]\nlearning_rate = "fast"\nmax_epochs = 1.5\n'
    with pytest.raises(ConfigError) as caught:
        parse(text, "my.toml")
    problems = caught.value.problems
    assert len(problems) == 5
    assert all(problem.startswith("my.toml: ") for problem in problems)
    assert "'model'" in problems[0]
    assert "Did you mean 'model.n_heads'?" in problems[1]
    assert "model.d_model = -4" in problems[2]
    assert "from 8 to 32,768" in problems[2]
    assert "training.learning_rate = 'fast'" in problems[3]
    assert "a whole number" in problems[4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("d_model = 64", "belongs below [model]"),
        ("[model]\nn_heads = 5", "n_heads = 2 or 4 or 8"),
        ("[model]\nn_heads = 4\nn_kv_heads = 3", "a divisor of 4"),
        ("[model]\nd_model = 12\nn_heads = 4", "rotated in pairs (RoPE): choose model.n_heads = 2 or 3 or 6"),
        ("[model]\nd_model = 130\nn_heads = 4", "choose model.n_heads = 1 or 5 or 13"),
        ("[model]\nd_model = 129\nn_heads = 4", "a model.d_model that is a multiple of 8, such as 128"),
        ('[model]\nfamily = "gpt2"\nd_model = 130\nn_heads = 4', "choose model.n_heads = 1 or 2 or 5"),
        ("[model]\nhead_dim = 5", "choose an even model.head_dim"),
        ("[corpus]\nvalidation_fraction = 0.5\ntest_fraction = 0.5", "leave nothing to learn from"),
        ("[training]\nlearning_rate = nan", "a number from 0 to 10"),
        ("[model", "not valid TOML"),
        ("[training]\nlr = 0.1", "training.learning_rate"),
    ],
)
def test_one_mistake_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text, "my.toml")
    assert said in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    large = tmp_path / "large.toml"
    large.write_text("#" * 2_000_000)
    for path in (tmp_path / "absent.toml", binary, large, tmp_path):
        with pytest.raises(UserError, match=path.name):
            read_file(path)


def test_an_unknown_preset_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'tiny'"):
        load_preset("tinny", Workspace(tmp_path))


def test_a_preset_of_ones_own_comes_before_the_built_in(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.configs.mkdir()
    (workspace.configs / "tiny.toml").write_text("[model]\nn_layers = 9\n")
    assert load_preset("tiny", workspace).model.n_layers == 9


@given(st.integers(8, 200), st.integers(1, 20), st.sampled_from(["gpt2", "qwen3"]))
def test_what_is_suggested_will_do(width: int, heads: int, family: str) -> None:
    values = {"model.d_model": width, "model.n_heads": heads, "model.family": family}
    try:
        with_values(Config(), values, "test")
    except ConfigError as error:
        name, _, suggested = str(error).partition("choose ")[2].partition("model.")[2].partition(" = ")
        for count in re.findall(r"\d+", suggested):
            with_values(Config(), {**values, f"model.{name}": int(count)}, "test")
        if not suggested:
            least = re.findall(r"such as (\d+)", str(error))[0]
            with_values(Config(), {**values, "model.d_model": int(least)}, "test")


@pytest.mark.parametrize("key", sorted(settings()))
def test_every_setting_is_explained_and_its_default_allowed(key: str) -> None:
    item = settings()[key]
    assert item.about.meaning.endswith(".")
    assert convert(item, item.default if item.default is not None else "auto") == item.default
    if item.about.usual:
        assert item.about.possible is not None
        assert item.about.possible[0] <= item.about.usual[0] <= item.about.usual[1] <= item.about.possible[1]


def test_flags_are_unique() -> None:
    flags = [flag for item in settings().values() for flag in item.flags]
    assert len(flags) == len(set(flags))


@given(st.sampled_from(sorted(settings())), st.one_of(st.text(max_size=8), st.floats(), st.integers(), st.booleans()))
def test_any_value_is_taken_or_refused_in_words(key: str, value: object) -> None:
    for from_text in (False, True):
        try:
            config = with_values(Config(), {key: value}, "test", from_text=from_text)
        except ConfigError as error:
            assert str(error).startswith("test: ")
        else:
            assert parse(to_toml(config), "again") == config
