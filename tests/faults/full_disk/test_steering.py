"""A run that waits for room is steered, stopped, interrupted or killed: it obeys, and loses nothing unasked."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from minigpt.cli.main import main
from minigpt.errors import UserError
from minigpt.jobs import EVENTS, CommandReader, EventWriter, RunLock, send_command
from minigpt.model.checkpoint import load
from minigpt.runs import summarise
from minigpt.training import room
from minigpt.training.session import Session
from minigpt.training.verify import verify
from minigpt.workspace import Workspace
from tests.faults.full_disk.trouble import LITTLE, SETTINGS, Event, full, made, whole_checkpoints
from tests.faults.harness import events_of, losses_of, notices_of, start_trainer
from tests.faults.mounts import fill


def test_what_is_asked_while_it_waits_is_done(disk: Path, workspace: Workspace) -> None:
    session = made(workspace, training__keep_last=5)
    with ExitStack() as resources:

        def steer(event: Event) -> None:
            if event["type"] == "step" and event["step"] == 5:
                resources.enter_context(full(disk, LITTLE))
            if event.get("code") == "save-failed" and event["step"] == 8 and "by itself" in event["message"]:
                send_command(session.directory, "set", {"lr_scale": 0.5})
                for command in ("checkpoint", "evaluate", "sample", "pause"):
                    send_command(session.directory, command)
            if event["type"] == "command" and event["command"] == "pause":
                resources.close()
                send_command(session.directory, "resume")

        assert session.train((steer,)) == 0
    told = events_of(session.directory)
    answers = {event["command"]: event["done"] for event in told if event["type"] == "command"}
    # The checkpoint that was asked for finds no room either.
    assert answers.pop("checkpoint") is False
    assert answers == dict.fromkeys(("set", "evaluate", "sample", "pause", "resume"), True)
    rates = {event["step"]: event["learning_rate"] for event in told if event["type"] == "step"}
    assert rates[9] < 0.6 * rates[8]
    assert load(session.directory / "checkpoint_step_8.pt").training["progress"]["lr_scale"] == 0.5
    assert verify(workspace, session.directory, "checkpoint_step_4.pt", say=lambda _: None).reproduced


@pytest.mark.parametrize(("step", "in_time"), [(5, True), (9, False)])
def test_a_signal_ends_a_run_that_waits_after_one_more_attempt(
    disk: Path,
    workspace: Workspace,
    undisturbed: dict[int, float | None],
    step: int,
    in_time: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "FIRST_RETRY_SECONDS", 1000.0)
    monkeypatch.setattr(room, "LONGEST_RETRY_SECONDS", 1000.0)
    session = made(workspace)
    with ExitStack() as resources:

        def end_it(event: Event) -> None:
            if event["type"] == "step" and event["step"] == step:
                resources.enter_context(full(disk))
            if event.get("code") in ("events-unwritten", "save-failed") and "by itself" in event["message"]:
                fill(disk)  # what the run has given up for its own words, somebody else has taken
                with pytest.raises(UserError, match="make room"):
                    send_command(session.directory, "stop")
                if in_time:
                    resources.close()
                os.kill(os.getpid(), signal.SIGTERM)

        heard: list[Event] = []
        code = session.train((end_it, heard.append))
    (end,) = [event for event in heard if event["type"] == "end"]
    last = step - step % 4
    assert code == (3 if in_time else 1)
    assert ("interrupted" if in_time else f"after step {last} could not be saved") in end["reason"]
    done = max(event["step"] for event in heard if event["type"] == "step")
    assert max(whole_checkpoints(session.directory).values()) == (done if in_time else last)
    resumed = Session.resume(workspace, "night", say=lambda _: None)
    assert resumed.train() == 0
    assert losses_of(session.directory) == undisturbed


def test_a_run_that_is_killed_while_it_waits_goes_on_from_its_last_checkpoint(
    disk: Path, workspace: Workspace, undisturbed: dict[int, float | None]
) -> None:
    first = made(workspace, training__max_steps=4)
    assert first.train() == 0
    size = (first.directory / "final_model.pt").stat().st_size
    first.directory.rename(disk / "first")
    # Room for the checkpoint of step 4 and not for that of step 8.
    with full(disk, size + size // 2):
        process = start_trainer(workspace, "night", **SETTINGS)
        try:
            directory = workspace.run_directory("night")
            while "save-failed" not in notices_of(directory):
                assert process.poll() is None
                time.sleep(0.02)
        finally:
            process.kill()
            process.communicate()
        assert summarise(directory).state == "crashed"
        assert whole_checkpoints(directory) == {"checkpoint_step_4.pt": 4}
    assert Session.resume(workspace, "night", say=lambda _: None).train() == 0
    assert losses_of(directory) == undisturbed


def test_who_watches_sees_that_a_run_waits_for_room(
    disk: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    session = made(workspace)
    at = ["--workspace", str(workspace.root)]
    seen: dict[str, str] = {}
    asked: list[threading.Thread] = []
    with ExitStack() as resources:

        def look() -> None:
            # Its phase follows the notice.
            while summarise(session.directory).state != "paused":
                time.sleep(0.01)
            capsys.readouterr()
            for command in (["runs", "list"], ["runs", "show", "night"], ["control", "night", "stop"]):
                code = main([*command, *at])
                told = capsys.readouterr()
                seen[" ".join(command)] = f"{code} {told.out}{told.err}"
            resources.close()

        def follow(event: Event) -> None:
            if event["type"] == "step" and event["step"] == 6:
                resources.enter_context(full(disk))
            if event.get("code") in ("save-failed", "events-unwritten") and not asked:
                asked.append(threading.Thread(target=look))
                asked[0].start()

        assert session.train((follow,)) == 0
        asked[0].join()
    assert "paused until it can write" in seen["runs list"] and "paused until it can write" in seen["runs show night"]
    refusal = seen["control night stop"]
    assert refusal.startswith("2 ") and "since step 4, its last checkpoint, would be lost: make room" in refusal
    assert main(["runs", "show", "night", *at]) == 0
    assert "night: finished" in capsys.readouterr().out


@pytest.mark.parametrize("anyway", [True, False])
def test_only_who_insists_stops_a_run_that_waits_for_room(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], anyway: bool
) -> None:
    directory = tmp_path / "checkpoints" / "night"
    directory.mkdir(parents=True)
    (directory / "config.toml").touch()
    with RunLock(directory):
        writer = EventWriter(directory / EVENTS)
        writer.write("start", resumed_from=None)
        writer.write("notice", code="save-failed", severity="error", message="No room.")
        writer.write("phase", phase="paused")

        def obey() -> None:
            for command in commands.poll():
                writer.write("command", id=command.id, command="stop", args={}, step=7, done=True, why="")

        commands = CommandReader(directory)
        answering = threading.Timer(0.1, obey)
        answering.start()
        arguments = ["control", "night", "stop", "--workspace", str(tmp_path), *(["--anyway"] if anyway else [])]
        assert main(arguments) == (0 if anyway else 2)
        answering.join()
        writer.close()
    told = capsys.readouterr().err
    assert ("all that it has learned so far, would be lost" in told) is not anyway
