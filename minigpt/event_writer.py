"""Appends events to a run's file (minigpt.events), whatever becomes of the disk, the folder or the file.

writer = EventWriter("events.jsonl")
writer.write("step", step=1, loss=4.17)
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from minigpt.events import READ_BYTES, STEP, encode_line, ends_inside_line, not_a_file
from minigpt.reserve import LAST_WORDS_BYTES, Reserve, is_full

# Steps may come hundreds of times a second: they wait in memory this long at most, all else is written at once.
FLUSH_SECONDS = 1.0
# What is kept while the disk is full.
MAX_PENDING_BYTES = 8 << 20
# What can be guessed from its neighbours, and so is given up first, in this order.
_SPARE = ((b'{"type":"device",', b'{"type":"phase",'), (STEP,))
# The drive was away: what was opened before that is of no more use.
_GONE = (errno.ESTALE, errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EBADF)


class EventWriter:
    """Appends events to a file; several threads may share one writer, several processes one file.

    A full disk loses nothing at first: events stay in memory and are tried again at every flush. `error` is the
    trouble of the last flush or None, `unwritten` how many events it left waiting, `dropped` how many had to be
    given up because too many waited (old readings first, then old steps). A file that somebody removes
    meanwhile is made again, with all that was in it. Not to be called from a signal handler.

    With a `reserve`, the file that this names gives its room where the disk is full, and `error` says so until it is
    whole again: what is told of that can then be read, and `make_way` has room for the end.
    """

    def __init__(self, path: str | Path, reserve: Path | None = None) -> None:
        """Open or create the file; raises OSError where that is impossible."""
        self._path = Path(path)
        self._reserve = None if reserve is None else Reserve(reserve)
        self.error: OSError | None = None
        self.dropped = 0
        self._pending: list[bytes] = []
        self._last_flush = time.monotonic()
        self._lock = threading.Lock()
        self._descriptor: int | None = _open_to_append(self._path)
        self._folder, self._displaced = self._path.parent.stat(), False
        # Whether the next write must first end a line that somebody, perhaps we, could not finish.
        self._inside_line = ends_inside_line(self._descriptor)
        self.flush()

    @property
    def unwritten(self) -> int:
        """Events that wait in memory because the last flush failed."""
        return len(self._pending) if self.error else 0

    def write(self, type: str, **fields: Any) -> dict[str, Any]:
        """Append one event and return it with its `type` and `time` (Unix seconds)."""
        with self._lock:
            event = {"type": type, "time": time.time(), **fields}
            self._pending.append(encode_line(event))
            if type != "step" or time.monotonic() - self._last_flush > FLUSH_SECONDS:
                self._flush()
        return event

    def flush(self) -> None:
        """Hand everything to the operating system; on failure set `error` and keep what is left."""
        with self._lock:
            self._flush()

    def make_way(self) -> None:
        """See that the next event, the last one, finds room, whatever has to be given up of those that wait for it."""
        with self._lock:
            self._flush()
            if self._reserve is not None and is_full(self.error) and self._reserve.give_all():
                self._give_up(self._pending, [], LAST_WORDS_BYTES)
                self._flush()

    def close(self) -> None:
        """Flush and close; what cannot be written now is lost."""
        with self._lock:
            if self._descriptor is not None:
                self._flush()
                os.close(self._descriptor)
                self._descriptor = None
                if self._reserve is not None:
                    self._reserve.give_all()

    def _flush(self) -> None:
        assert self._descriptor is not None, "write after close"
        self._last_flush = time.monotonic()
        self._open_again_if_gone()
        self._stay_at_path()
        self._write_pending()
        if self._reserve is not None:
            if is_full(self.error) and self._reserve.give():
                self._write_pending()
            if self.error is None and self._reserve.short:
                self.error = self._reserve.fill()
        if self._displaced and self.error is None:
            self.error = OSError(errno.ENOENT, "another folder has taken the place of the run's")
        self._make_room()

    def _write_pending(self) -> None:
        assert self._descriptor is not None
        lead = b"\n" if self._inside_line else b""
        written, self.error = _write_all(self._descriptor, lead + b"".join(self._pending))
        if self.error is None:
            self._pending.clear()
            self._inside_line = False
        elif written >= len(lead):
            self._forget_written(written - len(lead))

    def _open_again_if_gone(self) -> None:
        assert self._descriptor is not None
        if self.error is None or self.error.errno not in _GONE:
            return
        try:
            folder = self._path.parent.stat()
            descriptor = _open_to_append(self._path, 0)
        except OSError:
            return
        with suppress(OSError):
            os.close(self._descriptor)
        self._descriptor, self._inside_line = descriptor, ends_inside_line(descriptor)
        self._folder = folder

    def _stay_at_path(self) -> None:
        """Write where readers look: a file that was removed comes back with all its events, in another we go on."""
        assert self._descriptor is not None
        self._displaced = False
        try:
            if not os.path.samestat(self._path.parent.stat(), self._folder):
                self._displaced = True  # another folder has taken the place of ours, maybe another run's
                return
            if os.path.samestat(self._path.stat(), os.fstat(self._descriptor)):
                return
        except FileNotFoundError:
            if not self._path.parent.is_dir():
                return  # the folder has another name now, or is gone: its file goes with it
            with suppress(OSError):
                _restore(self._descriptor, self._path)
        except OSError:
            return
        try:
            descriptor = _open_to_append(self._path, 0)
        except OSError:
            return
        os.close(self._descriptor)
        self._descriptor, self._inside_line = descriptor, ends_inside_line(descriptor)

    def _forget_written(self, written: int) -> None:
        """Drop the events wholly within the first `written` bytes, and note where in a line the last write stopped."""
        complete = 0
        for line in self._pending:
            # A line that lacks only its newline need not be repeated.
            if written < len(line) - 1:
                break
            written -= len(line)
            complete += 1
        del self._pending[:complete]
        self._inside_line = written != 0

    def _make_room(self) -> None:
        half = len(self._pending) // 2
        self._give_up(self._pending[:half], self._pending[half:], MAX_PENDING_BYTES)

    def _give_up(self, older: list[bytes], recent: list[bytes], most_bytes: int) -> None:
        """Keep so much of what waits: older readings go first, then older steps, then whatever is oldest."""
        kept = older + recent
        size, waiting = sum(map(len, kept)), len(kept)
        for spare in _SPARE:
            if size <= most_bytes:
                break
            older = [line for line in older if not line.startswith(spare)]
            kept = older + recent
            size = sum(map(len, kept))
        while size > most_bytes:
            size -= len(kept.pop(0))
        self._pending = kept
        self.dropped += waiting - len(kept)


def _open_to_append(path: Path, create: int = os.O_CREAT) -> int:
    # A pipe that nobody reads is not waited for.
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | create, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_a_file(path)
    return descriptor


def _restore(descriptor: int, path: Path) -> None:
    """Give a file that was removed while it was open its name again, by a copy; raises OSError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with beside.open("xb") as copy:
            position = 0
            while chunk := os.pread(descriptor, READ_BYTES, position):
                copy.write(chunk)
                position += len(chunk)
        try:
            os.link(beside, path)
        except FileExistsError:  # another writer was quicker
            return
        except OSError:  # a file system without hard links
            beside.rename(path)
    finally:
        beside.unlink(missing_ok=True)


def _write_all(descriptor: int, data: bytes) -> tuple[int, OSError | None]:
    """Write `data`; return how many bytes went out and what stopped the rest."""
    written = 0
    while written < len(data):
        try:
            written += os.write(descriptor, memoryview(data)[written:])
        except OSError as error:
            return written, error
    return written, None
