"""Follows one run from a thread, so that the screen never waits for a file."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from minigpt.errors import JobFailed
from minigpt.history import RunHistory
from minigpt.jobs import is_running
from minigpt.refusals import silenced
from minigpt.start import Started

POLL_SECONDS = 0.5
# What the preview shows should be on the screen before the long reading begins.
PAINT_SECONDS = 1.0
# While a long history is read, which makes many rounds.
LOCK_POLL_SECONDS = 1.0
# After each part of a long history, the screen gets a chance to be painted.
BREATH_SECONDS = 0.005


class Watcher:
    """Reads a run's events as they come; whoever shows them holds `lock` meanwhile.

    `version` changes with whatever there is to show; `loading` is True until all history has been read;
    `trouble` says why a run did not start or cannot be read.
    """

    def __init__(self, directory: Path, started: Started | None = None) -> None:
        self.directory = directory
        self.lock = threading.Lock()
        self.history = RunHistory(directory)
        self.version = 0
        self.loading = True
        self.running = False
        self.disk_full = False  # so that the run cannot tell why it is silent
        self.starting = started is not None
        self.cancelled = False
        self.trouble: str | None = None
        self._started = started
        self._unreadable = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {directory.name}", daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def cancel(self) -> None:
        """End a run that is on its way."""
        if self._started is not None:
            self.cancelled = True
            self._started.cancel()

    def close(self) -> None:
        """Stop reading; returns at once."""
        self._closing.set()

    def _run(self) -> None:
        full = self.history
        self._ask_lock()
        lock_asked = time.monotonic()
        if full.long:
            self._preview()
            self._closing.wait(PAINT_SECONDS)
        more = False
        # A history that is replaced by its preview goes on being read aside until it is complete.
        while not self._closing.is_set():
            # Asked before reading: what the last owner wrote is then sure to be read before its end is told.
            if not more or time.monotonic() - lock_asked >= LOCK_POLL_SECONDS:
                self._ask_lock()
                lock_asked = time.monotonic()
            more = self._read(full)
            if more:
                self._closing.wait(BREATH_SECONDS)
                continue
            with self.lock:
                if self.loading or self.history is not full:
                    self.history, self.loading = full, False
                    self.version += 1
                self._settle()
            self._closing.wait(POLL_SECONDS)
        full.close()

    def _preview(self) -> None:
        try:
            preview = RunHistory.preview(self.directory)
        except OSError:
            return
        with self.lock:
            self.history = preview
            self._settle()
        self.version += 1

    def _read(self, history: RunHistory) -> bool:
        before = (len(history.curves), history.summary.last_event_time)
        try:
            if history is self.history:
                with self.lock:
                    more = history.read()
                    if self.loading:
                        self._settle()
            else:
                more = history.read()
        except OSError as error:
            self._unreadable = True
            self._complain(f"The events of {self.directory.name} cannot be read ({error.strerror}).")
            return False
        if self._unreadable:
            self._unreadable, self.trouble = False, None
        if (len(history.curves), history.summary.last_event_time) != before:
            self.version += 1
        return more

    def _ask_lock(self) -> None:
        # The outcome first: a run that has begun holds its lock by then.
        if self._started is not None and self.starting:
            try:
                self.starting = self._started.outcome() is None
            except JobFailed as error:
                self.starting = False
                gone = f"{self.directory.name} was stopped before it began."
                self._complain(gone if self.cancelled else str(error))
        try:
            running = is_running(self.directory)
        except OSError:  # no lock that we could open: nobody's that we know of
            running = False
        disk_full = running and silenced(self.directory, self.history.summary)
        if (running, disk_full) != (self.running, self.disk_full):
            self.running, self.disk_full = running, disk_full
            self.version += 1

    def _settle(self) -> None:
        summary = self.history.summary
        before = summary.state
        if not self.starting:
            summary.settle(self.running)
        if summary.state != before:
            self.version += 1

    def _complain(self, trouble: str) -> None:
        if self.trouble != trouble:
            self.trouble = trouble
            self.version += 1
