"""When a run is saved, under which names, and what happens where the disk refuses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from minigpt.model.checkpoint import BEST, EPOCH, STEP, save
from minigpt.training.state import capture, remove_old_checkpoints

if TYPE_CHECKING:
    from minigpt.training.trainer import Trainer

FIRST_SAVE_SECONDS = 30
SAVE_SECONDS = 600


class Checkpointer:
    """Writes the checkpoints of one run for its trainer."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.saved_at = time.monotonic()  # or when it began
        self._tried_at = self.saved_at
        self.unsaved_best = False
        self._saved_once = False  # weights that this session has trained

    def due(self) -> list[str]:
        """Return the names under which the run is to be saved after this step."""
        names = [BEST] if self.unsaved_best else []
        if self._step_is_due():
            names.append(STEP.format(self.trainer.progress.step))
        if epoch := self._epoch_due():
            names.append(EPOCH.format(epoch))
        return names

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
        trainer, recorder, settings = self.trainer, self.trainer.recorder, self.trainer.settings
        paths = [trainer.directory / name for name in names]
        with recorder.during("saving"):
            try:
                save(paths[0], capture(trainer), also=tuple(paths[1:]))
            except OSError as error:
                recorder.notice(
                    "error",
                    "save-failed",
                    f"Cannot write {paths[0]} ({error.strerror or error}). Checkpoints that were there are untouched. "
                    "Make room or repair the folder: the next save is tried at its time.",
                )
                # Tried again soon.
                self._tried_at, self._saved_once = time.monotonic(), False
                return False
            self.saved_at = self._tried_at = time.monotonic()
            # A fork's first weights are saved before any step.
            self._saved_once = trainer.progress.step > 0
            # A best that could not be written is gone; the next weights that can be are the nearest to it.
            self.unsaved_best = self.unsaved_best and BEST not in names
            for name in names:
                kind = name.removeprefix("checkpoint_").split("_")[0]
                recorder.event("checkpoint", path=name, step=trainer.progress.step, kind=kind)
            remove_old_checkpoints(trainer.directory, settings.keep_last, settings.keep_every)
        trainer.restart_clock()
        return True
