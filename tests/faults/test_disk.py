"""Disks that fill, folders that may no longer be written, drives that are slow: the run waits and nothing is lost."""

from __future__ import annotations

import errno
import math
import os
import random
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minigpt import event_writer, reserve
from minigpt.cli.main import main
from minigpt.errors import UserError
from minigpt.jobs import EVENTS, CommandReader, EventReader, EventWriter, RunLock, send_command
from minigpt.model.checkpoint import load
from minigpt.runs import summarise
from minigpt.text import building
from minigpt.training import checkpointer, metrics, recorder, room
from minigpt.training.bad_updates import BadUpdates
from minigpt.training.diagnosis import time_spent
from minigpt.training.diagnosis.machine import Shortage
from minigpt.training.ended import GoneBad
from minigpt.training.recorder import Recorder
from minigpt.training.room import Refusal
from minigpt.training.session import Session
from minigpt.training.verify import verify
from minigpt.workspace import Workspace
from tests.conftest import small_config, tale_workspace
from tests.faults.harness import events_of, losses_of, notices_of, start_trainer
from tests.faults.mounts import fill, read_only, small_disk

Event = dict[str, Any]
Listener = Callable[[Event], None]

# Saves at 4 and 8 and at the end; what lies between is in no checkpoint.
SETTINGS = {"training__save_every": 4, "training__eval_every": 1000, "training__max_steps": 12}
# Enough for what a run tells, too little for a checkpoint.
LITTLE = 64 << 10
CAMPAIGN = 100


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again so soon that nobody has to wait."""
    for name in ("LOOK_SECONDS", "FIRST_RETRY_SECONDS", "LONGEST_RETRY_SECONDS"):
        monkeypatch.setattr(room, name, 0.01)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "24m") as folder:
        yield folder


@pytest.fixture
def workspace(disk: Path) -> Workspace:
    """A workspace that lies on a small disk of its own."""
    return tale_workspace(disk)


@pytest.fixture
def roomy(tmp_path: Path) -> Workspace:
    """A workspace where there is room: for faults that need no disk of their own, nor the right to mount one."""
    return tale_workspace(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, float | None]:
    """Return the losses of a run for which there was always room."""
    session = made(tale_workspace(tmp_path_factory.mktemp("undisturbed")))
    assert session.train() == 0
    return losses_of(session.directory)


def made(workspace: Workspace, **changes: object) -> Session:
    return Session.new(workspace, small_config(**{**SETTINGS, **changes}), run="night", say=lambda _: None)


class Trouble:
    """Makes trouble at a step, and ends it a while after the run has given notice of it."""

    def __init__(self, session: Session, step: int | None, trouble: Callable[[], Any], at_event: int = 0) -> None:
        self.session, self.step, self.at_event, self.trouble = session, step, at_event, trouble
        self.resources = ExitStack()
        self.seen: list[Event] = []
        self.looks = True
        self.found: list[str] = []  # the run's files while it waited
        self.ending: threading.Timer | None = None

    def __enter__(self) -> Trouble:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.ending is not None:
            self.ending.join()
        self.resources.close()

    def __call__(self, event: Event) -> None:
        self.seen.append(as_read(event))
        if (event["type"] == "step" and event["step"] == self.step) or len(self.seen) == self.at_event:
            self.resources.enter_context(self.trouble())
        if event.get("code") in ("save-failed", "events-unwritten") and self.ending is None:
            self.ending = threading.Timer(0.15, self.end)
            self.ending.start()

    def end(self) -> None:
        if self.looks:
            self.found = sorted(path.name for path in self.session.directory.iterdir())
        self.resources.close()


@contextmanager
def full(disk: Path, leave: int = 0) -> Iterator[None]:
    ballast = fill(disk, leave)
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def no_permission(directory: Path) -> Iterator[None]:
    """Have a folder that we may neither write nor read: root becomes nobody for that, others take their own right."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        directory.chmod(0)
        try:
            yield
        finally:
            directory.chmod(0o755)


@contextmanager
def moved(directory: Path) -> Iterator[None]:
    directory.rename(directory.with_name("elsewhere"))
    try:
        yield
    finally:
        directory.with_name("elsewhere").rename(directory)


