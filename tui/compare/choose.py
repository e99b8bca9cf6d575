"""Choosing some of the runs there are, from a list that is read when it is asked for."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from minigpt.narration import number
from tui.corpora.children import in_thread
from tui.widgets.listing import MUTED, Cell, Column, Listing, Row

if TYPE_CHECKING:
    from minigpt.summary import RunSummary
    from minigpt.workspace import Workspace
    from tui.app import MiniGPTApp

COLUMNS = (
    Column("run", flexible=True, widest=48),
    Column("state", rank=1),
    Column("step", right=True),
    Column("best loss", right=True),
    Column("corpus", widest=20, rank=2),
)
EXPLAIN = "The other runs. A dot marks those whose loss is drawn dim behind the one that is watched; Space sets it."


class ChooseRuns(ModalScreen[list[str] | None]):
    """Mark runs with Space; gives the names of those marked on Enter, or None for Escape."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", id="choose.mark", tooltip="Draw this one, or no longer"),
        Binding("enter", "done", "Done", id="choose.done", tooltip="Take those that are marked"),
        Binding("u", "none", "None", id="choose.none", tooltip="Mark none"),
        Binding("escape", "dismiss(None)", "Cancel", id="choose.cancel", tooltip="Close, and leave all as it was"),
    ]
    DEFAULT_CSS = """
    ChooseRuns { align: center middle; }
    ChooseRuns > Vertical {
        width: 90%; max-width: 90; height: auto; max-height: 90%;
        border: round $primary; padding: 0 1; background: $surface;
    }
    ChooseRuns Listing { height: 12; border: none; background: $surface; &:focus { border: none; } }
    ChooseRuns .hint { color: $foreground-muted; height: auto; }
    """

    def __init__(self, title: str, marked: Collection[str], without: str, most: int) -> None:
        super().__init__()
        self.title_text, self.without, self.most = title, without, most
        self.marked = [run for run in marked if run != without]
        self.listing = Listing(COLUMNS, "Reading …", EXPLAIN)
        self._summaries: list[RunSummary] = []

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Content(self.title_text)
            yield self.listing
            yield Static(classes="hint", markup=False)

    def on_mount(self) -> None:
        self.listing.focus()
        self._hint()
        in_thread(self, partial(_read, cast("MiniGPTApp", self.app).workspace), self._take, self._fail, "choose")

    def _take(self, summaries: list[RunSummary]) -> None:
        self._summaries = [summary for summary in summaries if summary.run != self.without and summary.step]
        self.marked = [run for run in self.marked if run in {summary.run for summary in self._summaries}]
        self.listing.empty = "There is no other run that has trained."
        self._show()
        self.listing.refresh()

    def _fail(self, problem: str) -> None:
        self.listing.empty = problem
        self.listing.refresh()

    def _show(self) -> None:
        self.listing.set_rows(_row(summary, summary.run in self.marked) for summary in self._summaries)
        self._hint()

    def _hint(self) -> None:
        told = f"{len(self.marked)} of at most {self.most} marked.  " if self.marked else ""
        self.query_one(".hint", Static).update(f"{told}Space marks, Enter draws them, u marks none, Esc cancels.")

    def on_listing_chosen(self, event: Listing.Chosen) -> None:
        event.stop()
        self.action_mark()

    def action_mark(self) -> None:
        run = self.listing.key
        if run is None:
            return
        if run in self.marked:
            self.marked.remove(run)
        elif len(self.marked) < self.most:
            self.marked.append(run)
        else:
            self.app.notify(f"At most {self.most}: take one away first.", timeout=3)
        self._show()

    def action_none(self) -> None:
        self.marked = []
        self._show()

    def action_done(self) -> None:
        self.dismiss(self.marked)


def _read(workspace: Workspace) -> list[RunSummary]:
    from minigpt.runs import list_runs

    return list_runs(workspace)


def _row(summary: RunSummary, marked: bool) -> Row:
    cells = (
        Cell(summary.run, "bold" if marked else ""),
        Cell(summary.state, MUTED),
        Cell(f"{summary.step:,}"),
        Cell(number(summary.best_val_loss)),
        Cell(summary.corpus or "-", MUTED),
    )
    return Row(summary.run, cells, marked)
