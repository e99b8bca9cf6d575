"""Numbers gone bad, by the figures of the steps: updates that were not finite, which the optimizer has skipped, and
losses that stay far above the usual. Here is decided when it is enough; what follows from that, in rollback.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from minigpt.model.checkpoint import BEST
from minigpt.training.diagnosis.nonfinite import find_culprit
from minigpt.training.ended import GoneBad
from minigpt.training.spikes import SPIKE_STEPS, Spikes

if TYPE_CHECKING:
    from minigpt.training.trainer import Trainer

BAD_UPDATES_IN_A_ROW = 3
# A batch is read once more to find the layer, which takes as long as a step: not for ever.
_LOOKS = 5


class BadUpdates:
    """Counts the bad updates in a row, tells of them, and says when it is enough."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.spikes = Spikes(trainer)
        self._looks = _LOOKS

    def judge(self, step: int, position: int, loss: float, finite: bool) -> None:
        """Take in a step, the windows of which ended at `position`; raises GoneBad when it is enough."""
        progress = self.trainer.progress
        if self.trainer.precision == torch.float16 and self._adapt_loss_scale(finite):
            return
        if finite:
            progress.bad_updates = 0
            if self.spikes.judge(step, loss):
                self._judge_spike(step, position, loss)
            return
        progress.bad_updates += 1
        self._tell(step, position)
        if progress.bad_updates >= BAD_UPDATES_IN_A_ROW:
            raise GoneBad(
                "loss or gradient not finite",
                first=step - BAD_UPDATES_IN_A_ROW + 1,
                step=step,
                position=position,
                usual=float("inf"),
                words=f"{BAD_UPDATES_IN_A_ROW} updates in a row were not finite numbers.",
            )

    def _tell(self, step: int, position: int) -> None:
        situation, back = self.trainer.doctor.situation, self.trainer.settings.max_rollbacks
        follows = "goes back to its last good checkpoint, or ends where it cannot" if back else "ends"
        self.trainer.recorder.notice(
            "warning",
            "non-finite",
            f"Step {step:,}: loss or gradient was not a finite number, so this update was skipped. "
            f"{self._where(position)}After {BAD_UPDATES_IN_A_ROW} in a row the run {follows}. The usual cause is a "
            "learning rate that is too high.",
            cure=situation.scale_rate(0.5, "halve the learning rate"),
            step=step,
        )

    def _judge_spike(self, step: int, position: int, loss: float) -> None:
        usual = self.trainer.progress.spike_above
        assert usual is not None
        trouble = GoneBad(
            "the loss stays far above the usual",
            first=step - SPIKE_STEPS + 1,
            step=step,
            position=position,
            usual=usual,
            words=f"For {SPIKE_STEPS} steps the loss was above {usual:.2f}, far from the usual, and is {loss:.2f} now.",
        )
        if self.trainer.rollback.can_mend(trouble):
            raise trouble
        self.spikes.forgive()

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

    def tell_the_end(self, trouble: GoneBad, why: str) -> None:
        """Say that the run ends for this trouble, why it cannot go back, and where its last good weights are."""
        trainer = self.trainer
        trainer.progress.bad_updates = 0  # whoever goes on from here has made none yet
        # The bad updates were skipped, so the weights are those before them, unless they had overflowed already.
        if not (trainer.directory / BEST).exists() and all(p.isfinite().all() for p in trainer.model.parameters()):
            trainer.save(BEST)
        good = BEST if (trainer.directory / BEST).exists() else "no file: none was good"
        situation = trainer.doctor.situation
        trainer.recorder.notice(
            "error",
            "diverged",
            f"{trouble.words} {why} So the run ends. The last good weights are in {good}. "
            f"Start again with half of {situation.rates}, or more training.warmup_steps.",
            cure={"label": "half the learning rate, in a new run", "settings": situation.scaled_rates(0.5)},
            step=trainer.progress.step,
        )
