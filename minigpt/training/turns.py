"""Taking turns: a run that is to begin when another has ended, and after all that were queued behind that one before.

with Turn(workspace, directory, after) as turn:      # the run is in the queue: it can be seen, and stopped
    turn.wait()                                      # raises Withdrawn when somebody has stopped it
    session.train(turn=turn)
"""

from __future__ import annotations

import fcntl
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from minigpt.config import Config
from minigpt.errors import UserError, printable
from minigpt.events import open_file
from minigpt.jobs import EVENTS, LOCK, CommandReader, EventWriter, RunLock, is_running
from minigpt.presets import to_toml
from minigpt.runs import CONFIG, summarise
from minigpt.start import running_runs
from minigpt.text.storage import write_file
from minigpt.workspace import Workspace, make_folder

LOOK_SECONDS = 0.2
HEARTBEAT_SECONDS = 10.0
EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 3
_QUEUE = ".queue.lock"


class Withdrawn(Exception):
    """Somebody has taken the run out of the queue before it began."""


class Turn:
    """A run's place in the queue behind another. It holds the run's lock from the beginning to the end of the run.

    Of two runs behind the same one, the one that came first is first. With the `config` of a new run, that is kept when
    it comes to nothing.
    """

    def __init__(self, workspace: Workspace, directory: Path, after: Path, config: Config | None = None) -> None:
        self.workspace, self.directory, self.after, self.config = workspace, directory, after, config
        self.lock = RunLock(directory)
        self.behind: list[str] = []
        self._ahead: dict[Path, bytes] = {}
        self._asked_to_stop = self._waiting = self._handed_over = False
        self._resources = ExitStack()

    def __enter__(self) -> Turn:
        """Raises UserError where the run cannot be queued: behind itself, or while it is at work."""
        name = printable(self.directory.name, single_line=True)
        if self.directory == self.after:
            raise UserError(f"The run {name} cannot wait for itself: name another with --after.")
        if self.config is not None and (self.directory / CONFIG).exists():
            raise UserError(f"There is a run {name} already: choose another --run name.")
        self.workspace.require_writable()
        make_folder(self.directory)
        with self._resources, _queue(self.workspace):
            if not self.lock.acquire():
                raise UserError(f"Another process works on the run {name} right now: choose another --run name.")
            self._resources.callback(self.lock.release)
            self.commands = CommandReader(self.directory)
            self._resources.callback(self.commands.close)
            self._before = summarise(self.directory)
            self._ahead = self._those_ahead()
            self.behind = [directory.name for directory in self._ahead]
            self._events = EventWriter(self.directory / EVENTS)
            self._resources.callback(self._events.close)
            self._tell(changed=True)
            self._resources = self._resources.pop_all()
        self._install_signal_handlers()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._signals.close()
        if not self._handed_over and error is not None:
            self._come_to_nothing(error)
        self._resources.close()

    def wait(self) -> None:
        """Return when it is this run's turn; raises Withdrawn when it is stopped before."""
        self._waiting = True
        if self.behind:
            self._notice("info", "queued", f"This run waits for the end of {self.in_words()}.")
        told = time.monotonic()
        while self._has_somebody_ahead():
            self._obey()
            if time.monotonic() - told >= HEARTBEAT_SECONDS:
                told = time.monotonic()
                self._tell()
            time.sleep(LOOK_SECONDS)
        self._obey()
        self._events.write("phase", phase="starting", last_progress=time.time(), changed=True)
        self._waiting = False

    def in_words(self) -> str:
        """Return the names of the runs ahead, or nothing where there are none."""
        return " and ".join(printable(name, single_line=True) for name in self.behind)

    def hand_over(self) -> None:
        """Leave events, commands and signals to the trainer; to be called by who trains, once it tells of itself."""
        self._handed_over = True
        self._events.close()

    def _those_ahead(self) -> dict[Path, bytes]:
        """Return the runs to wait for, each with the signature of the process that works on it."""
        folder = self.workspace.checkpoints
        at_work = {name: summarise(folder / name).queued_behind for name in running_runs(self.workspace)}
        ahead = [name for name, behind in at_work.items() if self.after.name in (name, *behind)]
        # Whoever waits for one that waits goes on waiting when that one is withdrawn.
        ahead += [name for first in ahead for name in at_work[first] if name in at_work]
        others = dict.fromkeys(name for name in ahead if name != self.directory.name)
        return {folder / name: _signature(folder / name) for name in others}

    def _has_somebody_ahead(self) -> bool:
        # One that ended and came back, by another process, has queued behind us or has nothing to do with us.
        self._ahead = {
            directory: signature
            for directory, signature in self._ahead.items()
            if is_running(directory) and _signature(directory) == signature
        }
        return bool(self._ahead)

    def _obey(self) -> None:
        for command in self.commands.poll():
            stop = command.command == "stop"
            why = "" if stop else "it has not begun, and can only be stopped"
            self._events.write(
                "command",
                id=command.id,
                command=command.command,
                args=command.args,
                step=self._before.step,
                done=stop,
                why=why,
            )
            self._asked_to_stop = self._asked_to_stop or stop
        if self._asked_to_stop:
            raise Withdrawn

    def _tell(self, **more: Any) -> None:
        self._events.write("phase", phase="waiting", behind=self.behind, last_progress=time.time(), **more)

    def _notice(self, severity: str, code: str, message: str) -> None:
        self._events.write("notice", severity=severity, code=code, message=message)

    def _come_to_nothing(self, error: BaseException) -> None:
        """Say why there is no training, and leave the run as it was before, or a new one's settings to start it by."""
        if isinstance(error, (Withdrawn, KeyboardInterrupt)):
            reason, exit_code = "taken out of the queue before it began", EXIT_INTERRUPTED
        else:
            reason, exit_code = printable(str(error)), EXIT_BAD_INPUT if isinstance(error, UserError) else EXIT_FAILED
            self._notice("error", "not-started", f"The run could not begin when its turn had come: {reason}")
        if self._before.ended is not None and self._before.exit_code is not None:
            reason, exit_code = self._before.reason or reason, self._before.exit_code
        if self.config is not None and not (self.directory / CONFIG).exists():
            write_file(self.directory / CONFIG, to_toml(self.config).encode())
        self._events.write("end", reason=reason, exit_code=exit_code, step=self._before.step)

    def _install_signal_handlers(self) -> None:
        self._signals = ExitStack()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._signals.callback(signal.signal, number, signal.signal(number, self._on_signal))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # While the queue is watched only a note: the handler may have interrupted the event writer.
        self._asked_to_stop = True
        if not self._waiting and not self._handed_over:
            raise Withdrawn


@contextmanager
def _queue(workspace: Workspace) -> Iterator[None]:
    """Hold the right to join the queue: who is ahead of whom is then never in doubt."""
    with (workspace.checkpoints / _QUEUE).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _signature(directory: Path) -> bytes:
    """Return what the process that holds a run's lock has written into it."""
    try:
        with open_file(directory / LOCK) as file:
            return file.read()
    except OSError:
        return b""
