"""Gradients that grow beyond bounds, against what they were before in the same run."""

from __future__ import annotations

import math

import numpy as np

from minigpt.training.diagnosis.curve import LossCurve
from minigpt.training.diagnosis.falling import FEWEST_STEPS
from minigpt.training.diagnosis.finding import Detector, Finding, Situation

_NOW, _BEFORE = 10, 50
# The norm of one step's gradient may be many times the usual one; of half of ten steps in a row it is not by chance.
_TIMES = 10.0
_CERTAIN = 6.0
_MAD_TO_DEVIATION = 1.4826


class ExplodingGradients(Detector):
    """The gradient norms of the last steps are many times those of the steps before."""

    def on_steps(self, curve: LossCurve, situation: Situation) -> Finding | None:
        # In the beginning they grow by nature, from a network whose output is zero, and with the rate.
        if curve.steps < FEWEST_STEPS + situation.warmup or len(curve.grad_norms) < _NOW + _BEFORE:
            return None
        logs = np.log(np.maximum(np.fromiter(curve.grad_norms, float), np.finfo(float).tiny))
        before, now = logs[:-_NOW], float(np.median(logs[-_NOW:]))
        usual = float(np.median(before))
        spread = _MAD_TO_DEVIATION * float(np.median(np.abs(before - usual)))
        if now - usual < max(math.log(_TIMES), _CERTAIN * spread):
            return None
        limit = situation.settings.max_grad_norm
        clipped = (
            f"Each is cut to training.max_grad_norm ({limit:g}), so that steps have a direction and hardly a meaning"
            if limit
            else "Nothing cuts them, for training.max_grad_norm is 0"
        )
        return Finding(
            "exploding-gradients",
            f"The gradient's norm was about {math.exp(usual):.3g} and is {math.exp(now):.3g} in the last {_NOW} steps. "
            f"{clipped}: as a rule the loss comes apart next. Lower {situation.rates}"
            + ("." if limit else ", and set training.max_grad_norm to 1 in the next run."),
            situation.scale_rate(0.5, "halve the learning rate"),
        )
