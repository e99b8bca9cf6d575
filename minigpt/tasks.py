"""Long work beside training (adding text, preparing it): what it tells those who watch, and how it is stopped.

with TaskProcess(directory, "add corpus novels") as task:
    task.report("reading", done, total, "bytes")      # raises Cancelled once somebody has asked for an end

started = start_task(workspace, "add-novels", ["corpus", "add", "novels", "novels.txt"])
task_state(started.directory)
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from minigpt.errors import JobFailed, UserError, printable
from minigpt.event_writer import EventWriter
from minigpt.events import EVENTS, EventReader
from minigpt.jobs import CommandReader, RunLock, is_alive, is_running, launch
from minigpt.workspace import Workspace

REPORT_SECONDS = 0.2
HEARTBEAT_SECONDS = 10.0
LOG = "task.log"
EXIT_CANCELLED = 3
_KEPT_TASKS = 30
_LOG_BYTES = 1 << 12

Listener = Callable[[dict[str, Any]], None]


class Cancelled(Exception):
    """Somebody has asked the work to end."""


class Task:
    """What long work says of itself. This one has nobody to tell and is never stopped."""

    def report(self, phase: str, done: float = 0, total: float | None = None, unit: str = "") -> None:
        """Tell what is being done and how far it is; raises Cancelled when it is to end. Cheap: call it often."""

    def notice(self, message: str) -> None:
        """Tell something worth knowing, in a sentence."""


NOBODY = Task()


class TaskProcess(Task):
    """Work that others can watch and stop, by the directory through which all of MiniGPT's processes speak.

    Writes the events `start` (title, pid), `phase` (phase, done, total, unit; at least every 10 s), `notice` (message)
    and `end` (reason: done, cancelled or failed; message; exit_code). SIGINT, SIGTERM and the command `stop` end it.
    """

    def __init__(self, directory: Path, title: str, listener: Listener | None = None) -> None:
        self.directory = directory
        self.title = title
        self.result: dict[str, Any] = {}  # what the `end` event says of work that was done
        self._listener = listener
        self._stopping = False
        self._told = 0.0
        self._phase: dict[str, Any] = {"phase": "starting"}
        self._progressed = time.time()
        self._resources = ExitStack()
        self._ended = threading.Event()

    def __enter__(self) -> TaskProcess:
        """Raises UserError when the directory cannot be written or another process works in it."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._resources.enter_context(RunLock(self.directory))
            self._events = EventWriter(self.directory / EVENTS)
        except OSError as error:
            self._resources.close()
            raise UserError(
                f"Cannot write in {printable(str(self.directory))} ({error.strerror}): make it writable."
            ) from error
        self._resources.callback(self._events.close)
        self._commands = CommandReader(self.directory)
        self._resources.callback(self._commands.close)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._resources.callback(signal.signal, number, signal.signal(number, self._on_signal))
        self._write("start", title=self.title, pid=os.getpid())
        heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        heart.start()
        self._resources.callback(heart.join)
        self._resources.callback(self._ended.set)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, (Cancelled, KeyboardInterrupt)):
            self._write("end", reason="cancelled", exit_code=EXIT_CANCELLED, message="Stopped.")
        elif error is not None:
            exit_code = 2 if isinstance(error, UserError) else 1
            message = str(error) if isinstance(error, (UserError, JobFailed)) else f"{type(error).__name__}: {error}"
            self._write("end", reason="failed", exit_code=exit_code, message=message, error=type(error).__name__)
        else:
            self._write("end", reason="done", exit_code=0, **self.result)
        self._resources.close()

    def report(self, phase: str, done: float = 0, total: float | None = None, unit: str = "") -> None:
        now = time.monotonic()
        changed = phase != self._phase["phase"]
        if self._stopping:
            raise Cancelled
        if not changed and now - self._told < REPORT_SECONDS:
            return
        self._told, self._progressed = now, time.time()
        self._phase = {"phase": phase, "done": done, "total": total, "unit": unit}
        self._write("phase", **self._phase, last_progress=self._progressed)
        for command in self._commands.poll():
            known = command.command == "stop"
            self._stopping = self._stopping or known
            why = {} if known else {"why": "this work can only be stopped"}
            self._write("command", id=command.id, command=command.command, done=known, **why)
        if self._stopping:
            raise Cancelled

    def notice(self, message: str) -> None:
        self._write("notice", severity="info", code="task", message=message)

    def _write(self, type: str, **fields: Any) -> None:
        event = self._events.write(type, **fields)
        if self._listener is not None:
            self._listener(event)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stopping:
            raise KeyboardInterrupt  # asked twice: do not wait for the next report
        self._stopping = True

    def _beat(self) -> None:
        """Repeat the phase while nothing is reported, so that silence means trouble."""
        while not self._ended.wait(HEARTBEAT_SECONDS):
            if time.monotonic() - self._told >= HEARTBEAT_SECONDS:
                self._events.write("phase", **self._phase, last_progress=self._progressed)


