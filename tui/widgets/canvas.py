"""From long series to a grid of characters: one interval a column, dots, and plotext's glyphs for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tui.widgets.scales import HUGE, Range

# Dots across and up in one cell; any other marker is a character that fills its cell.
DOTS = {"braille": (2, 4), "hd": (2, 2)}
# Changed columns closer than this are drawn in one go: plotext takes about a millisecond a call.
JOIN_COLUMNS = 8
# plotext takes some 15 microseconds a dot.
CLOUD_DOTS = 400
MARK = "◆"
SAMPLE = 4_000
ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")


@dataclass(frozen=True, eq=False)
class Series:
    """One curve: x increasing, y of the same length, possibly with nan.

    role is "raw" (dim dots), "line" (bright line), "points" (full-cell marks) or "ghost" (dim line of another run);
    color names a theme variable. An empty name keeps it out of the legend; value is shown there after the name. Points
    are drawn as the character mark; with a mark of their own they stay points however flat the plot.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    role: str
    color: str = "primary"
    value: str | None = None
    mark: str = MARK


@dataclass(frozen=True, eq=False)
class Layer:
    """Dots of one ink: sorted codes column * (dots up the plot) + row, rows counted from below."""

    ink: int
    marker: str
    dots: np.ndarray


def cleaned(series: Series, log: bool) -> Series:
    """Return the series without what cannot be drawn: non-finite values and, on a log axis, those not above 0."""
    count = min(len(series.x), len(series.y))
    x = np.asarray(series.x, dtype=np.float64)[:count]
    y = np.asarray(series.y, dtype=np.float64)[:count]
    # Passes over whole arrays, no more than needed: of a million points each costs half a millisecond.
    drawable = count == 0 or (y.min() >= -HUGE and y.max() <= HUGE and (not log or y.min() > 0))
    ordered = count == 0 or bool(np.isfinite(x[0]) and np.isfinite(x[-1]) and (x[1:] >= x[:-1]).all())
    if not (drawable and ordered):
        keep = np.isfinite(x) & (np.abs(y) <= HUGE)
        if log:
            keep &= y > 0
        x, y = x[keep], y[keep]
        if not ordered:
            order = np.argsort(x, kind="stable")
            x, y = x[order], y[order]
    return replace(series, x=x, y=y)


def within(series: Series, limits: Range) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of a cleaned series with x inside the limits."""
    first = np.searchsorted(series.x, limits[0], "left")
    last = np.searchsorted(series.x, limits[1], "right")
    return series.x[first:last], series.y[first:last]


def value_range(curves: Sequence[Series], limits: Range, log: bool) -> Range | None:
    """Return what the y axis must show (powers of ten on a log axis), or None without data.

    The start of a run and rare spikes flatten everything else, so linear axes end at the 0.995 quantile of
    what follows the first 5 %, unless the rest is near.
    """
    visible = [part for part in (within(curve, limits) for curve in curves) if len(part[0])]
    if not visible:
        return None
    low = min(float(y.min()) for _, y in visible)
    high = max(float(y.max()) for _, y in visible)
    if log:
        return float(np.log10(low)), float(np.log10(high))
    start = min(x[0] for x, _ in visible)
    settled = start + 0.05 * (max(x[-1] for x, _ in visible) - start)
    tops = []
    for x, y in visible:
        later = y[np.searchsorted(x, settled, "right") :]
        if len(later):
            sampled = later[:: -(-len(later) // SAMPLE)]
            tops.append(float(np.quantile(sampled, 0.995)) if len(sampled) >= 20 else float(sampled.max()))
    top = max(tops, default=high)
    return low, high if high - top <= 0.25 * (top - low) else top


def decimate(x: np.ndarray, y: np.ndarray, limits: Range, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the occupied columns with the least and the greatest y in each: no spike is lost."""
    first = np.searchsorted(x, limits[0], "left")
    last = np.searchsorted(x, limits[1], "right")
    edges = np.linspace(limits[0], limits[1], columns + 1)
    starts = np.clip(np.searchsorted(x, edges[:-1], "left"), first, last)
    occupied = np.flatnonzero(starts < np.append(starts[1:], last))
    if not len(occupied):
        return occupied, np.empty(0), np.empty(0)
    part = y[:last]
    return occupied, np.minimum.reduceat(part, starts[occupied]), np.maximum.reduceat(part, starts[occupied])


