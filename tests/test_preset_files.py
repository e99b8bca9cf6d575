"""Presets that people wrote: changed without losing a comment, copied, compared, and never half written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from minigpt.cli.main import main
from minigpt.config import Config, SettingItem, settings
from minigpt.errors import UserError
from minigpt.preset_files import (
    configuration_of,
    create,
    diff,
    duplicate,
    edited,
    free_name,
    save_values,
    text_of,
)
from minigpt.presets import (
    ConfigError,
    is_builtin,
    load_preset,
    parse,
    preset_paths,
    preset_summary,
    read_file,
    to_mapping,
    to_toml,
    with_values,
)
from minigpt.workspace import Workspace, builtin_presets

COMMENTED = """\
# What it is for.

[model]          # the network
d_model   = 64   # narrow
n_heads = 2

# About the training.
[training]
learning_rate = 1e-2  # brave
"""
TINY = (builtin_presets() / "tiny.toml").read_text()
COMMENTS = [line[line.index("#") :] for line in TINY.splitlines() if "#" in line]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path)
    found.configs.mkdir()
    return found


# -- changing


def test_only_the_value_changes() -> None:
    after = edited(COMMENTED, {"model.d_model": 128, "training.learning_rate": 0.005})
    expected = COMMENTED.replace("d_model   = 64 ", "d_model   = 128 ").replace("= 1e-2 ", "= 0.005 ")
    assert after == expected


def test_a_new_setting_stands_behind_those_of_its_section() -> None:
    lines = edited(COMMENTED, {"model.n_layers": 3, "training.max_steps": 7}).splitlines()
    assert lines[lines.index("n_heads = 2") + 1] == "n_layers = 3"
    assert lines[lines.index("# About the training.") + 1] == "[training]"
    assert lines[-1] == "max_steps = 7"
    assert [line for line in lines if line not in ("n_layers = 3", "max_steps = 7")] == COMMENTED.splitlines()


def test_a_new_section_stands_at_the_end() -> None:
    after = edited(COMMENTED, {"generation.top_k": 3})
    assert after.startswith(COMMENTED)
    assert tomli.loads(after)["generation"] == {"top_k": 3}


def test_what_is_left_to_be_chosen_keeps_its_comment() -> None:
    text = "[model]\nd_ff = 384  # measured\n"
    assert edited(text, {"model.d_ff": None}) == '[model]\nd_ff = "auto"  # measured\n'
    assert edited(text, {"model.n_kv_heads": None, "training.max_epochs": None}) == text


@pytest.mark.parametrize(
    "text",
    [
        'model.d_model = 64 # dotted\ncorpus.name = "x"\n',
        "model = { d_model = 64, n_heads = 2 } # inline\n",
        "\ufeff[model]\r\nd_model = 64 # from Windows\r\n\r\n[training]\r\nmax_steps = 3\r\n",
        "[model]\nd_model = 64",
        "",
    ],
    ids=["dotted", "inline", "windows", "no last newline", "empty"],
)
def test_every_way_of_writing_can_be_changed(text: str) -> None:
    changes = {"model.d_model": 128, "model.n_layers": 3, "training.max_steps": 9}
    after = edited(text, changes)
    assert parse(after, "x") == with_values(parse(text.removeprefix("\ufeff"), "x"), changes, "x")
    assert all(comment in after for comment in ("# dotted", "# inline", "# from Windows\r\n") if comment in text)


def possible_values(item: SettingItem) -> st.SearchStrategy[Any]:
    """Return values that a setting takes, awkward ones among them."""
    low, high = item.about.possible or (0, 10)
    if item.choices:
        kinds: st.SearchStrategy[Any] = st.sampled_from(item.choices)
    elif item.type == list[str]:
        kinds = st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=3)
    elif item.type in (bool, bool | None):
        kinds = st.booleans()
    elif item.type is str:
        kinds = st.text(st.characters(codec="utf-8"), max_size=8)
    elif item.type in (int, int | None):
        kinds = st.integers(int(low), int(high))
    else:
        kinds = st.floats(low, high)
    return st.one_of(st.none(), kinds) if item.optional else kinds


@given(st.data(), st.sampled_from(list(settings().values())))
@effort(max_examples=60, deadline=None)
def test_every_setting_can_be_changed_and_changed_back(data: st.DataObject, item: SettingItem) -> None:
    value = data.draw(possible_values(item))
    before = parse(TINY, "x")
    try:
        after = edited(TINY, {item.key: value})
    except ConfigError:  # it does not go with the others
        return
    assert item.value_in(parse(after, "x")) == value
    assert all(comment in after for comment in COMMENTS)
    assert parse(edited(after, {item.key: item.value_in(before)}), "x") == before


def test_a_change_that_cannot_be_leaves_the_file_as_it_was(workspace: Workspace) -> None:
    path = workspace.configs / "mine.toml"
    path.write_text(COMMENTED)
    for changes in ({"model.n_heads": 3}, {"model.d_model": "wide"}, {"model.width": 3}, {"": 1}):
        with pytest.raises(ConfigError):
            save_values(path, changes)
    assert path.read_text() == COMMENTED
    assert [entry.name for entry in workspace.configs.iterdir()] == ["mine.toml"]


def test_what_is_saved_is_what_is_read(workspace: Workspace) -> None:
    path = workspace.configs / "mine.toml"
    path.write_text(COMMENTED)
    path.chmod(0o640)
    saved = save_values(path, {"training.sample_prompts": ['"quoted" # not a comment', "é"]})
    assert read_file(path) == saved
    assert saved.training.sample_prompts == ['"quoted" # not a comment', "é"]
    assert path.stat().st_mode & 0o777 == 0o640


# -- copying


def test_a_copy_says_so_and_keeps_the_comments(workspace: Workspace) -> None:
    path = duplicate("tiny", "mine", workspace, {"training.max_steps": 5})
    assert path == workspace.configs / "mine.toml"
    assert path.read_text().endswith(TINY.replace("max_steps = 600", "max_steps = 5"))
    assert preset_summary(path) == "mine: tiny with changes of your own."
    assert load_preset("mine", workspace) == with_values(
        load_preset("tiny", workspace), {"training.max_steps": 5}, "test"
    )
    assert (builtin_presets() / "tiny.toml").read_text() == TINY


@pytest.mark.parametrize("name", ["tiny", "taken", "../out", "a b", "", ".hidden"])
def test_a_name_that_will_not_do_is_refused(workspace: Workspace, name: str) -> None:
    (workspace.configs / "taken.toml").write_text("# mine\n")
    with pytest.raises(UserError):
        duplicate("small", name, workspace)
    assert sorted(path.name for path in workspace.configs.iterdir()) == ["taken.toml"]


def test_a_copy_is_made_where_there_was_no_folder(tmp_path: Path) -> None:
    path = create("new", "[training]\nmax_steps = 3\n", Workspace(tmp_path), "Three steps.")
    assert path.read_text() == "# Three steps.\n#\n[training]\nmax_steps = 3\n"


def test_a_name_for_a_copy_is_free() -> None:
    assert free_name("tiny", ["tiny"]) == "tiny-2"
    assert free_name("tiny-2", ["tiny", "tiny-2", "tiny-3"]) == "tiny-4"
    assert free_name("small-512", ["small-512"]) == "small-512-2"


def test_ones_own_presets_are_known_in_a_checkout_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There configs/ of the workspace is the folder of the built-in ones."""
    workspace = Workspace(tmp_path)
    workspace.configs.mkdir()
    monkeypatch.setattr("minigpt.presets.builtin_presets", lambda: workspace.configs)
    assert is_builtin(workspace.configs / "tiny.toml", workspace)
    assert not is_builtin(workspace.configs / "mine.toml", workspace)
    assert is_builtin(workspace.configs / "mine.toml", Workspace(tmp_path / "elsewhere"))


