"""The runs of a workspace as lines of a list, read anew without reading all of it again: for threads.

roster = Roster(workspace)
runs, lines = roster.look()
lines["tiny-sample-1"].cells
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from minigpt.errors import printable
from minigpt.narration import duration, number, size
from minigpt.runs import RunCache, RunSummary
from minigpt.workspace import Workspace
from tui.figures import STATE_SIGNS, short
from tui.widgets.listing import MUTED, Cell, Column, Row

_STYLES = {"success": "$text-success", "warning": "$text-warning", "error": "$text-error"}


@dataclass(frozen=True)
class Field:
    """A column of the list: how a run is told in it at a time; `falling` says that one looks for the largest first."""

    column: Column
    cell: Callable[[RunSummary, float], Cell]
    falling: bool = False


def state_cell(state: str) -> Cell:
    """Return a state with its sign."""
    sign, colour = STATE_SIGNS.get(state, ("·", ""))
    return Cell(f"{sign} {state}", _STYLES.get(colour, MUTED))


def age(then: float | None, now: float) -> str:
    """Return how long ago something was, in one unit, so that it seldom changes: "now", "3 min", "5 d"."""
    if then is None:
        return "-"
    seconds = now - then
    return "now" if seconds < 60 else " ".join(duration(seconds).split()[:2])


def _plain(text: str | None, style: str = "") -> Cell:
    return Cell(printable(text or "-", single_line=True), style)


def _step(run: RunSummary, now: float) -> Cell:
    planned = f"/{run.planned_steps:,}" if run.planned_steps else ""
    return Cell(f"{run.step:,}{planned}" if run.step or planned else "-")


def _time(run: RunSummary, now: float) -> Cell:
    return Cell(duration(run.seconds) if run.started is not None else "-")


# By the keys of `minigpt runs list --sort`, but for the note: there is no order of notes.
FIELDS = {
    "name": Field(Column("run", flexible=True, widest=48), lambda run, now: _plain(run.run, "bold")),
    "state": Field(Column("state"), lambda run, now: state_cell(run.state)),
    "preset": Field(Column("preset", widest=20, rank=8), lambda run, now: _plain(run.preset)),
    "corpus": Field(Column("corpus", widest=20, rank=7), lambda run, now: _plain(run.corpus)),
    "size": Field(
        Column("params", right=True, rank=3),
        lambda run, now: Cell(short(run.parameters) if run.parameters else "-"),
        falling=True,
    ),
    "step": Field(Column("step", right=True, widest=21), _step, falling=True),
    "loss": Field(Column("best loss", right=True, widest=9), lambda run, now: Cell(number(run.best_val_loss))),
    "time": Field(Column("time", right=True, widest=12, rank=6), _time, falling=True),
    "disk": Field(
        Column("disk", right=True, rank=5),
        lambda run, now: Cell(size(run.disk_bytes) if run.disk_bytes else "-"),
        falling=True,
    ),
    "started": Field(Column("age", right=True, rank=2), lambda run, now: Cell(age(run.started, now), MUTED)),
    "note": Field(Column("note", widest=40, rank=9), lambda run, now: _plain(run.note or " ", MUTED)),
}
NEWEST = "started"
SORTS = tuple(key for key in FIELDS if key != "note")


def row_of(run: RunSummary, now: float) -> Row:
    """Return a run's line in the list, with a cell for every column."""
    return Row(run.run, tuple(field.cell(run, now) for field in FIELDS.values()))


class Roster:
    """Asks every few seconds; of each run, only what is new is read. For one thread at a time."""

    def __init__(self, workspace: Workspace) -> None:
        self._cache = RunCache(workspace)
        self.cost = 0.0  # seconds of the processor that the last look took

    def look(self) -> tuple[list[RunSummary], dict[str, Row]]:
        """Return all runs, those started last first, and the line of each by name; raises OSError."""
        before = time.thread_time()
        runs, now = self._cache.list_runs(), time.time()
        lines = {run.run: row_of(run, now) for run in runs}
        self.cost = time.thread_time() - before
        return runs, lines
