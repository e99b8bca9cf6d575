"""Whether a run is at work, by the kernel's word: a lock held by the process as long as it lives.

with RunLock(directory):
    ...
is_running(directory)
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
import weakref
from pathlib import Path

import msgspec
import psutil

from minigpt.errors import UserError, printable
from minigpt.events import open_file

LOCK = "run.lock"

# Whoever asks `is_running` shares the lock for an instant: a start that meets one tries again.
_LOCK_ATTEMPTS = 200
_LOCK_PAUSE_SECONDS = 0.005
# Start times come from the boot time and clock ticks: the same process is never this far from itself.
_START_TOLERANCE_SECONDS = 2.0
_SIGNATURE_BYTES = 4096


class Owner(msgspec.Struct, frozen=True):
    """The process that holds a run's lock; `started` is its start time (Unix seconds)."""

    pid: int
    started: float
    host: str


class RunLock:
    """The lock that a process holds on a run's directory while it works there.

    The kernel lets go of it when the process ends, in whatever way. Forked children do not keep it. The directory
    itself is locked too, where that can be: who removes or replaces the file does not let a second process in.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOCK
        self._descriptor: int | None = None
        self._folder: int | None = None

    def __enter__(self) -> RunLock:
        """Raises UserError when another process works in the directory."""
        if not self.acquire():
            holder = owner(self._path.parent)
            who = f"process {holder.pid}" if holder else "another process"
            raise UserError(
                f"Run {self._path.parent.name!r} is already at work ({who}): "
                "wait for it, stop it with `minigpt control RUN stop`, or give this run another name."
            )
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def acquire(self) -> bool:
        """Take the lock and note in it who we are; return False when another process has it.

        Raises UserError on a file system that cannot lock, OSError where the file cannot be made.
        """
        assert self._descriptor is None, "already held"
        for _ in range(_LOCK_ATTEMPTS):
            descriptor = self._open()
            if self._try_lock(descriptor) and self._try_lock_folder():
                self._descriptor = descriptor
                _held.add(self)
                self._sign()
                return True
            os.close(descriptor)
            if is_running(self._path.parent):
                return False
            time.sleep(_LOCK_PAUSE_SECONDS)
        return False

    def release(self) -> None:
        """Let go of the lock, if held. The file stays: to remove it would race with whoever takes it next."""
        if self._descriptor is not None:
            _held.discard(self)
            # Said, and not left to the closing: a child on its way to another program may have a copy.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            if self._folder is not None:
                fcntl.flock(self._folder, fcntl.LOCK_UN)
            self._close()

    def _close(self) -> None:
        for descriptor in (self._descriptor, self._folder):
            if descriptor is not None:
                os.close(descriptor)
        self._descriptor = self._folder = None

    def _open(self) -> int:
        try:
            # Not through a link: what we write into the file would destroy another.
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR):
                raise self._no_file() from error
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise self._no_file()
        return descriptor

    def _no_file(self) -> UserError:
        return UserError(
            f"Cannot lock {printable(str(self._path))}, for it is no file: remove what somebody has put there."
        )

    def _try_lock_folder(self) -> bool:
        try:
            descriptor = os.open(self._path.parent, os.O_RDONLY)
        except OSError:  # not ours to read: the file's lock has to do
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            # Some file systems lock files alone.
            return not isinstance(error, BlockingIOError)
        self._folder = descriptor
        return True

    def _try_lock(self, descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Locked, but of use only if it is still the file that others will open.
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except (BlockingIOError, FileNotFoundError):
            return False
        except OSError as error:
            os.close(descriptor)
            raise UserError(
                f"Cannot lock {printable(str(self._path))} ({error.strerror}): put the workspace on a local disk with "
                "--workspace DIR."
            ) from error

    def _sign(self) -> None:
        assert self._descriptor is not None
        started = psutil.Process().create_time()
        signature = msgspec.json.encode(Owner(pid=os.getpid(), started=started, host=socket.gethostname()))
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, signature, 0)
        except OSError:
            pass  # A full disk: we hold the lock all the same, only nobody can look up our pid.


_held: weakref.WeakSet[RunLock] = weakref.WeakSet()


def _let_go_after_fork() -> None:
    """Close the locks inherited from the parent: a child that outlives it would keep the run "running"."""
    for lock in list(_held):
        # Not unlocked: that would unlock the parent's, which is the same open file.
        lock._close()
    _held.clear()


os.register_at_fork(after_in_child=_let_go_after_fork)


def is_running(directory: Path) -> bool:
    """Return whether a process holds the directory's lock. Needs no right to write there.

    Raises OSError only where this process has too many files open to ask.
    """
    return _is_locked(directory / LOCK) or _is_locked(directory)


def _is_locked(path: Path) -> bool:
    try:
        # Whatever has been put there: a pipe is not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # A file system that cannot lock: nobody holds one.
    finally:
        os.close(descriptor)
    return False


def last_owner(directory: Path) -> Owner | None:
    """Return who took the lock last, at work or not; None where nobody did, or the file does not tell."""
    try:
        with open_file(directory / LOCK) as file:
            return msgspec.json.decode(file.read(_SIGNATURE_BYTES) or b"", type=Owner)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return None


def owner(directory: Path) -> Owner | None:
    """Return who works in the directory, or None where nobody does or it is no process that we can signal."""
    found = last_owner(directory) if is_running(directory) else None
    try:
        started = psutil.Process(found.pid).create_time() if found else 0.0
    except (ValueError, OverflowError, psutil.Error):
        return None
    if found is None:
        return None
    ours = found.host == socket.gethostname() and abs(started - found.started) < _START_TOLERANCE_SECONDS
    return found if ours else None