def to_rows(y: np.ndarray, limits: Range, rows: int) -> np.ndarray:
    """Return the row from below of each value; those outside the limits lie outside [0, rows)."""
    # Divided first, since the span times the rows can overflow.
    heights = (y - limits[0]) / (limits[1] - limits[0]) * rows
    inside = (heights >= -1e-6) & (heights <= rows + 1e-6)
    found = np.floor(np.clip(heights, -20.0 * rows, 20.0 * rows)).astype(np.int64)
    return np.where(inside, np.clip(found, 0, rows - 1), found)


def mark_dots(columns: np.ndarray, low: np.ndarray, high: np.ndarray, rows: int) -> np.ndarray:
    """Return the codes of the ends of each column's interval."""
    column, row = np.concatenate([columns, columns]), np.concatenate([low, high])
    visible = (row >= 0) & (row < rows)
    return np.unique(column[visible] * rows + row[visible])


def cloud_dots(columns: np.ndarray, low: np.ndarray, high: np.ndarray, rows: int) -> np.ndarray:
    """Return the codes of the ends of each column's interval and, between them, of a part of the dots."""
    column, row = np.divmod(_filled(columns, low, high, rows), rows)
    every = 4
    while len(row) > every * CLOUD_DOTS:
        every *= 2
    between = (row + every // 2 * (column % 2)) % every == 0
    return np.union1d(mark_dots(columns, low, high, rows), (column * rows + row)[between])


def line_dots(columns: np.ndarray, low: np.ndarray, high: np.ndarray, rows: int) -> np.ndarray:
    """Return the codes of an unbroken line through the intervals."""
    if not len(columns):
        return columns
    every = np.arange(columns[0], columns[-1] + 1)
    middle = np.floor(np.interp(every, columns, (low + high) / 2) + 0.5).astype(np.int64)
    bottom, top = middle.copy(), middle.copy()
    bottom[columns - columns[0]], top[columns - columns[0]] = low, high
    joined_bottom, joined_top = bottom.copy(), top.copy()
    # Neighbours that do not touch each reach half-way to the other.
    rise, fall = bottom[1:] > top[:-1] + 1, bottom[:-1] > top[1:] + 1
    half = np.where(rise, (top[:-1] + bottom[1:]) // 2, (top[1:] + bottom[:-1]) // 2)
    joined_top[:-1] = np.where(rise, np.maximum(joined_top[:-1], half), joined_top[:-1])
    joined_bottom[1:] = np.where(rise, np.minimum(joined_bottom[1:], half + 1), joined_bottom[1:])
    joined_top[1:] = np.where(fall, np.maximum(joined_top[1:], half), joined_top[1:])
    joined_bottom[:-1] = np.where(fall, np.minimum(joined_bottom[:-1], half + 1), joined_bottom[:-1])
    return _filled(every, joined_bottom, joined_top, rows)


def _filled(columns: np.ndarray, low: np.ndarray, high: np.ndarray, rows: int) -> np.ndarray:
    """Return the codes of all dots in the intervals, as far as they lie on the canvas."""
    bottom, top = np.clip(low, 0, rows), np.clip(high, -1, rows - 1)
    heights = np.maximum(top - bottom + 1, 0)
    starts = np.cumsum(heights) - heights
    offsets = np.arange(int(heights.sum())) - np.repeat(starts, heights)
    return np.repeat(columns * rows + bottom, heights) + offsets


def dot_cells(layer: Layer, height: int) -> np.ndarray:
    """Return the code column * height + row of the cell of each dot."""
    across, up = DOTS.get(layer.marker, (1, 1))
    column, row = np.divmod(layer.dots, height * up)
    return column // across * height + row // up


def uncovered(layers: Sequence[Layer], rows: int) -> list[Layer]:
    """Return the layers without dots in cells that a later one takes: they would not be seen."""
    seen: list[Layer] = []
    covered = np.empty(0, dtype=np.int64)
    for layer in reversed(layers):
        cells = dot_cells(layer, rows)
        seen.append(Layer(layer.ink, layer.marker, layer.dots[~np.isin(cells, covered)]))
        covered = np.concatenate([covered, cells])
    return seen[::-1]


class Canvas:
    """The plot area: glyphs and inks, of which only the columns that changed are drawn again."""

    def __init__(self) -> None:
        self.glyphs = np.full((0, 0), " ", dtype="<U1")
        self.inks = np.zeros((0, 0), dtype=np.uint8)
        self.layers: list[Layer] = []
        self.drawn_columns = 0

    def draw(self, width: int, height: int, layers: list[Layer]) -> None:
        """Draw the layers, the later over the earlier."""
        same = (height, width) == self.glyphs.shape and [(a.ink, a.marker) for a in layers] == [
            (b.ink, b.marker) for b in self.layers
        ]
        if same:
            stale = self._stale_columns(width, height, layers)
        else:
            self.glyphs = np.full((height, width), " ", dtype="<U1")
            self.inks = np.zeros((height, width), dtype=np.uint8)
            stale = np.ones(width, dtype=bool)
        self.layers = layers
        self.drawn_columns = 0
        for first, last in spans(stale, JOIN_COLUMNS):
            self._draw_columns(first, last, height)

    def _stale_columns(self, width: int, height: int, layers: list[Layer]) -> np.ndarray:
        stale = np.zeros(width, dtype=bool)
        for new, old in zip(layers, self.layers, strict=True):
            across, up = DOTS.get(new.marker, (1, 1))
            stale[np.setxor1d(new.dots, old.dots, assume_unique=True) // (height * up * across)] = True
        return stale

    def _draw_columns(self, first: int, last: int, height: int) -> None:
        width = last - first
        parts = [_part(layer, first, last, height) for layer in self.layers]
        glyphs, numbers = plot(width, height, parts)
        inks = np.array([0, *(layer.ink for layer in self.layers)], dtype=np.uint8)
        self.glyphs[:, first:last] = glyphs
        self.inks[:, first:last] = inks[numbers]
        self.drawn_columns += width


def spans(changed: np.ndarray, join: int) -> list[tuple[int, int]]:
    """Return [first, last) of each run of True, runs less than `join` apart made one."""
    places = np.flatnonzero(changed)
    if not len(places):
        return []
    breaks = np.flatnonzero(np.diff(places) > join)
    firsts = np.append(places[0], places[breaks + 1])
    lasts = np.append(places[breaks], places[-1]) + 1
    return [(int(first), int(last)) for first, last in zip(firsts, lasts, strict=True)]


def _part(layer: Layer, first: int, last: int, height: int) -> tuple[str, list[float], list[float]]:
    """Return the marker, x and y in [0, 1] of a layer's dots in some columns of cells."""
    across, up = DOTS.get(layer.marker, (1, 1))
    rows = height * up
    begin, end = np.searchsorted(layer.dots, [first * across * rows, last * across * rows])
    column, row = np.divmod(layer.dots[begin:end], rows)
    x = (column - first * across) / max((last - first) * across - 1, 1)
    return layer.marker, x.tolist(), (row / max(rows - 1, 1)).tolist()


def plot(
    width: int, height: int, parts: Sequence[tuple[str, list[float], list[float]]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return plotext's canvas as glyphs, and for each cell the number from 1 of the part on top of it (0: none)."""
    glyphs = np.full((height, width), " ", dtype="<U1")
    numbers = np.zeros((height, width), dtype=np.uint8)
    if not any(x for _, x, _ in parts):
        return glyphs, numbers
    # Imported with the first curve: the first frame has none, and need not wait for it.
    import plotext

    # Without this, limits and data of the last plot stay. (clear_figure copies every default: 1 ms.)
    plotext.clear_data()
    plotext.theme("clear")
    plotext.limit_size(False, False)
    plotext.plot_size(width, height)
    plotext.frame(False)
    plotext.xfrequency(0)
    plotext.yfrequency(0)
    plotext.xlim(0, 1)
    plotext.ylim(0, 1)
    for number, (marker, x, y) in enumerate(parts, 1):
        if x:
            # The colour says no more than whose dot it is: the theme's own colour comes later.
            plotext.scatter(x, y, marker=marker, color=number)
    for row, line in enumerate(plotext.build().splitlines()[:height]):
        column = number = 0
        for place, text in enumerate(ESCAPE.split(line)):
            if place % 2:
                number = int(text.rpartition(";")[2]) if text.startswith("38;5;") else 0
                continue
            glyphs[row, column : column + len(text)] = list(text)
            numbers[row, column : column + len(text)] = number
            column += len(text)
    return glyphs, numbers
