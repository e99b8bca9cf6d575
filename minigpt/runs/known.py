"""What is known of one run: its events folded into a summary, corrected by its lock and its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from minigpt.errors import printable
from minigpt.jobs import EVENTS, is_running, owner
from minigpt.runs.cache import WORTH_KEEPING_BYTES, Place, PlacedReader, keep, read_kept
from minigpt.runs.files import CONFIG, best_checkpoint, disk_use, note_of
from minigpt.summary import LIVE_STATES, RunSummary

KEPT = ".digest-summary"
# To be raised with every change of what a summary holds, or of how events are folded into it.
KEPT_VERSION = 2


class _Kept(msgspec.Struct):
    version: int
    place: Place
    summary: RunSummary


def summarise(directory: Path) -> RunSummary:
    """Return where the run in `directory` stands. What cannot be read becomes a notice in the summary."""
    known = KnownRun(directory)
    try:
        return known.summary()
    finally:
        known.close()


class KnownRun:
    """What was read of one run so far, so that asking again reads only what came since."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._folded = RunSummary(directory.name)
        self._stamp: tuple[int, ...] | None = None
        self._reader: PlacedReader | None = None
        self._kept_bytes = 0

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def summary(self) -> RunSummary:
        """Return where the run stands now."""
        try:
            # Asked before reading, so that a process which ends meanwhile is not taken for one that crashed.
            running = is_running(self.directory)
            stamp = _stamp(self.directory / EVENTS)
            if stamp != self._stamp:
                self._read()
                self._stamp = stamp
            summary = self._copy()
            _settle(self.directory, summary, running)
            if not running:
                self.close()
        except OSError as error:
            self.close()
            self._stamp = None
            summary = self._copy()
            message = f"This run cannot be read ({error.strerror}): look at {printable(str(self.directory))}."
            summary.update({"type": "notice", "severity": "error", "code": "unreadable", "message": message})
        summary.disk_bytes, summary.note = disk_use(self.directory), note_of(self.directory)
        return summary

    def _copy(self) -> RunSummary:
        # What is handed out is not to change while others look at it.
        folded = self._folded
        return replace(folded, checkpoint_of_path=dict(folded.checkpoint_of_path), records=list(folded.records))

    def _read(self) -> None:
        if self._reader is None:
            self._open()
        assert self._reader is not None
        at_end = False
        while not at_end:
            restarts = self._reader.restarts
            events = self._reader.poll_outline()
            if self._reader.restarts != restarts:
                self._folded = RunSummary(self.directory.name)
                self._kept_bytes = 0
            for event in events:
                self._folded.update(event)
            at_end = self._reader.at_end
        self._keep()

    def _open(self) -> None:
        """Begin where somebody has stopped before, if that was kept."""
        kept = read_kept(self.directory / KEPT, _Kept)
        if kept is not None and kept.version != KEPT_VERSION:
            kept = None
        self._reader = PlacedReader.at(self.directory / EVENTS, kept.place if kept else None)
        if kept is None or self._reader.begins_anew:
            self._folded, self._kept_bytes = RunSummary(self.directory.name), 0
        else:
            # The run may have another name since.
            self._folded, self._kept_bytes = replace(kept.summary, run=self.directory.name), kept.place.position

    def _keep(self) -> None:
        place = self._reader.place() if self._reader is not None else None
        if place is not None and place.position - self._kept_bytes >= WORTH_KEEPING_BYTES:
            # Not tried again at every look where it cannot be written.
            self._kept_bytes = place.position
            keep(self.directory / KEPT, _Kept(KEPT_VERSION, place, self._folded))


def _settle(directory: Path, summary: RunSummary, running: bool) -> None:
    summary.settle(running)
    # It may have begun between the question and the reading.
    if summary.state == "crashed" and is_running(directory):
        summary.settle(running=True)
    elif summary.state == "empty" and (directory / CONFIG).is_file() and best_checkpoint(directory):
        summary.state = "imported"
    elif running and summary.ended is not None and summary.state not in LIVE_STATES:
        # Either on its way out after the `end`, or resumed and about to write a new `start`.
        holder = owner(directory)
        if holder is not None and holder.started > summary.ended:
            summary.state = "starting"


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ino
