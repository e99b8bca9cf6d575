"""The losses of a run's steps in little memory, with their noise: what is a trend and what is chance.

Which windows a step reads is drawn at random, so that its loss is the smooth curve plus independent noise. The noise
comes from the differences of successive steps (which hardly contain the trend), by their median absolute deviation
(which hardly contains spikes).
"""

from __future__ import annotations

import math
from collections import deque
from itertools import islice
from typing import NamedTuple

import numpy as np

RECENT = 256
MOST_BINS = 256
FIRST_WIDTH = 5
# A normal distribution's standard deviation over its median absolute deviation.
_MAD_TO_DEVIATION = 1.4826
# A difference of so many standard errors is no chance.
_CERTAINLY = 3.0


class Level(NamedTuple):
    """A mean loss, its standard error, and of how many steps it is."""

    mean: float
    error: float
    steps: int


class Trend(NamedTuple):
    """How far the loss has fallen along a stretch of steps (below zero: risen), and the standard error of that."""

    fall: float
    error: float
    steps: int


class LossCurve:
    """The losses so far: each of the latest, and means of ever longer stretches before."""

    def __init__(self) -> None:
        self.steps = 0
        self.initial = math.nan  # the mean of the first few
        self.grad_norms: deque[float] = deque(maxlen=RECENT)
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._bins: list[float] = []
        self._width = FIRST_WIDTH
        self._sum, self._in_sum = 0.0, 0
        self._noise = (0, 0.0)  # at how many steps it was computed

    def add(self, loss: float | None, grad_norm: float | None) -> None:
        """Take in a step; one without finite numbers is left out."""
        if loss is None or grad_norm is None or not math.isfinite(loss) or not math.isfinite(grad_norm):
            return
        self.steps += 1
        self._recent.append(loss)
        self.grad_norms.append(grad_norm)
        self._sum += loss
        self._in_sum += 1
        if self._in_sum == self._width:
            self._bins.append(self._sum / self._width)
            self._sum, self._in_sum = 0.0, 0
            if len(self._bins) == 1:
                self.initial = self._bins[0]
            if len(self._bins) == MOST_BINS:
                self._bins = [(a + b) / 2 for a, b in zip(self._bins[::2], self._bins[1::2], strict=True)]
                self._width *= 2

    def noise(self) -> float:
        """Return the standard deviation of one step's loss around the curve, by the latest steps."""
        if self._noise[0] != self.steps and len(self._recent) > 1:
            differences = np.diff(np.fromiter(self._recent, float, len(self._recent)))
            spread = float(np.median(np.abs(differences - np.median(differences))))
            self._noise = self.steps, _MAD_TO_DEVIATION * spread / math.sqrt(2)
        return self._noise[1]

    def level(self, steps: int) -> Level:
        """Return the mean of the last steps, RECENT at most."""
        count = min(steps, len(self._recent))
        latest = list(islice(reversed(self._recent), count))
        return Level(sum(latest) / max(1, count), self.noise() / math.sqrt(max(1, count)), count)

    def falls(self, steps: int) -> bool:
        """Return whether the second half of the last steps (RECENT at most) lies below the first, beyond the noise."""
        half = min(steps, len(self._recent)) // 2
        latest = list(islice(reversed(self._recent), 2 * half))
        fall = (sum(latest[half:]) - sum(latest[:half])) / max(1, half)
        return fall > _CERTAINLY * self.noise() * math.sqrt(2 / max(1, half))

    def best_before(self, steps: int) -> float:
        """Return the lowest mean of a stretch before the last steps, infinity where there is none."""
        return min(self._bins[: max(0, len(self._bins) - math.ceil(steps / self._width))], default=math.inf)

    def trend(self, steps: int) -> Trend | None:
        """Return the straight line through the last steps; None for too few."""
        count = min(len(self._bins), round(steps / self._width))
        if count < 4:
            return None
        means = np.array(self._bins[-count:])
        places = np.arange(count) - (count - 1) / 2
        squares = float(places @ places)
        slope = float(places @ means) / squares
        left_over = means - means.mean() - slope * places
        # What is left over has slower waves in it too, which single steps do not show.
        deviation = max(self.noise() / math.sqrt(self._width), float(np.sqrt(left_over @ left_over / (count - 2))))
        return Trend(-slope * count, deviation / math.sqrt(squares) * count, count * self._width)
