"""Lines of text that repaint only what changed: figures, tables and logs that move while the link is slow.

rows.show([Row("loss", (("loss ", "$foreground-muted"), ("1.456", "$text")))])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.color import Color, ColorParseError
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

# Text and the name of a theme colour; "bold " before the name makes it bold.
Part = tuple[str, str]
# The colour of what may be left out where room is short.
REMARK = "foreground-muted"


@dataclass(frozen=True)
class Row:
    """One line; `key` names what it shows, for explanations."""

    key: str
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.parts)


class Rows(Widget, can_focus=True):
    """Shows as many rows as fit; with the focus, a cursor moves over them and the view follows.

    With `follow_end`, the view stays at the last rows until the cursor goes up.
    """

    DEFAULT_CSS = """
    Rows { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False, id="rows.up", tooltip="The line above"),
        Binding("down", "move(1)", "Down", show=False, id="rows.down", tooltip="The line below"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="rows.pageup", tooltip="A page up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="rows.pagedown", tooltip="A page down"),
        Binding("enter", "select", "Read", show=False, id="rows.select", tooltip="Read the whole line"),
        Binding("home", "edge(0)", "First", show=False, id="rows.home", tooltip="The first line"),
        Binding("end", "edge(1)", "Last", show=False, id="rows.end", tooltip="The last line"),
    ]

    class Selected(Message):
        """Enter was pressed on a row, or it was clicked twice."""

        def __init__(self, row: Row) -> None:
            super().__init__()
            self.row = row

    class Moved(Message):
        """The cursor stands on another row."""

    def __init__(self, *, id: str | None = None, classes: str | None = None, follow_end: bool = False) -> None:
        super().__init__(id=id, classes=classes)
        self.rows: list[Row] = []
        self.cursor = 0
        self.top = 0
        self.follow_end = follow_end
        self._at_end = follow_end
        self._painted: list[tuple[tuple[Part, ...], bool]] = []
        self._styles: dict[str, Style] = {}

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, self._theme_changed)

    def _theme_changed(self, _theme: object) -> None:
        self._styles.clear()
        self.refresh()

    @property
    def current(self) -> Row | None:
        """The row under the cursor."""
        return self.rows[self.cursor] if 0 <= self.cursor < len(self.rows) else None

    def show(self, rows: Sequence[Row]) -> None:
        """Replace the rows; only cells that differ are painted again."""
        grown = len(rows) != len(self.rows)
        self.rows = list(rows)
        if self._at_end:
            self.cursor = len(rows) - 1
        self.cursor = max(0, min(self.cursor, len(rows) - 1))
        if grown and self.styles.height is not None and self.styles.height.is_auto:
            self._repaint_all()
            self.refresh(layout=True)
            return
        self._repaint()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self.rows)

    def get_content_width(self, container: Size, viewport: Size) -> int:
        return max((cell_len(row.text) for row in self.rows), default=0)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        parts, marked = self._line(y, width, self.has_focus)
        segments = [Segment(text, self._style(colour, marked)) for text, colour in parts]
        return Strip(segments).adjust_cell_length(width, self._style("", marked))

    def watch_has_focus(self, has_focus: bool) -> None:
        # The events of focus and blur come before `has_focus` has changed.
        super().watch_has_focus(has_focus)
        self._repaint()

    def on_resize(self) -> None:
        self._repaint_all()

    def on_click(self, event: Click) -> None:
        place = event.get_content_offset(self)
        if place is None or self.top + place.y >= len(self.rows):
            return
        self._go(self.top + place.y)
        if event.chain > 1:
            self.action_select()

    def action_move(self, by: int) -> None:
        self._go(self.cursor + by)

    def action_page(self, direction: int) -> None:
        self._go(self.cursor + direction * max(1, self.size.height - 1))

    def action_edge(self, last: int) -> None:
        self._go(len(self.rows) - 1 if last else 0)

    def action_select(self) -> None:
        if self.current is not None:
            self.post_message(self.Selected(self.current))

    def _go(self, cursor: int) -> None:
        self.cursor = max(0, min(cursor, len(self.rows) - 1))
        self._at_end = self.follow_end and self.cursor >= len(self.rows) - 1
        self._repaint()
        self.post_message(self.Moved())

    def _scroll(self) -> None:
        height = max(1, self.size.height)
        last_top = max(0, len(self.rows) - height)
        self.top = min(max(min(self.top, self.cursor), self.cursor - height + 1, 0), last_top)

    def _line(self, y: int, width: int, focused: bool) -> tuple[tuple[Part, ...], bool]:
        index = self.top + y
        if index >= len(self.rows):
            return (), False
        return fitted(self.rows[index].parts, width), focused and index == self.cursor

    def _repaint(self) -> None:
        """Refresh the spans of the lines whose text changed."""
        before, width = self._painted, self.size.width
        self._painted = self._lines()
        regions = []
        for y, line in enumerate(self._painted):
            first, last = _difference(before[y] if y < len(before) else None, line, width)
            if last > first:
                regions.append(Region(first, y, last - first, 1))
        if regions:
            self.refresh(*regions)

    def _repaint_all(self) -> None:
        self._painted = self._lines()
        self.refresh()

    def _lines(self) -> list[tuple[tuple[Part, ...], bool]]:
        """Return what stands on each line once the cursor is in view."""
        self._scroll()
        size, focused = self.size, self.has_focus
        return [self._line(y, size.width, focused) for y in range(size.height)]

    def _style(self, name: str, marked: bool) -> Style:
        style = self._styles.get(name)
        if style is None:
            style = self._styles[name] = self._make_style(name)
        # Reversed rather than coloured, so that the cursor shows without colours too.
        return style + Style(reverse=True) if marked else style

    def _make_style(self, name: str) -> Style:
        bold, name = name.startswith("bold"), name.removeprefix("bold").strip()
        base = self.rich_style
        value = self.app.theme_variables.get(name) if name else None
        if value is None:
            return base + Style(bold=bold or None)
        try:
            colour = Color.parse(value)
        except ColorParseError:  # "auto 60%" and the like
            return base + Style(bold=bold or None)
        if colour.a < 1:
            colour = self.background_colors[1] + colour
        return base + Style(color=colour.rich_color, bold=bold or None)


