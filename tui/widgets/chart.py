"""A chart of series over steps that repaints only the cells that changed, with a cursor that reads values.

How to use it:
    chart = Chart("loss")
    chart.show([Series("train", steps, losses, "raw"), Series("val", eval_steps, eval_losses, "points", "warning")])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.color import Color, ColorParseError
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui.widgets.canvas import Series, spans
from tui.widgets.figure import COLORS, SHADES, Figure, Frame
from tui.widgets.scales import Range, compact_number, smooth

__all__ = ["Chart", "Series", "compact_number", "smooth"]

# How far each shade is from the colour to the background.
FADES = {"dim": 0.45, "faint": 0.75}
TERMINAL_GREY = Color.parse("ansi_bright_black")
# Unchanged cells between two changed ones are cheaper to send again than a cursor movement.
JOIN_CELLS = 6


def _binding(key: str, action: str, description: str, tooltip: str, name: str) -> Binding:
    return Binding(key, action, description, show=False, tooltip=tooltip, id=f"chart.{name}")


class Chart(Widget, can_focus=True):
    """Curves with axes and a legend; the border, if any, is the stylesheet's."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "Chart { width: 1fr; height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        _binding("left", "move(-1)", "Cursor left", "Read the values one column to the left", "left"),
        _binding("right", "move(1)", "Cursor right", "Read the values one column to the right", "right"),
        _binding("shift+left", "move(-10)", "Ten left", "Read the values ten columns to the left", "far_left"),
        _binding("shift+right", "move(10)", "Ten right", "Read the values ten columns to the right", "far_right"),
        _binding("home", "move_to(0)", "First value", "Read the first values in view", "first"),
        _binding("end", "move_to(-1)", "Latest value", "Read the latest values in view", "latest"),
        _binding("escape", "remove_cursor", "No cursor", "Take the reading cursor away", "remove"),
    ]

    class CursorMoved(Message):
        """The reading cursor stands at another x, or (None) is gone."""

        def __init__(self, chart: Chart, x: float | None) -> None:
            self.chart = chart
            self.x = x
            super().__init__()

        @property
        def control(self) -> Chart:
            """The chart whose cursor moved."""
            return self.chart

    def __init__(self, title: str, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._figure = Figure()
        self._frame: Frame | None = None
        self._outdated = True
        self._ink_styles: dict[int, Style] = {}
        self._title = ""
        self.title = title

    @property
    def title(self) -> str:
        """The text on the border."""
        return self._title

    @title.setter
    def title(self, title: str) -> None:
        # Setting the border title repaints the whole widget even when nothing changed.
        if title != self._title:
            self._title = title
            self.border_title = Content(title)

    @property
    def log_scale(self) -> bool:
        """Whether the y axis is logarithmic (`log` is the name of Textual's logger on every widget)."""
        return self._figure.log

    @log_scale.setter
    def log_scale(self, log: bool) -> None:
        if log != self._figure.log:
            self._figure.log = log
            self._figure.prepare()
            self._redraw()

    @property
    def braille(self) -> bool:
        """Whether the terminal's font has braille dots; without them blocks draw the curves."""
        return self._figure.braille

    @braille.setter
    def braille(self, braille: bool) -> None:
        if braille != self._figure.braille:
            self._figure.braille = braille
            self._redraw()

    @property
    def cursor_x(self) -> float | None:
        """The x that the reading cursor stands at, or None without one."""
        return self._figure.cursor

    def show(
        self,
        series: Sequence[Series],
        *,
        x_limits: Range | None = None,
        x_format: Callable[[float], str] = compact_number,
        y_format: Callable[[float], str] = compact_number,
        x_name: str = "step",
        message: str = "",
    ) -> None:
        """Replace the data; what changed of the picture is repainted, if the chart is on screen."""
        figure = self._figure
        figure.series, figure.x_limits, figure.message = tuple(series), x_limits, message
        figure.x_format, figure.y_format, figure.x_name = x_format, y_format, x_name
        self._outdated = True
        if self._in_view:
            self._redraw()

    @property
    def _in_view(self) -> bool:
        return self.is_mounted and bool(self.size) and self.is_on_screen

    def _draw(self) -> Frame:
        if self._outdated:
            self._figure.prepare()
            self._outdated = False
        self._frame = self._figure.draw(*self.size)
        return self._frame

    def _redraw(self) -> None:
        """Draw the chart and have what differs from the last picture repainted."""
        if not self._in_view:
            self._outdated = True
            return
        before = self._frame
        frame = self._draw()
        if before is None or before.glyphs.shape != frame.glyphs.shape:
            self.refresh()
        elif regions := changed_regions(before, frame):
            self.refresh(*regions)

    def render_line(self, y: int) -> Strip:
        """Return one line of the last picture, drawn now if it was for another size."""
        frame = self._frame
        if frame is None or frame.glyphs.shape != (self.size.height, self.size.width):
            frame = self._draw()
        if not 0 <= y < len(frame.glyphs):
            return Strip.blank(self.size.width, self.rich_style)
        glyphs, inks = frame.glyphs[y], frame.inks[y]
        breaks = [0, *(np.flatnonzero(np.diff(inks)) + 1).tolist(), len(inks)]
        segments = [
            Segment("".join(glyphs[first:last].tolist()), self._style(int(inks[first])))
            for first, last in pairwise(breaks)
        ]
        return Strip(segments, len(inks))

    def _style(self, ink: int) -> Style:
        if ink not in self._ink_styles:
            self._ink_styles[ink] = self._make_style(COLORS[ink // len(SHADES)], SHADES[ink % len(SHADES)])
        return self._ink_styles[ink]

    def _make_style(self, name: str, shade: str) -> Style:
        base = self.rich_style
        background, text = self.background_colors[1], self.colors[3]
        color = text
        if name != "foreground":
            try:
                color = Color.parse(self.app.theme_variables.get(name, ""))
            except ColorParseError:
                pass
        fade = FADES.get(shade, 0.0)
        # Colours that the terminal chooses cannot be mixed.
        terminal_colors = color.ansi is not None or background.ansi is not None
        if fade and not terminal_colors:
            color = color.blend(background, fade, alpha=1.0)
        elif shade == "faint":
            return base + Style(color=TERMINAL_GREY.rich_color)
        return base + Style(color=color.rich_color, bold=shade == "strong", dim=bool(fade) and terminal_colors)

    def notify_style_update(self) -> None:
        """Forget colours that the stylesheet or the theme changed."""
        super().notify_style_update()
        self._ink_styles.clear()

    def on_mount(self) -> None:
        """Follow the theme."""
        self.app.theme_changed_signal.subscribe(self, self._take_theme)

    def _take_theme(self, _: object) -> None:
        self._ink_styles.clear()
        self.refresh()

    def on_show(self) -> None:
        """Catch up with what came while the chart was hidden."""
        if self._outdated:
            self._redraw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave Escape to others while there is no cursor to remove."""
        return action != "remove_cursor" or self.cursor_x is not None

    def action_move(self, columns: int) -> None:
        """Move the reading cursor over columns with data; it starts at the latest."""
        stops = self._figure.stops()
        if not stops:
            return
        if self.cursor_x is None:
            self._place_cursor(stops[-1][1])
            return
        here = self._figure.column_of(self.cursor_x)
        index = min(range(len(stops)), key=lambda place: abs(stops[place][0] - here))
        self._place_cursor(stops[min(max(index + columns, 0), len(stops) - 1)][1])

    def action_move_to(self, place: int) -> None:
        """Put the reading cursor at the first (0) or the latest (-1) column with data."""
        stops = self._figure.stops()
        if stops:
            self._place_cursor(stops[place][1])

    def action_remove_cursor(self) -> None:
        """Take the reading cursor away."""
        self._place_cursor(None)

    def on_click(self, event: events.Click) -> None:
        """Put the reading cursor at the column with data nearest to the click."""
        offset = event.get_content_offset(self)
        stops = self._figure.stops()
        if offset is None or not stops:
            return
        column = offset.x - self._figure.left
        self._place_cursor(min(stops, key=lambda stop: abs(stop[0] - column))[1])

    def _place_cursor(self, x: float | None) -> None:
        if x != self._figure.cursor:
            self._figure.cursor = x
            self._redraw()
            self.post_message(self.CursorMoved(self, x))


def changed_regions(before: Frame, after: Frame) -> list[Region]:
    """Return the spans of cells in which two frames of one size differ."""
    changed = (before.glyphs != after.glyphs) | (before.inks != after.inks)
    # The second half of a wide character goes with the first.
    changed[:, 1:] |= changed[:, :-1] & (after.glyphs[:, 1:] == "")
    return [
        Region(first, row, last - first, 1)
        for row in np.flatnonzero(changed.any(axis=1)).tolist()
        for first, last in spans(changed[row], JOIN_CELLS)
    ]
