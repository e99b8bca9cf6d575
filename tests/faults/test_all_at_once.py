"""One run that meets every fault in its life: it comes to the end it would have come to, had nobody killed it."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from minigpt.model.checkpoint import BEST, Checkpoint, load, save
from minigpt.runs import resume_checkpoint, summarise
from minigpt.training import checkpointer, out_of_memory, room
from minigpt.training.session import Session
from minigpt.training.verify import verify
from minigpt.workspace import Workspace
from tests.conftest import small_config, tale_workspace
from tests.faults.harness import losses_of, notices_of
from tests.faults.test_numbers import Fault, die, rollbacks_of, same_end, spoil_forward

Event = dict[str, Any]
Wish = Callable[[Event], bool]

SETTINGS: dict[str, object] = {
    "training__batch_size": 4,
    "training__micro_batch_size": 4,
    "training__save_every": 2,
    "training__keep_last": 99,
    "training__eval_every": 4,
    "training__sample_prompts": [],
    "training__schedule": "constant",
    "model__dropout": 0.1,
    "model__n_layers": 1,
}
END, NEW_END = 12, 20
SHORT_FROM, FULL_AT = 2, 8
# Each sends the run back to the checkpoint just before.
BAD = ((5, 6, 7), (15, 16, 17))
KEPT = ("checkpoint_step_2", "checkpoint_step_4", "checkpoint_step_10", "checkpoint_step_14")
LIVES = 20


@pytest.fixture(scope="module", autouse=True)
def impatient() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(out_of_memory, "gc", SimpleNamespace(collect=lambda: 0))
        for name in ("LOOK_SECONDS", "FIRST_RETRY_SECONDS", "LONGEST_RETRY_SECONDS"):
            patch.setattr(room, name, 0.01)
        yield


def quiet(message: str) -> None:
    """Say nothing."""


def never(event: Event) -> bool:
    return False


def at_step(number: int) -> Wish:
    return lambda event: event["type"] == "step" and event["step"] == number


def told(code: str) -> Wish:
    return lambda event: event.get("code") == code


def new(workspace: Workspace, run: str, **changes: object) -> Session:
    settings = {**SETTINGS, "training__max_steps": END, **changes}
    return Session.new(workspace, small_config(**settings), run=run, say=quiet)


def live(session: Session, deadly: Wish = never) -> int:
    """Train, with all that goes wrong on the way; return the exit code, -9 of a child that is killed."""
    if deadly is never:
        with pytest.MonkeyPatch.context() as patch:
            trouble(session, patch)
            return session.train()
    child = os.fork()
    if not child:  # from here on nothing returns
        try:
            trouble(session, pytest.MonkeyPatch())
            session.train((lambda event: die() if deadly(event) else None,))
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(session: Session, patch: Callable[[pytest.MonkeyPatch], None]) -> None:
    """Train in a child that dies of what `patch` puts in place."""
    child = os.fork()
    if not child:
        try:
            patch(pytest.MonkeyPatch())
            session.train()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def trouble(session: Session, patch: pytest.MonkeyPatch) -> None:
    """Have memory for two windows alone, a disk that is full for a while, and numbers that go bad once each."""
    gone_back = {start for start, _, _ in rollbacks_of(session.directory)} if session.resumed else set()
    # What was bad before a kill is on disk as it was: made anew after going back, it is good.
    here = session.progress.step
    bad = tuple(step for steps in BAD if steps[-1] not in gone_back for step in steps if step > here)
    spoil_forward(session, Fault(session, patch, bad))
    refusals = iter([True, True])

    def hunger(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if module.training and session.progress.step >= SHORT_FROM and len(output) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def save_or_refuse(path: Path, checkpoint: Checkpoint, also: tuple[Path, ...] = ()) -> None:
        if checkpoint.step == FULL_AT and next(refusals, False):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, checkpoint, also)

    session.model.head.register_forward_hook(hunger)
    patch.setattr(checkpointer, "save", save_or_refuse)


def gone_on(workspace: Workspace, run: str) -> Session:
    """Go on with a run: with a new end where it has come to its first one."""
    directory = workspace.run_directory(run)
    newest = resume_checkpoint(directory)
    assert newest is not None
    extended = load(newest).training["progress"]["last_step"] == NEW_END
    steps = NEW_END if summarise(directory).state == "finished" and not extended else None
    return Session.resume(workspace, run, steps=steps, say=quiet)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return tale_workspace(tmp_path_factory.mktemp("life"))


@pytest.fixture(scope="module")
def unkilled(workspace: Workspace) -> Path:
    """The directory of a run with all its faults, that nobody has killed."""
    assert live(new(workspace, "unkilled")) == 0
    assert live(gone_on(workspace, "unkilled")) == 0
    return workspace.run_directory("unkilled")


def require_same(workspace: Workspace, directory: Path, unkilled: Path) -> None:
    assert same_end(directory, unkilled)
    ours, theirs = (load(run / BEST) for run in (directory, unkilled))
    assert ours.step == theirs.step
    assert all(torch.equal(ours.weights[name], theirs.weights[name]) for name in theirs.weights)
    for before in KEPT:
        found = verify(workspace, directory, before, 100, quiet)
        assert (found.reproduced, found.from_step + found.steps) == (True, END if found.from_step < END else NEW_END)


def test_what_has_gone_wrong_on_the_way(unkilled: Path) -> None:
    codes = notices_of(unkilled)
    wanted = ("micro-batch-halved", "rolled-back", "save-failed", "room-again", "rewarmed")
    assert [codes.count(code) for code in wanted] == [1, 2, 1, 1, 1]
    assert [(start, back) for start, back, _ in rollbacks_of(unkilled)] == [(7, 4), (17, 14)]
    assert sorted(losses_of(unkilled)) == list(range(1, NEW_END + 1))


def test_killed_after_each_fault_it_comes_to_the_same_end(workspace: Workspace, unkilled: Path) -> None:
    directory = workspace.run_directory("killed")
    session = new(workspace, "killed")
    # Paused; after its rollback; with a new end that no step has been made towards; in the midst of going back.
    for deadly in (told("save-failed"), at_step(11), never, at_step(13), told("rolled-back"), never):
        assert live(session, deadly) == (0 if deadly is never else -signal.SIGKILL)
        if summarise(directory).step < NEW_END:
            session = gone_on(workspace, "killed")
    require_same(workspace, directory, unkilled)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_killed_at_any_events_it_comes_to_the_same_end(
    workspace: Workspace, unkilled: Path, rng: random.Random, tell_figure: Callable[[str, object], None]
) -> None:
    kills = 0
    for number in range(LIVES):
        run = f"life-{number}"
        directory = workspace.run_directory(run)
        while True:
            left = iter(range(rng.randint(1, 60)))
            begun = directory.exists() and resume_checkpoint(directory) is not None
            if directory.exists() and not begun:
                shutil.rmtree(directory)  # killed before its first checkpoint
            session = gone_on(workspace, run) if begun else new(workspace, run)
            code = live(session, lambda event, left=left: next(left, None) is None)  # type: ignore[misc]
            assert code in (0, -signal.SIGKILL)
            kills += code != 0
            summary = summarise(directory)
            if (summary.state, summary.step) == ("finished", NEW_END):
                break
        require_same(workspace, directory, unkilled)
        shutil.rmtree(directory)
    tell_figure("kills of runs with every other fault in them", kills)
