"""A text to be read, of up to a million characters, plain or painted by its tokens; and the dialog that shows one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import ClassVar

from rich.segment import Segment
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Size
from textual.screen import ModalScreen
from textual.scroll_view import ScrollView
from textual.strip import Strip

from minigpt.errors import printable
from tui.corpora.children import in_thread
from tui.corpora.wrapping import Painted, plain, wrap


class Page(ScrollView, can_focus=True):
    """Shows a text, whatever its length; tokens alternate in colour, every other one is underlined too."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"page--even", "page--odd", "page--mark"}
    DEFAULT_CSS = """
    Page {
        overflow-x: hidden;
        scrollbar-size-vertical: 1;
        & > .page--even { background: $primary 30%; }
        & > .page--odd { background: $secondary 30%; text-style: underline; }
        & > .page--mark { background: $warning 40%; text-style: bold underline; }
    }
    """

    def __init__(self, explain: str = "") -> None:
        super().__init__()
        self.explain = explain
        self.painted = Painted("")
        self.marked = ""
        self._lines: list[tuple[int, int]] = []
        self._laid = 0  # the width for which the lines are

    def show(self, painted: Painted, marked: str = "") -> None:
        """Show a text from its beginning, or from the first place of what is `marked` in it."""
        self.painted, self.marked, self._laid = painted, printable(marked).lower(), 0
        self._lines = []
        self._lay()

    def on_resize(self) -> None:
        if self.scrollable_content_region.width != self._laid:
            self._lay()

    def _lay(self) -> None:
        """Have the lines found anew, off the event loop: a text may be long."""
        width = self.scrollable_content_region.width
        if width:
            work = partial(wrap, self.painted.text, width)
            in_thread(self, work, partial(self._take, width, self.painted), lambda problem: None, "lines")

    def _take(self, width: int, painted: Painted, lines: list[tuple[int, int]]) -> None:
        if painted is not self.painted:
            return
        first = not self._laid
        self._laid, self._lines = width, lines
        self.virtual_size = Size(width, len(lines))
        if first:
            self.scroll_to(y=self._line_of_mark(), animate=False, force=True)
        self.refresh()

    def _line_of_mark(self) -> int:
        place = self.painted.text.lower().find(self.marked) if self.marked else -1
        return max(0, bisect_right(self._lines, (place, len(self.painted.text))) - 2) if place >= 0 else 0

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        base = self.get_visual_style().rich_style
        row = y + self.scroll_offset.y
        if row >= len(self._lines):
            return Strip.blank(width, base)
        begin, end = self._lines[row]
        segments = [
            Segment(self.painted.text[start:stop], self.get_visual_style(f"page--{kind}").rich_style if kind else base)
            for start, stop, kind in self._parts(begin, end)
        ]
        return Strip(segments).adjust_cell_length(width, base)

    def _parts(self, begin: int, end: int) -> list[tuple[int, int, str]]:
        """Return the stretches of a line that look alike."""
        starts = self.painted.starts
        if starts:
            first = max(0, bisect_right(starts, begin) - 1)
            edges = [max(begin, start) for start in starts[first : bisect_left(starts, end)]]
            kinds = ("even", "odd")
            parts = [(a, b, kinds[(first + i) % 2]) for i, (a, b) in enumerate(pairwise([*edges, end]))]
            return [(a, b, kind) for a, b, kind in parts if a < b]
        text, parts = self.painted.text[begin:end].lower(), []
        place = text.find(self.marked) if self.marked else -1
        # Where lower case has another length, places would not fit.
        if place >= 0 and len(text) == end - begin:
            middle, after = begin + place, begin + place + len(self.marked)
            parts = [(begin, middle, ""), (middle, after, "mark"), (after, end, "")]
        return [part for part in parts if part[0] < part[1]] or [(begin, end, "")]


class TextReader(ModalScreen[None]):
    """Reads one text at leisure; `load` gives it in a thread."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss", "Close", id="text.close", tooltip="Back to where you were")
    ]
    DEFAULT_CSS = """
    TextReader { align: center middle; }
    TextReader > Vertical {
        width: 90%; max-width: 110; height: 90%; border: round $primary; padding: 0 1; background: $surface;
    }
    TextReader Page { height: 1fr; background: $surface; }
    """

    def __init__(self, title: str, load: Callable[[], str], marked: str = "") -> None:
        super().__init__()
        self.title_text, self.load, self.marked = title, load, marked

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Content(printable(self.title_text, single_line=True))
            box.border_subtitle = "reading … Esc closes"
            yield Page("The whole text. The arrows, Page Up and Page Down scroll, Esc goes back.")

    def on_mount(self) -> None:
        self.query_one(Page).focus()
        in_thread(self, lambda: plain(self.load()), self._take, self._fail, "text")

    def _take(self, painted: Painted) -> None:
        self.query_one(Vertical).border_subtitle = "Esc closes"
        self.query_one(Page).show(painted, self.marked)

    def _fail(self, problem: str) -> None:
        self.query_one(Vertical).border_subtitle = "Esc closes"
        self.query_one(Page).show(plain(problem))
