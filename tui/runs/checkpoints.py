"""The checkpoints of one run: each is a whole model in one file, to talk to, to go on from, or to begin anew with."""

from __future__ import annotations

from textual.message import Message

from minigpt.errors import printable
from minigpt.narration import number, size
from tui.panes.run_facts import RunFiles, Saved
from tui.runs.roster import age
from tui.widgets.listing import MUTED, Cell, Column, Listing, Row

COLUMNS = (
    Column("checkpoint", flexible=True, widest=48),
    Column("step", right=True),
    Column("loss", right=True),
    Column("size", right=True, rank=1),
    Column("age", right=True, rank=2),
)
EXPLAIN = (
    "The checkpoints of the run, the furthest first: each is a whole model in one file. The loss is the one on text "
    "kept aside, at that step. best_model.pt is the one that did best there, and what c talks to from the list."
)
HINTS = "c talks  r goes on  f forks  ← back"


class CheckpointTable(Listing):
    """Lists checkpoint files."""

    class Opened(Message):
        """A checkpoint was clicked twice."""

    def __init__(self) -> None:
        super().__init__(COLUMNS, "", EXPLAIN)
        self.border_title = "checkpoints"
        self.border_subtitle = HINTS
        self.files = RunFiles("")

    @property
    def current(self) -> Saved | None:
        """The checkpoint under the cursor."""
        return self.files.files[self.cursor] if self.rows else None

    def take(self, files: RunFiles, now: float) -> None:
        """Show the checkpoints of a run; of another than before, from the top."""
        other, before = files.run != self.files.run, self.empty
        self.files = files
        self.empty = "No checkpoints." if files.looked else ""
        if other:
            self.cursor = 0
        self.set_rows(_row(saved, now) for saved in files.files)
        if not self.rows and self.empty != before:
            self.refresh()

    def on_listing_highlighted(self, event: Listing.Highlighted) -> None:
        event.stop()

    def on_listing_chosen(self, event: Listing.Chosen) -> None:
        event.stop()
        self.post_message(self.Opened())


def _row(saved: Saved, now: float) -> Row:
    file = saved.file
    cells = (
        Cell(printable(file.name, single_line=True)),
        Cell(f"{file.step:,}"),
        Cell(number(file.loss)),
        Cell(size(file.bytes)),
        Cell(age(saved.modified, now), MUTED),
    )
    return Row(file.name, cells)