def test_the_built_in_presets_are_known_by_name() -> None:
    checkout = Workspace(builtin_presets().parent)
    assert all(is_builtin(path, checkout) for path in builtin_presets().glob("*.toml"))


# -- comparing


def test_a_difference_has_both_values(workspace: Workspace) -> None:
    one, other = load_preset("tiny", workspace), load_preset("small", workspace)
    found = {key: (a, b) for key, a, b in diff(one, other)}
    flat = [{key: item.value_in(config) for key, item in settings().items()} for config in (one, other)]
    assert found == {key: (flat[0][key], flat[1][key]) for key in flat[0] if flat[0][key] != flat[1][key]}
    assert diff(one, one) == []


def test_a_run_and_a_file_can_be_compared_too(workspace: Workspace) -> None:
    config = with_values(Config(), {"training.max_steps": 77}, "test")
    run = workspace.run_directory("done-1")
    run.mkdir(parents=True)
    (run / "config.toml").write_text(to_toml(config))
    assert configuration_of("done-1", workspace) == config
    assert configuration_of(str(run / "config.toml"), workspace) == config
    with pytest.raises(UserError, match="tiny"):
        configuration_of("tinny", workspace)


def test_a_configuration_as_a_preset_says_what_is_not_usual() -> None:
    config = with_values(Config(), {"training.max_steps": 77, "model.d_model": 64}, "test")
    assert tomli.loads(text_of(config)) == {"model": {"d_model": 64}, "training": {"max_steps": 77}}
    assert parse(text_of(config), "x") == config


