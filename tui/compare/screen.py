"""Two or more runs beside one another: their curves in one chart, results, what differed, and what to believe.

app.push_screen(CompareScreen(["tiny-sample-1", "tiny-sample-2"]))
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from minigpt.narration import duration
from minigpt.summary import LIVE_STATES
from tui.corpora.children import in_thread
from tui.widgets.chart import Chart, compact_number
from tui.widgets.keyline import KeyLine
from tui.widgets.listing import Listing

if TYPE_CHECKING:
    from minigpt.comparing.curves import Axis, RunCurve
    from minigpt.comparing.table import Comparison
    from tui.app import MiniGPTApp

REFRESH_SECONDS = 5.0
AXES: tuple[Axis, ...] = ("step", "tokens", "time")
EXPLAIN_CHART = (
    "The curves of all these runs, each with its letter on it. The same step, as many tokens and the same time are "
    "three questions: t changes from one to the next. Left and right read values."
)
EXPLAIN_TABLE = (
    "What each run came to. Lower is better for loss and bits per byte; where tokenizers differ only bits per byte "
    "compare. ± is the standard error of the loss: how far other text of the kind may move it. "
    "Time is that at work, and tokens/s are over all of it."
)
EXPLAIN_WORDS = (
    "Whether a difference is more than the noise of measuring it, and what differed between the runs. A tick means "
    "more than noise, ≈ that it is not."
)


class Words(VerticalScroll, can_focus=True):
    """The sentences and tables below, to be scrolled."""

    explain = EXPLAIN_WORDS


class CompareScreen(ModalScreen[None]):
    """Compares runs by name."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "axis", "Axis", id="compare.axis", tooltip="Curves by steps, tokens or time"),
        Binding("b", "kind", "Loss/bits", id="compare.kind", tooltip="Validation loss, bits per byte or training loss"),
        Binding("l", "log_axis", "Log axis", id="compare.log", tooltip="Logarithmic axis on or off"),
        Binding("y", "copy", "Copy", id="compare.copy", tooltip="Copy all that is told here as text"),
        Binding("question_mark", "app.explain", "Explain", id="compare.explain", tooltip="Explain what has the focus"),
        Binding("escape,q", "close", "Close", id="compare.close", tooltip="Back to where you were"),
    ]
    DEFAULT_CSS = """
    CompareScreen { layout: vertical; align: left top; }
    CompareScreen > Vertical { width: 100%; height: 1fr; background: $background; }
    CompareScreen Chart { height: 2fr; border: round $panel-lighten-2; border-title-color: $text-muted; }
    CompareScreen Chart:focus { border: round $primary; }
    CompareScreen Listing { height: auto; max-height: 8; }
    CompareScreen Words {
        height: 1fr; border: round $panel-lighten-2; border-title-color: $text-muted; padding: 0 1;
        scrollbar-size-vertical: 1;
    }
    CompareScreen Words:focus { border: round $primary; }
    CompareScreen Words > Static { height: auto; }
    CompareScreen #sentences { margin-bottom: 1; }
    """

    def __init__(self, runs: Sequence[str]) -> None:
        from tui.compare.words import COLUMNS

        super().__init__()
        self.names = list(runs)
        self.comparison: Comparison | None = None
        self.axis: Axis = "step"
        self.kind = ""  # until it is known what these runs are compared by
        self._curves: list[RunCurve] = []
        self.chart = Chart("reading …")
        self.listing = Listing(COLUMNS, "Reading …", EXPLAIN_TABLE)

    def compose(self) -> ComposeResult:
        self.chart.tooltip = EXPLAIN_CHART
        self.listing.border_title = "results: the best evaluation of each"
        with Vertical():
            yield self.chart
            yield self.listing
            with Words() as words:
                words.border_title = "what to believe, and what differs"
                yield Static(id="sentences", markup=False)
                yield Static(id="differences", markup=False)
        yield KeyLine()

    @property
    def minigpt(self) -> MiniGPTApp:
        return cast("MiniGPTApp", self.app)

    def on_mount(self) -> None:
        self.chart.braille = self.minigpt.settings.braille and os.environ.get("TERM") != "linux"
        self.chart.focus()
        self._read()

    def _read(self) -> None:
        from minigpt.comparing.table import compare

        work = partial(compare, self.minigpt.workspace, self.names)
        in_thread(self, work, self._take, self._fail, "compare")

    def _take(self, comparison: Comparison) -> None:
        from tui.compare.words import differences, rows_of, sentences

        self.comparison = comparison
        self.kind = self.kind or ("bits" if comparison.figure == "bits_per_byte" else "validation")
        self.listing.set_rows(rows_of(comparison))
        self.listing.styles.height = len(comparison.runs) + 3
        self.query_one("#sentences", Static).update(sentences(comparison))
        self.query_one("#differences", Static).update(differences(comparison))
        self._draw()
        # The others do not change any more.
        if any(run.state in LIVE_STATES for run in comparison.runs):
            self.set_timer(REFRESH_SECONDS, self._read)

    def _fail(self, problem: str) -> None:
        if self.comparison is None:
            self.dismiss(None)
            self.minigpt.tell("Not compared", problem)

    def _draw(self) -> None:
        from tui.compare.overlay import TITLES, kinds, overlay

        if self.comparison is None:
            return
        self._curves = self.comparison.curves(self.axis)
        known = kinds(self._curves)
        self.kind = self.kind if self.kind in known else known[0]
        self.chart.title = f"{TITLES[self.kind]} by {self.axis}"
        self.chart.show(
            overlay(self._curves, self.kind),
            x_format=duration if self.axis == "time" else compact_number,
            x_name=self.axis,
            message="no run has been evaluated yet" if self.kind != "training" else "no steps yet",
        )

    def action_axis(self) -> None:
        self.axis = AXES[(AXES.index(self.axis) + 1) % len(AXES)]
        self._draw()

    def action_kind(self) -> None:
        from tui.compare.overlay import kinds

        if self.comparison is not None:
            known = kinds(self._curves)
            self.kind = known[(known.index(self.kind) + 1) % len(known)]
            self._draw()

    def action_log_axis(self) -> None:
        self.chart.log_scale = not self.chart.log_scale

    def action_copy(self) -> None:
        if self.comparison is None:
            return
        from tui.compare.words import differences, sentences

        told: list[Content] = [
            Content("\n".join(f"{row.cells[0].text}" for row in self.listing.rows)),
            sentences(self.comparison),
            differences(self.comparison),
        ]
        self.app.copy_to_clipboard("\n\n".join(content.plain for content in told))
        self.app.notify("Copied, where the terminal allows it.", timeout=2)

    def action_close(self) -> None:
        self.dismiss(None)
