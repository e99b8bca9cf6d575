"""Doing what a notice advises: which notice that is, and starting a run with other settings where it takes one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from minigpt.errors import printable
from minigpt.narration import narrate
from minigpt.notices import Cure, cure_of
from minigpt.summary import LIVE_STATES, RunSummary
from tui.widgets.dialogs import Choice

if TYPE_CHECKING:
    from minigpt.start import Started
    from minigpt.workspace import Workspace
    from tui.panes.train import TrainPane

Notice = Mapping[str, Any]
# The question says which run it is.
IN_A_NEW_RUN = ", in a new run"


class Cures:
    """Which notice the Train pane's cure key is for, and what the key does."""

    def __init__(self, pane: TrainPane) -> None:
        self._pane = pane
        self.notice: Notice | None = None
        self._done: set[tuple[object, object]] = set()  # the notices whose cure was carried out

    def forget(self) -> None:
        """Another run is watched from now on."""
        self.notice = None

    def look(self, summary: RunSummary, obeys: bool) -> bool:
        """Find the notice that the key is for; return whether it is another than before."""
        found = curable(summary, obeys)
        if found is not None and _identity(found) in self._done:
            found = None
        changed = found != self.notice
        self.notice = found
        return changed

    def carry_out(self, directory: Path) -> None:
        """Have the run in `directory` do what the notice advises, or offer to start another one that does."""
        notice = self.notice
        cure = cure_of(notice) if notice is not None else None
        if notice is None or cure is None:
            return
        if "settings" in cure:
            self._pane.in_thread(partial(self._find_weights, directory, notice, cure), "cure")
        else:
            self._offer_command(notice, cure)

    def _offer_command(self, notice: Notice, cure: Cure) -> None:
        """Show the whole notice and what would be done, and ask."""
        question = Choice(
            "Do what this notice advises?",
            f"{_words(notice)}\n\n{told(cure)} The run does that at its next step.",
            [("do", "1 Do it", "primary"), ("no", "2 Not now", "default")],
        )

        def answered(answer: str | None) -> None:
            if answer == "do":
                self._done.add(_identity(notice))
                self._pane.action_send(str(cure["command"]), dict(cure["args"]))

        self._pane.app.push_screen(question, answered)

    def _find_weights(self, directory: Path, notice: Notice, cure: Cure) -> None:
        """In a thread: look whether there is something to go on with or weights to begin with, then ask."""
        from minigpt.runs import best_checkpoint, resume_checkpoint
        from minigpt.start import MEMORY_SETTINGS

        saves_memory = cure["settings"].keys() <= MEMORY_SETTINGS
        if saves_memory and self._pane.state not in LIVE_STATES and resume_checkpoint(directory) is not None:
            self._pane.app.call_later(self._offer_to_go_on, directory, notice, cure)
        else:
            self._pane.app.call_later(self._offer_run, directory, notice, cure, best_checkpoint(directory))

    def _offer_to_go_on(self, directory: Path, notice: Notice, cure: Cure) -> None:
        """Offer to go on with the very run, in less memory."""
        question = Choice(
            "Go on in less memory?",
            f"{_words(notice)}\n\n{told(cure)} This run goes on from its last checkpoint with that; its result is the "
            "same but for rounding.",
            [("go", "1 Go on", "primary"), ("no", "2 Not now", "default")],
        )

        def answered(answer: str | None) -> None:
            if answer == "go":
                self._done.add(_identity(notice))
                app = self._pane.minigpt
                app.trainers.begin(start=partial(start_in_less_memory, app.workspace, directory.name, cure))

        self._pane.app.push_screen(question, answered)

    def _offer_run(self, directory: Path, notice: Notice, cure: Cure, checkpoint: Path | None) -> None:
        begin = [("fork", "From best weights", "primary")] if checkpoint is not None else []
        answers = [*begin, ("new", "From scratch", "default"), ("no", "Not now", "default")]
        question = Choice(
            "Start a run with this changed?",
            f"{_words(notice)}\n\n{told(cure)} This run cannot take that on while it trains: a new one begins with it, "
            "and this one stays as it is.",
            [(name, f"{number} {label}", variant) for number, (name, label, variant) in enumerate(answers, 1)],
        )

        def answered(answer: str | None) -> None:
            if answer in ("fork", "new"):
                self._done.add(_identity(notice))
                name = checkpoint.name if answer == "fork" and checkpoint is not None else None
                app = self._pane.minigpt
                app.trainers.begin(start=partial(start_cured, app.workspace, directory, name, cure))

        self._pane.app.push_screen(question, answered)


def _identity(notice: Notice) -> tuple[object, object]:
    return notice.get("time"), notice.get("message")


def curable(summary: RunSummary, obeys: bool) -> Notice | None:
    """Return the latest notice of this session with a cure; a command is one only while somebody `obeys`."""
    for notice in reversed(summary.notices):
        cure = cure_of(notice)
        # What was advised before a resumption is not to be done after it.
        if cure is not None and _time(notice) >= (summary.started or 0):
            return notice if obeys or "settings" in cure else None
    return None


def _time(notice: Notice) -> float:
    time = notice.get("time")
    return time if isinstance(time, (int, float)) else 0.0


def _words(notice: Notice) -> str:
    """Return a notice as the log tells it, whole."""
    return printable(narrate(notice, pointer=False) or "")


def told(cure: Cure) -> str:
    """Return in words what a cure does."""
    label = printable(str(cure["label"]), single_line=True).removesuffix(IN_A_NEW_RUN)
    label = f"{label[:1].upper()}{label[1:]}"
    changed = ", ".join(f"{key} = {value}" for key, value in assignments(cure).items())
    return f"{label}: {printable(changed, single_line=True)}." if changed else f"{label}."


def assignments(cure: Cure) -> dict[str, str]:
    """Return the settings that a cure wants changed, as `--set` takes them, or what its command is told."""
    settings = cure.get("settings") or cure.get("args")
    return {str(key): _as_text(value) for key, value in settings.items()} if isinstance(settings, Mapping) else {}


def _as_text(value: object) -> str:
    if value is None:
        return "auto"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def start_cured(workspace: Workspace, directory: Path, checkpoint: str | None, cure: Cure, more: list[str]) -> Started:
    """Start a new run with a cure's settings, from a checkpoint's weights or (None) from the start.

    Raises UserError or OSError.
    """
    from minigpt.runs import CONFIG, new_run_name
    from minigpt.start import start, start_forked

    changes = _flags(cure)
    if checkpoint is not None:
        return start_forked(workspace, directory.name, checkpoint, [*changes, *more])
    name = new_run_name(workspace, re.sub(r"-\d+$", "", directory.name))
    return start(workspace, name, ["--config", str(directory / CONFIG), "--run", name, *changes, *more])


def start_in_less_memory(workspace: Workspace, run: str, cure: Cure, more: list[str]) -> Started:
    """Go on with a run with a cure's settings, which must be of memory alone; raises UserError or OSError."""
    from minigpt.start import start_resumed

    return start_resumed(workspace, run, [*_flags(cure), *more])


def _flags(cure: Cure) -> list[str]:
    return [part for key, value in assignments(cure).items() for part in ("--set", f"{key}={value}")]
