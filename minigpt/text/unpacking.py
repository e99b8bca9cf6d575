"""Bytes that come in blocks, unpacked as they come: gzip and Zstandard, in bounded memory whatever they unpack to.

for block in unpacked(blocks):
    ...
for number, line in numbered_lines(unpacked(blocks), longest=1 << 26):
    ...
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from minigpt.errors import UserError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
_PIECE_BYTES = 1 << 20


class Damaged(UserError):
    """Packed bytes that cannot be unpacked."""


class _Stream(Protocol):
    def read1(self, size: int, /) -> bytes: ...


class _BlockFile(io.RawIOBase):
    """A file that reads blocks as they come."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._held:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._held = memoryview(block)
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._held))
        target[:count] = self._held[:count]
        self._held = self._held[count:]
        return count


def unpacked(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what the blocks hold in pieces of up to a megabyte; what is not packed comes as it is.

    Raises Damaged when it cannot be unpacked.
    """
    head, whole = with_head(blocks, len(ZSTD))
    stream = _opened(io.BufferedReader(_BlockFile(whole), _PIECE_BYTES), head)
    while piece := _read(stream):
        yield piece


def with_head(blocks: Iterable[bytes], length: int) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes, at least so many where there are as many, and the blocks with them."""
    remaining = iter(blocks)
    head = b""
    for block in remaining:
        head += block
        if len(head) >= length:
            break
    return head, chain([head], remaining)


def _opened(packed: io.BufferedReader, head: bytes) -> _Stream:
    if head.startswith(GZIP):
        return gzip.GzipFile(fileobj=packed, mode="rb")
    if head.startswith(ZSTD):
        import zstandard

        # Without a limit of our own, windows are at most 128 MB.
        return zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
    return packed


def _read(stream: _Stream) -> bytes:
    if isinstance(stream, io.BufferedReader):
        return stream.read1(_PIECE_BYTES)
    if isinstance(stream, gzip.GzipFile):
        try:
            return stream.read1(_PIECE_BYTES)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise Damaged(f"it is not valid gzip ({error})") from error
    import zstandard

    try:
        return stream.read1(_PIECE_BYTES)
    except zstandard.ZstdError as error:
        raise Damaged(f"it is not valid Zstandard ({error})") from error


def numbered_lines(blocks: Iterable[bytes], longest: int) -> Iterator[tuple[int, bytes | None]]:
    """Yield the lines with their numbers from 1; None in place of a line of more than `longest` bytes."""
    number = 1
    held: list[bytes] = []
    size = 0
    for block in blocks:
        *ended, rest = block.split(b"\n")
        for line in ended:
            size += len(line)
            yield number, b"".join([*held, line]) if size <= longest else None
            number += 1
            held, size = [], 0
        size += len(rest)
        if size > longest:
            held = []
        elif rest:
            held.append(rest)
    if size:
        yield number, b"".join(held) if size <= longest else None
