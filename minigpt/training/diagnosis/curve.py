"""The losses of a run's steps in little memory, with their noise: what is a trend and what is chance.

Which windows a step reads is drawn at random, so that its loss is the smooth curve plus independent noise. The noise
comes from the differences of successive steps (which hardly contain the trend), by their median absolute deviation
(which hardly contains spikes).
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

RECENT = 256
MOST_BINS = 256
FIRST_WIDTH = 5
# Gradients are compared with those of the last thousand steps.
NORMS_A_LEVEL, NORM_LEVELS = 25, 40
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


class GradientNorms:
    """The norms of the gradients so far, as logarithms: the latest, and the medians of stretches before.

    With each stretch goes its mean loss: on the way down a network may come over a flat place, where gradients are
    short and nothing is wrong with the longer ones after it.
    """

    def __init__(self) -> None:
        self.recent: deque[float] = deque(maxlen=2 * NORMS_A_LEVEL)
        self._levels: deque[tuple[float, float]] = deque(maxlen=NORM_LEVELS)
        self._added, self._losses = 0, 0.0

    def add(self, norm: float, loss: float) -> None:
        """Take in a step's norm and loss."""
        self.recent.append(math.log(max(norm, sys.float_info.min)))
        self._added += 1
        self._losses += loss
        if self._added % NORMS_A_LEVEL == 0:
            self._levels.append((self.latest(NORMS_A_LEVEL), self._losses / NORMS_A_LEVEL))
            self._losses = 0.0

    def latest(self, steps: int) -> float:
        """Return the median of the last steps."""
        return float(np.median(list(islice(reversed(self.recent), steps))))

    def calmest(self, loss: float) -> float | None:
        """Return the lowest median of the stretch before the latest, and of those before with no more than this loss.

        None where there is none.
        """
        before = list(self._levels)[:-1]
        return min([norm for norm, mean in before if mean <= loss] + [norm for norm, _ in before[-1:]], default=None)

    def noise(self) -> float:
        """Return the standard deviation of one step's norm around the curve."""
        return _noise(self.recent)


class LossCurve:
    """The losses so far: each of the latest, and means of ever longer stretches before."""

    def __init__(self, norms: GradientNorms | None = None) -> None:
        self.steps = 0
        self.first = math.nan  # before any update
        self.initial = math.nan  # the mean of the first few
        self.norms = norms or GradientNorms()
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._bins: list[float] = []
        self._width = FIRST_WIDTH
        self._sum, self._in_sum = 0.0, 0
        self._noise = (0, 0.0)  # at how many steps it was computed

    def add(self, loss: float | None, grad_norm: float | None) -> None:
        """Take in a step; one without finite numbers is left out."""
        if loss is None or grad_norm is None or not math.isfinite(loss) or not math.isfinite(grad_norm):
            return
        if not self.steps:
            self.first = loss
        self.steps += 1
        self._recent.append(loss)
        self.norms.add(grad_norm, loss)
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
        if self._noise[0] != self.steps:
            self._noise = self.steps, _noise(self._recent)
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


def _noise(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    differences = np.diff(np.fromiter(values, float, len(values)))
    spread = float(np.median(np.abs(differences - np.median(differences))))
    return _MAD_TO_DEVIATION * spread / math.sqrt(2)
