"""The runs of a workspace: which there are, how each stands, and which of its checkpoints to take."""

from __future__ import annotations

import difflib
import re
import shutil
import threading
import uuid
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from minigpt.errors import UserError, printable
from minigpt.jobs import EVENTS, EventReader, RunLock, is_running, owner
from minigpt.summary import LIVE_STATES, STATES, RunSummary, to_json
from minigpt.workspace import Workspace

__all__ = [
    "LIVE_STATES",
    "STATES",
    "RunCache",
    "RunSummary",
    "best_checkpoint",
    "delete_run",
    "find_run",
    "list_runs",
    "new_run_name",
    "newest_run",
    "resume_checkpoint",
    "summarise",
    "to_json",
]

CONFIG = "config.toml"
BEST, FINAL, INTERRUPTED = "best_model.pt", "final_model.pt", "interrupted_checkpoint.pt"
_PERIODIC = "checkpoint_*.pt"
_MAX_STEM = 90
_DELETED = ".deleted-"


def summarise(directory: Path) -> RunSummary:
    """Return where the run in `directory` stands. What cannot be read becomes a notice in the summary."""
    known = _KnownRun(directory)
    try:
        return known.summary()
    finally:
        known.close()


class _KnownRun:
    """What was read of one run so far, so that asking again reads only what came since."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._folded = RunSummary(directory.name)
        self._stamp: tuple[int, ...] | None = None
        self._reader: EventReader | None = None

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def summary(self) -> RunSummary:
        try:
            # Asked before reading, so that a process which ends meanwhile is not taken for one that crashed.
            running = is_running(self.directory)
            stamp = _stamp(self.directory / EVENTS)
            if stamp != self._stamp:
                self._read()
                self._stamp = stamp
            summary = self._copy()
            _settle(self.directory, summary, running)
            if not running:
                self.close()
        except OSError as error:
            self.close()
            self._stamp = None
            summary = self._copy()
            message = f"This run cannot be read ({error.strerror}): look at {printable(str(self.directory))}."
            summary.update({"type": "notice", "severity": "error", "code": "unreadable", "message": message})
        return summary

    def _copy(self) -> RunSummary:
        # What is handed out is not to change while others look at it.
        folded = self._folded
        return replace(folded, _checkpoint_of_path=dict(folded._checkpoint_of_path), _records=list(folded._records))

    def _read(self) -> None:
        if self._reader is None:
            self._reader = EventReader(self.directory / EVENTS)
            self._folded = RunSummary(self.directory.name)
        at_end = False
        while not at_end:
            restarts = self._reader.restarts
            events = self._reader.poll_outline()
            if self._reader.restarts != restarts:
                self._folded = RunSummary(self.directory.name)
            for event in events:
                self._folded.update(event)
            at_end = self._reader.at_end


class RunCache:
    """The runs of a workspace for somebody who asks every few seconds: of each, only what is new is read.

    A run's events are read when their file has another size or date than before; those of a run at work, from where
    the last reading stopped. Several threads may ask.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._known: dict[Path, _KnownRun] = {}
        self._lock = threading.Lock()

    def list_runs(self) -> list[RunSummary]:
        """Return all runs, those started last first; raises OSError where the folder of runs cannot be read."""
        with self._lock:
            directories = _directories(self._workspace)
            for gone in self._known.keys() - set(directories):
                self._known.pop(gone).close()
            for directory in directories:
                self._known.setdefault(directory, _KnownRun(directory))
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


def best_checkpoint(directory: Path) -> Path | None:
    """Return the checkpoint to generate from: the best one known, else the last, else None."""
    for name in (BEST, FINAL, INTERRUPTED):
        if (directory / name).is_file():
            return directory / name
    return _newest_file(directory.glob(_PERIODIC))


def resume_checkpoint(directory: Path) -> Path | None:
    """Return the checkpoint that is furthest on, by the run's events; by the files' dates where these tell nothing."""
    files = {path.name: path for path in directory.glob("*.pt") if path.is_file()}
    # By name: the run may have been moved since, and no event points outside its directory.
    saved = [(event["step"], Path(event["path"]).name) for event in summarise(directory).saved_files()]
    # Of equals the last written.
    told = [(step, order, name) for order, (step, name) in enumerate(saved) if name in files]
    if told:
        return files[max(told)[2]]
    named = [files[name] for name in (BEST, FINAL, INTERRUPTED) if name in files]
    return _newest_file([*named, *directory.glob(_PERIODIC)])


def delete_run(directory: Path) -> None:
    """Remove a run and all its files; raises UserError for one at work and where the files cannot be removed.

    It loses its name first, so that no half-deleted run is ever seen. What a killed deletion left goes too.
    """
    name = printable(directory.name, single_line=True)
    if directory.is_symlink():
        raise UserError(f"The run {name} is a link to {printable(str(directory.readlink()))}: remove it by hand.")
    doomed = directory.with_name(f"{_DELETED}{uuid.uuid4().hex}")
    lock = RunLock(directory)
    try:
        # Held while the name goes, so that nobody begins to train there meanwhile.
        if not lock.acquire():
            raise UserError(
                f"The run {name} is at work: stop it first with `minigpt control {name} stop`, then delete it."
            )
        directory.rename(doomed)
    except OSError as error:
        raise UserError(f"Cannot delete the run {name} ({error.strerror}): nothing was removed.") from error
    finally:
        lock.release()
    for leftover in directory.parent.glob(f"{_DELETED}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if doomed.exists():
        raise UserError(
            f"The run {name} is off the list, but not all its files could be removed: remove {printable(str(doomed))}."
        )


def _settle(directory: Path, summary: RunSummary, running: bool) -> None:
    summary.settle(running)
    # It may have begun between the question and the reading.
    if summary.state == "crashed" and is_running(directory):
        summary.settle(running=True)
    elif summary.state == "empty" and (directory / CONFIG).is_file() and best_checkpoint(directory):
        summary.state = "imported"
    elif running and summary.ended is not None and summary.state not in LIVE_STATES:
        # Either on its way out after the `end`, or resumed and about to write a new `start`.
        holder = owner(directory)
        if holder is not None and holder.started > summary.ended:
            summary.state = "starting"


def _directories(workspace: Workspace) -> list[Path]:
    if not workspace.checkpoints.is_dir():
        return []
    return sorted(path for path in workspace.checkpoints.iterdir() if path.is_dir() and not path.name.startswith("."))


def _date(directory: Path, summary: RunSummary) -> float:
    return _modified(directory) if summary.started is None else summary.started


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _last_written(directory: Path) -> float:
    return max(_modified(directory), _modified(directory / EVENTS))


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _newest_file(paths: Iterable[Path]) -> Path | None:
    return max(paths, key=_modified, default=None)
