"""The list of runs: put in order by any column, filtered by words, with marks on those that are to be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.cells import cell_len

from minigpt.runs import RunSummary, matching, sorted_runs
from tui.runs.roster import FIELDS, NEWEST, SORTS
from tui.widgets.listing import Column, Listing, Row

RISING, FALLING = "▲", "▼"
# Which share of the list a name may claim before columns stay that can be done without.
_NAME_SHARE = 0.3
_LEAST_NAME = 14
_SIGNS_WIDTH, _GAP_WIDTH = 3, 2


class RunTable(Listing):
    """Shows the runs it was given; knows of each no more than its summary and its line."""

    def __init__(self, empty: str, explain: str) -> None:
        super().__init__(_columns(NEWEST, FIELDS[NEWEST].falling), empty, explain)
        self.border_title = "runs"
        self.sorted_by, self.falling = NEWEST, FIELDS[NEWEST].falling
        self.words = ""
        self.marks: set[str] = set()
        self._runs: Sequence[RunSummary] = ()
        self._lines: dict[str, Row] = {}

    def take(self, runs: Sequence[RunSummary], lines: dict[str, Row]) -> None:
        """Show these runs, the newest first, each by its line."""
        self._runs, self._lines = runs, lines
        self.marks &= lines.keys()
        self.refill()

    def refill(self) -> None:
        """Show what the filter lets through, in order, with the marks."""
        found = matching(self._runs, self.words)
        backwards = self.falling != FIELDS[self.sorted_by].falling
        if self.sorted_by != NEWEST:
            found = sorted_runs(found, self.sorted_by, backwards)
        elif backwards:
            found.reverse()
        lines = [self._lines[run.run] for run in found]
        self.set_rows(replace(line, marked=True) if line.key in self.marks else line for line in lines)

    def filter(self, words: str) -> None:
        """Show only runs that have all these words."""
        self.words = words.strip()
        self.refill()

    def toggle_mark(self) -> None:
        """Mark the run under the cursor, or take its mark away, and go on to the next."""
        if self.key is not None:
            self.marks ^= {self.key}
            self.refill()
            self.action_move(1)

    def sort_by(self, key: str, falling: bool) -> None:
        """Put the runs in the order of one column, which stays in view."""
        self.sorted_by, self.falling = key, falling
        self.columns = _columns(key, falling)
        self.refill()
        self.on_resize()

    def sort_next(self) -> None:
        """Put the runs in the order of the next column, the way people ask for first."""
        key = SORTS[(SORTS.index(self.sorted_by) + 1) % len(SORTS)]
        self.sort_by(key, FIELDS[key].falling)

    def _fit(self) -> list[tuple[int, int]]:
        """Return which columns there is room for, and their widths: the name is the last to be cut short."""
        room = self._width - _SIGNS_WIDTH
        longest = [max((cell_len(row.cells[n].text) for row in self.rows), default=0) for n in range(len(FIELDS))]
        natural = [
            max(len(column.title), min(column.widest, width))
            for column, width in zip(self.columns, longest, strict=True)
        ]
        wanted = min(natural[0], max(_LEAST_NAME, int(room * _NAME_SHARE)))
        kept = list(range(len(self.columns)))
        # A column in which nobody has anything says nothing.
        kept = [n for n in kept if not self.columns[n].rank or any(row.cells[n].text.strip("- ") for row in self.rows)]

        def spare(name: int) -> int:
            return room - name - sum(natural[n] + _GAP_WIDTH for n in kept[1:])

        while spare(wanted) < 0 and any(self.columns[n].rank for n in kept):
            kept.remove(max(kept, key=lambda n: self.columns[n].rank))
        name = max(1, min(natural[0], max(_LEAST_NAME, spare(0))))
        return [(0, name), *((n, natural[n]) for n in kept[1:])]


def _columns(key: str, falling: bool) -> tuple[Column, ...]:
    """Return the columns, the one that the list is sorted by with the direction after its title."""
    sign = FALLING if falling else RISING
    columns = [field.column for field in FIELDS.values()]
    place = list(FIELDS).index(key)
    columns[place] = replace(columns[place], title=f"{columns[place].title} {sign}", rank=0)
    return tuple(columns)
