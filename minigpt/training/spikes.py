"""Losses far above the usual, for many steps on end: a sign that the weights have gone bad, though all is finite.

A single odd batch is none, nor is the climb of a rate. Whether the weights are to blame or the text, the last good
checkpoint tells (rollback.py): its weights give a usual loss on the same windows, or they do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minigpt.training.diagnosis.doctor import LOOK_EVERY
from minigpt.training.diagnosis.falling import FEWEST_STEPS

if TYPE_CHECKING:
    from minigpt.training.trainer import Trainer

SPIKE_STEPS = 10
# What is usual is known by so many steps, and not before so many warmups are over.
_USUAL_STEPS = 25
_WARMUPS = 2
# Far above: so many standard deviations of one step's loss, such a part of what was gained on ln(vocabulary), and of
# ln(vocabulary) itself.
_CERTAIN = 6.0
_LOST = 0.25
_LEAST = 0.1


class Spikes:
    """Counts the steps in a row with a loss far above the usual; what is usual travels with the checkpoints."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def judge(self, step: int, loss: float) -> bool:
        """Take in the finite loss of a step (nats a token); return whether it is time to ask who is to blame."""
        progress = self.trainer.progress
        if progress.spike_above is not None and loss > progress.spike_above:
            progress.spike_steps += 1
            return progress.spike_steps >= SPIKE_STEPS
        progress.spike_steps = 0
        if step % LOOK_EVERY == 1:
            # Right after the doctor's look, for which the noise was computed.
            self._look()
        return False

    def _look(self) -> None:
        doctor, situation = self.trainer.doctor, self.trainer.doctor.situation
        # After a change of the rate the curve begins anew: until it is long enough, what was usual before holds.
        if doctor.curve.steps < max(FEWEST_STEPS, _WARMUPS * situation.warmup):
            return
        usual = doctor.curve.level(_USUAL_STEPS).mean
        far = max(_CERTAIN * doctor.curve.noise(), _LOST * (situation.uniform - usual), _LEAST * situation.uniform)
        self.trainer.progress.spike_above = usual + far

    def forgive(self) -> None:
        """Learn anew what is usual: the text was to blame."""
        self.trainer.progress.spike_above, self.trainer.progress.spike_steps = None, 0
