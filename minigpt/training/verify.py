"""Whether a run can be repeated: some of its steps are done once more, and their losses compared with the recorded.

    found = verify(workspace, find_run(workspace, "tiny-sample-1"), steps=20)
    found.reproduced

The same numbers come out bit for bit on the same device kind, with the same threads and the same torch; on others a
loss usually differs from the seventh digit on.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from minigpt.errors import UserError, printable
from minigpt.events import all_events, outline
from minigpt.runs import CheckpointFile, checkpoints_of, find_checkpoint
from minigpt.training.controls import acknowledged_sets
from minigpt.training.course import Course
from minigpt.training.recorder import Recorder
from minigpt.training.session import Session
from minigpt.training.state import environment, environment_changes, restore
from minigpt.training.trainer import Ended, Trainer
from minigpt.workspace import Workspace

DEFAULT_STEPS = 20

Losses = dict[int, float | None]


class Difference(msgspec.Struct, frozen=True):
    """A step whose loss came out otherwise (nats a token; None where it was no finite number)."""

    step: int
    recorded: float | None
    replayed: float | None


class Verification(msgspec.Struct, frozen=True):
    """What came of repeating the steps after a checkpoint."""

    run: str
    checkpoint: str
    from_step: int
    steps: int  # compared
    reproduced: bool
    changes: tuple[str, ...]  # what differs in the environment; where something does, digits may
    differing: int  # steps
    first_difference: Difference | None
    largest_difference: float | None  # nats a token

    @property
    def comparable(self) -> bool:
        """Whether the environment is the recorded one, so that the digits must be the same."""
        return not self.changes

    def in_words(self) -> str:
        """Return the verdict in a sentence or two."""
        steps = f"steps {self.from_step + 1:,} to {self.from_step + self.steps:,}"
        run = printable(self.run, single_line=True)
        told = f"Not comparable bit for bit: {'; '.join(self.changes)}. " if self.changes else ""
        if self.reproduced:
            return f"{told}Reproduced bit for bit: {run} gives the recorded losses again in {steps}."
        assert self.first_difference is not None
        first = self.first_difference
        most = "" if self.largest_difference is None else f", by {self.largest_difference:.2g} at most"
        return (
            f"{told}Not reproduced: of {steps} of {run}, the losses of {self.differing:,} differ{most}. "
            f"The first is step {first.step:,}: recorded {first.recorded!r}, now {first.replayed!r}."
        )


class History:
    """What a run's events tell of its steps, those that were gone back behind left out."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.last_step = 0
        # Where the run got a new end, and with it another learning rate than its checkpoints up to there know of.
        self.new_ends: list[int] = []
        resumed = 0
        for event in all_events(directory):
            kind, step = event.get("type"), event.get("step")
            if kind == "start":
                told = event.get("resumed_from")
                resumed = told if isinstance(told, int) else 0
                self.last_step = min(self.last_step, resumed)
                self.new_ends = [end for end in self.new_ends if end <= resumed]
            elif kind == "step" and isinstance(step, int):
                self.last_step = step
            elif kind == "notice" and event.get("code") == "rewarmed":
                self.new_ends.append(resumed)

    def steps_after(self, step: int, first_step: int = -1) -> int:
        """Return how many recorded steps follow from a checkpoint at `step` whose schedule began at `first_step`."""
        ends = [end for end in self.new_ends if end > first_step and end >= step]
        return max(0, min([self.last_step, *ends]) - step)

    def losses(self, after: int, count: int) -> Losses:
        """Return the recorded losses of the `count` steps after one; None where a loss was no finite number."""
        found: Losses = {}
        for event in all_events(self.directory):
            step = event.get("step")
            if event.get("type") == "start":
                told = event.get("resumed_from")
                resumed = told if isinstance(told, int) else 0
                found = {step: loss for step, loss in found.items() if step <= resumed}
            elif event.get("type") == "step" and isinstance(step, int) and after < step <= after + count:
                found[step] = event.get("loss")
        return found


