"""When a run is saved, under which names, and what happens where the disk refuses."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from minigpt.model.checkpoint import BEST, EPOCH, INTERRUPTED, STEP, save
from minigpt.narration import duration
from minigpt.training.plan import checkpoint_bytes
from minigpt.training.room import Refusal
from minigpt.training.state import capture, remove_old_checkpoints

if TYPE_CHECKING:
    from minigpt.training.trainer import Trainer

FIRST_SAVE_SECONDS = 30
SAVE_SECONDS = 600
# A save that takes so long, and so much of the time, is worth a word.
SLOW_SECONDS = 30.0
SLOW_SHARE = 0.1


class Checkpointer:
    """Writes the checkpoints of one run for its trainer."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.saved_at = time.monotonic()  # or began; of the monotonic clock
        self.saved_step = trainer.progress.step or None  # None: of this run, nothing has been saved
        self._first_step = trainer.progress.step
        self._tried_at = self.saved_at
        self.unsaved_best = False
        self._saved_once = False  # weights that this session has trained
        self._told_slow = False
        self._size = checkpoint_bytes(trainer.config.model, trainer.model.config.vocab_size, trainer.settings)

    def due(self) -> list[str]:
        """Return the names under which the run is to be saved after this step."""
        names = [STEP.format(self.trainer.progress.step)] if self._step_is_due() else []
        if epoch := self._epoch_due():
            names.append(EPOCH.format(epoch))
        # The first name is written last: who goes on from another one, after a kill in between, has the best one too.
        return [*names[:1], BEST, *names[1:]] if self.unsaved_best else names

    def _step_is_due(self) -> bool:
        step, settings = self.trainer.progress.step, self.trainer.settings
        if step % self.trainer.plan.save_every == 0:
            return True
        # What is to be kept for good must be there first.
        if settings.keep_every is not None and step % settings.keep_every == 0:
            return True
        if settings.save_every is not None:
            return False
        waited = time.monotonic() - self._tried_at
        return waited > (SAVE_SECONDS if self._saved_once else FIRST_SAVE_SECONDS)

    def _epoch_due(self) -> int | None:
        """Return the number of the epoch that this step completed, if a checkpoint of it is wanted."""
        trainer, position = self.trainer, self.trainer.progress.position
        before = (position - trainer.plan.windows_per_step) // trainer.windows.count
        epoch = position // trainer.windows.count
        return epoch if epoch > before and epoch % trainer.plan.epoch_checkpoint_every == 0 else None

    def save(self, *names: str) -> bool:
        """Write one checkpoint under one or more names; return False, having said why, when the disk refuses."""
        with self.trainer.recorder.during("saving"):
            refused = self._write(names)
            if refused is None:
                return True
        coming = "." if INTERRUPTED in names else ": the next save is tried at its time."
        self.trainer.recorder.notice(
            "error",
            "save-failed",
            f"{refused.in_words()} Checkpoints that were there are untouched. {refused.way_out()}{coming}",
            step=self.trainer.progress.step,
        )
        # Tried again soon.
        self._tried_at, self._saved_once = time.monotonic(), False
        return False

    def save_or_wait(self, *names: str) -> bool:
        """Write one checkpoint; where the disk refuses, pause the run until it is written or somebody says stop.

        Return whether it was written. A checkpoint is never ahead of the run's record: who goes on with it finds there
        what was asked of the run before.
        """

        def attempt() -> Refusal | None:
            recorder.writer.flush()
            return self.trainer.room.events_refused() or self._write(names)

        recorder = self.trainer.recorder
        with recorder.during("saving"):
            refused = attempt()
        if refused is None or self.trainer.room.wait(attempt, refused):
            return True
        self._tried_at, self._saved_once = time.monotonic(), False
        return False

    def _write(self, names: tuple[str, ...]) -> Refusal | None:
        """Write a checkpoint, and return what hindered that."""
        trainer = self.trainer
        paths = [trainer.directory / name for name in names]
        began = time.monotonic()
        try:
            save(paths[0], capture(trainer), also=tuple(paths[1:]))
        except OSError as error:
            # Its traceback holds all that was to be written.
            return Refusal(paths[0], error.with_traceback(None), self._size)
        self._warn_if_slow(names[0], began, time.monotonic())
        self._after_saving(names)
        return None

    def _warn_if_slow(self, name: str, began: float, ended: float) -> None:
        seconds = ended - began
        if self._told_slow or seconds < SLOW_SECONDS or seconds < SLOW_SHARE * (ended - self.saved_at):
            return
        self._told_slow = True
        self.trainer.recorder.notice(
            "warning",
            "slow-disk",
            f"Writing {name} took {duration(seconds)}, in which the training waited: the disk is slow or busy. "
            "Move the workspace to a faster one, or save less often "
            "(`minigpt control RUN set save_every=N`).",
            step=self.trainer.progress.step,
        )

    def _after_saving(self, names: tuple[str, ...]) -> None:
        trainer, settings = self.trainer, self.trainer.settings
        self.saved_at = self._tried_at = time.monotonic()
        self.saved_step = trainer.progress.step
        # A fork's first weights, and a new end, are saved before any step.
        self._saved_once = trainer.progress.step > self._first_step
        # A best that could not be written is gone; the next weights that can be are the nearest to it.
        self.unsaved_best = self.unsaved_best and BEST not in names
        for name in names:
            kind = name.removeprefix("checkpoint_").split("_")[0]
            trainer.recorder.event("checkpoint", path=name, step=trainer.progress.step, kind=kind)
        # What cannot be removed now is removed after the next save.
        with suppress(OSError):
            remove_old_checkpoints(trainer.directory, settings.keep_last, settings.keep_every)
        trainer.restart_clock()

    def went_back(self) -> None:
        """Take note that the run stands again where one of its checkpoints was written."""
        self.saved_step, self.unsaved_best = self.trainer.progress.step, False

    def has_saved_this_step(self) -> bool:
        """Return whether the run as it stands now can be gone on with from a checkpoint."""
        return self.saved_step == self.trainer.progress.step

    def unsaved_in_words(self) -> str:
        """Return which steps are in no checkpoint."""
        if self.saved_step is None:
            return "nothing that was learned could be saved"
        return f"what was learned after step {self.saved_step:,} could not be saved"