# -- the command line


def test_new_makes_a_preset_that_differs_as_asked(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--workspace", str(workspace.root)]
    assert (
        main(["presets", "new", "mine", "--from", "small", "--max-steps", "50", "--set", "model.dropout=0.1", *at]) == 0
    )
    assert capsys.readouterr().out.strip() == str(preset_paths(workspace)["mine"])
    assert main(["presets", "diff", "small", "mine", "--json", *at]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"key": "model.dropout", "one": 0.0, "other": 0.1},
        {"key": "training.max_epochs", "one": 10, "other": None},
        {"key": "training.max_steps", "one": None, "other": 50},
    ]
    assert main(["presets", "show", "mine", "--json", *at]) == 0
    assert json.loads(capsys.readouterr().out) == to_mapping(load_preset("mine", workspace))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["new", "tiny"], "already"),
        (["new", "mine", "--from", "tinny"], "'tiny'"),
        (["new", "mine", "--max-steps", "many"], "whole number"),
        (["new", "mine", "--set", "model.dmodel=3"], "command line: there is no setting 'model.dmodel'"),
        (["new", "mine", "--set", "model.n_heads=7"], "command line: model.n_heads = 7 does not divide"),
        (["diff", "tiny", "tinny"], "'tiny'"),
    ],
)
def test_mistakes_are_told(
    workspace: Workspace, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["presets", *arguments, "--workspace", str(workspace.root)]) == 2
    assert told in capsys.readouterr().err
    assert not list(workspace.configs.iterdir())


def test_the_list_says_whose_a_preset_is_and_all_that_is_wrong(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace.configs / "mine.toml").write_text("# My own.\n")
    (workspace.configs / "bad.toml").write_text("[model]\nd_modl = 3\nn_heads = -1\n")
    assert main(["presets", "list", "--workspace", str(workspace.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (mine,) = [line for line in lines if line.startswith("mine ")]
    assert mine.split()[1] == "yours" and mine.endswith("My own.")
    assert next(line for line in lines if line.startswith("tiny ")).split()[1] == "built-in"
    bad = next(index for index, line in enumerate(lines) if line.startswith("bad "))
    assert lines[bad].endswith("cannot be used:")
    assert [line[:4] for line in lines[bad + 1 : bad + 3]] == ["  - ", "  - "]
    assert "\\n" not in "".join(lines)
