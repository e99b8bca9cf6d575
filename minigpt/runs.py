"""The runs of a workspace: which there are, how each stands, and which of its checkpoints to take."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from minigpt.errors import UserError, printable
from minigpt.jobs import EVENTS, EventReader, is_running, owner
from minigpt.summary import LIVE_STATES, STATES, RunSummary, to_json
from minigpt.workspace import Workspace

__all__ = [
    "LIVE_STATES",
    "STATES",
    "RunSummary",
    "best_checkpoint",
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


def summarise(directory: Path) -> RunSummary:
    """Return where the run in `directory` stands. What cannot be read becomes a notice in the summary."""
    summary = RunSummary(directory.name)
    try:
        # Asked before reading, so that a process which ends meanwhile is not taken for one that crashed.
        running = is_running(directory)
        _fold_events(directory, summary)
        _settle(directory, summary, running)
    except OSError as error:
        message = f"This run cannot be read ({error.strerror}): look at {printable(str(directory))}."
        summary.update({"type": "notice", "severity": "error", "code": "unreadable", "message": message})
    return summary


def list_runs(workspace: Workspace) -> list[RunSummary]:
    """Return all runs, those started last first."""
    dated = [(_date(directory, summary := summarise(directory)), summary) for directory in _directories(workspace)]
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
    """Return the run started last, of those in one of `states` (by default, all but empty ones)."""
    newest: Path | None = None
    newest_date = float("-inf")
    # No run starts after its last event, so most histories need not be read.
    candidates = [(_last_written(directory), directory) for directory in _directories(workspace)]
    for last_written, directory in sorted(candidates, reverse=True):
        if last_written < newest_date:
            break
        summary = summarise(directory)
        wanted = summary.state != "empty" if states is None else summary.state in states
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


def _fold_events(directory: Path, summary: RunSummary) -> None:
    with EventReader(directory / EVENTS) as reader:
        while not reader.at_end:
            for event in reader.poll_outline():
                summary.update(event)
    summary.run = directory.name


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


def _last_written(directory: Path) -> float:
    return max(_modified(directory), _modified(directory / EVENTS))


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _newest_file(paths: Iterable[Path]) -> Path | None:
    return max(paths, key=_modified, default=None)