def fitted(parts: tuple[Part, ...], width: int) -> tuple[Part, ...]:
    """Return the parts that fit: side remarks at the end give way first, then an ellipsis tells of what is cut."""
    kept = list(parts)
    while len(kept) > 1 and kept[-1][1] == REMARK and _width(kept) > width:
        kept.pop()
    excess = _width(kept) - width
    if excess <= 0:
        return tuple(kept)
    while kept:
        text, colour = kept.pop()
        room = cell_len(text) - excess - 1
        if room >= 0:
            kept.append((set_cell_size(text, room) + "…", colour))
            break
        excess -= cell_len(text)
    return tuple(kept)


def _width(parts: Sequence[Part]) -> int:
    return sum(cell_len(text) for text, _ in parts)


def _difference(
    before: tuple[tuple[Part, ...], bool] | None, after: tuple[tuple[Part, ...], bool], width: int
) -> tuple[int, int]:
    """Return the first cell that differs between two lines, and the one after the last; all of it where unsure."""
    if before == after:
        return 0, 0
    if before is None or before[1] != after[1]:
        return 0, width
    old = [(char, colour) for text, colour in before[0] for char in text]
    new = [(char, colour) for text, colour in after[0] for char in text]
    if old == new:
        return 0, 0
    texts = ("".join(text for text, _ in parts) for parts in (before[0], after[0]))
    if any(cell_len(text) != len(text) for text in texts):
        return 0, width
    shared = min(len(old), len(new))
    first = next((i for i in range(shared) if old[i] != new[i]), shared)
    if len(old) != len(new):
        return first, min(width, max(len(old), len(new)))
    last = next(i for i in range(shared - 1, -1, -1) if old[i] != new[i])
    return first, min(width, last + 1)
