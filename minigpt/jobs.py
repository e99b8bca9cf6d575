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

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from minigpt.commands import COMMANDS, Command, CommandReader, send_command
from minigpt.event_writer import EventWriter
from minigpt.events import EVENTS, EventReader
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

LOG = "training.log"

# An acknowledgement may precede the wait for it, but not by more than this much of the file.
_ACKNOWLEDGEMENT_TAIL_BYTES = 1 << 20
_WAIT_INTERVAL_SECONDS = 0.05


def launch(arguments: list[str], directory: Path, log: str = LOG) -> int:
    """Start a process that outlives this one and its terminal; return its pid.

    What it prints is appended to the file `log` in `directory`, which is made if need be.
    Raises OSError when the program cannot be started.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # A pipe that nobody reads is not waited for.
    output = os.open(directory / log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666)
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    finally:
        os.close(output)
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
