"""The story of a run as JSON lines, and how it is read while one process appends to it (minigpt.event_writer).

reader = EventReader("events.jsonl")
while True:
    for event in reader.poll():
        print(event["type"])
    time.sleep(0.2)

for event in outline(directory):            # all there is now, without most of the steps
    print(event["type"])
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

EVENTS = "events.jsonl"

# What is taken at a time, and the longest line that is believed.
READ_BYTES = 1 << 20
MAX_LINE_BYTES = 4 << 20
# Twice a step event, so that there is a whole line in it.
_SAMPLE_BYTES = 1024

# How EventWriter begins a step event; lets a reader skip most of a long history without decoding it.
STEP = b'{"type":"step",'

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def encode_line(record: dict[str, Any]) -> bytes:
    """Return `record` as one line of JSON; NaN and infinities become null.

    Undecodable bytes of file names and arguments (lone surrogates, which JSON cannot hold) become \\udc80 and so on.
    """
    try:
        return _encoder.encode(record) + b"\n"
    except UnicodeEncodeError:
        return _encoder.encode(_without_surrogates(record)) + b"\n"


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(item) for item in value]
    return value


def ends_inside_line(file_descriptor: int) -> bool:
    """Return whether the file's last byte is something other than a newline."""
    size = os.fstat(file_descriptor).st_size
    return size > 0 and os.pread(file_descriptor, 1, size - 1) != b"\n"


def not_a_file(path: Path) -> OSError:
    """Return what to raise where a pipe, a device or a folder stands instead of a file."""
    return OSError(errno.EINVAL, "it is no file", str(path))


def sample_lines(path: Path, count: int) -> list[bytes]:
    """Return `count` whole lines at about equal distances over a long file, in order; raises OSError."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        found: list[bytes] = []
        for index in range(count):
            pieces = os.pread(file.fileno(), _SAMPLE_BYTES, size * index // count).split(b"\n")
            # The first piece began before we looked, but for the file's own first line; the last goes on.
            found += pieces[min(index, 1) : -1][:1]
    return found


class EventReader:
    """Reads a file of events as it grows, in bounded memory.

    Only complete lines count: a half-written last one waits for its rest. Lines that are no JSON object, or are
    longer than MAX_LINE_BYTES, are passed over and counted in `skipped`. A file that shrank or was replaced is read
    from its beginning (`restarts` counts that); a missing one has no events yet. `at_end` tells whether the last
    poll came to the end of the file.
    """

    def __init__(self, path: str | Path, from_end: bool = False, tail_bytes: int = 0) -> None:
        """Begin at the file's start or, with `from_end`, at the first line within its last `tail_bytes`."""
        self.skipped = 0
        self.restarts = 0
        self.at_end = False
        self._path = Path(path)
        # Kept open, so that a replacement cannot be given the same inode number.
        self._file: io.FileIO | None = None
        self._partial = bytearray()
        # Inside a line whose beginning was not read or was thrown away.
        self._discarding = False
        if from_end and (file := self._current_file()) is not None:
            position = max(0, os.fstat(file.fileno()).st_size - tail_bytes)
            file.seek(position)
            self._discarding = position > 0 and os.pread(file.fileno(), 1, position - 1) != b"\n"

    def __enter__(self) -> EventReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def poll(self, limit_bytes: int = READ_BYTES) -> list[dict[str, Any]]:
        """Return the events on the lines completed by the next `limit_bytes` of the file.

        An empty list means that there is nothing more only if `at_end`. Raises OSError for a file that may not be read.
        """
        return self.decode(self.poll_lines(limit_bytes))

    def poll_outline(self, limit_bytes: int = READ_BYTES) -> list[dict[str, Any]]:
        """Like `poll`, but leave out steps followed by another step: many times faster on a long history."""
        lines = self.poll_lines(limit_bytes)
        return self.decode(
            [
                line
                for line, next_line in zip(lines, [*lines[1:], b""], strict=False)
                # The brace: a step that was cut short does not stand for the one before it.
                if not (line.startswith(STEP) and next_line.startswith(STEP) and next_line.endswith(b"}"))
            ]
        )

    def decode(self, lines: list[bytes]) -> list[dict[str, Any]]:
        """Return the events on lines that `poll_lines` gave."""
        events = []
        for line in lines:
            try:
                event = _decoder.decode(line) if len(line) <= MAX_LINE_BYTES else None
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                event = None
            if isinstance(event, dict):
                events.append(event)
            elif line.strip():
                self.skipped += 1
        return events

    def poll_lines(self, limit_bytes: int = READ_BYTES) -> list[bytes]:
        """Like `poll`, but return the lines as they stand in the file, for who decodes them otherwise."""
        file = self._current_file()
        chunk = (file.read(limit_bytes) if file is not None else b"") or b""
        self.at_end = len(chunk) < limit_bytes
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = bytes(self._partial) + lines[0]
            if self._discarding:
                del lines[0]
            self._partial.clear()
            self._discarding = False
        if not self._discarding:
            self._partial += rest
            if len(self._partial) > MAX_LINE_BYTES:
                self._partial.clear()
                self._discarding = True
                self.skipped += 1
        return lines

    def _current_file(self) -> io.FileIO | None:
        """Return the open file at the place to read on from; start over where it is not the one we knew."""
        try:
            found: os.stat_result | None = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            found = None
        if self._file is not None:
            known = os.fstat(self._file.fileno())
            if found is None or not os.path.samestat(found, known) or known.st_size < self._file.tell():
                self.close()
                self._partial.clear()
                self._discarding = False
                self.restarts += 1
        if self._file is None and found is not None:
            try:
                self._file = open_file(self._path)
            except FileNotFoundError:
                return None
        return self._file


def open_file(path: Path) -> io.FileIO:
    """Open a file to read; raises OSError, for a pipe or a device too, which might keep us waiting for ever."""
    file = io.FileIO(path, "r", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise not_a_file(path)
    return file


def all_events(directory: Path) -> Iterator[dict[str, Any]]:
    """Yield what a run has told so far. Raises OSError."""
    with EventReader(directory / EVENTS) as reader:
        yield from _until_end(reader, reader.poll)


def outline(directory: Path) -> Iterator[dict[str, Any]]:
    """Yield what a run has told so far, most of its steps left out. Raises OSError."""
    with EventReader(directory / EVENTS) as reader:
        yield from _until_end(reader, reader.poll_outline)


def last_events(directory: Path, tail_bytes: int) -> Iterator[dict[str, Any]]:
    """Yield the last that a run has told: what begins within so many bytes of the end. Raises OSError."""
    with EventReader(directory / EVENTS, from_end=True, tail_bytes=tail_bytes) as reader:
        yield from _until_end(reader, reader.poll)


def _until_end(reader: EventReader, poll: Callable[[], list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    while not reader.at_end:
        yield from poll()
