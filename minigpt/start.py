"""Starting a trainer as a process of its own, free of the terminal that asked for it.

started = start_new(workspace, "tiny", "sample")
while (outcome := started.outcome()) is None:
    time.sleep(0.1)
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from minigpt.errors import JobFailed, printable
from minigpt.events import EVENTS, EventReader, last_events, open_file
from minigpt.jobs import LOG, is_alive, is_running, launch
from minigpt.runs import fork_name, new_run_name
from minigpt.summary import RunSummary
from minigpt.workspace import Workspace

# What a run may be resumed with: of these settings its result does not depend, but for rounding.
MEMORY_SETTINGS = frozenset({"training.micro_batch_size", "training.gradient_checkpointing"})
_TAIL_BYTES = 1 << 16
_LOG_BYTES, _LOG_LINES = 1 << 16, 5
_TRACEBACK = "Traceback (most recent call last):"


@dataclass
class Started:
    """A trainer on its way."""

    directory: Path
    pid: int
    since: float
    log_before: int = 0  # bytes of the log that an earlier session wrote
    events_before: int | None = None  # bytes of events likewise; where it is not known, their times tell

    @property
    def alive(self) -> bool:
        """Whether the process is there, at work or on its way."""
        return is_alive(self.pid)

    def cancel(self) -> None:
        """End a process that does not train yet: it obeys no commands before. One that does saves everything."""
        try:
            psutil.Process(self.pid).terminate()
        except psutil.Error:
            return

    def outcome(self) -> bool | None:
        """Return True once it trains or waits for its turn, None while that is not known.

        Raises JobFailed, in words, when it has failed.
        """
        gone = not self.alive
        if self._has_begun():
            return True
        if not gone:
            return None
        raise JobFailed(f"The run {self.directory.name} did not start: {self._last_words()}")

    def _has_begun(self) -> bool:
        try:
            new = _TAIL_BYTES
            if self.events_before is not None:
                size = _size(self.directory / EVENTS)
                new = min(new, size - self.events_before if size >= self.events_before else size)
            with EventReader(self.directory / EVENTS, from_end=True, tail_bytes=new) as reader:
                return any(map(self._tells_of_work, reader.poll()))
        except OSError:
            return False

    def _tells_of_work(self, event: dict[str, Any]) -> bool:
        # A fast run has left its start far behind by the time it is asked.
        time = event.get("time")
        told = event.get("type") in ("start", "step") or event.get("phase") == "waiting"
        # By their place in the file, for the clock may have been set back meanwhile.
        return told and (self.events_before is not None or (isinstance(time, (int, float)) and time >= self.since))

    def _last_words(self) -> str:
        """Return what the process said of its end; a new run's directory with nothing but these words goes."""
        try:
            with open_file(self.directory / LOG) as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self.log_before, end - _LOG_BYTES))
                log = file.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            log = []
        with suppress(OSError):
            if [path.name for path in self.directory.iterdir()] == [LOG]:
                shutil.rmtree(self.directory)
        if _TRACEBACK in log:
            # Of an accident, what it was rather than where.
            after = log[len(log) - log[::-1].index(_TRACEBACK) :]
            log = [line for line in after if not line.startswith(" ")][:1]
        # The name alone is for scripts.
        log = [line for line in log if line != self.directory.name][-_LOG_LINES:]
        return printable("\n".join(log)) or "it left no message."


def start(workspace: Workspace, run: str, arguments: Sequence[str]) -> Started:
    """Start `minigpt train` with these arguments on the run of that name; raises UserError or OSError."""
    workspace.require_writable()
    directory = workspace.run_directory(run)
    log_before, events_before = _size(directory / LOG), _size(directory / EVENTS)
    since = time.time()
    program = [sys.executable, "-m", "minigpt.cli.main", "train"]
    pid = launch([*program, *arguments, "--quiet", "--workspace", str(workspace.root)], directory)
    return Started(directory, pid, since, log_before, events_before)


def start_new(workspace: Workspace, preset: str, corpus: str, arguments: Sequence[str] = ()) -> Started:
    """Start a new run of a preset on a corpus, under a name made of both."""
    run = new_run_name(workspace, f"{preset}-{Path(corpus).stem}")
    return start(workspace, run, ["--preset", preset, "--corpus", corpus, "--run", run, *arguments])


def start_resumed(workspace: Workspace, run: str, arguments: Sequence[str] = ()) -> Started:
    """Go on with a run from the furthest of its checkpoints."""
    return start(workspace, run, ["--resume", run, *arguments])


def start_resumed_from(
    workspace: Workspace, run: str, checkpoint: str, name: str, arguments: Sequence[str] = ()
) -> Started:
    """Go on from an earlier checkpoint of a run, by its file's name, in a new run: what came after it stays."""
    file = workspace.checkpoints / run / checkpoint
    return start(workspace, name, ["--resume", str(file), "--run", name, *arguments])


def start_forked(workspace: Workspace, run: str, checkpoint: str, arguments: Sequence[str] = ()) -> Started:
    """Start a new run that begins with the weights of one of a run's checkpoints, settings changed by `arguments`.

    It is named after the run, unless the arguments name it by --run.
    """
    arguments = list(arguments)
    if "--run" in arguments[:-1]:
        name = arguments[arguments.index("--run") + 1]
    else:
        name = fork_name(workspace, run)
        arguments += ["--run", name]
    return start(workspace, name, ["--fork", f"{run}:{checkpoint}", *arguments])


def running_runs(workspace: Workspace) -> list[str]:
    """Return the names of the runs at work, by their locks: the one that wrote last first, those that wait last."""
    try:
        folders = [path for path in workspace.checkpoints.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:  # none yet, or not ours to look into
        return []
    found = [path for path in folders if _is_at_work(path)]
    latest_first = sorted(found, key=lambda path: _changed(path / EVENTS), reverse=True)
    return [path.name for path in sorted(latest_first, key=_waits)]


def training_device(directory: Path) -> str | None:
    """Return the kind of device that a run at work computes on, as far as it has told."""
    history = RunSummary()
    try:
        with EventReader(directory / EVENTS) as reader:
            for event in reader.poll_outline(_TAIL_BYTES):
                history.update(event)
    except OSError:
        return None
    return history.device.split(" ")[0] if history.device else None


def _is_at_work(directory: Path) -> bool:
    try:
        return is_running(directory)
    except OSError:  # a lock that cannot be opened is nobody's
        return False


def _waits(directory: Path) -> bool:
    """Whether a run at work is in the queue: then its last phase tells so, and nothing longer has followed."""
    try:
        told = last_events(directory, _TAIL_BYTES)
        phases = [event.get("phase") for event in told if event.get("type") in ("phase", "start")]
    except OSError:
        return False
    return phases[-1:] == ["waiting"]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
