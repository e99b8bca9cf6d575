"""Bytes that come in blocks, unpacked as they come: gzip and Zstandard, in bounded memory whatever they unpack to.

for block in unpacked(blocks):
    ...
for number, line in numbered_lines(unpacked(blocks), longest=1 << 26):
    ...
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from itertools import chain

from minigpt.errors import UserError

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
_PIECE_BYTES = 1 << 18
# Zstandard makes up to 32,000 bytes of one, and all that a call makes is in memory at once.
_ZSTD_BYTES = 1 << 12


class Damaged(UserError):
    """Packed bytes that cannot be unpacked."""


def is_packed(head: bytes) -> bool:
    """Whether bytes that begin so are packed in a way that `unpacked` knows."""
    return head.startswith((GZIP, ZSTD))


def unpacked(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what the blocks hold in pieces of bounded size; what is not packed comes as it is.

    Raises Damaged when it cannot be unpacked or ends in the middle.
    """
    head, whole = with_head(blocks, len(ZSTD))
    unpack = _gunzip if head.startswith(GZIP) else _unzstd if head.startswith(ZSTD) else iter
    yield from filter(None, unpack(whole))


def with_head(blocks: Iterable[bytes], length: int) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes, at least so many where there are as many, and the blocks with them."""
    remaining = iter(blocks)
    head = b""
    for block in remaining:
        head += block
        if len(head) >= length:
            break
    return head, chain([head], remaining)


def _gunzip(blocks: Iterable[bytes]) -> Iterator[bytes]:
    unpacker = _new_gzip()
    begun = False
    try:
        for data in blocks:
            # Members may follow one another, with zeros between them.
            while data := data if begun else data.lstrip(b"\0"):
                begun = True
                yield unpacker.decompress(data, _PIECE_BYTES)
                data = unpacker.unconsumed_tail
                if unpacker.eof:
                    data, unpacker, begun = unpacker.unused_data, _new_gzip(), False
    except zlib.error as error:
        raise Damaged(f"it is not valid gzip ({error})") from error
    if begun:
        raise _cut_short()


def _new_gzip() -> zlib._Decompress:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _unzstd(blocks: Iterable[bytes]) -> Iterator[bytes]:
    import zstandard

    unpacker = zstandard.ZstdDecompressor()
    frame = unpacker.decompressobj()
    begun = False
    try:
        for data in _slices(blocks, _ZSTD_BYTES):
            while data:
                begun = True
                yield frame.decompress(data)
                data = frame.unused_data
                if not frame.eof:
                    break
                frame, begun = unpacker.decompressobj(), False
    except zstandard.ZstdError as error:
        raise Damaged(f"it is not valid Zstandard ({error})") from error
    if begun:
        raise _cut_short()


def _slices(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    for block in blocks:
        for start in range(0, len(block), size):
            yield block[start : start + size]


def _cut_short() -> Damaged:
    return Damaged("it ends in the middle, so it was not fetched whole")


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
