"""Somebody meddles with a run while it trains, or before it goes on: it trains on, and its losses are the same."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minigpt.cli.main import main
from minigpt.errors import UserError
from minigpt.events import EVENTS
from minigpt.jobs import COMMANDS, LOG, send_command
from minigpt.lock import LOCK, RunLock, owner
from minigpt.runs import summarise
from minigpt.workspace import Workspace
from tests.conftest import small_config, tale_workspace
from tests.faults.harness import events_of, losses_of, notices_of
from tests.faults.watching import HOUR, WEEK, absurd_commands, append, command, until

Mischief = Callable[[Path], object]
QUICK = {"model__n_layers": 1, "training__save_every": 4, "training__eval_every": 12, "generation__max_new_tokens": 4}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a run of twelve steps, `whole`, that nobody disturbed."""
    found = tale_workspace(tmp_path_factory.mktemp("watchers"))
    assert train(found, "whole") == 0
    return found


def quiet(message: str) -> None:
    """Say nothing."""


def train(workspace: Workspace, run: str, step: int = 0, mischief: Mischief = str) -> int:
    """Train a run of twelve steps in this process, do something after one of them, and return the exit code."""
    from minigpt.training.session import Session

    session = Session.new(workspace, small_config(**QUICK), run=run, say=quiet)

    def look(event: dict[str, Any]) -> None:
        if event["type"] == "step" and event["step"] == step:
            mischief(session.directory)

    return session.train((look,))


def losses_of_run(workspace: Workspace, run: str) -> dict[int, float | None]:
    return losses_of(workspace.run_directory(run))


def test_a_run_trains_on_under_absurd_commands_and_without_its_files(trained: Workspace) -> None:
    def mischief(directory: Path) -> None:
        for line in absurd_commands():
            append(directory / COMMANDS, line)
        append(directory / COMMANDS, command("\x1b[2J", args={"\x1b]0;owned\x07": "\x00"}))
        append(directory / COMMANDS, command("sample", args={"prompt": "\x1b[31m\u202e"}))
        append(directory / COMMANDS, command("set", args={"lr_scale": -1e300}))
        (directory / EVENTS).unlink()
        (directory / LOCK).unlink()
        assert not RunLock(directory).acquire(), "a second trainer"

    assert train(trained, "tried", 4, mischief) == 0
    assert losses_of_run(trained, "tried") == losses_of_run(trained, "whole")
    directory = trained.run_directory("tried")
    answers = [event for event in events_of(directory) if event["type"] == "command"]
    assert [answer["done"] for answer in answers] == [False, True, False]
    assert "\x1b" not in (directory / LOG).read_text()


def test_a_run_says_that_others_may_steer_it_and_does_not_obey(trained: Workspace) -> None:
    def mischief(directory: Path) -> None:
        send_command(directory, "set", {"lr_scale": 0.5})
        (directory / COMMANDS).chmod(0o666)
        send_command(directory, "stop")

    assert train(trained, "open", 3, mischief) == 0
    assert "commands-untrusted" in notices_of(trained.run_directory("open"))
    assert not any(event["type"] == "command" for event in events_of(trained.run_directory("open")))


def test_a_run_whose_folder_was_exchanged_waits_and_writes_into_no_other(trained: Workspace) -> None:
    directory, aside = trained.run_directory("exchanged"), trained.checkpoints / ".aside"

    def exchange(_: Path) -> None:
        directory.rename(aside)
        directory.mkdir()
        threading.Thread(target=bring_back).start()

    def bring_back() -> None:
        until(lambda: {"save-failed", "events-unwritten"} & set(notices_of(aside)))
        found.extend(path.name for path in directory.glob("*.pt"))
        shutil.rmtree(directory)
        aside.rename(directory)

    found: list[str] = []
    assert train(trained, "exchanged", 5, exchange) == 0
    assert found == []
    assert losses_of_run(trained, "exchanged") == losses_of_run(trained, "whole")
    assert "room-again" in notices_of(directory)


def test_of_two_trainers_on_one_run_the_second_is_told(trained: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    directory = trained.run_directory("whole")
    for remove in (False, True):
        with RunLock(directory):
            if remove:
                (directory / LOCK).unlink()
            for arguments in (["--resume", "whole", "--max-steps", "20"], ["--run", "whole", "--corpus", "tale"]):
                assert main(["train", *arguments, "--workspace", str(trained.root)]) == 2
                told = capsys.readouterr().err
                assert "training right now" in told or "already" in told


def test_what_another_trainer_did_while_one_got_ready_is_not_gone_back_behind(trained: Workspace) -> None:
    from minigpt.training.session import Session

    shutil.copytree(trained.run_directory("whole"), trained.run_directory("twice"))
    first, second = (Session.resume(trained, "twice", steps=steps, say=quiet) for steps in (14, 16))
    assert first.train() == 0
    with pytest.raises(UserError, match="meanwhile"):
        second.train()
    assert len(losses_of_run(trained, "twice")) == 14


def test_a_run_copied_from_another_machine_goes_on_here(trained: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    from minigpt.training.session import Session

    # It was copied while it trained, and there is a process of that number here too.
    copied = trained.run_directory("copied")
    left_out = shutil.ignore_patterns("final*", "best*", "*step_12*", "*epoch*")
    shutil.copytree(trained.run_directory("whole"), copied, ignore=left_out)
    lines = (copied / EVENTS).read_bytes().splitlines(keepends=True)
    (copied / EVENTS).write_bytes(b"".join(lines[: next(n for n, line in enumerate(lines) if b'"step":11' in line)]))
    signature = {"pid": os.getpid(), "started": time.time() - WEEK, "host": "another-machine"}
    (copied / LOCK).write_text(json.dumps(signature))
    (copied / COMMANDS).write_bytes(command("stop", time=time.time() - HOUR))
    assert owner(copied) is None
    assert summarise(copied).state == "crashed"
    assert main(["control", "copied", "stop", "--workspace", str(trained.root)]) == 2
    assert "is not training now" in capsys.readouterr().err
    session = Session.resume(trained, "copied", say=quiet)
    assert session.progress.step == 8
    assert session.train() == 0
    assert losses_of_run(trained, "copied") == losses_of_run(trained, "whole")


@pytest.mark.parametrize("version", [0, 2])
def test_a_checkpoint_of_another_version_is_refused_in_words(
    trained: Workspace, version: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from minigpt.model import checkpoint

    run, root = f"version-{version}", ["--workspace", str(trained.root)]
    shutil.copytree(trained.run_directory("whole"), trained.run_directory(run))
    for path in trained.run_directory(run).glob("*.pt"):
        found = checkpoint.load(path)
        path.unlink()
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "VERSION", version)
            checkpoint.save(path, found)
    for arguments in (["train", "--resume", run, "--epochs", "9"], ["train", "--fork", run]):
        assert main([*arguments, *root]) == 2
        assert f"version {version}, this program reads version {checkpoint.VERSION}" in capsys.readouterr().err
    assert main(["runs", "show", run, *root]) == 0