@dataclass(frozen=True)
class TaskState:
    """What is known of a task by its directory. `state`: starting | running | done | cancelled | failed | lost."""

    name: str
    title: str
    state: str
    phase: str = ""
    done: float = 0.0
    total: float | None = None
    unit: str = ""
    message: str = ""  # how it ended, in words
    error: str = ""  # the kind of a failure
    last_progress: float | None = None  # Unix seconds
    notices: tuple[str, ...] = ()
    result: dict[str, Any] | None = None

    @property
    def ended(self) -> bool:
        return self.state not in ("starting", "running")


def task_state(directory: Path, starting: bool = False) -> TaskState:
    """Read how a task stands; `starting` says that its process is known to be on its way."""
    running = is_running(directory)
    title, end = directory.name, None
    phase: dict[str, Any] = {}
    notices: list[str] = []
    with EventReader(directory / EVENTS) as reader:
        # A long stretch without an event is no work of ours, and nobody waits for its end.
        while events := reader.poll():
            for event in events:
                kind = event.get("type")
                if kind == "start":
                    title, phase, end, notices = str(event.get("title")), {}, None, []
                elif kind == "phase":
                    phase = event
                elif kind == "notice":
                    notices.append(str(event.get("message")))
                elif kind == "end":
                    end = event
    state = str(end.get("reason")) if end else "running" if running else "starting" if starting else "lost"
    message = str(end.get("message") or "") if end else ""
    return TaskState(
        name=directory.name,
        title=title,
        state=state,
        phase=str(phase.get("phase") or ""),
        done=float(phase.get("done") or 0),
        total=phase.get("total"),
        unit=str(phase.get("unit") or ""),
        message=message or ("" if state != "lost" else _last_words(directory)),
        error=str(end.get("error") or "") if end else "",
        last_progress=phase.get("last_progress"),
        notices=tuple(notices),
        result=end if end and state == "done" else None,
    )


@dataclass(frozen=True)
class StartedTask:
    """A task on its way."""

    directory: Path
    pid: int

    def state(self) -> TaskState:
        return task_state(self.directory, starting=is_alive(self.pid))


def start_task(workspace: Workspace, label: str, arguments: list[str]) -> StartedTask:
    """Start `minigpt` with these arguments (a command that takes --task NAME) free of this process and its terminal.

    Raises UserError where the workspace cannot be written, OSError when the program cannot be started.
    """
    workspace.require_writable()
    directory = new_task_directory(workspace, label)
    program = [sys.executable, "-m", "minigpt.cli.main", *arguments, "--workspace", str(workspace.root)]
    pid = launch([*program, "--task", directory.name], directory, LOG)
    return StartedTask(directory, pid)


def new_task_directory(workspace: Workspace, label: str) -> Path:
    """Return a directory for one more task; those that ended long ago are removed."""
    _forget_old(workspace)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    number = 1
    while True:
        directory = workspace.task_directory(f"{label[:60]}-{stamp}" + (f"-{number}" if number > 1 else ""))
        try:
            directory.mkdir(parents=True)
            return directory
        except FileExistsError:
            number += 1


def list_tasks(workspace: Workspace) -> list[TaskState]:
    """Return all tasks that are remembered, the newest first."""
    return [task_state(directory) for directory in _task_directories(workspace)]


def _task_directories(workspace: Workspace) -> list[Path]:
    with suppress(OSError):
        found = [path for path in workspace.tasks.iterdir() if path.is_dir()]
        return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
    return []


def _forget_old(workspace: Workspace) -> None:
    for directory in _task_directories(workspace)[_KEPT_TASKS:]:
        if not is_running(directory):
            shutil.rmtree(directory, ignore_errors=True)


def _last_words(directory: Path) -> str:
    """Return the end of what a process printed that left no other word."""
    with suppress(OSError):
        with (directory / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_BYTES))
            lines = file.read(_LOG_BYTES).decode("utf-8", "replace").strip().splitlines()
        if lines:
            return printable(lines[-1])
    return "It ended without a word: it was killed, or the machine went down. Start it again."
