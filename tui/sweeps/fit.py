"""Fit on the screen: each size that was tried, and the largest that fits."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from minigpt.errors import printable
from minigpt.planning.fit import Fitting, trial_line
from tui.corpora.tasks import Work
from tui.sweeps.job import Changes, JobScreen


class Trials(VerticalScroll, can_focus=True):
    """The trials, one a line."""

    DEFAULT_CSS = (
        "Trials { height: 1fr; min-height: 2; scrollbar-size-vertical: 1; }  Trials > Static { height: auto; }"
    )

    def __init__(self) -> None:
        super().__init__()
        self.explain = (
            "Each line is a number of windows that passed through the network at once, in a process of its own: the "
            "memory that took at its peak, and the speed."
        )

    def compose(self) -> ComposeResult:
        yield Static(markup=False)


class FitScreen(JobScreen):
    """Finds the largest micro-batch that fits, for a preset and, where given, a corpus other than its own."""

    ACTION: ClassVar[str] = "fit"
    TITLE_TEXT: ClassVar[str] = "Fit"
    AUTO_FOCUS: ClassVar[str | None] = "Trials"
    found: Fitting | None = None

    def body(self) -> ComposeResult:
        yield Trials()

    def invitation(self) -> str:
        return "s tries how many windows of text pass through the network at once, with real steps."

    def read(self, work: Work | None) -> Any:
        result = work.state.result if work is not None else None
        if result is None:
            return None
        try:
            return msgspec.convert(result, Fitting)
        except msgspec.ValidationError:  # of another version
            return None

    def show_found(self, more: Any) -> None:
        self.found = more
        lines = [trial_line(trial) for trial in self.found.trials] if self.found is not None else []
        if not lines and self.work is not None:
            lines = list(self.work.state.notices)
        self._say("Trials > Static", Content(printable("\n".join(lines))))

    @property
    def changes(self) -> Changes:
        return dict(self.found.changes) if self.found is not None and not self.running else {}

    def outcome(self) -> str:
        if self.found is None:
            return ""
        told = "  ".join(f"{key.partition('.')[2]} = {value}" for key, value in self.found.changes.items())
        return f"{self.found.text}\n{told}" if told else self.found.text
