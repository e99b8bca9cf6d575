"""The runs of a workspace: which there are, how each stands, and what one can do with it."""

from __future__ import annotations

import difflib
import re
import threading
from collections.abc import Collection, Iterable
from pathlib import Path

from minigpt.errors import UserError, printable
from minigpt.jobs import EVENTS
from minigpt.runs.changes import delete_run, rename_run
from minigpt.runs.checkpoints import CheckpointFile, checkpoints_of, find_checkpoint, resume_checkpoint
from minigpt.runs.files import (
    BEST,
    CONFIG,
    FINAL,
    INTERRUPTED,
    best_checkpoint,
    disk_use,
    modified,
    note_of,
    set_note,
)
from minigpt.runs.known import KnownRun, summarise
from minigpt.runs.order import SORT_KEYS, matching, sorted_runs
from minigpt.summary import LIVE_STATES, STATES, RunSummary, to_json
from minigpt.workspace import Workspace

__all__ = [
    "BEST",
    "CONFIG",
    "FINAL",
    "INTERRUPTED",
    "LIVE_STATES",
    "SORT_KEYS",
    "STATES",
    "CheckpointFile",
    "RunCache",
    "RunSummary",
    "best_checkpoint",
    "checkpoints_of",
    "delete_run",
    "disk_use",
    "find_checkpoint",
    "find_run",
    "fork_name",
    "list_runs",
    "matching",
    "new_run_name",
    "newest_run",
    "note_of",
    "rename_run",
    "resume_checkpoint",
    "set_note",
    "sorted_runs",
    "summarise",
    "to_json",
]

_MAX_STEM = 90


class RunCache:
    """The runs of a workspace for somebody who asks every few seconds: of each, only what is new is read.

    A run's events are read when their file has another size or date than before; those of a run at work, from where
    the last reading stopped. Several threads may ask.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._known: dict[Path, KnownRun] = {}
        self._lock = threading.Lock()

    def list_runs(self) -> list[RunSummary]:
        """Return all runs, those started last first; raises OSError where the folder of runs cannot be read."""
        with self._lock:
            directories = _directories(self._workspace)
            for gone in self._known.keys() - set(directories):
                self._known.pop(gone).close()
            for directory in directories:
                self._known.setdefault(directory, KnownRun(directory))
            return _newest_first((directory, self._known[directory].summary()) for directory in directories)


def list_runs(workspace: Workspace) -> list[RunSummary]:
    """Return all runs, those started last first."""
    return _newest_first((directory, summarise(directory)) for directory in _directories(workspace))


def _newest_first(found: Iterable[tuple[Path, RunSummary]]) -> list[RunSummary]:
    dated = [(_date(directory, summary), summary) for directory, summary in found]
    dated.sort(key=lambda pair: pair[0], reverse=True)
    return [summary for _, summary in dated]


def find_run(workspace: Workspace, name: str | None) -> Path:
    """Return the directory of the run called `name`, or of the newest; raises UserError when there is none."""
    directories = _directories(workspace)
    if name is None:
        newest = newest_run(workspace)
        if newest is None:
            raise UserError(f"There are no runs in {workspace.checkpoints} yet: start one with `minigpt train`.")
        return newest
    for directory in directories:
        if directory.name == name:
            return directory
    names = [directory.name for directory in directories]
    if not names:
        advice = "there are none yet: start one with `minigpt train`."
    elif near := difflib.get_close_matches(name, names, n=1):
        advice = f"did you mean {printable(near[0], single_line=True)!r}? `minigpt runs list` shows all."
    else:
        advice = "`minigpt runs list` shows those there are."
    raise UserError(f"There is no run {name!r} in {workspace.checkpoints}: {advice}")


def newest_run(workspace: Workspace, states: Collection[str] | None = None) -> Path | None:
    """Return the run started last, of those in one of `states` (by default, all that ever began)."""
    newest: Path | None = None
    newest_date = float("-inf")
    # No run starts after its last event, so most histories need not be read.
    candidates = [(_last_written(directory), directory) for directory in _directories(workspace)]
    for last_written, directory in sorted(candidates, reverse=True):
        if last_written < newest_date:
            break
        summary = summarise(directory)
        begun = summary.state != "empty" and not summary.never_began
        wanted = begun if states is None else summary.state in states
        if wanted and (date := _date(directory, summary)) > newest_date:
            newest, newest_date = directory, date
    return newest


def new_run_name(workspace: Workspace, stem: str) -> str:
    """Return the first free name of the form `stem`-1, `stem`-2, ...; what a name may not have becomes '-'."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:_MAX_STEM] or "run"
    number = 1
    while (workspace.checkpoints / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"


def fork_name(workspace: Workspace, run: str) -> str:
    """Return the first free name for a fork of a run: `run`-fork-1 and so on, for a fork of a fork too."""
    return new_run_name(workspace, re.sub(r"-fork-\d+$", "", run) + "-fork")


def _directories(workspace: Workspace) -> list[Path]:
    if not workspace.checkpoints.is_dir():
        return []
    return sorted(path for path in workspace.checkpoints.iterdir() if path.is_dir() and not path.name.startswith("."))


def _date(directory: Path, summary: RunSummary) -> float:
    if summary.started is not None:
        return summary.started
    # Not the folder's own date where there is another: a note or a cache in it would change that.
    return modified(directory / CONFIG) or modified(directory)


def _last_written(directory: Path) -> float:
    return max(modified(directory), modified(directory / EVENTS), modified(directory / CONFIG))
