"""Where the numbers have gone bad, the run goes back to its last good checkpoint, and on with half the learning rate.

    except GoneBad as trouble:
        trainer.rollback.carry_out(trouble)     # raises Ended where it cannot go back

It is a resumption within the process, and on record as one, so that every reader discards the steps that are given up,
and whoever resumes or repeats the run later does the same as here:

    {"type": "start", "resumed_from": N, "rolled_back_from": M, "lr_scale": S, ...}
    {"type": "command", "id": "rollback-1", "command": "set", "args": {"lr_scale": S}, "step": N, "by": "rollback", ...}

Only then are the checkpoints removed that were saved between N and M. Killed in between, the next session finds by the
first event what is left to do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import torch
from torch import Tensor

from minigpt.errors import UserError
from minigpt.events import EVENTS, open_file, outline
from minigpt.model.checkpoint import BEST, Checkpoint, load
from minigpt.runs.checkpoints import kind_of
from minigpt.training.controls import LR_SCALE_RANGE, acknowledged_sets
from minigpt.training.course import Course, rollback_id
from minigpt.training.diagnosis.doctor import Doctor
from minigpt.training.ended import EXIT_FAILED, Ended, GoneBad
from minigpt.training.plan import start_fields
from minigpt.training.room import Refusal
from minigpt.training.state import Progress, go_back

if TYPE_CHECKING:
    from minigpt.training.trainer import Trainer

# A run may keep thousands of checkpoints, and each takes a while to open.
_MOST_TRIED = 10


class Target(NamedTuple):
    """A checkpoint to go back to; `loss` is what its weights give on the windows of the trouble (nats a token)."""

    name: str
    checkpoint: Checkpoint
    progress: Progress
    loss: float


class Rollback:
    """Takes one run back, for its trainer."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        # The fields of the session's `start` event; None for who only repeats or measures steps, and never goes back.
        self.start: dict[str, Any] | None = None
        self._done: int | None = None  # rollbacks of the whole run; None until it has been looked up

    @property
    def left(self) -> int:
        """How many more times the run may go back."""
        limit = self.trainer.settings.max_rollbacks if self.start is not None else 0
        if limit and self._done is None:
            self._done = Course(self.trainer.directory).rollbacks
        return max(0, limit - (self._done or 0))

    def can_mend(self, trouble: GoneBad) -> bool:
        """Return whether there is a checkpoint from before that does better than the weights of now. Raises Ended."""
        self._wait_for_files()
        return self.left > 0 and self._find(trouble) is not None

    def carry_out(self, trouble: GoneBad) -> None:
        """Go back before the trouble; raises Ended, all being said and saved, where that cannot be."""
        trainer = self.trainer
        with trainer.recorder.during("starting"):
            self._wait_for_files()
            target = self._find(trouble) if self.left else None
            if target is None:
                trainer.bad_updates.tell_the_end(trouble, self._why_not())
                raise Ended(trouble.reason, trouble.exit_code)
            scale = min(trainer.progress.lr_scale, target.progress.lr_scale) / 2
            scale = max(LR_SCALE_RANGE[0], float(f"{scale:.3g}"))
            go_back(trainer, target.checkpoint, target.progress)
            trainer.progress.lr_scale = scale
            self._record(trouble, scale)
            self.clear()
        self._begin_anew()
        self._tell(trouble, target, scale)

    def _why_not(self) -> str:
        if not self.trainer.settings.max_rollbacks:
            return "To go back to a checkpoint by itself is switched off (training.max_rollbacks is 0)."
        if not self.left:
            times = self.trainer.settings.max_rollbacks
            return f"It has gone back to a checkpoint {times} time{'' if times == 1 else 's'} already."
        return "There is no good checkpoint from before that to go back to."

    def _wait_for_files(self) -> None:
        """Return when the run's folder can be read; raises Ended where somebody says stop before."""
        trainer, refusal = self.trainer, self._files_refused()
        if self.start is None or refusal is None or trainer.room.wait(self._files_refused, refusal):
            return
        raise Ended(f"{trainer.controls.stop_reason}, and {trainer.checkpointer.unsaved_in_words()}", EXIT_FAILED)

    def _files_refused(self) -> Refusal | None:
        path = self.trainer.directory / EVENTS
        try:
            open_file(path).close()
        except OSError as error:
            return Refusal(path, error.with_traceback(None))
        return None

    # Which checkpoint

    def _find(self, trouble: GoneBad) -> Target | None:
        """Return the newest checkpoint from before the trouble that is good; weights and random numbers stay.

        Good is what gives a usual loss on the windows of the trouble: usual now, and usual for the checkpoint itself.
        Where infinite numbers come from the text or the machine, none does: the newest with finite weights is taken.
        """
        trainer = self.trainer
        batch = trainer.batch_at(trouble.position - trainer.plan.windows_per_step)
        own = {name: weight.detach().to("cpu", copy=True) for name, weight in trainer.model.state_dict().items()}
        fallback: Target | None = None
        try:
            if self._loss(own, batch) < trouble.usual < math.inf:
                return None  # the weights of now do as well: the text had been read wrongly, or they have recovered
            for target in self._candidates(trouble, batch):
                usual = target.progress.spike_above
                if target.loss < min(trouble.usual, math.inf if usual is None else usual):
                    return target
                fallback = fallback or target
        finally:
            trainer.model.load_state_dict(own)
        return fallback if math.isinf(trouble.usual) else None

    def _candidates(self, trouble: GoneBad, batch: tuple[Tensor, Tensor]) -> Iterator[Target]:
        """Yield the checkpoints from before the trouble that have finite weights, the newest first."""
        trainer = self.trainer
        shapes = {name: weight.shape for name, weight in trainer.model.state_dict().items()}
        # Of those of one step, one: they are the same file, or hold the same.
        saved = Course(trainer.directory).saved.items()
        by_step = {step: name for name, step in saved if (trainer.directory / name).is_file()}
        steps = [step for step in by_step if trainer.progress.first_step <= step < trouble.first]
        for step in sorted(steps, reverse=True)[:_MOST_TRIED]:
            try:
                checkpoint = load(trainer.directory / by_step[step])
                progress = msgspec.convert(checkpoint.training["progress"], Progress)
            except (UserError, KeyError, msgspec.ValidationError):  # removed meanwhile, or damaged
                continue
            fits = shapes == {name: weight.shape for name, weight in checkpoint.weights.items()}
            if fits and progress.step == step and _finite(checkpoint):
                yield Target(by_step[step], checkpoint, progress, self._loss(checkpoint.weights, batch))

    @torch.no_grad()
    def _loss(self, weights: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> float:
        """Return what these weights give on some windows (nats a token)."""
        trainer, (inputs, targets), total = self.trainer, batch, 0.0
        trainer.model.load_state_dict(weights)
        trainer.model.eval()
        for start in range(0, len(inputs), trainer.plan.micro_batch_size):
            part = slice(start, start + trainer.plan.micro_batch_size)
            with trainer.autocast():
                total += float(trainer.model.loss(inputs[part], targets[part]))
        return total / inputs.numel()

    # On record, and after it

    def _record(self, trouble: GoneBad, scale: float) -> None:
        trainer, recorder, step = self.trainer, self.trainer.recorder, self.trainer.progress.step
        assert self.start is not None
        assert self._done is not None
        self._done += 1
        recorder.event(
            "start",
            **self.start
            | {"resumed_from": step, "rolled_back_from": trouble.step, "lr_scale": scale, "lengthened": False}
            | start_fields(trainer.plan.with_steps(trainer.progress.last_step)),
        )
        args, why = {"lr_scale": scale}, f"lr_scale = {scale:g}, for the numbers had gone bad"
        id = rollback_id(self._done)
        recorder.event("command", id=id, command="set", args=args, step=step, done=True, why=why, by="rollback")
        # A full disk keeps the record waiting: nothing is removed before it is written.
        trainer.room.wait_for_events()
        sets = acknowledged_sets(outline(trainer.directory), step)
        trainer.controls.replays = [event for event in sets if event["id"] != id]

    def clear(self) -> None:
        """Remove the checkpoints of branches that were given up; the best one only if it is good for nothing."""
        if self.trainer.recorder.writer.error is not None:
            return  # what is not on record yet has not happened for who resumes the run
        for name in Course(self.trainer.directory).given_up:
            path = self.trainer.directory / name
            useless = name == BEST and path.exists() and not self._take_best()
            if useless or kind_of(name) in ("step", "epoch", "interrupted"):
                with suppress(OSError):  # what cannot be removed now is removed when the run is resumed
                    path.unlink(missing_ok=True)

    def _take_best(self) -> bool:
        """Have the best checkpoint of a branch that was given up stay the best; return False where it is not."""
        progress = self.trainer.progress
        try:
            best = load(self.trainer.directory / BEST)
        except UserError:
            return False
        loss = best.metrics.get("best_val_loss", math.inf)
        # An equal loss is its own: a checkpoint since has it as the best.
        worse = progress.best_loss is not None and loss > progress.best_loss
        if worse or not math.isfinite(loss) or not _finite(best):
            return False
        progress.best_loss, progress.best_step = loss, best.step
        return True

    def _begin_anew(self) -> None:
        """Have those who judge the run forget the steps that were given up."""
        trainer = self.trainer
        trainer.checkpointer.went_back()
        trainer.doctor = Doctor(trainer, before=trainer.doctor)
        trainer.recorder.on_readings = trainer.doctor.on_readings
        trainer.doctor.recall()
        trainer.metrics.begin()

    def _tell(self, trouble: GoneBad, target: Target, scale: float) -> None:
        trainer, step = self.trainer, self.trainer.progress.step
        times = "once more" if self.left == 1 else f"{self.left} times more"
        trainer.recorder.notice(
            "warning",
            "rolled-back",
            f"{trouble.words} So the run has gone back to step {step:,} ({target.name}), and goes on from there with "
            f"half the learning rate (lr_scale {scale:g}); the steps up to {trouble.step:,} are made anew. "
            f"{f'It may do so {times}' if self.left else 'It may not do so again'} (training.max_rollbacks).",
            step=step,
        )


def _finite(checkpoint: Checkpoint) -> bool:
    return all(bool(weight.isfinite().all()) for weight in checkpoint.weights.values())
