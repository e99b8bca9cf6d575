"""The curves of several runs in one chart, told apart by letters and patterns, with or without colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from minigpt.comparing.curves import RunCurve
from tui.widgets.chart import Series, smooth

COLORS = ("primary", "warning", "success", "accent", "secondary", "error")
# What the chart may show, and its title.
TITLES = {"validation": "validation loss", "bits": "bits per byte", "training": "training loss"}
LETTERS_A_CURVE = 3
SMOOTHING = 0.9

Floats = NDArray[np.float64]


def letter(place: int) -> str:
    """Return the letter that stands for the run at a place: A, B, ... and again from A after Z."""
    return chr(ord("A") + place % 26)


def color(place: int) -> str:
    """Return the name of the colour of the run at a place."""
    return COLORS[place % len(COLORS)]


def kinds(curves: Sequence[RunCurve]) -> list[str]:
    """Return what these runs can be compared by in a chart."""
    told = any(np.isfinite(curve.val_bits).any() for curve in curves)
    return [kind for kind in TITLES if told or kind != "bits"]


def overlay(curves: Sequence[RunCurve], kind: str) -> list[Series]:
    """Return a line for each run and, on it, its letter in a few places."""
    lines, letters = [], []
    for place, curve in enumerate(curves):
        x, y = _line(curve, kind)
        latest = f"{y[-1]:.3f}" if len(y) else "-"
        lines.append(Series(f"{letter(place)} {curve.run}", x, y, "line", color(place), latest))
        marks_x, marks_y = letter_places(x, y, place, len(curves), LETTERS_A_CURVE)
        letters.append(Series("", marks_x, marks_y, "points", color(place), None, letter(place)))
    return lines + letters


def _line(curve: RunCurve, kind: str) -> tuple[Floats, Floats]:
    if kind == "training":
        x, y = curve.x, smooth(curve.loss, SMOOTHING)
    else:
        x, y = curve.val_x, curve.val_bits if kind == "bits" else curve.val_loss
    known = np.isfinite(y)
    return x[known], y[known]


def letter_places(x: Floats, y: Floats, place: int, count: int, letters: int) -> tuple[Floats, Floats]:
    """Return where the letter of the run at a place of `count` stands: not where those of the others do."""
    if not len(x):
        return x, y
    shares = (np.arange(letters) + (place + 0.5) / count) / letters
    at = x[0] + (x[-1] - x[0]) * shares
    return at, np.interp(at, x, y)
