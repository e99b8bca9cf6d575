"""A little room on the disk that a run keeps for its last words: a hidden file, given up where nothing else fits.

    reserve = Reserve(directory / RESERVE)
    reserve.fill()          # once more after every `give`, as soon as there is room
    reserve.give()          # the disk is full: room to say so
    reserve.give_all()      # and to say how it ended

A process that is killed leaves the file, and the next one that works there takes it over.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

RESERVE = ".events-reserve"
FULL = (errno.ENOSPC, errno.EDQUOT)
RESERVE_BYTES = 32 << 10
# What is kept back of it for the end. A file system gives room by the page: of two, one is sure to be had.
LAST_BYTES = 8 << 10
LAST_WORDS_BYTES = LAST_BYTES // 2


def is_full(error: OSError | None) -> bool:
    """Return whether an error says that there is no room left."""
    return error is not None and error.errno in FULL


class Reserve:
    """The reserve of one run; its calls come one at a time. What hinders it but a full disk counts as not needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0
        self._wanted = True

    @property
    def short(self) -> bool:
        """Whether less is set aside than should be."""
        return self._wanted and self._size < RESERVE_BYTES

    def fill(self) -> OSError | None:
        """Set aside what is lacking; return the error where the disk is too full for that."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        except OSError as error:
            return self._judge(error)
        try:
            self._size = self._extend(descriptor)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(descriptor, self._size)
            return self._judge(error)
        finally:
            os.close(descriptor)
        return None

    def _extend(self, descriptor: int) -> int:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        size = found.st_size
        while size < RESERVE_BYTES:
            # Neither a hole nor anything that a file system could press together.
            size += os.pwrite(descriptor, os.urandom(RESERVE_BYTES - size), size)
        os.fsync(descriptor)
        return size

    def _judge(self, error: OSError) -> OSError | None:
        if is_full(error):
            return error.with_traceback(None)
        self._wanted = False
        return None

    def give(self) -> bool:
        """Give up all but what is kept for the end; return whether there was anything to give."""
        if self._size <= LAST_BYTES:
            return False
        try:
            os.truncate(self._path, LAST_BYTES)
        except OSError:
            return False
        self._size = LAST_BYTES
        return True

    def give_all(self) -> bool:
        """Remove the file, for good; return whether that gave room."""
        given, self._wanted, self._size = self._size > 0, False, 0
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return False
        return given