def as_read(event: Event) -> Event:
    """Return an event as it comes out of a file."""
    return msgspec.json.decode(msgspec.json.encode(event))


def codes(events: list[Event]) -> list[str]:
    return [event["code"] for event in events if event["type"] == "notice"]


def whole_checkpoints(directory: Path) -> dict[str, int]:
    """Return the step in each file that has the name of a checkpoint; fails where one cannot be loaded."""
    return {path.name: load(path).step for path in directory.glob("*.pt")}


# It waits, and goes on by itself


@pytest.mark.parametrize(("step", "leave"), [(5, 0), (5, LITTLE), (9, LITTLE)])
def test_a_full_disk_pauses_the_run_until_there_is_room(
    disk: Path, workspace: Workspace, undisturbed: dict[int, float | None], step: int, leave: int
) -> None:
    session = made(workspace)
    with Trouble(session, step, lambda: full(disk, leave)) as trouble:
        assert session.train((trouble,)) == 0
    # Before the save of step 8, or before the final one.
    assert [name for name in trouble.found if name.endswith(".pt")] == ["checkpoint_step_4.pt", "checkpoint_step_8.pt"][
        : 1 if step == 5 else 2
    ]
    assert not [name for name in trouble.found if name.endswith((".part", ".link"))]
    assert whole_checkpoints(session.directory)["final_model.pt"] == 12

    told = events_of(session.directory)
    assert losses_of(session.directory) == undisturbed
    assert [event["step"] for event in told if event["type"] == "step"] == list(range(1, 13)), "told once each"
    # What the listeners heard is what stands in the file, in this order, though some of it had to wait for room.
    assert [event for event in told if event["type"] != "device"] == [
        event for event in trouble.seen if event["type"] != "device"
    ]
    phases = [event["phase"] for event in told if event["type"] == "phase" and event.get("changed")]
    assert "paused" in phases and phases.index("paused") < len(phases) - 1
    first, *_, last = (code for code in codes(told) if code in ("save-failed", "events-unwritten", "room-again"))
    assert first == "save-failed" or not leave, "a file that has room on its last page takes a little more"
    assert last == "room-again"
    message = next(event["message"] for event in told if event.get("code") == first)
    assert "No space left on device" in message and "Make room" in message


@pytest.mark.parametrize("name", ["read-only", "permission", "moved"])
def test_a_folder_that_cannot_be_written_pauses_the_run_until_it_can(
    roomy: Workspace, undisturbed: dict[int, float | None], name: str
) -> None:
    session = made(roomy)
    faults = {"read-only": read_only, "permission": no_permission, "moved": moved}
    # Whoever has the file of events open goes on writing there, even where nothing can be opened any more.
    with Trouble(session, 5, lambda: faults[name](session.directory)) as trouble:
        trouble.looks = False
        assert session.train((trouble,)) == 0
    assert losses_of(session.directory) == undisturbed
    assert whole_checkpoints(session.directory)["final_model.pt"] == 12
    assert [code for code in codes(trouble.seen) if code in ("save-failed", "room-again")] == [
        "save-failed",
        "room-again",
    ]
    words = {"read-only": "writable again", "permission": "the right to write", "moved": "back where it was"}
    message = next(event["message"] for event in trouble.seen if event.get("code") == "save-failed")
    assert words[name] in message
    # The log has waited too.
    log = (session.directory / "training.log").read_text()
    assert message in log and all(f"step {step}  " in log for step in range(1, 13))


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_troubles_at_any_moment_cost_nothing(
    disk: Path,
    workspace: Workspace,
    undisturbed: dict[int, float | None],
    rng: random.Random,
    tell_figure: Callable[[str, object], None],
) -> None:
    faults: dict[str, Callable[[Path], Any]] = {
        "full": lambda _: full(disk, rng.choice([0, 4096, LITTLE, rng.randrange(1 << 20)])),
        "read-only": read_only,
        "permission": no_permission,
        "moved": moved,
    }
    waited = 0
    for _ in range(CAMPAIGN):
        name = rng.choice(["full", "full", *faults])
        session = made(workspace, training__save_every=rng.randint(1, 6), training__eval_every=rng.randint(2, 9))
        fault = partial(faults[name], session.directory)
        with Trouble(session, None, fault, at_event=rng.randint(3, 50)) as trouble:
            trouble.looks = False
            assert session.train((trouble,)) == 0, name
        assert losses_of(session.directory) == undisturbed, name
        assert max(whole_checkpoints(session.directory).values()) == 12
        assert not [*session.directory.glob(".*.part"), *session.directory.glob(".*.link")]
        waited += trouble.ending is not None
        shutil.rmtree(session.directory)
    tell_figure("runs that met a full or forbidden disk", CAMPAIGN)
    tell_figure("of them paused, and went on by themselves", waited)
    assert waited > CAMPAIGN / 4


