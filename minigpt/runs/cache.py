"""What was made of a run's events, kept beside them, so that a history of millions of steps is read once.

reader = PlacedReader.at(directory / EVENTS, kept.place if kept else None)
if reader.begins_anew:      # nothing was kept, or the events are others now
    ...
"""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from minigpt.events import EventReader, open_file

# Reading less than this anew takes no longer than reading what was kept of it.
WORTH_KEEPING_BYTES = 1 << 20
_FINGERPRINT_BYTES = 4096
_CHECKSUM_BYTES = 16
_LARGEST_BYTES = 1 << 26

Kept = TypeVar("Kept", bound=msgspec.Struct)


class Place(msgspec.Struct, frozen=True):
    """How far a file of events was read, and what tells that it is still that file, at most with more at its end."""

    position: int  # bytes of whole lines
    size: int
    inode: int
    modified: int  # nanoseconds
    fingerprint: bytes  # of the file's beginning, and of what stands before `position`


class PlacedReader(EventReader):
    """An EventReader that can tell its place, and begin at one."""

    begins_anew = True

    @classmethod
    def at(cls, path: Path, place: Place | None) -> PlacedReader:
        """Begin at `place`, if the file is still the one it was told of, else at the beginning. Raises OSError."""
        reader = cls(path)
        file = reader._current_file() if place is not None else None
        if place is not None and file is not None and _still_holds(place, file.fileno()):
            file.seek(place.position)
            reader.begins_anew = False
        return reader

    def place(self) -> Place | None:
        """Return how far this has read; None where there is no file, or it stands in a line too long to believe."""
        if self._file is None or self._discarding:
            return None
        found = os.fstat(self._file.fileno())
        position = self._file.tell() - len(self._partial)
        fingerprint = _fingerprint(self._file.fileno(), position)
        return Place(position, found.st_size, found.st_ino, found.st_mtime_ns, fingerprint)


def _still_holds(place: Place, descriptor: int) -> bool:
    found = os.fstat(descriptor)
    # Only ever appended to: a later date without more in it tells that somebody has edited the file.
    untouched = found.st_mtime_ns == place.modified and found.st_size == place.size
    grown = found.st_size > place.size >= place.position
    return (
        found.st_ino == place.inode
        and (untouched or grown)
        and _fingerprint(descriptor, place.position) == place.fingerprint
    )


def _fingerprint(descriptor: int, position: int) -> bytes:
    head = os.pread(descriptor, min(_FINGERPRINT_BYTES, position), 0)
    tail_bytes = min(_FINGERPRINT_BYTES, position)
    tail = os.pread(descriptor, tail_bytes, position - tail_bytes)
    return _checksum(head + tail)


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECKSUM_BYTES).digest()


def read_kept(path: Path, type: type[Kept]) -> Kept | None:
    """Return what was kept in a file, or None where it is missing, or not what this program writes."""
    try:
        with open_file(path) as file:
            checksum, data = file.read(_CHECKSUM_BYTES), file.read(_LARGEST_BYTES)
        return msgspec.msgpack.decode(data, type=type) if checksum == _checksum(data) else None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError):
        return None


def keep(path: Path, value: Any) -> bool:
    """Write `value` so that it is whole or absent; return whether that worked: where it did not, nothing is lost."""
    beside = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        # Whole numbers beyond 64 bits, which somebody may have written into the events, have no place in it.
        data = msgspec.msgpack.encode(value)
        beside.write_bytes(_checksum(data) + data)
        beside.replace(path)
    except (OSError, OverflowError, RecursionError, UnicodeEncodeError):
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        return False
    return True
