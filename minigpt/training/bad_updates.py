"""Updates that were not finite numbers: the optimizer has skipped them; here is decided what follows from that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from minigpt.model.checkpoint import BEST
from minigpt.training.diagnosis.nonfinite import find_culprit

if TYPE_CHECKING:
    from minigpt.training.trainer import Trainer

BAD_UPDATES_IN_A_ROW = 3
# A batch is read once more to find the layer, which takes as long as a step: not for ever.
_LOOKS = 5


class BadUpdates:
    """Counts the bad updates in a row, tells of them, and says when it is enough."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._looks = _LOOKS

    def judge(self, step: int, position: int, finite: bool) -> bool:
        """Take in an update, the windows of which ended at `position`; return whether the run is to end for it."""
        progress = self.trainer.progress
        if self.trainer.precision == torch.float16 and self._adapt_loss_scale(finite):
            return False
        if finite:
            progress.bad_updates = 0
            return False
        progress.bad_updates += 1
        self.trainer.recorder.notice(
            "warning",
            "non-finite",
            f"Step {step:,}: loss or gradient was not a finite number, so this update was skipped. "
            f"{self._where(position)}After {BAD_UPDATES_IN_A_ROW} in a row the run ends. The usual cause is a learning "
            "rate that is too high.",
            cure=self.trainer.doctor.situation.scale_rate(0.5, "halve the learning rate"),
            step=step,
        )
        return progress.bad_updates >= BAD_UPDATES_IN_A_ROW

    def _where(self, position: int) -> str:
        if not self._looks:
            return ""
        self._looks -= 1
        trainer = self.trainer

        def parts() -> Iterator[tuple[Tensor, Tensor, float]]:
            inputs, targets = trainer.batch_at(position - trainer.plan.windows_per_step)
            for start in range(0, len(inputs), trainer.plan.micro_batch_size):
                part = slice(start, start + trainer.plan.micro_batch_size)
                yield inputs[part], targets[part], trainer.progress.loss_scale / inputs.numel()

        return find_culprit(trainer.model, parts, trainer.autocast).in_words() + " "

    def _adapt_loss_scale(self, finite: bool) -> bool:
        """Find the largest scale at which float16 gradients neither vanish nor overflow; True if it was at fault."""
        progress = self.trainer.progress
        if finite:
            progress.good_updates += 1
            if progress.good_updates >= 2000:
                progress.loss_scale, progress.good_updates = progress.loss_scale * 2, 0
            return False
        if progress.loss_scale <= 1.0:
            return False
        progress.loss_scale, progress.good_updates = progress.loss_scale / 2, 0
        return True

    def tell_the_end(self) -> None:
        """Say why the run ends, and where its last good weights are."""
        trainer = self.trainer
        # The bad updates were skipped, so the weights are those before them, unless they had overflowed already.
        if not (trainer.directory / BEST).exists() and all(p.isfinite().all() for p in trainer.model.parameters()):
            trainer.save(BEST)
        good = BEST if (trainer.directory / BEST).exists() else "no file: none was good"
        situation = trainer.doctor.situation
        trainer.recorder.notice(
            "error",
            "diverged",
            f"{BAD_UPDATES_IN_A_ROW} updates in a row were not finite numbers, so the run ends. "
            f"The last good weights are in {good}. "
            f"Start again with half of {situation.rates}, or more training.warmup_steps.",
            cure={"label": "half the learning rate, in a new run", "settings": situation.scaled_rates(0.5)},
            step=trainer.progress.step,
        )
