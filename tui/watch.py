"""Follows one run from a thread, so that the screen never waits for a file."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from minigpt.errors import JobFailed
from minigpt.history import RunHistory
from minigpt.jobs import is_running
from minigpt.start import Started

POLL_SECONDS = 0.5
LOCK_POLL_SECONDS = 1.0
# After each part of a long history, the screen gets a chance to be painted.
BREATH_SECONDS = 0.002


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
        self.starting = started is not None
        self.trouble: str | None = None
        self._started = started
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {directory.name}", daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop reading; returns at once."""
        self._closing.set()

    def _run(self) -> None:
        full = self.history
        if full.long:
            self._preview()
        lock_asked = 0.0
        # A history that is replaced by its preview goes on being read aside until it is complete.
        while not self._closing.is_set():
            if time.monotonic() - lock_asked >= LOCK_POLL_SECONDS:
                lock_asked = time.monotonic()
                self._ask_lock()
            more = self._read(full)
            if more:
                self._closing.wait(BREATH_SECONDS)
                continue
            if self.loading or self.history is not full:
                with self.lock:
                    self.history, self.loading = full, False
                    self._settle()
                self.version += 1
            self._closing.wait(POLL_SECONDS)
        full.close()

    def _preview(self) -> None:
        try:
            preview = RunHistory.preview(self.directory)
        except OSError:
            return
        with self.lock:
            self.history = preview
        self.version += 1

    def _read(self, history: RunHistory) -> bool:
        before = (len(history.curves), history.summary.last_event_time)
        try:
            if history is self.history:
                with self.lock:
                    more = history.read()
                    self._settle()
            else:
                more = history.read()
        except OSError as error:
            self._complain(f"The events of {self.directory.name} cannot be read ({error.strerror}).")
            return False
        if (len(history.curves), history.summary.last_event_time) != before:
            self.version += 1
        return more

    def _ask_lock(self) -> None:
        running = is_running(self.directory)
        if self._started is not None and self.starting:
            try:
                self.starting = self._started.outcome() is None
            except JobFailed as error:
                self.starting = False
                self._complain(str(error))
        if running != self.running:
            self.running = running
            self.version += 1
        with self.lock:
            self._settle()

    def _settle(self) -> None:
        if not self.starting:
            self.history.summary.settle(self.running)

    def _complain(self, trouble: str) -> None:
        if self.trouble != trouble:
            self.trouble = trouble
            self.version += 1
