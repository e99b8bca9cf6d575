"""What a chart shows, laid out in cells: legend, axes, curves, the reading cursor. Knows nothing of Textual."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len

from minigpt.errors import printable
from tui.widgets.canvas import (
    DOTS,
    MARK,
    Canvas,
    Layer,
    Series,
    cleaned,
    cloud_dots,
    decimate,
    line_dots,
    mark_dots,
    to_rows,
    uncovered,
    value_range,
    within,
)
from tui.widgets.scales import Range, compact_number, log_ticks, nice_range, tick_labels, ticks

COLORS = ("foreground", "primary", "secondary", "accent", "warning", "success", "error")
SHADES = ("bright", "strong", "dim", "faint")
# Below this the legend alone is worth showing; above, axis line and marks have room.
LEAST_WIDTH, LEAST_HEIGHT = 20, 5
TALL = 8
AXIS_LINE = 10
# Of each eight dot columns these are drawn: the second line is dashed and the third dotted, colours or not.
PATTERNS = (0b11111111, 0b00111111, 0b00110011, 0b01011111)
GHOST = 0b01010101
LEGEND_MARKS = {"raw": "⠶⠶", "solid": "━━", "dashed": "╍╍", "dotted": "┉┉", "mixed": "━╍", "ghost": "┈┈"}
PLAIN_MARKS = {"raw": "··", "solid": "▀▀", "dashed": "▀ ▀", "dotted": "▘▘", "mixed": "▀▘", "ghost": ": "}
LINES = ("solid", "dashed", "dotted", "mixed")


def ink(color: str, shade: str) -> int:
    """Return the number of an ink; a colour that is not known is drawn as text."""
    index = COLORS.index(color) if color in COLORS else 0
    return index * len(SHADES) + SHADES.index(shade)


TEXT, STRONG = ink("foreground", "bright"), ink("foreground", "strong")
MUTED, FAINT, CURSOR = ink("foreground", "dim"), ink("foreground", "faint"), ink("accent", "bright")


@dataclass(frozen=True, eq=False)
class Frame:
    """Cells as drawn: one character (or, right of a wide one, none) and one ink each."""

    glyphs: np.ndarray
    inks: np.ndarray

    @classmethod
    def blank(cls, width: int, height: int) -> Frame:
        """Return an empty frame."""
        return cls(np.full((height, width), " ", dtype="<U1"), np.zeros((height, width), dtype=np.uint8))

    def write(self, row: int, column: int, text: str, ink: int) -> int:
        """Write text from a column on, as far as there is room, and return the column after it."""
        height, width = self.glyphs.shape
        if text.isascii() and text.isprintable() and 0 <= row < height and column >= 0:
            end = min(column + len(text), width)
            self.glyphs[row, column:end] = list(text[: max(end - column, 0)])
            self.inks[row, column:end] = ink
            return max(column, end)
        for character in printable(text, single_line=True):
            size = cell_len(character)
            if not size or not 0 <= row < height or column < 0:
                continue
            if column + size > width:
                break
            self.glyphs[row, column] = character
            self.glyphs[row, column + 1 : column + size] = ""
            self.inks[row, column : column + size] = ink
            column += size
        return column


class Figure:
    """The data and settings of one chart, and what it remembers from frame to frame."""

    def __init__(self) -> None:
        self.series: tuple[Series, ...] = ()
        self.log = False
        self.braille = True
        self.x_limits: Range | None = None
        self.x_format: Callable[[float], str] = compact_number
        self.y_format: Callable[[float], str] = compact_number
        self.x_name = "step"
        self.message = ""
        self.cursor: float | None = None
        self.x_range: Range = (0.0, 1.0)
        self.left = 0
        self.plot_width = 0
        self.canvas = Canvas()
        self._shown: list[Series] = []
        self._last_x: Range | None = None
        self._last_y: tuple[bool, Range] | None = None

    def prepare(self) -> None:
        """Take up changed series or axis kind; needed before the next frame."""
        self._shown = [part for part in (cleaned(series, self.log) for series in self.series) if len(part.x)]
        if not self._shown:
            self.cursor = None

    def draw(self, width: int, height: int) -> Frame:
        """Return the frame of this size."""
        frame = Frame.blank(width, height)
        self.left = self.plot_width = 0
        if width < 1 or height < 1:
            return frame
        if not self._shown:
            self._write_message(frame)
        elif width < LEAST_WIDTH or height < LEAST_HEIGHT:
            self._write_legend(frame, 0)
        else:
            self._draw_plot(frame)
        return frame

    def _draw_plot(self, frame: Frame) -> None:
        height, width = frame.glyphs.shape
        self.x_range = self._choose_x()
        y_range = self._choose_y()
        lined = height - 3 >= AXIS_LINE
        rows = height - 3 if lined else height - 2
        values = self._y_ticks(y_range, rows)
        heights = np.log10(values) if self.log else np.array(values, dtype=float)
        labels = tick_labels(values, self.y_format)
        widest = max(map(cell_len, labels), default=0)
        if widest > width // 3:
            labels, heights, widest = [], np.empty(0), 0
        self.left = widest + 1
        self.plot_width = width - self.left
        self.canvas.draw(self.plot_width, rows, self._layers(y_range, self.plot_width, rows))
        frame.glyphs[1 : rows + 1, widest] = "│"
        frame.inks[1 : rows + 1, widest] = FAINT
        for label, row in zip(labels, to_rows(heights, y_range, rows).tolist(), strict=True):
            line = rows - row
            frame.write(line, widest - cell_len(label), label, MUTED)
            frame.write(line, widest, "┤", FAINT)
            if rows >= TALL:
                frame.glyphs[line, self.left :], frame.inks[line, self.left :] = "┈", FAINT
        if lined:
            frame.write(rows + 1, widest, "└" + "─" * self.plot_width, FAINT)
        self._write_x_axis(frame, lined)
        self._lay_curves(frame, rows)
        self._write_legend(frame, self.left)

    def _y_ticks(self, y_range: Range, rows: int) -> list[float]:
        find = log_ticks if self.log else ticks
        sparse = find(*y_range, max(2, min(6, rows // 3)))
        return sparse if len(sparse) >= 3 else find(*y_range, max(2, min(6, rows // 2)))

    def _choose_x(self) -> Range:
        limits = self.x_limits
        if limits is not None and all(map(math.isfinite, limits)) and limits[1] > limits[0]:
            return limits
        first = min(float(part.x[0]) for part in self._shown)
        last = max(float(part.x[-1]) for part in self._shown)
        self._last_x = nice_range(first, last, self._last_x, parts=5)
        return self._last_x

    def _choose_y(self) -> Range:
        found = value_range(self._shown, self.x_range, self.log)
        kind, previous = self._last_y or (self.log, None)
        if found is None:
            return previous if previous and kind == self.log else (0.0, 1.0)
        chosen = nice_range(*found, previous if kind == self.log else None)
        self._last_y = self.log, chosen
        return chosen

    def _layers(self, y_range: Range, width: int, rows: int) -> list[Layer]:
        order = {"raw": 0, "ghost": 1, "line": 2, "points": 3}
        layers: list[Layer] = []
        for part, kind, pattern in sorted(self._kinds(width, rows), key=lambda found: order.get(found[0].role, 2)):
            marker = "braille" if self.braille else "hd"
            if kind == "points":
                marker = part.mark
            elif kind == "raw" and not self.braille:
                marker = "·"
            across, up = DOTS.get(marker, (1, 1))
            columns, *found = decimate(part.x, part.y, self.x_range, width * across)
            low, high = (to_rows(np.log10(value) if self.log else value, y_range, rows * up) for value in found)
            if kind == "points":
                dots = mark_dots(columns, low, high, rows)
            elif kind == "raw":
                dots = (cloud_dots if self.braille else mark_dots)(columns, low, high, rows * up)
            else:
                dots = line_dots(columns, low, high, rows * up)
                dots = dots[(pattern >> (dots // (rows * up) % 8)) & 1 == 1]
            shade = "dim" if part.role in ("raw", "ghost") else "bright"
            layers.append(Layer(ink(part.color, shade), marker, dots))
        return uncovered(layers, rows)

    def _kinds(self, width: int, rows: int) -> list[tuple[Series, str, int]]:
        """Return each series with how it is drawn (raw, points, ghost, or one of LINES) and its pattern."""
        kinds, lines = [], 0
        for part in self._shown:
            kind, pattern = part.role, PATTERNS[0]
            if kind == "points" and not self._room_for_marks(part, width, rows):
                kind = "line"
            if kind == "ghost":
                pattern = GHOST
            elif kind not in ("raw", "points"):
                kind, pattern = LINES[lines % len(LINES)], PATTERNS[lines % len(PATTERNS)]
                lines += 1
            kinds.append((part, kind, pattern))
        return kinds

    def _room_for_marks(self, part: Series, width: int, rows: int) -> bool:
        if part.mark != MARK:
            return True
        columns = decimate(part.x, part.y, self.x_range, max(width, 1))[0]
        if len(columns) <= 1:
            return True
        return rows >= TALL and (len(columns) <= TALL or 2 * len(columns) <= columns[-1] - columns[0] + 2)

    def _write_x_axis(self, frame: Frame, lined: bool) -> None:
        height, width = frame.glyphs.shape
        values = ticks(*self.x_range, max(2, self.plot_width // 14))
        columns = to_rows(np.array(values), self.x_range, self.plot_width).tolist()
        free = 0
        for label, column in zip(tick_labels(values, self.x_format), columns, strict=True):
            size = cell_len(label)
            start = min(max(self.left + column - size // 2, 0), width - size)
            if start >= free:
                frame.write(height - 1, start, label, MUTED)
                if lined:
                    frame.write(height - 2, self.left + column, "┬", FAINT)
                free = start + size + 2

    def _lay_curves(self, frame: Frame, rows: int) -> None:
        glyphs, inks = frame.glyphs[1 : rows + 1, self.left :], frame.inks[1 : rows + 1, self.left :]
        drawn = self.canvas.glyphs != " "
        column = self.column_of(self.cursor) if self.cursor is not None else -1
        if 0 <= column < self.plot_width:
            glyphs[:, column], inks[:, column] = "│", CURSOR
            drawn[:, column] &= self.canvas.inks[:, column] % len(SHADES) != SHADES.index("dim")
        glyphs[drawn], inks[drawn] = self.canvas.glyphs[drawn], self.canvas.inks[drawn]

    def _write_message(self, frame: Frame) -> None:
        height, width = frame.glyphs.shape
        text = self.message if cell_len(self.message) <= width else self.message[: max(width - 1, 0)] + "…"
        frame.write((height - 1) // 2, max((width - cell_len(text)) // 2, 0), text, MUTED)

    def _write_legend(self, frame: Frame, column: int) -> None:
        width = frame.glyphs.shape[1]
        marks = LEGEND_MARKS if self.braille else PLAIN_MARKS
        start = column
        if self.cursor is not None:
            column = frame.write(0, column, f"{self.x_name} ", MUTED)
            column = frame.write(0, column, self.x_text(self.cursor), STRONG)
        for part, kind, _ in self._kinds(self.plot_width, frame.glyphs.shape[0] - 2):
            if not part.name:
                continue
            value = part.value if self.cursor is None else self.reading(part, self.cursor)
            mark = part.mark if kind == "points" else marks[kind]
            gap = 2 if column > start else 0
            size = gap + sum(cell_len(text) + 1 for text in (mark, part.name, value or "") if text) - 1
            if column + size > width and column > start:
                break
            shade = "dim" if part.role in ("raw", "ghost") else "bright"
            column = frame.write(0, column + gap, mark, ink(part.color, shade)) + 1
            column = frame.write(0, column, part.name, MUTED)
            if value:
                column = frame.write(0, column + 1, value, STRONG)

    def x_text(self, x: float) -> str:
        """Return x in full, where the ticks say it short."""
        return f"{x:,.0f}" if self.x_format is compact_number and x == round(x) else self.x_format(x)

    def reading(self, part: Series, x: float) -> str:
        """Return the value nearest to x, with its own x where that is in another column."""
        nearest = int(np.searchsorted(part.x, x, "left"))
        if nearest == len(part.x) or (nearest and x - part.x[nearest - 1] < part.x[nearest] - x):
            nearest -= 1
        text = self.y_format(float(part.y[nearest]))
        found = float(part.x[nearest])
        return text if self.column_of(found) == self.column_of(x) else f"{text} @{self.x_text(found)}"

    def column_of(self, x: float) -> int:
        """Return the column of the plot in which x lies; outside [0, plot_width) for one out of view."""
        return int(to_rows(np.array([x]), self.x_range, max(self.plot_width, 1))[0])

    def stops(self) -> list[tuple[int, float]]:
        """Return the columns that hold data, each with the x to read there: a point's, or else the latest."""
        found: dict[int, float] = {}
        for part in sorted(self._shown, key=lambda part: part.role == "points"):
            x, _ = within(part, self.x_range)
            columns, _, latest = decimate(x, x, self.x_range, max(self.plot_width, 1))
            found.update(zip(columns.tolist(), latest.tolist(), strict=True))
        return sorted(found.items())
