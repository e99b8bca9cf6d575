"""A sweep on the screen: the candidates' loss curves, how far each has come, and which rate to take."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.css.query import NoMatches
from textual.widgets import Input, Label

from minigpt.errors import UserError
from minigpt.planning.halving import Candidate, Record, main_rate, rates_around, read_record
from minigpt.planning.labels import POINTER
from minigpt.presets import load_preset
from tui.corpora.tasks import Work
from tui.sweeps.job import Changes, JobScreen
from tui.widgets.chart import Chart, Series
from tui.widgets.listing import MUTED, Cell, Column, Listing, Row

# As many as there are ways to draw a line that need no colour; the others are faint.
_LINES = 4
_COLOURS = ("primary", "warning", "success", "accent")
# What rises above where all began, as a rate far too high does, would flatten the rest.
_ABOVE_START = 1.15
_STATES = {"waiting": "waiting", "training": "at work", "in": "went on", "out": "out", "diverged": "diverged"}


class SweepScreen(JobScreen):
    """Tries learning rates for a preset on a corpus."""

    ACTION: ClassVar[str] = "sweep"
    TITLE_TEXT: ClassVar[str] = "Sweep of the learning rate"
    DEFAULT_CSS = """
    SweepScreen {
        .asked { height: 1; }
        .asked > Label { color: $foreground-muted; margin-right: 1; }
        .asked > Input { background: $panel; }
        .asked > #rates { width: 3fr; margin-right: 2; }
        .asked > #steps { width: 1fr; }
        .asked > Input:focus { background: $primary 30%; }
        .found { height: 1fr; min-height: 5; }
        .found > Listing { width: 38; }
        &.-slim .found { layout: vertical; }
        &.-slim .found > Listing { width: 1fr; height: 1fr; }
    }
    """
    # Side by side only where the chart then has room.
    HORIZONTAL_BREAKPOINTS = [(0, "-slim"), (70, "-roomy")]  # noqa: RUF012 - as in Screen
    AUTO_FOCUS: ClassVar[str | None] = "Listing"
    record: Record | None = None
    _offered = False

    def body(self) -> ComposeResult:
        with Horizontal(classes="asked"):
            yield Label("rates")
            yield Input(id="rates", compact=True, placeholder="7 around the preset's")
            yield Label("steps")
            yield Input(id="steps", compact=True, placeholder="auto")
        with Horizontal(classes="found"):
            yield Chart("loss")
            columns = [
                Column("rate", right=True),
                Column("step", right=True),
                Column("val loss", right=True),
                Column("", flexible=True),
            ]
            yield Listing(
                columns,
                "no rates yet",
                "The learning rates, and how far each has come. The val loss is that at the end of its last round, "
                "with the rate come down. The chart draws the one under the cursor as a whole line, the others broken.",
            )

    def invitation(self) -> str:
        return "s tries the rates in short runs; after each round the better half goes on."

    # What there is to show

    def read(self, work: Work | None) -> Any:
        config = load_preset(self.preset, self.workspace)
        rate = main_rate(config).partition(".")[2]
        try:
            usual = rates_around(getattr(config.training, rate))
        except UserError:  # a rate of 0: the person names some
            usual = []
        return rate, usual, self._record(work)

    def _record(self, work: Work | None) -> Record | None:
        if work is None:
            return None
        try:
            name = (self.workspace.tasks / work.name / POINTER).read_text().strip()
        except (OSError, UnicodeDecodeError):  # it has not come so far
            return None
        return read_record(self.workspace.data / ".sweeps" / name) if name.isalnum() else None

    def show_found(self, more: Any) -> None:
        rate, usual, self.record = more
        if not self._offered:
            self._offered = True
            rates = [one.rate for one in self.record.candidates] if self.record is not None else usual
            self.query_one("#rates", Input).value = ", ".join(f"{one:g}" for one in rates)
        listing = self.query_one(Listing)
        listing.border_title = rate
        if self.record is not None:
            listing.set_rows(map(self._row, self.record.candidates))
        self._draw()

    def _row(self, candidate: Candidate) -> Row:
        assert self.record is not None
        last = candidate.measures[-1].loss if candidate.measures else None
        best = self.record.recommendation is not None and self.record.recommendation.rate == candidate.rate
        gone = MUTED if candidate.state in ("out", "diverged") else ""
        cells = (
            Cell(f"{candidate.rate:g}", gone),
            Cell(f"{candidate.step:,}", gone),
            Cell("" if last is None else f"{last:.4f}", gone),
            Cell("best" if best else _STATES.get(candidate.state, candidate.state), gone),
        )
        return Row(f"{candidate.rate:g}", cells, marked=best)

    def on_listing_highlighted(self, event: Listing.Highlighted) -> None:
        event.stop()
        self._draw()

    def _draw(self) -> None:
        try:
            chart, listing = self.query_one(Chart), self.query_one(Listing)
        except NoMatches:  # it is being closed
            return
        candidates = self.record.candidates if self.record is not None else []
        chart.show(curves(candidates, listing.key), message="The curves come with the first steps.")

    # What came out

    @property
    def changes(self) -> Changes:
        if self.record is None or self.record.recommendation is None or self.running:
            return {}
        return dict(self.record.recommendation.settings)

    def outcome(self) -> str:
        found = self.record.recommendation if self.record is not None else None
        return found.text if found is not None else ""

    def arguments(self) -> list[str]:
        rates, steps = (self.query_one(f"#{name}", Input).value.strip() for name in ("rates", "steps"))
        asked = ["--rates=" + ",".join(rates.replace(",", " ").split())] if rates else []
        if steps and not steps.isdecimal():
            raise UserError(f"Steps {steps!r} is not a whole number: write one, or leave the field empty.")
        return [*asked, f"--steps={steps}"] if steps else asked

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self.check_action("start", ()):
            self.action_start()

    def action_close(self) -> None:
        if isinstance(self.focused, Input):
            self.query_one(Listing).focus()
        else:
            super().action_close()


def curves(candidates: list[Candidate], first: str | None) -> list[Series]:
    """Return the training losses of all candidates: the one named `first`, then the best, each line of its own kind."""
    drawn = [one for one in candidates if one.curve]
    highest = _ABOVE_START * min((one.curve[0][1] for one in drawn), default=0.0)
    drawn.sort(key=lambda one: (f"{one.rate:g}" != first, -one.step, one.curve[-1][1]))
    series = []
    for number, candidate in enumerate(drawn):
        points = np.array(candidate.curve, dtype=np.float64)
        losses = np.where(points[:, 1] <= highest, points[:, 1], np.nan)
        role, colour = ("line", _COLOURS[number]) if number < _LINES else ("ghost", "foreground")
        series.append(Series(f"{candidate.rate:g}", points[:, 0], losses, role, colour))
    return series
