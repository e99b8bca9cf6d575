"""Disks that fill, folders that may no longer be written, drives that are slow: the run waits and nothing is lost."""

from __future__ import annotations

import errno
import os
import random
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from minigpt.training import checkpointer, room
from minigpt.training.recorder import Recorder
from minigpt.training.room import Refusal
from minigpt.workspace import Workspace
from tests.faults.full_disk.trouble import LITTLE, Trouble, codes, full, made, moved, no_permission, whole_checkpoints
from tests.faults.harness import events_of, losses_of, notices_of
from tests.faults.mounts import read_only

CAMPAIGN = 100


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
