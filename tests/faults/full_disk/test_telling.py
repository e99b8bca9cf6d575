"""What a run tells of a disk that fills: in time, in words, from a reserve, and counted where it had to be given up."""

from __future__ import annotations

import math
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from minigpt import event_writer, reserve
from minigpt.jobs import EVENTS, EventReader, EventWriter, send_command
from minigpt.runs import summarise
from minigpt.training import metrics, recorder
from minigpt.training.bad_updates import BadUpdates
from minigpt.training.diagnosis import time_spent
from minigpt.training.diagnosis.machine import Shortage
from minigpt.training.ended import GoneBad
from minigpt.workspace import Workspace
from tests.conftest import tale_workspace
from tests.faults.full_disk.trouble import LITTLE, Event, Trouble, as_read, codes, full, made
from tests.faults.harness import events_of, notices_of
from tests.faults.mounts import small_disk


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
