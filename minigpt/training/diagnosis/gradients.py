"""Gradients that grow beyond bounds, against what they were before in the same run."""

from __future__ import annotations

import math

from minigpt.training.diagnosis.curve import NORMS_A_LEVEL, LossCurve
from minigpt.training.diagnosis.finding import Detector, Finding, Situation

_NOW = 10
# The norm of one step's gradient may be many times the usual one; of half of ten steps in a row it is not by chance.
# In runs that learn well it grows to twice what it was at the same loss (tests/training/test_diagnosis_real.py).
_TIMES = 10.0
_CERTAIN, _CERTAINLY = 6.0, 3.0
# The standard error of a median over that of a mean, of numbers that are normally distributed.
_OF_A_MEDIAN = 1.2533


class ExplodingGradients(Detector):
    """The gradient norms of the last steps are many times those of the calmest steps before at which it was as good."""

    def on_steps(self, curve: LossCurve, situation: Situation) -> Finding | None:
        norms, level = curve.norms, curve.level(_NOW)
        calmest = norms.calmest(level.mean + _CERTAINLY * level.error)
        if calmest is None:
            return None
        now = norms.latest(_NOW)
        error = _OF_A_MEDIAN * norms.noise() * math.sqrt(1 / _NOW + 1 / NORMS_A_LEVEL)
        if now - calmest < max(math.log(_TIMES), _CERTAIN * error):
            return None
        limit = situation.settings.max_grad_norm
        clipped = (
            f"Each is cut to training.max_grad_norm ({limit:g}), so that steps have a direction and hardly a meaning"
            if limit
            else "Nothing cuts them, for training.max_grad_norm is 0"
        )
        return Finding(
            "exploding-gradients",
            f"The gradient's norm was about {math.exp(calmest):.3g} when the loss was no higher, and is "
            f"{math.exp(now):.3g} in the last {_NOW} steps. {clipped}: as a rule the loss comes apart next. "
            f"Lower {situation.rates}" + ("." if limit else ", and set training.max_grad_norm to 1 in the next run."),
            situation.scale_rate(0.5, "halve the learning rate"),
        )
