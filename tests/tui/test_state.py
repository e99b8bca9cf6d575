"""What the app remembers: whole or not at all, and never in its own way."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.errors import UserError
from minigpt.workspace import Workspace
from tui import state as state_module
from tui.state import (
    PersonalSettings,
    UIState,
    app_folder,
    load_settings,
    load_state,
    save_state,
    settings_path,
    write_whole,
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    settings_path().parent.mkdir(parents=True)
    return settings_path()


def state_file(workspace: Workspace) -> Path:
    return app_folder(workspace) / "state.json"


# The state of a workspace


def test_what_was_saved_is_there_again(workspace: Workspace) -> None:
    state = UIState(pane="chat", run="tiny-1", seen_steps={"tiny-1": 12}, smoothing=0.99, chat_draft='a "b"\n☃ \x1b')
    save_state(workspace, state)
    assert load_state(workspace) == state


def test_without_a_file_all_is_as_at_first(workspace: Workspace) -> None:
    assert load_state(workspace) == UIState()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\x00",
        b'{"pane": 3}',
        b'{"seen_steps": {"run": "many"}}',
        b'{"smoothing": 2.0}',
        b'{"smoothing": -1}',
        b'{"future": ' + b"[" * 100_000,
    ],
    ids=["empty", "half", "list", "bytes", "type", "value", "beyond", "below", "deep"],
)
def test_a_damaged_file_counts_as_none(workspace: Workspace, content: bytes) -> None:
    app_folder(workspace).mkdir(parents=True)
    state_file(workspace).write_bytes(content)
    assert load_state(workspace) == UIState()


def test_what_a_later_version_remembers_is_passed_over(workspace: Workspace) -> None:
    app_folder(workspace).mkdir(parents=True)
    state_file(workspace).write_text('{"pane": "runs", "hologram": true}')
    assert load_state(workspace) == UIState(pane="runs")


def test_a_file_that_is_a_directory_counts_as_none_and_stays(workspace: Workspace) -> None:
    state_file(workspace).mkdir(parents=True)
    save_state(workspace, UIState(pane="runs"))
    assert load_state(workspace) == UIState()


def test_a_name_that_json_cannot_hold_does_not_cost_the_rest(workspace: Workspace) -> None:
    save_state(workspace, UIState(pane="runs", run=os.fsdecode(b"caf\xe9"), chat_draft="hello"))
    loaded = load_state(workspace)
    assert (loaded.pane, loaded.chat_draft) == ("runs", "hello")


@settings(max_examples=30, deadline=None)
@given(st.builds(UIState, run=st.none() | st.text(), seen_steps=st.dictionaries(st.text(), st.integers(0, 2**53))))
def test_any_state_survives(state: UIState) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_state(Workspace(Path(folder)), state)
        assert load_state(Workspace(Path(folder))) == state


def test_two_states_do_not_share_what_they_saw() -> None:
    UIState().seen_steps["run"] = 1
    assert UIState().seen_steps == {}


@pytest.mark.parametrize("obstacle", ["a file for a folder", "a link to nowhere"])
def test_where_nothing_can_be_saved_nothing_happens(workspace: Workspace, obstacle: str) -> None:
    workspace.checkpoints.mkdir()
    if obstacle == "a file for a folder":
        app_folder(workspace).write_text("")
    else:
        app_folder(workspace).symlink_to("/nowhere/at/all")
    save_state(workspace, UIState())
    assert load_state(workspace) == UIState()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only(workspace: Workspace) -> None:
    save_state(workspace, UIState(pane="runs"))
    app_folder(workspace).chmod(0o500)
    save_state(workspace, UIState(pane="chat"))
    app_folder(workspace).chmod(0o700)
    assert load_state(workspace) == UIState(pane="runs")


def test_a_full_disk_leaves_the_file_before_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder" / "file"
    write_whole(path, b"before")

    class FullDisk:
        def __init__(self, descriptor: int, mode: str) -> None:
            os.close(descriptor)

        def __enter__(self) -> FullDisk:
            return self

        def __exit__(self, *exception: object) -> None:
            return None

        def write(self, content: bytes) -> None:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(state_module.os, "fdopen", FullDisk)
        with pytest.raises(OSError, match="No space"):
            write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    assert [found.name for found in path.parent.iterdir()] == ["file"]


# The settings of a person


def test_without_settings_there_are_the_usual_ones(settings_file: Path) -> None:
    assert load_settings() == PersonalSettings()


def test_settings_are_read(settings_file: Path) -> None:
    settings_file.write_text('theme = "nord"\nbraille = false\n[keys]\n"train.start" = "s,enter"\n')
    assert load_settings() == PersonalSettings("nord", False, {"train.start": "s,enter"})


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b'theme = "nord', "Unterminated"),
        (b"theme = 3", "theme"),
        (b"colour = 1", "colour"),
        (b"[keys]\nstart = 1", "keys"),
        (b"\xff\xfe", "utf-8"),
        (b"a = " + b"[" * 5000, "was not used"),
        (b'"\\u001b[2J" = 1', "\\x1b"),
    ],
    ids=["unfinished", "type", "unknown", "key", "bytes", "deep", "control"],
)
def test_settings_that_make_no_sense_are_named_in_a_sentence(settings_file: Path, content: bytes, word: str) -> None:
    settings_file.write_bytes(content)
    with pytest.raises(UserError) as failure:
        load_settings()
    told = str(failure.value)
    assert str(settings_file) in told and word in told and "[keys]" in told
    assert "\n" not in told and "\x1b" not in told


def test_settings_that_are_a_folder_are_named_too(settings_file: Path) -> None:
    settings_file.mkdir()
    with pytest.raises(UserError, match="was not used"):
        load_settings()


def test_settings_lie_in_the_home_folder_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings_path() == tmp_path / ".config" / "minigpt" / "settings.toml"
