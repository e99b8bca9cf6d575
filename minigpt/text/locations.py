"""Bytes by a URL or by a path, unpacked, and lists of such places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin

from minigpt.errors import UserError
from minigpt.text.fetching import NO_LIMITS, Limits, open_url, shown_url
from minigpt.text.formats.encodings import TextFacts, decode
from minigpt.text.storage import shown
from minigpt.text.unpacking import Damaged, unpacked

LIST_BYTES = 16_000_000
_NAME_CHARACTERS = 4000
_READ_BYTES = 1 << 20

# Called often while bytes are awaited; may raise to give up.
Tell = Callable[[], None]


def is_url(location: str) -> bool:
    return "://" in location


def shown_location(location: str) -> str:
    """Return a URL or path as a terminal may see it."""
    return shown_url(location) if is_url(location) else shown(Path(location))


@contextmanager
def open_location(
    location: str, allow_private: bool, tell: Tell, limits: Limits = NO_LIMITS
) -> Iterator[Iterator[bytes]]:
    """Give the unpacked bytes of a URL or a file, block by block.

    Raises UserError when they cannot be read or unpacked, for a URL as `open_url` does.
    """
    name = shown_location(location)
    if is_url(location):
        with open_url(location, allow_private=allow_private, limits=limits, watch=lambda *_: tell()) as reply:
            yield _unpacked(reply.blocks(), name)
        return
    try:
        file = Path(location).expanduser().open("rb")
    except OSError as error:
        raise UserError(f"Cannot read {name} ({error.strerror}): check the path and its permissions.") from error
    with file:
        yield _unpacked(_file_blocks(file, name, tell), name)


def read_list(location: str, allow_private: bool, tell: Tell) -> list[str]:
    """Return the URLs and absolute paths that a list names, one a line; lines that begin with # are left out.

    Raises UserError when it cannot be read or is no such list.
    """
    name = shown_location(location)
    limits = replace(NO_LIMITS, total_bytes=LIST_BYTES, endless_seconds=Limits().endless_seconds)
    data = b""
    with open_location(location, allow_private, tell, limits) as blocks:
        for block in blocks:
            data += block
            if len(data) > LIST_BYTES:
                raise UserError(f"{name} is over {LIST_BYTES / 1e6:.0f} MB, too long for a list of files: check it.")
    lines = [line.strip() for line in "".join(decode([data], name, TextFacts())).splitlines()]
    named = [line for line in lines if line and not line.startswith("#")]
    if not named:
        raise UserError(f"{name} names no files: write a URL or path a line.")
    if named[0].startswith(("<", "{", "[")) or max(map(len, named)) > _NAME_CHARACTERS:
        raise UserError(f"{name} is no list of files: it should hold a URL or path a line.")
    return [_located(line, location) for line in named]


def _located(name: str, list_location: str) -> str:
    if is_url(name):
        return name
    if is_url(list_location):
        # A list from elsewhere must not have us read files of this machine.
        return urljoin(list_location, name)
    return str(Path(list_location).expanduser().absolute().parent / Path(name).expanduser())


def _file_blocks(file: BinaryIO, name: str, tell: Tell) -> Iterator[bytes]:
    try:
        while block := file.read(_READ_BYTES):
            tell()
            yield block
    except OSError as error:
        raise UserError(f"Cannot read {name} ({error.strerror}): is it a file of text?") from error


def _unpacked(blocks: Iterator[bytes], name: str) -> Iterator[bytes]:
    try:
        yield from unpacked(blocks)
    except Damaged as error:
        raise UserError(f"{name} cannot be unpacked ({error}): fetch it again, or leave it out.") from error
