"""A run on the screen: charts, figures, samples and log."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from minigpt import learn
from minigpt.history import RunHistory
from tui.compare.ghosts import Ghost, ghost_series
from tui.curves import plot, smoothed_loss
from tui.figures import EVALUATION_HEADER, LOG_FILTERS, device_rows, evaluation_rows, log_rows, run_rows
from tui.panes.pane import in_view
from tui.state import UIState
from tui.view import CHARTS, VIEWS, View
from tui.widgets.chart import Chart
from tui.widgets.dialogs import message
from tui.widgets.diary import Diary
from tui.widgets.rows import Row, Rows

if TYPE_CHECKING:
    from tui.app import MiniGPTApp
    from tui.panes.cure import Notice

# Charts cost milliseconds each, and the processor is the trainer's: drawing them may take this part of one core.
CHART_SHARE = 0.006
LEAST_WAIT, LONGEST_WAIT = 0.5, 12.0
# The log's rows are made from this many of its lines.
LOG_LINES = 300


class Board(Widget):
    """Everything about one run; at small sizes one of four views stands below, chosen by the person."""

    # The classes that tell the size are on the screen, above this widget.
    SCOPED_CSS = False
    DEFAULT_CSS = """
    Board { layout: grid; grid-size: 2 2; grid-columns: 5fr 3fr; grid-rows: 1fr 10; height: 1fr; }
    Board .box { border: round $panel-lighten-2; border-title-color: $text-muted; }
    Board .box:focus, Board .box:focus-within { border: round $primary; }
    Board #charts { height: 1fr; }
    Board Chart { height: 1fr; }
    Board #side { height: 1fr; }
    Board #run-box { layout: horizontal; height: auto; }
    Board #run-box Rows { width: 1fr; }
    Board #run-more { display: none; }
    Board #device { height: auto; max-height: 9; }
    Board #evaluations-box { height: 1fr; min-height: 3; }
    Board #evaluations { height: 1fr; }
    Board #evaluations-head { height: 1; }
    Board #below { column-span: 2; height: 1fr; }
    Board #diary, Board #log { width: 1fr; height: 1fr; }
    Board #extra { display: none; }

    .-wide Board { grid-size: 3 2; grid-columns: 5fr 4fr 4fr; grid-rows: 1fr 14; }
    .-wide Board #extra { display: block; }
    .-wide Board #below { column-span: 3; }

    .-narrow Board { layout: vertical; }
    .-narrow Board #charts { height: 1fr; }
    .-narrow Board #chart-2 { display: none; }
    .-narrow Board #side { height: auto; }
    .-narrow Board #run-box { height: 6; }
    .-narrow Board #run-more { display: block; }
    .-narrow Board #device, .-narrow Board #evaluations-box { display: none; }
    .-narrow Board #below { height: 6; }
    .-narrow Board #diary, .-narrow Board #log { display: none; }
    .-narrow Board.-log #log, .-narrow Board.-sample #diary { display: block; }
    .-narrow Board.-evaluations #below, .-narrow Board.-device #below { display: none; }
    .-narrow Board.-evaluations #evaluations-box { display: block; height: 6; }
    .-narrow Board.-device #device { display: block; height: 6; }

    .-short.-normal Board, .-short.-wide Board { grid-rows: 1fr 6; }
    .-short.-normal Board #chart-2, .-short.-wide Board #chart-2 { display: none; }
    .-short.-normal Board #evaluations-box, .-short.-wide Board #evaluations-box { display: none; }
    .-low Board #below, .-low Board.-evaluations #evaluations-box, .-low Board.-device #device { display: none; }
    /* Too low for a chart beside the figures: the figures have it all; lower still, a chart without a frame. */
    .-lower.-narrow Board #charts { display: none; }
    .-lower.-narrow Board #side, .-lower.-narrow Board #run-box { height: 1fr; }
    .-lowest Board #side { display: none; }
    .-lowest.-narrow Board #charts { display: block; }
    .-lowest Board .box { border: none; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._charts_due = 0.0
        self._logged: tuple[int, str, Notice | None] | None = None
        self.ghosts: list[Ghost] = []  # other runs, drawn behind the loss
        self._evaluated = -1
        self._fresh = True

    def compose(self) -> ComposeResult:
        with Vertical(id="charts"):
            yield Chart("loss", id="chart-1", classes="box")
            yield Chart("perplexity", id="chart-2", classes="box")
        with Vertical(id="extra"):
            yield Chart("gradient norm", id="chart-3", classes="box")
            yield Chart("tokens/s", id="chart-4", classes="box")
        with Vertical(id="side"):
            with Widget(id="run-box", classes="box") as box:
                box.border_title = "run"
                yield Rows(id="run")
                yield Rows(id="run-more")
            device = Rows(id="device", classes="box")
            device.border_title = "device"
            yield device
            with Vertical(id="evaluations-box", classes="box") as box:
                box.border_title = "evaluations"
                yield Rows(id="evaluations-head")
                yield Rows(id="evaluations", follow_end=True)
        with Horizontal(id="below"):
            diary = Diary(id="diary", classes="box")
            diary.explain = learn.sentence("metrics/sample") or ""
            yield diary
            log = Rows(id="log", classes="box", follow_end=True)
            log.border_title = "log"
            yield log

    def on_mount(self) -> None:
        # The Linux console has no such glyphs.
        braille = cast("MiniGPTApp", self.app).settings.braille and os.environ.get("TERM") != "linux"
        for chart in self.query(Chart):
            chart.braille = braille
        head = self.query_one("#evaluations-head", Rows)
        head.can_focus = False
        head.show([EVALUATION_HEADER])
        if not in_view(self.app.focused):
            self.focus_main()

    def focus_main(self) -> None:
        charts = self.query_one("#charts")
        self.query_one("#chart-1" if in_view(charts) else "#run").focus()

    def forget(self) -> None:
        """Another run is to be shown."""
        self._logged, self._evaluated, self._charts_due = None, -1, 0.0

    def hurry(self) -> None:
        """Draw the charts at the next occasion, whatever they cost."""
        self._charts_due = 0.0
        self._logged = None

    def show(self, history: RunHistory, view: View, ui: UIState, fresh: bool, curable: Notice | None = None) -> None:
        """Show a run as it stands; unless `fresh`, only what moves by itself. `curable` is what the cure key is for."""
        self._place(ui)
        self._show_run(history, view)
        self._show_log(history, ui, curable)
        if not fresh:
            self._draw_if_due(history, view, ui)
            return
        device = self.query_one("#device", Rows)
        device.show(device_rows(history, device.size.width))
        if self._evaluated != len(history.summary.evaluations):
            self._evaluated = len(history.summary.evaluations)
            self.query_one("#evaluations", Rows).show(evaluation_rows(history))
        self.query_one("#diary", Diary).show(history.samples)
        self._fresh = True
        self._draw_if_due(history, view, ui)

    def _place(self, ui: UIState) -> None:
        below = ui.below if ui.below in VIEWS else "log"
        if not self.has_class(f"-{below}"):
            for name in VIEWS:
                self.set_class(name == below, f"-{name}")

    def _show_run(self, history: RunHistory, view: View) -> None:
        rows = run_rows(history, smoothed_loss(history, view.smoothing or 0.9))
        first, more = self.query_one("#run", Rows), self.query_one("#run-more", Rows)
        if more.display:
            room = max(1, self.query_one("#run-box").size.height)
            more.show(rows[room : 2 * room])
            rows = rows[:room]
        first.show(rows)

    def _show_log(self, history: RunHistory, ui: UIState, curable: Notice | None) -> None:
        chosen = ui.log_filter if ui.log_filter in LOG_FILTERS else "all"
        if self._logged == (history.logged, chosen, curable):
            return
        self._logged = (history.logged, chosen, curable)
        log = self.query_one("#log", Rows)
        title = "log" if chosen == "all" else f"log: {chosen}"
        if log.border_title != title:
            log.border_title = title
        log.show(log_rows(list(history.log)[-LOG_LINES:], chosen, curable))

    def _draw_if_due(self, history: RunHistory, view: View, ui: UIState) -> None:
        now = time.monotonic()
        if not self._fresh or now < self._charts_due:
            return
        spent = time.thread_time()
        position = CHARTS.index(ui.chart) if ui.chart in CHARTS else 0
        names = [CHARTS[position], CHARTS[(position + 1) % len(CHARTS)], "grad_norm", "tokens_per_s"]
        for number, name in enumerate(names, start=1):
            chart = self.query_one(f"#chart-{number}", Chart)
            if chart.display and chart.size:
                self._draw(chart, name, history, view, ui)
                # Before the first layout none of them has a size: they are drawn after it.
                self._fresh = False
        cost = time.thread_time() - spent
        self._charts_due = now + min(max(cost / CHART_SHARE, LEAST_WAIT), LONGEST_WAIT)

    def _draw(self, chart: Chart, name: str, history: RunHistory, view: View, ui: UIState) -> None:
        shown = plot(name, history, view)
        chart.tooltip = learn.sentence(f"metrics/{name}_chart")
        if chart.title != shown.title:
            chart.title = shown.title
        chart.log_scale = shown.log or (ui.log_axis and name == "loss")
        ghosts = [ghost for ghost in self.ghosts if ghost.run != history.summary.run]
        series = [*shown.series, *ghost_series(ghosts, name, view.axis, view.smoothing)]
        chart.show(series, x_limits=shown.x_limits, x_format=shown.x_format, message=shown.message)

    def on_rows_selected(self, event: Rows.Selected) -> None:
        """Show a line whole that may be cut on the screen."""
        event.stop()
        self.app.push_screen(message("The whole line", event.row.text.strip()))

    def text_in_focus(self) -> str:
        """Return the text of what has the focus: a line, a sample, or a chart's latest figures."""
        focused = self.app.focused
        if isinstance(focused, Diary):
            return focused.text
        if isinstance(focused, Rows):
            row: Row | None = focused.current
            return row.text.strip() if row else ""
        rows = self.query_one("#run", Rows).rows + self.query_one("#run-more", Rows).rows
        return "\n".join(row.text.rstrip() for row in rows)
