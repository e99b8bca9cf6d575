"""What a run tells the world: events for programs, training.log for people, and a heartbeat from a side thread."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from minigpt.jobs import EVENTS, LOG, EventWriter
from minigpt.narration import clock, narrate
from minigpt.notices import Cure
from minigpt.readings import readings
from minigpt.reserve import RESERVE

HEARTBEAT_SECONDS = 10
READINGS_SECONDS = 5
# The lines of the log that wait in memory while it cannot be written; of more, the first are lost.
MAX_UNLOGGED = 1000

Listener = Callable[[dict[str, Any]], None]


class Recorder:
    """Writes the events of one run and passes them to listeners (the progress display), in the order they happen."""

    def __init__(self, directory: Path, device_kind: str, log_every: int, listeners: tuple[Listener, ...] = ()) -> None:
        self.writer = EventWriter(directory / EVENTS, directory / RESERVE)
        self.directory, self.log_path = directory, directory / LOG
        self.device_kind, self.log_every, self.listeners = device_kind, log_every, listeners
        self.phase = "starting"
        self.last_progress = time.time()
        self.on_readings: Callable[[dict[str, Any]], None] | None = None  # called in the side thread
        self._log_error: OSError | None = None
        self._unlogged: deque[str] = deque(maxlen=MAX_UNLOGGED)
        self._closing = threading.Event()
        # Reentrant: a listener may cause an event.
        self._telling = threading.RLock()
        self._logging = threading.Lock()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        self._thread.join()
        self.writer.flush()
        error, lost = self.writer.error, self.writer.unwritten
        if error is not None and lost:
            why = error.strerror or error
            # Those who listen hear it, and so does the file if there is room at the last moment.
            self.notice(
                "error",
                "events-unwritten",
                f"Cannot write {self.directory / EVENTS} ({why}): the last {lost:,} events of the run are lost to "
                "those who read it later. Its checkpoints are not concerned.",
            )
        self.writer.close()

    def event(self, type: str, **fields: Any) -> None:
        """Write one event, log it, and tell the listeners. The run's end tells how many events had to be given up."""
        if type == "end":
            self.writer.make_way()
        if type == "end" and self.writer.dropped:
            fields = {**fields, "events_lost": self.writer.dropped}
        self._write(type, fields, progress=type not in ("phase", "device"))

    def _write(self, type: str, fields: dict[str, Any], progress: bool) -> None:
        event = self.writer.write(type, **fields)
        if progress:
            self.last_progress = event["time"]
        trouble = self._log(event)
        self._tell(event)
        if trouble is not None:
            self.notice("warning", "log-unwritable", trouble, aside=True)

    def notice(
        self, severity: str, code: str, message: str, *, cure: Cure | None = None, aside: bool = False, **more: Any
    ) -> None:
        """Tell the person: what happened, what it means, what to do. Severity is info, warning or error.

        `cure` is the action, where it is one (minigpt.notices). What a side thread has seen is said `aside`: it does
        not count as progress.
        """
        fields = {"severity": severity, "code": code, "message": message, **more}
        self._write("notice", fields if cure is None else {**fields, "cure": cure}, progress=not aside)

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Mark what the run is doing; the phase before comes back at the end."""
        before = self.phase
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def enter(self, phase: str) -> None:
        if phase != self.phase:
            self.phase = phase
            self.event("phase", phase=phase, last_progress=self.last_progress, changed=True)

    def _beat(self) -> None:
        """Show that the process lives, whatever the main thread is busy with: silence then means trouble."""
        beats = 0
        while not self._closing.wait(READINGS_SECONDS):
            beats += 1
            try:
                figures = readings(self.device_kind, self.directory)
            except (psutil.Error, OSError):  # a sensor that is gone for a moment must not end the heartbeat
                figures = {}
            self._tell(self.writer.write("device", rank=0, **figures))
            # The trainer takes it away when it ends, maybe at this moment.
            if (listener := self.on_readings) is not None:
                listener(figures)
            if beats * READINGS_SECONDS % HEARTBEAT_SECONDS == 0:
                self._tell(self.writer.write("phase", phase=self.phase, last_progress=self.last_progress))

    def _tell(self, event: dict[str, Any]) -> None:
        with self._telling:
            for listener in self.listeners:
                listener(event)

    def _log(self, event: dict[str, Any]) -> str | None:
        """Write an event's line, if it has one; return in words that this is no longer possible, once."""
        line = narrate(event, self.log_every)
        if line is None:
            return None
        with self._logging:
            failed_before = self._log_error is not None
            self._append_to_log(f"{clock(event)}  {line}\n")
            error = self._log_error
        # The log repeats what the events hold: that it waits must not stop the training.
        if error is None or failed_before:
            return None
        return f"Cannot write {self.log_path} ({error.strerror or error}): its lines wait in memory."

    def _append_to_log(self, line: str) -> None:
        # Of a line that was cut off the beginning may stand there.
        lead = "" if self._log_error is None else "\n"
        self._unlogged.append(line)
        try:
            # A pipe that nobody reads is not waited for.
            descriptor = os.open(self.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666)
            with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(lead + "".join(self._unlogged))
        except OSError as error:
            self._log_error = error.with_traceback(None)
        else:
            self._log_error = None
            self._unlogged.clear()