def test_a_slow_disk_is_told_once(roomy: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def slow(descriptor: int) -> None:
        time.sleep(0.02)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    monkeypatch.setattr(checkpointer, "SLOW_SECONDS", 0.02)
    session = made(roomy)
    assert session.train() == 0
    assert notices_of(session.directory).count("slow-disk") == 1


class Clock:
    """A time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


def test_a_night_without_room_takes_few_words_and_few_attempts(
    roomy: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(room, "time", clock)
    monkeypatch.setattr(room, "RETRY_AGAINST_ODDS_SECONDS", 1.0)
    session = made(roomy)
    session.directory.mkdir(parents=True)
    never, forbidden = OSError(errno.ENOSPC, "No space left"), OSError(errno.EROFS, "Read-only")
    file = session.directory / "final_model.pt"
    answers = iter([Refusal(file, forbidden), Refusal(file, never, 1 << 50)] * 3 + [None])
    with Recorder(session.directory, "cpu", 1) as told:
        trainer = session.trainer(told)
        assert trainer.room.wait(lambda: next(answers), Refusal(file, never, 1 << 50))
    assert notices_of(session.directory) == ["save-failed", "save-failed", "room-again"]
    assert clock.now > 3.0, "where the system counts too little room, it is not tried again soon"


# Somebody steers meanwhile


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


# What it tells


def test_events_that_had_to_be_given_up_are_counted_and_told(
    disk: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "READINGS_SECONDS", 0.005)
    monkeypatch.setattr(recorder, "readings", lambda *_: {"filler": "x" * 1000})
    monkeypatch.setattr(event_writer, "MAX_PENDING_BYTES", 20_000)
    monkeypatch.setattr(reserve, "RESERVE_BYTES", 0)
    session = made(workspace)
    with Trouble(session, 5, lambda: full(disk)) as trouble:
        assert session.train((trouble,)) == 0
    told = events_of(session.directory)
    lost = len(trouble.seen) - len(told)
    assert lost > 0
    assert told[-1]["type"] == "end" and told[-1]["events_lost"] == lost
    again = next(event for event in told if event.get("code") == "room-again")
    assert f"{lost:,} events" in again["message"]
    # Readings of the machine, and nothing that cannot be guessed.
    kinds = ("start", "step", "notice", "checkpoint", "eval", "sample", "end")
    assert [event for event in told if event["type"] in kinds] == [e for e in trouble.seen if e["type"] in kinds]


@pytest.mark.parametrize("kept_free", [True, False])
def test_how_a_run_ended_on_a_full_disk_is_told(
    disk: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, kept_free: bool
) -> None:
    if not kept_free:  # somebody else was quicker
        monkeypatch.setattr(reserve, "RESERVE_BYTES", 0)
    monkeypatch.setattr(recorder, "READINGS_SECONDS", 0.005)
    monkeypatch.setattr(recorder, "readings", lambda *_: {"filler": "x" * 1000})
    session = made(workspace)
    heard: list[Event] = []
    since: list[int] = []
    with ExitStack() as resources:

        def end_it(event: Event) -> None:
            heard.append(event)
            if event["type"] == "step" and event["step"] == 9:
                resources.enter_context(full(disk))
                since.append(len(heard))
            if since and len(heard) == since[0] + 60:  # readings of a kB, more than the reserve holds
                os.kill(os.getpid(), signal.SIGTERM)

        assert session.train((end_it,)) == 1
        told, found = events_of(session.directory), summarise(session.directory)
    lost = len(heard) - len(told)
    assert not (session.directory / reserve.RESERVE).exists()
    if kept_free:
        done = max(event["step"] for event in heard if event["type"] == "step")
        assert (found.state, found.step) == ("failed", done)
        assert "after step 8 could not be saved" in str(found.reason)
        assert "save-failed" in codes(told) or "events-unwritten" in codes(told)
        (end,) = [event for event in told if event["type"] == "end"]
        before = [as_read(event) for event in heard if event["time"] <= end["time"]]  # a reading may come after it
        given_up = [event for event in before if event not in told]
        assert {event["type"] for event in given_up} <= {"device", "phase"}
        assert 0 < end["events_lost"] <= len(given_up)
    else:
        # Those who listen hear it. It counts those before itself.
        assert heard[-1]["code"] == "events-unwritten"
        assert f"the last {lost - 1:,} events" in heard[-1]["message"]


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


def test_a_reserve_comes_back_with_the_room_and_a_killed_run_s_is_taken_over(disk: Path) -> None:
    path = disk / reserve.RESERVE
    writer = EventWriter(disk / EVENTS, path)
    inode, size = path.stat().st_ino, path.stat().st_size
    assert path.stat().st_blocks * 512 >= size == reserve.RESERVE_BYTES
    taken = EventWriter(disk / EVENTS, path)  # the one before was killed
    with full(disk):
        for number in range(20):
            taken.write("notice", number=number, filler="x" * 1000)
        assert taken.error is not None and taken.unwritten == 0
        assert path.stat().st_size == reserve.LAST_BYTES
    taken.flush()
    assert taken.error is None
    assert (path.stat().st_ino, path.stat().st_size) == (inode, size)
    assert len(EventReader(disk / EVENTS).poll()) == 20
    for one in (taken, writer):
        one.close()
    assert not path.exists()


def test_a_disk_that_is_nearly_full_is_told_with_the_need_and_the_margin(tmp_path: Path) -> None:
    def told(free: int, checkpoint: int) -> str:
        (finding,) = Shortage(checkpoint, None).on_readings({"host": {"disk_free": free}}, tmp_path)
        return finding.message

    fits = told(50_000_000, 750_000)
    assert "need up to 2.25 MB: they fit, but with less than 105 MB left" in fits
    assert "need up to 300 MB: make room now, or they cannot be saved" in told(50_000_000, 100_000_000)


def test_events_go_on_in_a_drive_that_went_and_came_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = EventWriter(tmp_path / EVENTS)
    writer.write("eval", number=0)
    stale = os.open(tmp_path / EVENTS, os.O_RDONLY)  # refuses to be written: EBADF
    os.dup2(stale, writer._descriptor)  # type: ignore[arg-type]
    writer.write("eval", number=1)
    assert writer.error is not None and writer.unwritten == 1
    writer.write("eval", number=2)
    assert writer.error is None
    assert [event["number"] for event in EventReader(tmp_path / EVENTS).poll()] == [0, 1, 2]
    writer.close()
    os.close(stale)


def test_a_disk_that_fills_is_told_while_there_is_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[int, float | None]
) -> None:
    monkeypatch.setattr(recorder, "READINGS_SECONDS", 0.01)
    monkeypatch.setattr(time_spent, "UNSAVED_SECONDS", 0.01)
    with small_disk(tmp_path / "disk", "240m") as disk:
        session = made(tale_workspace(disk), training__save_every=100_000, training__max_steps=100_000)
        order: list[str] = []
        with ExitStack() as resources:

            def follow(event: Event) -> None:
                kind = event.get("code") or event.get("command") or event["type"]
                if kind in ("disk-nearly-full", "save-failed", "no-checkpoint", "checkpoint"):
                    order.append(kind)
                if kind == "no-checkpoint" and "disk-nearly-full" not in order:
                    resources.enter_context(full(disk, LITTLE))
                if kind == "disk-nearly-full":
                    assert event["message"].startswith("65.5 kB are free")
                    send_command(session.directory, "checkpoint")
                if event["type"] == "command" and event["command"] == "checkpoint":
                    if event["done"]:
                        send_command(session.directory, "stop")
                    else:
                        resources.close()
                        send_command(session.directory, "checkpoint")

            assert session.train((follow,)) == 3
        # The checkpoint is refused, and the training goes on, for somebody is there; then it is written.
        first = ["no-checkpoint", "disk-nearly-full", "save-failed", "checkpoint", "checkpoint", "checkpoint"]
        assert order[:6] == first


def test_what_was_told_is_not_told_again_after_a_rollback(roomy: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone_bad_once(self: BadUpdates, step: int, position: int, loss: float, finite: bool) -> None:
        if step == 7 and not notices_of(session.directory).count("rolled-back"):
            time.sleep(0.05)  # for the readings
            raise GoneBad("test", first=7, step=7, position=position, usual=math.inf, words="Bad.")
        if step == 9:
            time.sleep(0.05)

    monkeypatch.setattr(BadUpdates, "judge", gone_bad_once)
    monkeypatch.setattr(metrics, "STEPS_TO_JUDGE_BY", 2)
    monkeypatch.setattr(recorder, "READINGS_SECONDS", 0.01)
    monkeypatch.setattr(recorder, "readings", lambda *_: {"host": {"disk_free": 1}})
    session = made(roomy)
    assert session.train() == 0
    told = notices_of(session.directory)
    assert [told.count(code) for code in ("rolled-back", "duration", "disk-nearly-full")] == [1, 1, 1]


# Before the first step, and without a run


def test_a_run_that_has_no_room_to_begin_says_so_in_a_sentence(
    disk: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert made(workspace, training__max_steps=8).train() == 0
    (workspace.root / "night.toml").write_bytes((workspace.run_directory("night") / "config.toml").read_bytes())
    capsys.readouterr()
    at = ["--workspace", str(workspace.root)]
    with full(disk):
        for arguments in (
            ["train", "--config", str(workspace.root / "night.toml"), "--run", "new"],
            ["train", "--resume", "night", "--steps", "12"],
        ):
            assert main([*arguments, *at]) == 1
            last = capsys.readouterr().err.strip().splitlines()[-1]
            assert "No space left on device" in last and "Make room" in last
    assert not workspace.run_directory("new").exists() or not list(workspace.run_directory("new").glob("*.toml"))
    assert whole_checkpoints(workspace.run_directory("night"))["final_model.pt"] == 8
    assert main(["train", "--resume", "night", "--steps", "12", "--quiet", *at]) == 0


def test_a_task_without_room_ends_in_a_sentence_and_leaves_nothing_half_written(
    disk: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Somebody else takes the room only after it was looked for.
    monkeypatch.setattr(building, "free_disk", lambda _: 1 << 40)
    monkeypatch.chdir(workspace.root)
    long = [f"{' '.join(sorted(str(number * seed) for number in range(40)))}\n" for seed in range(1000)]
    (workspace.root / "long.txt").write_text("".join(long))
    assert made(workspace, training__max_steps=2).train() == 0
    for leave, *arguments in (
        (0, "corpus", "prepare", "tale", "--tokenizer", "word"),
        (LITTLE, "corpus", "add", "long", "long.txt"),
        (0, "tokenizer", "train", "tale", "--output", "word.json"),
        (LITTLE, "export", "night", "--format", "hf", "--output", "exported"),
    ):
        before = {path for path in disk.rglob("*") if path.is_file()}
        capsys.readouterr()
        with full(disk, leave):
            assert main([*arguments, "--workspace", str(workspace.root)]) in (1, 2), arguments
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert "mistake" not in last and re.search("full|No space left|make room", last), (arguments, last)
        left = {path.relative_to(disk) for path in {path for path in disk.rglob("*") if path.is_file()} - before}
        # A folder with a dot is nobody's yet, or tells of the task.
        assert not [path for path in left if not any(part.startswith(".") for part in path.parts)], arguments
        assert main([*arguments, "--workspace", str(workspace.root)]) == 0


def test_those_who_only_look_need_no_room_and_no_right_to_write(
    disk: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert made(workspace).train() == 0
    at = ["--workspace", str(workspace.root)]
    with ExitStack() as resources:
        for hindrance in (full(disk), read_only(workspace.checkpoints)):
            resources.enter_context(hindrance)
            for arguments in (["list"], ["show", "night"], ["verify", "night"]):
                assert main(["runs", *arguments, *at]) == 0, capsys.readouterr().err
    capsys.readouterr()
