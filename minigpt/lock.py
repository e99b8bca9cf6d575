"""Whether a run is at work, by the kernel's word: a lock held by the process as long as it lives.

with RunLock(directory):
    ...
is_running(directory)
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
import weakref
from pathlib import Path

import msgspec
import psutil

from minigpt.errors import UserError

LOCK = "run.lock"

# Whoever asks `is_running` shares the lock for an instant: a start that meets one tries again.
_LOCK_ATTEMPTS = 200
_LOCK_PAUSE_SECONDS = 0.005
# Start times come from the boot time and clock ticks: the same process is never this far from itself.
_START_TOLERANCE_SECONDS = 2.0


class Owner(msgspec.Struct, frozen=True):
    """The process that holds a run's lock; `started` is its start time (Unix seconds)."""

    pid: int
    started: float
    host: str


class RunLock:
    """The lock that a process holds on a run's directory while it works there.

    The kernel lets go of it when the process ends, in whatever way. Forked children do not keep it.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOCK
        self._descriptor: int | None = None

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

        Raises UserError on a file system that cannot lock.
        """
        assert self._descriptor is None, "already held"
        for _ in range(_LOCK_ATTEMPTS):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            if self._try_lock(descriptor):
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
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None

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
                f"Cannot lock {self._path} ({error.strerror}): put the workspace on a local disk with --workspace DIR."
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
        if lock._descriptor is not None:
            # Not unlocked: that would unlock the parent's, which is the same open file.
            os.close(lock._descriptor)
            lock._descriptor = None
    _held.clear()


os.register_at_fork(after_in_child=_let_go_after_fork)


def is_running(directory: Path) -> bool:
    """Return whether a process holds the directory's lock. Needs no right to write there."""
    try:
        descriptor = os.open(directory / LOCK, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
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


def owner(directory: Path) -> Owner | None:
    """Return who works in the directory, or None where nobody does or it is no process that we can signal."""
    if not is_running(directory):
        return None
    try:
        found = msgspec.json.decode((directory / LOCK).read_bytes(), type=Owner)
        started = psutil.Process(found.pid).create_time()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, ValueError, psutil.Error):
        return None
    ours = found.host == socket.gethostname() and abs(started - found.started) < _START_TOLERANCE_SECONDS
    return found if ours else None
