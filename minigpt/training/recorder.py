"""What a run tells the world: events for programs, training.log for people, and a heartbeat from a side thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from minigpt.jobs import EVENTS, LOG, EventWriter
from minigpt.narration import clock, narrate
from minigpt.notices import Cure
from minigpt.readings import readings

HEARTBEAT_SECONDS = 10
READINGS_SECONDS = 5

Listener = Callable[[dict[str, Any]], None]


class Recorder:
    """Writes the events of one run and passes them to listeners (the progress display), in the order they happen."""

    def __init__(self, directory: Path, device_kind: str, log_every: int, listeners: tuple[Listener, ...] = ()) -> None:
        self.writer = EventWriter(directory / EVENTS)
        self.directory, self.log_path = directory, directory / LOG
        self.device_kind, self.log_every, self.listeners = device_kind, log_every, listeners
        self.phase = "starting"
        self.last_progress = time.time()
        self.on_readings: Callable[[dict[str, Any]], None] | None = None  # called in the side thread
        self._log_failed = False
        self._closing = threading.Event()
        # Reentrant: a listener may cause an event.
        self._telling = threading.RLock()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        self._thread.join()
        self.writer.close()

    def event(self, type: str, **fields: Any) -> None:
        """Write one event, log it, and tell the listeners."""
        self._write(type, fields, progress=type not in ("phase", "device"))

    def _write(self, type: str, fields: dict[str, Any], progress: bool) -> None:
        event = self.writer.write(type, **fields)
        if progress:
            self.last_progress = event["time"]
        self._log(event)
        self._tell(event)

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

    def _log(self, event: dict[str, Any]) -> None:
        line = narrate(event, self.log_every)
        if line is None:
            return
        try:
            with self.log_path.open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(f"{clock(event)}  {line}\n")
            self._log_failed = False
        except OSError as error:
            # The log repeats what the events hold: losing a line of it must not stop the training.
            if not self._log_failed:
                self._log_failed = True
                self.notice("warning", "log-unwritable", f"Cannot write {self.log_path} ({error.strerror}).")
