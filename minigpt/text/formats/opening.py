"""A file's bytes, unpacked where it is packed (gzip, Zstandard), in blocks and never all at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from minigpt.errors import UserError
from minigpt.tasks import NOBODY, Task
from minigpt.text.storage import shown
from minigpt.text.unpacking import ZSTD, Damaged, is_packed, unpacked

# Small enough to stay in the processor's cache between one pass over it and the next.
BLOCK_BYTES = 1 << 18


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

    def refuse_trap(self, done: int, packed: int) -> None:
        """Raise UserError where so few bytes unpack to so many that no text does."""
        limit = max(self.limits.unpacked, packed * self.limits.ratio)
        if done > limit:
            raise UserError(
                f"{self.name} unpacks to more than {limit / 1e6:,.0f} MB from {packed / 1e6:,.1f} MB: "
                "that is no text but a trap (a decompression bomb); leave it out."
            )

    def _unpacked(self, file: BinaryIO) -> Iterator[bytes]:
        total = os.fstat(file.fileno()).st_size
        # By what is in it, not by its name: browsers unpack some downloads and leave the name as it was.
        packed = is_packed(self._read(file, len(ZSTD)))
        file.seek(0)
        if not packed:
            yield from self._raw(file, total, self.block_bytes)
            return
        try:
            yield from self._bounded(unpacked(self._raw(file, total, BLOCK_BYTES)), total)
        except Damaged as error:
            raise UserError(f"{self.name} cannot be unpacked ({error}): fetch it again.") from error

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
        held: list[bytes] = []
        size = done = 0
        for part in parts:
            held.append(part)
            size += len(part)
            done += len(part)
            self.refuse_trap(done, packed)
            if size >= self.block_bytes:
                yield b"".join(held)
                held, size = [], 0
        if held:
            yield b"".join(held)
