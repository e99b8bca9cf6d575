"""The line at the foot of the list of runs."""

from __future__ import annotations

from collections.abc import Callable

from textual.content import Content

from minigpt.errors import printable
from tui.runs.table import RunTable

HINTS = "/ filters  s sorts  m compares"


class Foot:
    """Tells what went wrong, else what was done or is `doing`, else how many runs are listed and marked."""

    def __init__(self, table: RunTable, doing: Callable[[], str]) -> None:
        self._table, self._doing = table, doing
        self._said = ""
        self.trouble = ""
        self.runs = 0  # of the workspace, listed or not

    def say(self, text: str) -> None:
        """Say something until something else is said; an empty text tells again how many runs there are."""
        self._said = text
        self.refresh()

    def refresh(self) -> None:
        told = printable(self.trouble or self._said or self._doing() or self._count(), single_line=True)
        if str(self._table.border_subtitle or "") != told:
            self._table.border_subtitle = Content(told)

    def _count(self) -> str:
        if marks := len(self._table.marks):
            return f"{marks} marked: m compares, u unmarks" if marks > 1 else "1 marked: Space marks another"
        if self._table.words:
            return f"{len(self._table.rows)} of {self.runs} with “{self._table.words[:30]}”: Esc shows all"
        return f"{self.runs} runs  {HINTS}" if self.runs > 1 else ""
