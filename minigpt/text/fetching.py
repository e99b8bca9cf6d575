"""What a URL holds, fetched so that no server decides how long it takes, how much comes, or where we are led.

with open_url("https://example.org/book.txt", watch=tell) as reply:
    for block in reply.blocks():
        ...
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from math import inf
from typing import TypeVar

from minigpt.errors import UserError
from minigpt.text.connecting import BrokenOff, Connection, Unreachable, shown_url
from minigpt.text.unpacking import Damaged, unpacked
from minigpt.text.waiting import Worker

__all__ = ["NO_LIMITS", "BrokenOff", "Limits", "Reply", "TooLarge", "Unreachable", "open_url", "shown_url"]


@dataclass(frozen=True)
class Limits:
    """How long and how large a download may be, in seconds spent waiting for the server and in bytes."""

    connect_seconds: float = 10.0
    answer_seconds: float = 60.0  # until the last redirect has been followed
    redirects: int = 10
    slow_seconds: float = 30.0  # fewer than slow_bytes in so long are too slow
    slow_bytes: int = 60_000
    total_seconds: float = 4 * 3600.0
    total_bytes: float = 16e9
    unpacked_bytes: float = 64e9
    # A server that does not say how much will come may never end.
    endless_seconds: float = 600.0
    endless_bytes: float = 1e9


DEFAULT_LIMITS = Limits()
NO_LIMITS = Limits(total_seconds=inf, total_bytes=inf, unpacked_bytes=inf, endless_seconds=inf, endless_bytes=inf)

# Called often with the bytes that have come and how many there will be (None: nobody knows); may raise to give up.
Watch = Callable[[int, "int | None"], None]
Result = TypeVar("Result")


class TooLarge(UserError):
    """More than the limits allow."""


def watch_nothing(received: int, total: int | None) -> None:
    """Let a download go on, whatever comes."""


@contextmanager
def open_url(
    url: str, *, allow_private: bool = False, limits: Limits = DEFAULT_LIMITS, watch: Watch = watch_nothing
) -> Iterator[Reply]:
    """Open a URL, following its redirects; addresses in private networks are refused unless `allow_private`.

    Raises Unreachable with the reason in words: a URL that cannot be one, no network, no such server or page, a
    refusal, a circle of redirects; TooLarge when the server says that more will come than the limits allow.
    """
    # Whoever waits gives up a silent server first, and knows better what to say of it.
    silence = limits.slow_seconds + 1
    connection = Connection(url, allow_private, limits.connect_seconds, silence, limits.redirects)
    worker = Worker()
    try:
        yield Reply(connection, worker, limits, watch)
    finally:
        # The thread that reads closes too, after what it may be stuck in: nobody waits for that.
        with suppress(_NotWaited):
            worker.call(connection.close, _do_not_wait)
        worker.close()


class Reply:
    """What a server answers, and its body as it comes.

    `url` is the final one, `redirected` says whether another was asked for. `length` (bytes on the wire) is None and
    the others are "" where the server does not say.
    """

    def __init__(self, connection: Connection, worker: Worker, limits: Limits, watch: Watch) -> None:
        self._connection, self._worker, self._limits, self._watch = connection, worker, limits, watch
        self.length: int | None = None
        self._waited = 0.0  # seconds
        headers = self._call(connection.open, self._check_answer).headers
        self.url = str(connection.url)
        self.redirected = connection.redirected
        length = headers.get("content-length", "")
        self.length = int(length) if length.isdecimal() else None
        self._packing = headers.get("content-encoding", "").strip().lower()
        described = Message()
        described["content-type"] = headers.get("content-type", "")
        described["content-disposition"] = headers.get("content-disposition", "")
        self.media_type = described.get_content_type() if described["content-type"] else ""
        self.charset = described.get_content_charset() or ""
        self.file_name = described.get_filename() or ""
        self._waited = self._pace_from = 0.0
        self._pace_bytes = 0
        self._check_size(self.length or 0, limits.total_bytes)

    def blocks(self) -> Iterator[bytes]:
        """Yield the body in blocks of up to a megabyte, without the packing that was for the way only.

        Raises TooLarge, BrokenOff, and Unreachable when it comes too slowly.
        """
        if self._packing in ("", "identity"):
            yield from self._wire()
            return
        if self._packing not in ("gzip", "x-gzip"):
            raise Unreachable(f"{shown_url(self.url)} comes packed in a way we did not ask for: download it by hand.")
        size = 0
        try:
            for block in unpacked(self._wire()):
                size += len(block)
                self._check_size(size, self._limits.unpacked_bytes, " once it is unpacked")
                yield block
        except Damaged as error:
            raise BrokenOff(f"What {shown_url(self.url)} sends is damaged ({error}): try again.") from error

    def _wire(self) -> Iterator[bytes]:
        while block := self._call(self._connection.read, self._check_pace):
            received = self._connection.received
            self._check_size(received, self._limits.total_bytes)
            if self.length is None:
                self._check_size(received, self._limits.endless_bytes, ", and may never end")
            yield block

    def _call(self, work: Callable[[], Result], check: Callable[[], None]) -> Result:
        """Return what the connection does; the clock runs only here, where we wait for the server."""
        began, before = time.monotonic(), self._waited

        def meanwhile() -> None:
            self._waited = before + time.monotonic() - began
            check()
            self._watch(self._connection.received, self.length)

        result = self._worker.call(work, meanwhile)
        self._waited = before + time.monotonic() - began
        return result

    def _check_answer(self) -> None:
        if self._waited > self._limits.answer_seconds:
            raise Unreachable(
                f"{shown_url(self._connection.url)} does not answer within {self._limits.answer_seconds:g} seconds: "
                "check the URL, or try again later.",
                passing=True,
            )

    def _check_pace(self) -> None:
        limits, received = self._limits, self._connection.received
        total = limits.total_seconds if self.length is not None else limits.endless_seconds
        if self._waited > total:
            raise Unreachable(
                f"{shown_url(self.url)} does not end: after {self._waited / 60:,.0f} minutes {received:,} bytes have "
                "come; download it by hand and add the file."
            )
        if self._waited - self._pace_from < limits.slow_seconds:
            return
        if received - self._pace_bytes < limits.slow_bytes:
            raise Unreachable(
                f"{shown_url(self.url)} is too slow: {received - self._pace_bytes:,} bytes in {limits.slow_seconds:g} "
                "seconds; try again later, or download it by hand and add the file.",
                passing=True,
            )
        self._pace_from, self._pace_bytes = self._waited, received

    def _check_size(self, size: int, limit: float, when: str = "") -> None:
        if size > limit:
            raise TooLarge(
                f"{shown_url(self.url)} holds over {_size(limit)}{when}: download it by hand, look at it, and add the "
                "file."
            )


class _NotWaited(Exception):
    """What was ordered is left to be done."""


def _do_not_wait() -> None:
    raise _NotWaited


def _size(size: float) -> str:
    return f"{size / 1e9:,.0f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
