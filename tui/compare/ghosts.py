"""Other runs' loss curves, drawn dim behind the one that is watched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from minigpt.workspace import Workspace
from tui.compare.overlay import letter_places
from tui.widgets.chart import Series, smooth

# More would hide what is watched.
MOST_GHOSTS = 4
COLORS = ("secondary", "accent", "success", "error")
CHARTS = ("loss", "perplexity")
LETTERS_A_GHOST = 2
# Beyond e^20 a perplexity says nothing and would flatten the rest.
MAX_LOSS = 20.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ghost:
    """One other run: its training loss and, by axis, where its steps lie; made once, drawn many times."""

    run: str
    loss: Floats
    places: dict[str, Floats]
    _made: dict[tuple[str, str, float], tuple[Series, Series]] = field(default_factory=dict, repr=False)

    def series(self, chart: str, axis: str, smoothing: float, place: int, count: int) -> tuple[Series, Series]:
        """Return the dim line and its letter in a few places, for the ghost at a place of so many."""
        kept = self._made.get((chart, axis, smoothing))
        if kept is None:
            kept = self._made[chart, axis, smoothing] = self._make(chart, axis, smoothing, place, count)
        return kept

    def _make(self, chart: str, axis: str, smoothing: float, place: int, count: int) -> tuple[Series, Series]:
        x, y = self.places[axis], smooth(self.loss, smoothing)
        known = np.isfinite(x) & np.isfinite(y)
        x, y = x[known], y[known]
        if chart == "perplexity":
            y = np.exp(np.minimum(y, MAX_LOSS))
        color, letter = COLORS[place % len(COLORS)], chr(ord("a") + place % 26)
        latest = f"{y[-1]:.3f}" if len(y) else None
        line = Series(f"{letter} {self.run}", x, y, "ghost", color, latest)
        return line, Series("", *letter_places(x, y, place, count, LETTERS_A_GHOST), "points", color, None, letter)


def ghost_series(ghosts: Sequence[Ghost], chart: str, axis: str, smoothing: float) -> list[Series]:
    """Return what is drawn behind a chart; nothing for charts that show no loss."""
    if chart not in CHARTS:
        return []
    pairs = [ghost.series(chart, axis, smoothing, place, len(ghosts)) for place, ghost in enumerate(ghosts)]
    return [line for line, _ in pairs] + [letters for _, letters in pairs]


def load_ghosts(workspace: Workspace, runs: Iterable[str]) -> list[Ghost]:
    """Read the curves of runs by name; those that are gone are left out. For threads."""
    from minigpt.comparing.curves import AXES, places_of
    from minigpt.digest import digest

    found = []
    for run in runs:
        directory = workspace.checkpoints / run
        if not directory.is_dir():
            continue
        known = digest(directory)
        found.append(Ghost(run, known.curves.loss, {axis: places_of(known.curves, axis) for axis in AXES}))
    return found[:MOST_GHOSTS]
