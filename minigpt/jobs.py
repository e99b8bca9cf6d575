"""The directory through which a detached process and those who watch it speak.

The process that works holds a lock, writes events and obeys commands:

    with RunLock(directory):
        events, commands = EventWriter(directory / EVENTS), CommandReader(directory)
        ...

Whoever watches needs the directory alone; any number may, and none can disturb the work by going away:

    pid = launch([sys.executable, "-m", "minigpt.cli.main", "train"], directory)
    for event in follow(directory, pid=pid):
        ...
    send_command(directory, "stop")
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil

from minigpt.errors import UserError
from minigpt.events import EVENTS, EventReader, EventWriter, encode_line, ends_inside_line
from minigpt.lock import LOCK, Owner, RunLock, is_running, owner

__all__ = [
    "COMMANDS",
    "EVENTS",
    "LOCK",
    "LOG",
    "Command",
    "CommandReader",
    "EventReader",
    "EventWriter",
    "Owner",
    "RunLock",
    "follow",
    "is_alive",
    "is_running",
    "launch",
    "owner",
    "send_command",
    "wait_for",
]

COMMANDS = "commands.jsonl"
LOG = "training.log"

# An acknowledgement may precede the wait for it, but not by more than this much of the file.
_ACKNOWLEDGEMENT_TAIL_BYTES = 1 << 20
_WAIT_INTERVAL_SECONDS = 0.05


class Command(msgspec.Struct, frozen=True):
    """What a watcher asks of the process: `pause`, `stop`, `set` and so on, with `args`, at `time` (Unix seconds)."""

    id: str
    time: float
    by: str
    command: str
    args: dict[str, Any] = {}


def send_command(directory: Path, command: str, args: dict[str, Any] | None = None, by: str = "cli") -> str:
    """Ask the process that works in `directory` for something; return the command's id.

    Whether it was done comes as a `command` event with this id: see `wait_for`.
    Raises UserError where the file of commands cannot be written.
    """
    record = {"id": uuid.uuid4().hex, "time": time.time(), "by": by, "command": command, "args": args or {}}
    line = encode_line(record)
    try:
        # Never writable by everybody, whatever the umask: the reader would refuse it.
        descriptor = os.open(directory / COMMANDS, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o664)
        try:
            if ends_inside_line(descriptor):
                line = b"\n" + line
            # One write, so that two senders cannot interleave.
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UserError(
            f"Cannot send {command!r} by {directory / COMMANDS} ({error.strerror}): "
            "make room or ask for the right to write there, then try again."
        ) from error
    return str(record["id"])


class CommandReader:
    """Reads the commands that arrive after it was made; to be made by the holder of the run's lock.

    What has not the shape of a command is passed over and counted in `skipped`, a command that comes twice is
    returned once. While the file may be written by everybody on the machine, nothing in it is believed and
    `untrusted` is True.
    """

    def __init__(self, directory: Path) -> None:
        self.untrusted = False
        self._path = directory / COMMANDS
        self._reader = EventReader(self._path, from_end=True)
        self._since = time.time()
        self._malformed = 0
        self._seen: deque[str] = deque(maxlen=1000)

    @property
    def skipped(self) -> int:
        return self._reader.skipped + self._malformed

    def close(self) -> None:
        self._reader.close()

    def poll(self) -> list[Command]:
        """Return the commands that came since the last call, oldest first."""
        self.untrusted = self._writable_by_everybody()
        records = self._reader.poll()
        return [] if self.untrusted else [command for record in records if (command := self._accept(record))]

    def _accept(self, record: dict[str, Any]) -> Command | None:
        try:
            command = msgspec.convert(record, Command)
        except msgspec.ValidationError:
            self._malformed += 1
            return None
        # A file that was edited or copied back brings old commands again: an old `stop` must not end this run.
        stale = self._reader.restarts > 0 and command.time < self._since
        if stale or command.id in self._seen:
            return None
        self._seen.append(command.id)
        return command

    def _writable_by_everybody(self) -> bool:
        try:
            return bool(self._path.stat().st_mode & stat.S_IWOTH)
        except FileNotFoundError:
            return False


def launch(arguments: list[str], directory: Path, log: str = LOG) -> int:
    """Start a process that outlives this one and its terminal; return its pid.

    What it prints is appended to the file `log` in `directory`, which is made if need be.
    Raises OSError when the program cannot be started.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / log).open("ab") as output:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # Somebody has to take note of its end, or it stays in the process table as long as we live.
    threading.Thread(target=process.wait, name=f"reaper of {process.pid}", daemon=True).start()
    return process.pid


def is_alive(pid: int) -> bool:
    """Return whether there is a process of that number which has not ended."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def follow(
    directory: Path,
    stop: Callable[[], bool] | None = None,
    interval: float = 0.2,
    pid: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield a run's events from its beginning, then as they come.

    Ends with the `end` event of a run that was seen at work, when nobody holds the lock and all is read, or when
    `stop()` says so. Give the `pid` that `launch` returned to wait for a process that has yet to take the lock.
    """
    caught_up = False
    with EventReader(directory / EVENTS) as reader:
        while stop is None or not stop():
            # Asked before reading: what the last owner wrote is then sure to be read before we leave.
            running = is_running(directory)
            if running:
                pid = None
            starting = pid is not None and psutil.pid_exists(pid)
            for event in reader.poll():
                yield event
                # One in the history may be that of a run which was resumed since.
                if caught_up and event.get("type") == "end":
                    return
            if not reader.at_end:
                continue
            caught_up = True
            if not running and not starting:
                return
            time.sleep(interval)


def wait_for(directory: Path, wanted: str | Callable[[dict[str, Any]], bool], timeout: float) -> dict[str, Any] | None:
    """Return the first recent event that is `wanted`, or None when `timeout` seconds have passed.

    `wanted` is a predicate or the id of a command, whose acknowledgement is then returned: or None at once when
    nobody is left to give it. A predicate should look at `time`: the file's last events are searched too.
    """
    acknowledgement = isinstance(wanted, str)
    deadline = time.monotonic() + timeout
    with EventReader(directory / EVENTS, from_end=True, tail_bytes=_ACKNOWLEDGEMENT_TAIL_BYTES) as reader:
        while True:
            running = is_running(directory)
            for event in reader.poll():
                if isinstance(wanted, str):
                    found = event.get("type") == "command" and event.get("id") == wanted
                else:
                    found = wanted(event)
                if found:
                    return event
            if not reader.at_end:
                continue
            if time.monotonic() >= deadline or (acknowledgement and not running):
                return None
            time.sleep(_WAIT_INTERVAL_SECONDS)