def verify(
    workspace: Workspace,
    directory: Path,
    checkpoint: str | None = None,
    steps: int = DEFAULT_STEPS,
    say: Callable[[str], None] = print,
) -> Verification:
    """Repeat up to `steps` steps after a checkpoint of a run, and compare their losses with the recorded ones.

    Without `checkpoint` it is the last one that so many steps follow. Raises UserError where nothing can be repeated.
    """
    history = History(directory)
    name = _chosen(directory, history, steps) if checkpoint is None else _named(directory, history, checkpoint)
    with tempfile.TemporaryDirectory(prefix="minigpt-verify-") as folder:
        session = Session.replay(workspace, directory / name, Path(folder), say)
        progress = session.progress
        before = progress.step
        count = min(steps, history.steps_after(before, progress.first_step if progress.first_step else -1))
        recorded = history.losses(before, count)
        if not recorded:
            raise _nothing_after(directory, name, before)
        run = printable(directory.name, single_line=True)
        say(f"Repeating {count:,} step{'' if count == 1 else 's'} of {run} after {name} (step {before:,}).")
        replayed, changes = _replay(session, directory, count)
    return _compared(run=directory.name, checkpoint=name, before=before, pair=(recorded, replayed), changes=changes)


def _chosen(directory: Path, history: History, steps: int) -> str:
    """Return the last checkpoint that is followed by so many recorded steps, or by the most; raises UserError."""

    def rank(checkpoint: CheckpointFile) -> tuple[int, int]:
        return min(steps, history.steps_after(checkpoint.step)), checkpoint.step

    given_up = Course(directory).given_up
    on_course = [checkpoint for checkpoint in checkpoints_of(directory) if checkpoint.name not in given_up]
    best = max(on_course, key=rank, default=None)
    if best is None or not rank(best)[0]:
        raise UserError(
            f"The run {printable(directory.name, single_line=True)} has no checkpoint with recorded steps after it, so "
            "there is nothing to repeat: training.keep_last and training.keep_every keep some on the way."
        )
    return best.name


def _named(directory: Path, history: History, name: str) -> str:
    """Return the name of a run's checkpoint that has recorded steps after it; raises UserError for all others."""
    name = find_checkpoint(directory, name).name
    step = next((checkpoint.step for checkpoint in checkpoints_of(directory) if checkpoint.name == name), 0)
    if step >= history.last_step or name in Course(directory).given_up:
        raise _nothing_after(directory, name, step)
    return name


def _nothing_after(directory: Path, name: str, step: int) -> UserError:
    run, name = (printable(text, single_line=True) for text in (directory.name, name))
    return UserError(
        f"The run {run} has no recorded steps that follow from {name} (step {step:,}): choose an earlier checkpoint."
    )


def _replay(session: Session, original: Path, count: int) -> tuple[Losses, list[str]]:
    """Return the losses of the next `count` steps, and what of the environment differs from the recorded one."""
    assert session.resumed is not None
    state, losses = session.resumed.training, Losses()

    def collect(event: dict[str, Any]) -> None:
        if event["type"] == "step":
            losses[event["step"]] = event["loss"]

    with Recorder(session.directory, session.device.kind, session.plan.log_every, (collect,)) as recorder:
        trainer = session.trainer(recorder)
        restore(trainer, state)
        trainer.controls.replays = acknowledged_sets(outline(original), session.resumed.step)
        try:
            _train(trainer, count)
        except Ended:  # by itself, as the run did: what came before is there to compare
            pass
        return losses, environment_changes(state["environment"], environment(trainer))


def _train(trainer: Trainer, count: int) -> None:
    # No evaluations, samples or checkpoints: the training does not notice them.
    for _ in range(count):
        trainer.controls.obey()
        trainer.train_step()
    trainer.drain()


def _compared(run: str, checkpoint: str, before: int, pair: tuple[Losses, Losses], changes: list[str]) -> Verification:
    recorded, replayed = ({step: _known(loss) for step, loss in losses.items()} for losses in pair)
    differences = [
        Difference(step, loss, replayed.get(step))
        for step, loss in recorded.items()
        if step not in replayed or loss != replayed[step]
    ]
    sizes = [
        abs(difference.recorded - difference.replayed)
        for difference in differences
        if difference.recorded is not None and difference.replayed is not None
    ]
    return Verification(
        run=run,
        checkpoint=checkpoint,
        from_step=before,
        steps=max(recorded) - before,
        reproduced=not differences,
        changes=tuple(changes),
        differing=len(differences),
        first_difference=differences[0] if differences else None,
        largest_difference=max(sizes, default=None),
    )


def _known(loss: float | None) -> float | None:
    return loss if isinstance(loss, (int, float)) and math.isfinite(loss) else None
