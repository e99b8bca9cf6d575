"""A list and the details of the row under its cursor: what the choosing panes have in common.

browser = Browser(columns=[Column("name", flexible=True), Column("size", right=True)], title="corpora", empty="None.")
browser.listing.set_rows([Row("sample", (Cell("sample"), Cell("1 MB")), marked=True)])
browser.show_details(details("sample", [("documents", "12")]), Content("Once upon a time"))
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from minigpt.errors import printable
from tui.widgets.listing import MUTED, Column, Listing


class Details(VerticalScroll, can_focus=True):
    """What is known of one row: facts, and something longer, below or beside them."""

    # The size classes are the screen's, which scoped rules do not see.
    SCOPED_CSS = False
    DEFAULT_CSS = """
    Details {
        border: round $panel-lighten-2;
        border-title-color: $text-muted;
        padding: 0 1;
        scrollbar-size-vertical: 1;
        &:focus { border: round $primary; border-title-color: $text; }
        & > Static { height: auto; }
        & > .more { margin-top: 1; }
    }
    .-normal Details { layout: horizontal; }
    .-normal Details > .facts { width: 4fr; }
    .-normal Details > .more { width: 5fr; margin: 0 0 0 3; }
    """

    def __init__(self, explain: str = "") -> None:
        super().__init__()
        self.explain = explain
        self._shown = (Content(""), Content(""))

    def compose(self) -> ComposeResult:
        yield Static(classes="facts", markup=False)
        yield Static(classes="more", markup=False)

    def show(self, facts: Content, more: Content) -> None:
        """Show these, repainting only what is new."""
        for name, before, after in zip((".facts", ".more"), self._shown, (facts, more), strict=True):
            if not after.is_same(before):
                static = self.query_one(name, Static)
                waits = static._layout_required
                static.update(after)
                if waits:
                    # Laid out meanwhile for another's sake, it keeps the size of what it held before (Textual 8.2).
                    self.call_after_refresh(static.refresh, layout=True)
        self._shown = (facts, more)


class Browser(Container):
    """A list and its details, one above the other or side by side, by the room there is."""

    SCOPED_CSS = False
    DEFAULT_CSS = """
    Browser {
        layout: vertical;
        & > Listing { height: 2fr; min-height: 3; }
        & > Details { height: 3fr; }
    }
    .-short Browser > Details { height: 2fr; }
    .-wide Browser { layout: horizontal; }
    .-wide Browser > Listing, .-wide Browser > Details { width: 1fr; height: 1fr; }
    """

    def __init__(self, columns: Sequence[Column], title: str, empty: str, explain: tuple[str, str] = ("", "")) -> None:
        super().__init__()
        self.listing = Listing(columns, empty, explain[0])
        self.listing.border_title = title
        self.details = Details(explain[1])
        self.details.border_title = "details"

    def compose(self) -> ComposeResult:
        yield self.listing
        yield self.details

    def note(self, text: str) -> None:
        """Say something short at the foot of the list; nothing with an empty text."""
        if str(self.listing.border_subtitle or "") != text:
            self.listing.border_subtitle = Content(printable(text, single_line=True))

    def show_details(self, facts: Content, more: Content, top: bool = False) -> None:
        """Fill the details; `top` scrolls back to their beginning."""
        self.details.show(facts, more)
        if top:
            self.details.scroll_home(animate=False)


def details(title: str, pairs: Iterable[tuple[str, str]], *paragraphs: Content, remark: str = "") -> Content:
    """Return a heading with a remark beside it, lines of "label  value" where there is a value, and paragraphs."""
    kept = [(label, value) for label, value in pairs if value]
    width = max((len(label) for label, _ in kept), default=0)
    heading = Content.styled(printable(title, single_line=True), "bold")
    blocks = [Content.assemble(heading, "  ", (remark, "$text-accent")) if remark else heading]
    blocks += [Content.assemble((f"{label:<{width}}  ", MUTED), Content(printable(value))) for label, value in kept]
    return Content("\n").join([*blocks, *(Content("\n") + paragraph for paragraph in paragraphs)])
