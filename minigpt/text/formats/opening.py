"""A file's bytes, unpacked where it is packed (gzip, Zstandard), in blocks and never all at once."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from minigpt.errors import UserError
from minigpt.tasks import NOBODY, Task
from minigpt.text.storage import shown

# Small enough to stay in the processor's cache between one pass over it and the next.
BLOCK_BYTES = 1 << 18
GZIP = b"\x1f\x8b"
ZSTANDARD = b"\x28\xb5\x2f\xfd"

# Zstandard makes up to 32,000 bytes of one, and all that a call makes is in memory at once.
_ZSTANDARD_BYTES = 1 << 12
_GZIP_BYTES = 1 << 18


@dataclass(frozen=True)
class Limits:
    """What is too large to be read. A line or a row that is longer is passed over; a file is refused.

    `line`, `field` and `document` in characters: a line of a file, a field of CSV, a text that is cut in several.
    `whole` and `page` in bytes: JSON (or packed Parquet) and HTML, which are read in one piece. A packed file may
    unpack to `unpacked` bytes, or `ratio` times its size where that is more.
    """

    line: int = 64 << 20
    field: int = 16 << 20
    document: int = 16_000_000
    whole: int = 256 << 20
    page: int = 32 << 20
    unpacked: int = 1 << 30
    ratio: int = 200


LIMITS = Limits()


@dataclass(frozen=True)
class Opening:
    """How a file is read: `on_bytes` gets every block as it lies on the disk, the task hears how many there were."""

    path: Path
    limits: Limits = LIMITS
    task: Task = NOBODY
    on_bytes: Callable[[bytes], object] | None = None
    block_bytes: int = BLOCK_BYTES

    @property
    def name(self) -> str:
        return shown(self.path)

    def blocks(self) -> Iterator[bytes]:
        """Yield the unpacked bytes; raises UserError when the file cannot be read, is damaged or unpacks endlessly."""
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise self._unreadable(error) from error
        with file:
            yield from self._unpacked(file)

    def whole(self, limit: int, advice: str) -> bytes:
        """Return all of the unpacked bytes; raises UserError with advice when they are too many."""
        data = next(replace(self, block_bytes=limit + 1).blocks(), b"")  # in one block: parts would take twice the room
        if len(data) > limit:
            raise UserError(f"{self.name} is larger than {limit / 1e6:,.0f} MB, unpacked: {advice}.")
        return data

    def beginning(self, size: int) -> bytes:
        """Return the first bytes, unpacked."""
        head = b""
        for block in self.blocks():
            head += block
            if len(head) >= size:
                break
        return head[:size]

    def _unpacked(self, file: BinaryIO) -> Iterator[bytes]:
        total = os.fstat(file.fileno()).st_size
        # By what is in it, not by its name: browsers unpack some downloads and leave the name as it was.
        head = self._read(file, len(ZSTANDARD))
        file.seek(0)
        if head.startswith(GZIP):
            yield from self._bounded(_gunzip(self._raw(file, total, _GZIP_BYTES), self.name), total)
        elif head == ZSTANDARD:
            yield from self._bounded(_unzstd(self._raw(file, total, _ZSTANDARD_BYTES), self.name), total)
        else:
            yield from self._raw(file, total, self.block_bytes)

    def _raw(self, file: BinaryIO, total: int, size: int) -> Iterator[bytes]:
        done = 0
        while block := self._read(file, size):
            done += len(block)
            if self.on_bytes is not None:
                self.on_bytes(block)
            self.task.report("reading", done, total, "bytes")
            yield block

    def _read(self, file: BinaryIO, size: int) -> bytes:
        try:
            return file.read(size)
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> UserError:
        return UserError(f"Cannot read {self.name} ({error.strerror}): check the path and its permissions.")

    def _bounded(self, parts: Iterator[bytes], packed: int) -> Iterator[bytes]:
        """Join small parts to blocks; text shrinks to a third or a tenth, so a file of hardly any bytes is a trap."""
        limit = max(self.limits.unpacked, packed * self.limits.ratio)
        held: list[bytes] = []
        size = done = 0
        for part in parts:
            held.append(part)
            size += len(part)
            done += len(part)
            if done > limit:
                raise UserError(
                    f"{self.name} unpacks to more than {limit / 1e6:,.0f} MB from {packed / 1e6:,.1f} MB: "
                    "that is no text but a trap (a decompression bomb); leave it out."
                )
            if size >= self.block_bytes:
                yield b"".join(held)
                held, size = [], 0
        if held:
            yield b"".join(held)


def _gunzip(blocks: Iterator[bytes], name: str) -> Iterator[bytes]:
    unpacker = _new_gzip()
    begun = False
    try:
        for data in blocks:
            # Members may follow one another, with zeros between them.
            while data := data if begun else data.lstrip(b"\0"):
                begun = True
                yield unpacker.decompress(data, BLOCK_BYTES)
                data = unpacker.unconsumed_tail
                if unpacker.eof:
                    data, unpacker, begun = unpacker.unused_data, _new_gzip(), False
    except zlib.error as error:
        raise _damaged(name, error) from error
    if begun:
        raise _cut_short(name)


def _new_gzip() -> zlib._Decompress:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _unzstd(blocks: Iterator[bytes], name: str) -> Iterator[bytes]:
    import zstandard

    unpacker = zstandard.ZstdDecompressor()
    frame = unpacker.decompressobj()
    begun = False
    try:
        for data in blocks:
            while data:
                begun = True
                yield frame.decompress(data)
                data = frame.unused_data
                if not frame.eof:
                    break
                frame, begun = unpacker.decompressobj(), False
    except zstandard.ZstdError as error:
        raise _damaged(name, error) from error
    if begun:
        raise _cut_short(name)


def _damaged(name: str, error: Exception) -> UserError:
    return UserError(f"{name} cannot be unpacked ({error}): it is damaged; fetch it again.")


def _cut_short(name: str) -> UserError:
    return UserError(f"{name} ends in the middle: it was not fetched whole; fetch it again.")
