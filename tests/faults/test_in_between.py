"""Killed or hindered between two things that belong together: neither is lost for it."""

from __future__ import annotations

import errno
import math
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from minigpt.jobs import send_command
from minigpt.model.checkpoint import BEST, FINAL, Checkpoint, load, save
from minigpt.training import checkpointer
from minigpt.training.observer import Observer
from minigpt.training.session import Session
from minigpt.workspace import Workspace
from tests.faults.full_disk.trouble import moved, no_permission
from tests.faults.harness import losses_of
from tests.faults.test_all_at_once import BAD, at_step, impatient, killed, live, new, quiet, told, workspace
from tests.faults.test_numbers import Fault, die, rollbacks_of, spoil_forward

__all__ = ["impatient", "workspace"]  # fixtures

Event = dict[str, Any]


def test_the_best_model_of_a_way_that_was_given_up_stays_the_best(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = new(workspace, "best", training__save_every=5)
    best = session.directory / BEST
    compare = Observer._compare_with_best

    def unlucky(self: Observer, loss: float) -> bool:
        return compare(self, loss + (5 if rollbacks_of(session.directory) else 0))

    def stop(event: Event) -> None:
        if at_step(11)(event):
            send_command(session.directory, "stop")

    # The best of step 8 cannot be gone back to: it gives no finite loss. That of step 5 does.
    monkeypatch.setattr(Observer, "_compare_with_best", unlucky)
    with pytest.MonkeyPatch.context() as patch:
        spoil_forward(session, Fault(session, patch, (7, 8, 9)))
        assert session.train((stop,)) == 3
    assert [back for _, back, _ in rollbacks_of(session.directory)] == [5]
    assert load(best).step == 8
    there: list[bool] = []
    resumed = Session.resume(workspace, "best", say=quiet)
    assert resumed.train((lambda event: there.append(best.exists()) if event["type"] == "step" else None,)) == 0
    assert there == [True]
    assert load(best).step == 8


@pytest.mark.parametrize("fault", [moved, no_permission])
def test_it_goes_back_when_its_folder_can_be_read_again(
    workspace: Workspace, fault: Callable[[Path], AbstractContextManager[None]]
) -> None:
    session = new(workspace, fault.__name__, training__max_steps=8)
    resources = ExitStack()

    def disturb(event: Event) -> None:
        if at_step(7)(event) and event["loss"] is not None and not math.isfinite(event["loss"]):
            resources.enter_context(fault(session.directory))
        if told("events-unwritten")(event):
            resources.close()

    with pytest.MonkeyPatch.context() as patch, resources:
        spoil_forward(session, Fault(session, patch, BAD[0]))
        assert session.train((disturb,)) == 0
    assert [(start, back) for start, back, _ in rollbacks_of(session.directory)] == [(7, 4)]
    assert sorted(losses_of(session.directory)) == list(range(1, 9))


def test_more_steps_are_not_promised_while_the_last_save_waits(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = new(workspace, "promised", training__max_steps=3, training__save_every=99)
    answered: list[Event] = []

    def refuse(path: Path, checkpoint: Checkpoint, also: tuple[Path, ...] = ()) -> None:
        if path.name == FINAL and not answered:
            raise OSError(errno.EROFS, "Read-only file system")
        save(path, checkpoint, also)

    def ask(event: Event) -> None:
        if told("save-failed")(event):
            send_command(session.directory, "set", {"max_steps": 9})
        answered.extend([event] if event["type"] == "command" else [])

    monkeypatch.setattr(checkpointer, "save", refuse)
    assert session.train((ask,)) == 0
    assert [(answer["done"], "planned steps are done" in answer["why"]) for answer in answered] == [(False, True)]
    assert load(session.directory / FINAL).training["progress"]["last_step"] == 3


@pytest.mark.parametrize("link", [1, 2])
def test_killed_between_two_names_of_one_checkpoint_it_keeps_the_best(workspace: Workspace, link: int) -> None:
    # Its first: that of step 4, which is the best and the step's.
    session = new(workspace, f"names-{link}", training__save_every=4, training__max_steps=6)
    replace, renamed = Path.replace, []

    def die_after(path: Path, target: Path) -> Path:
        found = replace(path, target)
        renamed.extend([target] if target.suffix == ".pt" else [])
        if len(renamed) == link:
            die()
        return found

    killed(session, lambda patch: patch.setattr(Path, "replace", die_after))
    resumed = Session.resume(workspace, session.directory.name, say=quiet)
    assert (resumed.progress.step, resumed.progress.best_step) == (4, 4)
    assert load(session.directory / BEST).step == 4


def test_what_was_saved_again_after_going_back_is_kept_though_nobody_could_tell_of_it(workspace: Workspace) -> None:
    session = new(workspace, "untold", training__eval_every=99, training__save_every=1)

    def save_and_die(path: Path, checkpoint: Checkpoint, also: tuple[Path, ...] = ()) -> None:
        save(path, checkpoint, also)
        if rollbacks_of(session.directory) and checkpoint.step == 6:
            die()

    def prepare(patch: pytest.MonkeyPatch) -> None:
        spoil_forward(session, Fault(session, patch, (5, 6, 7)))
        patch.setattr(checkpointer, "save", save_and_die)

    killed(session, prepare)
    resumed = Session.resume(workspace, "untold", say=quiet)
    assert resumed.progress.step == 6
    there: list[bool] = []
    again = session.directory / "checkpoint_step_6.pt"
    assert resumed.train((lambda event: there.append(again.exists()) if at_step(7)(event) else None,)) == 0
    assert there == [True]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a process's open files are told by Linux alone")
def test_a_checkpoint_that_was_removed_takes_no_room_from_those_who_went_on_from_it(workspace: Workspace) -> None:
    session = new(workspace, "room", training__optimizer="adamw", training__max_steps=4)
    assert session.train() == 0
    resumed = Session.resume(workspace, "room", steps=8, say=quiet)
    mapped: list[str] = []

    def look(event: Event) -> None:
        if at_step(8)(event):
            mapped.extend(line for line in Path("/proc/self/maps").read_text().splitlines() if "/room/" in line)

    assert resumed.train((look,)) == 0
    assert mapped == []


def test_a_new_end_is_remembered_from_its_first_step_on(workspace: Workspace) -> None:
    session = new(workspace, "extended", training__max_steps=2, training__save_every=99)
    assert session.train() == 0
    assert live(Session.resume(workspace, "extended", steps=4, say=quiet), at_step(3)) == -signal.SIGKILL
    resumed = Session.resume(workspace, "extended", say=quiet)
    assert resumed.progress.last_step == 4
    assert resumed.config.training.max_steps == 4
