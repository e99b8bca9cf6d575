"""A list with columns and a cursor.

listing = Listing([Column("name", flexible=True), Column("size", right=True)], empty="Nothing here.")
listing.set_rows([Row("sample", (Cell("sample"), Cell("1 MB")), marked=True)])

Cells and keys may hold anything: they are shown as they are, never as markup or control characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

from minigpt.errors import printable

CURSOR, MARK = "›", "●"
# Not $text-muted, which is "auto 60%": in the middle of a text that comes out as bright as the rest.
MUTED = "$foreground-muted"
_GAP = "  "
# What a flexible column keeps when the others leave; and the columns of the two signs before every row.
_LEAST_WIDTH = 14
_SIGNS_WIDTH = 3


@dataclass(frozen=True)
class Column:
    """A column: the highest `rank` is the first to leave when there is too little room, 0 stays."""

    title: str
    right: bool = False
    flexible: bool = False
    widest: int = 60
    rank: int = 0


class Cell(NamedTuple):
    """A text and its style, such as MUTED or "$text-error"."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Row:
    """A line of the list; `marked` puts a sign before it: the one that is chosen."""

    key: str
    cells: tuple[Cell, ...]
    marked: bool = False


class Listing(ScrollView, can_focus=True):
    """Rows with a cursor; repaints the lines that changed and no others."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"listing--header", "listing--cursor", "listing--empty"}
    DEFAULT_CSS = """
    Listing {
        overflow-x: hidden;
        scrollbar-size-vertical: 1;
        border: round $panel-lighten-2;
        border-title-color: $text-muted;
        border-subtitle-color: $text-muted;
        & > .listing--header { color: $text-muted; text-style: bold; }
        & > .listing--empty { color: $text-muted; }
        & > .listing--cursor {
            color: $block-cursor-blurred-foreground;
            background: $block-cursor-blurred-background;
            text-style: $block-cursor-blurred-text-style;
        }
        &:focus {
            border: round $primary;
            border-title-color: $text;
            & > .listing--cursor {
                color: $block-cursor-foreground;
                background: $block-cursor-background;
                text-style: $block-cursor-text-style;
            }
        }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False, id="list.up", tooltip="The row above"),
        Binding("down", "move(1)", "Down", show=False, id="list.down", tooltip="The row below"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="list.page_up", tooltip="A screenful up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="list.page_down", tooltip="A screenful down"),
        Binding("home", "move(-1000000000)", "First", show=False, id="list.first", tooltip="The first row"),
        Binding("end", "move(1000000000)", "Last", show=False, id="list.last", tooltip="The last row"),
    ]

    class Highlighted(Message):
        """The cursor came to another row (or, with the key None, there are no rows)."""

        def __init__(self, key: str | None) -> None:
            self.key = key
            super().__init__()

    class Chosen(Message):
        """A row was clicked twice."""

        def __init__(self, key: str) -> None:
            self.key = key
            super().__init__()

    def __init__(self, columns: Sequence[Column], empty: str, explain: str = "") -> None:
        super().__init__()
        self.columns = columns
        self.empty = empty
        self.explain = explain
        self.cursor = 0
        self.rows: list[Row] = []
        # The columns in view, by number, with their widths.
        self._fitted: list[tuple[int, int]] = []

    @property
    def key(self) -> str | None:
        """The key of the row under the cursor."""
        return self.rows[self.cursor].key if self.rows else None

    def set_rows(self, rows: Iterable[Row]) -> None:
        """Show these rows; the cursor stays on its row, wherever that is now, or near where it was."""
        old, key = self.rows, self.key
        self.rows = list(rows)
        if self.rows == old:
            return
        keys = [row.key for row in self.rows]
        self.cursor = keys.index(key) if key in keys else max(0, min(self.cursor, len(keys) - 1))
        fitted = self._fit()
        if fitted == self._fitted and keys == [row.key for row in old]:
            for index, (before, after) in enumerate(zip(old, self.rows, strict=True)):
                if before != after:
                    self._refresh_row(index)
        else:
            self._fitted = fitted
            self._settle()
        if self.key != key:
            self.post_message(self.Highlighted(self.key))

    def move_to(self, key: str) -> None:
        """Put the cursor on the row with this key, if there is one."""
        keys = [row.key for row in self.rows]
        if key in keys:
            self._go(keys.index(key))

    def action_move(self, by: int) -> None:
        self._go(self.cursor + by)

    def action_page(self, by: int) -> None:
        self._go(self.cursor + by * max(1, self._height - self._header))

    def on_click(self, event: Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or offset.y < self._header:
            return
        index = offset.y - self._header + self.scroll_offset.y
        if index < len(self.rows):
            self._go(index)
            if event.chain == 2:
                self.post_message(self.Chosen(self.rows[index].key))

    def on_resize(self) -> None:
        self._fitted = self._fit()
        self._settle()

    @property
    def _width(self) -> int:
        return self.scrollable_content_region.width

    @property
    def _height(self) -> int:
        return self.scrollable_content_region.height

    @property
    def _header(self) -> int:
        """How many lines the titles of the columns take: none where there is hardly room for a row."""
        return 1 if self._height >= 3 else 0

    def _go(self, index: int) -> None:
        index = max(0, min(index, len(self.rows) - 1))
        if index == self.cursor or not self.rows:
            return
        before, self.cursor = self.cursor, index
        self._refresh_row(before)
        self._refresh_row(index)
        self._keep_cursor_in_view()
        self.post_message(self.Highlighted(self.key))

    def _settle(self) -> None:
        """Take in another number of rows, or another size."""
        self.virtual_size = Size(0, len(self.rows) + self._header)
        self._keep_cursor_in_view()
        self.refresh()

    def _keep_cursor_in_view(self) -> None:
        room = max(1, self._height - self._header)
        top = self.scroll_offset.y
        if self.cursor < top or self.cursor >= top + room:
            target = self.cursor if self.cursor < top else self.cursor - room + 1
            self.scroll_to(y=target, animate=False, force=True)

    def _refresh_row(self, index: int) -> None:
        self.refresh_line(index + self._header)

    def _fit(self) -> list[tuple[int, int]]:
        """Return which columns there is room for, and their widths."""
        natural = []
        for number, column in enumerate(self.columns):
            texts = (Content(printable(row.cells[number].text, single_line=True)) for row in self.rows)
            longest = max((text.cell_length for text in texts), default=0)
            natural.append(max(len(column.title), min(column.widest, longest)))
        least = [
            min(width, _LEAST_WIDTH) if column.flexible else width
            for width, column in zip(natural, self.columns, strict=True)
        ]
        kept = list(range(len(self.columns)))

        def spare() -> int:
            return self._width - _SIGNS_WIDTH - sum(least[n] for n in kept) - len(_GAP) * (len(kept) - 1)

        while spare() < 0 and any(self.columns[n].rank for n in kept):
            kept.remove(max(kept, key=lambda n: self.columns[n].rank))
        rest = spare()
        return [(n, max(1, min(natural[n], least[n] + rest)) if self.columns[n].flexible else least[n]) for n in kept]

    def render_line(self, y: int) -> Strip:
        if not self.rows:
            return self._empty_line(y)
        if y < self._header:
            titles = [Cell(column.title) for column in self.columns]
            return self._strip(self._line("   ", titles, plain=True), "listing--header")
        index = y - self._header + self.scroll_offset.y
        if index >= len(self.rows):
            return self._strip(Content(""))
        row = self.rows[index]
        at_cursor = index == self.cursor
        signs = f"{CURSOR if at_cursor else ' '}{MARK if row.marked else ' '} "
        # A cell's colour need not be legible on the cursor's.
        line = self._line(signs, row.cells, plain=at_cursor and self.has_focus)
        return self._strip(line, "listing--cursor") if at_cursor else self._strip(line)

    def _line(self, signs: str, cells: Sequence[Cell], plain: bool) -> Content:
        parts = [Content(signs)]
        for place, (number, width) in enumerate(self._fitted):
            text, style = cells[number]
            cell = Content(printable(text, single_line=True)).truncate(width, ellipsis=True)
            missing = max(0, width - cell.cell_length)
            cell = cell.pad_left(missing) if self.columns[number].right else cell.pad_right(missing)
            parts.append(Content(_GAP if place else "") + (cell if plain or not style else cell.stylize(style)))
        return Content("").join(parts)

    def _strip(self, line: Content, *components: str) -> Strip:
        style = self.get_visual_style(*components)
        width = self._width
        line = line.truncate(width)
        line = line.pad_right(max(0, width - line.cell_length))
        strips = Visual.to_strips(self, line, width, 1, style, pad=True) if width else []
        return strips[0] if strips else Strip.blank(width, style.rich_style)

    def _empty_line(self, y: int) -> Strip:
        lines = Content(self.empty).wrap(max(1, self._width - 2))
        text = lines[y - 1] if 1 <= y <= len(lines) else Content("")
        return self._strip(Content(" ") + text, "listing--empty")
