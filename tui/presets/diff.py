"""In which settings two presets differ, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen

from minigpt.config import settings
from minigpt.errors import printable
from minigpt.preset_files import Difference
from tui.presets.fields import value_text
from tui.widgets.listing import Cell, Column, Listing, Row


class DiffScreen(ModalScreen[None]):
    """A list of the settings that differ, with the value in each of two presets."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss", "Close", id="diff.close", tooltip="Back to where you were")
    ]
    DEFAULT_CSS = """
    DiffScreen Listing { width: 90%; max-width: 100; height: auto; max-height: 90%; background: $surface; }
    """

    def __init__(self, one: str, other: str, differences: Sequence[Difference]) -> None:
        super().__init__()
        self.one, self.other, self.differences = one, other, list(differences)

    def compose(self) -> ComposeResult:
        columns = (
            Column("setting"),
            Column(printable(self.one, single_line=True), widest=30),
            Column(printable(self.other, single_line=True), flexible=True, widest=60),
        )
        explain = "The settings whose values differ between the two presets; all others are the same in both."
        listing = Listing(columns, "They do not differ in any setting.", explain)
        count = len(self.differences)
        listing.border_title = Content(f"{count} setting{'' if count == 1 else 's'} differ{'s' if count == 1 else ''}")
        listing.border_subtitle = "Esc closes"
        # Borders, the line of titles, and one for the words where there is nothing.
        listing.styles.height = max(1, count) + 4
        listing.set_rows(self._rows())
        yield listing

    def _rows(self) -> list[Row]:
        found = []
        for key, one, other in self.differences:
            item = settings()[key]
            found.append(Row(key, (Cell(key, "bold"), Cell(value_text(item, one)), Cell(value_text(item, other)))))
        return found
