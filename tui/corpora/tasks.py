"""The work on corpora that goes on beside the app: adding and preparing, read anew without reading all of it again.

board = TaskBoard(workspace)
for work in board.look():                  # for a thread
    work.corpus, work.told(width=40)
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minigpt.errors import printable
from minigpt.events import EVENTS, EventReader
from minigpt.jobs import is_alive, is_running
from minigpt.narration import duration, size
from minigpt.tasks import StartedTask, TaskState, task_state
from minigpt.workspace import Workspace
from tui.figures import short

# A task of the app that ended before anybody was told has this file beside its events.
OWED = "owed"
_SAMPLES = 50
_LEAST_SECONDS = 1.0
# How long a process of another app may take before it says its first word.
_STARTING_SECONDS = 30.0


@dataclass(frozen=True)
class Work:
    """A task as a person sees it. `action` is add or prepare; `rate` is in the phase's unit a second."""

    state: TaskState
    rate: float | None = None
    owed: bool = False  # the app started it and has not told how it ended

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def action(self) -> str:
        return self._words[0]

    @property
    def corpus(self) -> str:
        return self._words[1]

    @property
    def _words(self) -> tuple[str, str]:
        title = self.state.title
        if title == self.state.name:  # it has not said its title yet: add-novels-20250101-120000
            action, _, rest = title.partition("-")
            return action, rest.rsplit("-", 2)[0]
        action, _, corpus = title.partition(" ")
        return action, corpus

    @property
    def fraction(self) -> float | None:
        """How much of the phase is done, where that is known."""
        state = self.state
        return min(1.0, state.done / state.total) if state.total else None

    @property
    def doing(self) -> str:
        """Say what it does, in a word and a figure."""
        verb = {"add": "adding", "prepare": "preparing"}.get(self.action, self.action)
        return f"{verb} {self.fraction:.0%}" if self.fraction is not None else f"{verb} …"

    @property
    def amounts(self) -> str:
        """Say how far the phase is, how fast it goes and how long it will take."""
        state = self.state
        parts = []
        if state.total:
            parts.append(f"{_amount(state.done, state.unit)} of {_amount(state.total, state.unit)}")
        elif state.done:
            parts.append(_amount(state.done, state.unit))
        if self.rate:
            parts.append(f"{_amount(self.rate, state.unit)}/s")
            if state.total:
                parts.append(f"{duration(max(0.0, state.total - state.done) / self.rate)} left")
        return ", ".join(parts)


def _amount(count: float, unit: str) -> str:
    if unit == "bytes":
        return size(count)
    return printable(f"{short(round(count)) if count >= 1e4 else round(count)} {unit}".strip(), single_line=True)


class TaskBoard:
    """Knows all tasks of a workspace; of those at work only what is new is read. For one thread at a time."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._followed: dict[str, _Followed] = {}
        self._pids: dict[str, int] = {}

    def started(self, task: StartedTask) -> None:
        """Take note of a task that this app started; how it ends is owed to the person."""
        self._pids[task.directory.name] = task.pid
        (task.directory / OWED).touch()

    def told(self, name: str) -> None:
        """Take note that the person knows how it ended."""
        with suppress(OSError):
            (self.workspace.tasks / name / OWED).unlink(missing_ok=True)

    def look(self) -> list[Work]:
        """Return all tasks, those at work first; what cannot be read is left out."""
        names = set(self._directories())
        for gone in self._followed.keys() - names:
            self._followed.pop(gone).close()
        found = []
        for name in names:
            followed = self._followed.setdefault(name, _Followed(self.workspace.tasks / name))
            with suppress(OSError):
                found.append(followed.look(self._is_starting(followed)))
        return sorted(found, key=lambda work: (work.state.ended, work.name))

    def close(self) -> None:
        for followed in self._followed.values():
            followed.close()

    def _directories(self) -> Iterable[str]:
        with suppress(OSError):
            return [path.name for path in self.workspace.tasks.iterdir() if path.is_dir()]
        return []

    def _is_starting(self, followed: _Followed) -> bool:
        pid = self._pids.get(followed.directory.name)
        if pid is not None:
            return is_alive(pid)
        return not followed.begun and time.time() - followed.made < _STARTING_SECONDS


class _Followed:
    """One task's events, read as they come."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.begun = False
        self.made = 0.0
        with suppress(OSError):
            self.made = directory.stat().st_mtime
        self._reader = EventReader(directory / EVENTS)
        self._state = TaskState(directory.name, directory.name, "starting")
        self._samples: deque[tuple[float, float]] = deque(maxlen=_SAMPLES)

    def close(self) -> None:
        self._reader.close()

    def look(self, starting: bool) -> Work:
        """Return how it stands. Once it has ended nothing is read again, but whether that was told."""
        owed = (self.directory / OWED).exists()
        if not self._state.ended:
            # Asked before reading: what it wrote before it let go is then read.
            running = is_running(self.directory)
            while events := self._reader.poll():
                for event in events:
                    self._take(event)
            if running or starting:
                self._state = replace(self._state, state="running" if running else "starting")
            else:
                self._reader.close()
                self._state = task_state(self.directory)
        return Work(self._state, self._rate(), owed)

    def _take(self, event: dict[str, Any]) -> None:
        kind, state = event.get("type"), self._state
        if kind == "start":
            self.begun = True
            self._state = replace(state, title=str(event.get("title")))
        elif kind == "notice":
            self._state = replace(state, notices=(*state.notices, str(event.get("message"))))
        elif kind == "phase":
            phase, done = str(event.get("phase") or ""), float(event.get("done") or 0)
            if phase != state.phase:
                self._samples.clear()
            self._state = replace(
                state, phase=phase, done=done, total=event.get("total"), unit=str(event.get("unit") or "")
            )
            self._samples.append((float(event.get("last_progress") or event.get("time") or 0), done))

    def _rate(self) -> float | None:
        """Return how much of the phase is done in a second, by the last reports of it."""
        if len(self._samples) < 2:
            return None
        (since, before), (now, done) = self._samples[0], self._samples[-1]
        return (done - before) / (now - since) if now - since >= _LEAST_SECONDS and done > before else None
