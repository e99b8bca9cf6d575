"""The curves of several runs on one axis: optimizer steps, tokens read, or seconds at work.

curve = curve_of(digest(directory), "tokens")
curve.validation_at(1e6)        # the validation loss when about a million tokens had been read
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from minigpt.digest import LossCurve, RunDigest

Axis = Literal["step", "tokens", "time"]
AXES: tuple[Axis, ...] = ("step", "tokens", "time")
# An evaluation tells of places that are no further from it than this share of their own distance from the start.
NEAR = 0.02
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RunCurve:
    """Training loss at `x` and validation loss and bits per byte (NaN where not told) at `val_x`, all rising in x."""

    run: str
    x: Floats
    loss: Floats
    val_x: Floats
    val_loss: Floats
    val_bits: Floats

    @property
    def reach(self) -> float:
        """The last place at which the validation loss is known; 0 where it never was."""
        return float(self.val_x[-1]) if len(self.val_x) else 0.0

    def validation_at(self, x: float, bits: bool = False) -> float | None:
        """Return the validation loss (or bits per byte) of the evaluation nearest to a place.

        None where there was none near it: what a curve does between two evaluations nobody has measured.
        """
        near = self.evaluated_near(np.array([x]))
        if not near[0]:
            return None
        found = float((self.val_bits if bits else self.val_loss)[np.abs(self.val_x - x).argmin()])
        return found if np.isfinite(found) else None

    def evaluated_near(self, places: Floats) -> NDArray[np.bool_]:
        """Return at which of some places there was an evaluation so near that it tells of them."""
        if not len(self.val_x):
            return np.zeros(len(places), dtype=np.bool_)
        after = np.searchsorted(self.val_x, places)
        neighbours = [self.val_x[np.clip(after - back, 0, len(self.val_x) - 1)] for back in (0, 1)]
        return np.minimum(*(np.abs(found - places) for found in neighbours)) <= NEAR * np.abs(places)


def curve_of(digest: RunDigest, axis: Axis) -> RunCurve:
    """Return a run's curves over an axis."""
    x = places_of(digest.curves, axis)
    known = np.isfinite(x)
    steps, x, loss = digest.curves.step[known], x[known], digest.curves.loss[known]
    told = digest.validations
    val_steps = np.array([event["step"] for event in told], dtype=np.float64)
    # An evaluation tells neither the time nor the tokens of the training: they are those of its step.
    val_x = val_steps if axis == "step" else np.interp(val_steps, steps, x, left=0.0) if len(steps) else val_steps * 0
    val_loss = np.array([event["loss"] for event in told], dtype=np.float64)
    val_bits = np.array([_or_nan(event.get("bits_per_byte")) for event in told], dtype=np.float64)
    order = np.argsort(val_x, kind="stable")
    return RunCurve(digest.summary.run, x, loss, val_x[order], val_loss[order], val_bits[order])


def places_of(curves: LossCurve, axis: Axis) -> Floats:
    """Return where each training step lies on an axis; NaN where that was not told."""
    x = np.asarray({"step": curves.step, "tokens": curves.tokens, "time": curves.seconds}[axis], dtype=np.float64)
    # A clock that was set back must not fold the curve.
    return np.where(np.isfinite(x), np.fmax.accumulate(x), np.nan) if len(x) else x


def shared_places(curves: Sequence[RunCurve], count: int = 8) -> list[float]:
    """Return up to `count` places, about evenly spread, at which at least two runs were evaluated, and the last place
    that all have reached.
    """
    first = max((float(curve.val_x[0]) for curve in curves if len(curve.val_x)), default=0.0)
    last = min((curve.reach for curve in curves), default=0.0)
    if not curves or not 0 < last >= first:
        return []
    chosen = [last]
    wanted = np.linspace(first, last, count + 1)[1:-1]
    inside = [np.unique(curve.val_x[(curve.val_x > first) & (curve.val_x < last)]) for curve in curves]
    # Where those were evaluated that seldom were, the others most often were too.
    for places in sorted(inside, key=len):
        told = np.sum([curve.evaluated_near(places) for curve in curves], axis=0)
        places = places[told > 1]
        if not len(places) or len(chosen) >= count:
            continue
        for place in np.unique([places[np.abs(places - place).argmin()] for place in wanted]).tolist():
            # The same evaluation may be near to one on either side.
            if len(chosen) < count and all(abs(place - other) > 2 * NEAR * place for other in chosen):
                chosen.append(place)
    return sorted(chosen)


def _or_nan(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else float("nan")
