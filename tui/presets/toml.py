"""A preset's file as text, its comments, sections and names set apart."""

from __future__ import annotations

import re

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from minigpt.errors import printable

# Set back a little, but here to be read.
_COMMENT = "$foreground 75%"
# What is shown above a line that is brought into view.
_LINES_ABOVE = 3


class TomlText(VerticalScroll, can_focus=True):
    """The file as it would be saved; a line that has just changed is brought into view."""

    DEFAULT_CSS = "TomlText { scrollbar-size-vertical: 1; & > Static { height: auto; } }"
    explain = "The preset's file as it would be saved now. Comments stay; what is left out keeps its usual value."

    def __init__(self) -> None:
        super().__init__()
        self._shown: list[str] = []

    def compose(self) -> ComposeResult:
        yield Static(markup=False)

    def show(self, toml: str) -> None:
        """Show a text, unless it is there already."""
        lines = printable(toml).rstrip("\n").split("\n")
        before, self._shown = self._shown, lines
        if lines != before:
            self.query_one(Static).update(highlighted(toml))
            if before:
                self.call_after_refresh(self._go_to, _first_difference(before, lines))

    def _go_to(self, number: int) -> None:
        width = max(1, self.scrollable_content_region.width)
        above = sum(len(Content(line).wrap(width)) for line in self._shown[:number])
        if not self.scroll_y <= above < self.scroll_y + self.scrollable_content_region.height:
            self.scroll_to(y=max(0, above - _LINES_ABOVE), animate=False)


def _first_difference(before: list[str], after: list[str]) -> int:
    pairs = zip(before, after, strict=False)
    return next((number for number, (old, new) in enumerate(pairs) if old != new), min(len(before), len(after)))


def highlighted(toml: str) -> Content:
    """Return TOML with its comments, sections and names set apart."""
    return Content("\n").join(_highlighted_line(line) for line in printable(toml).rstrip("\n").split("\n"))


def _highlighted_line(line: str) -> Content:
    # The first # outside a quoted text begins the comment.
    match = re.match(r"""((?:[^#"']|"[^"]*"|'[^']*')*)(#.*)?$""", line)
    code, comment = (match[1], match[2] or "") if match else (line, "")
    if code.lstrip().startswith("["):
        body = Content.styled(code, "bold $text-accent")
    else:
        name, equals, value = code.partition("=")
        body = Content.assemble((name, "$text-primary") if equals else name, equals, value)
    return body + Content.styled(comment, _COMMENT) if comment else body
