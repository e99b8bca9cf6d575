"""Running long work from the command line: its progress on a terminal, and its directory for the app to watch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from minigpt.cli.common import workspace_of
from minigpt.cli.main import say
from minigpt.errors import printable
from minigpt.narration import size
from minigpt.tasks import EXIT_CANCELLED, Cancelled, TaskProcess, new_task_directory

T = TypeVar("T")
Event = dict[str, Any]


def add_task_argument(parser: argparse.ArgumentParser) -> None:
    """The name of the directory under data/.tasks in which this work is to tell how it goes."""
    parser.add_argument("--task", metavar="NAME", help=argparse.SUPPRESS)


def run_as_task(options: argparse.Namespace, label: str, title: str, work: Callable[[TaskProcess], T]) -> T | int:
    """Do the work where others can watch and stop it; return what it returns, or an exit code when it was stopped."""
    workspace = workspace_of(options)
    workspace.require_writable()
    directory: Path = workspace.task_directory(options.task) if options.task else new_task_directory(workspace, label)
    display = LiveProgress() if sys.stderr.isatty() else PlainProgress()
    try:
        with TaskProcess(directory, title, display.show) as task:
            return work(task)
    except Cancelled:
        display.close()
        say("Stopped. What was whole before is as it was.")
        return EXIT_CANCELLED
    finally:
        display.close()


class PlainProgress:
    """One line for each phase, on stderr."""

    def __init__(self) -> None:
        self._phase = ""

    def show(self, event: Event) -> None:
        if event["type"] == "notice":
            say(printable(str(event["message"])))
        elif event["type"] == "phase" and event["phase"] != self._phase:
            self._phase = event["phase"]
            say(f"{self._phase} …")

    def close(self) -> None:
        """Nothing is left to tidy."""


class LiveProgress:
    """A bar on a terminal, with what is done and what remains."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[amount]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar: TaskID | None = None
        self._phase = ""

    def show(self, event: Event) -> None:
        if event["type"] == "notice":
            self._progress.console.print(printable(str(event["message"])), markup=False, highlight=False)
        if event["type"] != "phase":
            return
        if self._bar is None or event["phase"] != self._phase:
            self._progress.start()
            if self._bar is not None:
                self._progress.remove_task(self._bar)
            self._phase = event["phase"]
            self._bar = self._progress.add_task(printable(self._phase, single_line=True), total=None, amount="")
        self._progress.update(self._bar, total=event.get("total"), completed=event.get("done", 0), amount=amount(event))

    def close(self) -> None:
        self._progress.stop()


def amount(event: Event) -> str:
    """Return how far a phase is, in its own unit."""
    done, total, unit = event.get("done") or 0, event.get("total"), event.get("unit") or ""
    told = [size(int(value)) if unit == "bytes" else f"{value:,.0f}" for value in (done, total) if value is not None]
    return " of ".join(told) + ("" if unit == "bytes" else f" {unit}") if done or total else ""
