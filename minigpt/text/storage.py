"""Files and folders that appear whole or not at all, whatever is killed and whenever."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minigpt.errors import JobFailed, UserError, printable
from minigpt.reserve import is_full
from minigpt.workspace import make_folder, new_file, sync_folder


def shown(path: Path) -> str:
    """Return a path as a terminal may see it."""
    return printable(str(path), single_line=True)


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: beside, fsync'ed, renamed, and the folder fsync'ed.

    What a killed process left of the same file is removed.
    """
    for leftover in _leftovers(path):
        _remove_abandoned_file(leftover)
    descriptor, temporary = _locked_file(path)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            # Before the file is closed and with that its lock is gone.
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _locked_file(path: Path) -> tuple[int, Path]:
    """Make the file that is to become `path`, locked for as long as it is open."""
    while True:
        descriptor, temporary = new_file(path.parent, f".{path.name}.", ".part")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError:
            return descriptor, temporary  # a file system that cannot lock: nobody removes anything there
        # Another process may have taken it for a leftover before it was locked.
        if temporary.exists():
            return descriptor, temporary
        os.close(descriptor)


def _remove_abandoned_file(leftover: Path) -> None:
    """Remove a file beside its place, unless whoever writes it lives."""
    try:
        # No link is followed, and nothing waited for.
        descriptor = os.open(leftover, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not leftover.is_dir():
            leftover.unlink(missing_ok=True)
    except OSError:
        pass  # locked, or on a file system that cannot lock, or not ours to remove
    finally:
        os.close(descriptor)


@contextmanager
def atomic_directory(final: Path, kept: str = "") -> Iterator[Path]:
    """Build a directory beside `final`; at the end it is fsync'ed and renamed, after an error removed.

    What a killed process left behind is removed by the next one that builds the same directory, but for a directory
    that holds a file of the name `kept`: that one is handed out again, to go on with. Raises FileExistsError when
    `final` came to exist meanwhile, UserError when another process goes on with it and JobFailed when the disk is full.
    """
    make_folder(final.parent)
    _remove_leftovers(final, kept)
    building, lock = (_locked_leftover(final) if kept else None) or _locked_directory(final)
    try:
        yield building
        fsync_tree(building)
        try:
            building.rename(final)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise FileExistsError(str(final)) from error
            raise
        sync_folder(final.parent)
    except OSError as error:
        if is_full(error):
            raise JobFailed(
                f"The disk is full: free some space where {shown(final.parent)} lies and start again."
            ) from error
        raise
    finally:
        if not (kept and any(building.rglob(kept))):
            shutil.rmtree(building, ignore_errors=True)
        os.close(lock)


@contextmanager
def scratch_directory(name: Path) -> Iterator[Path]:
    """Make a directory beside `name` that is removed at the end; what killed processes left of such ones goes first.

    Choose a name that nothing of the user's can have: what they were building by it would go too.
    """
    _remove_leftovers(name, "")
    scratch, lock = _locked_directory(name)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)


def _locked_leftover(final: Path) -> tuple[Path, int] | None:
    """Return what an earlier process left to go on with, locked; raises UserError when another does that already."""
    for building in _leftovers(final):
        if (lock := _opened(building)) is None:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise UserError(
                f"{shown(final)} is being made by another process: wait for it, or choose another name."
            ) from error
        except OSError:  # a file system that cannot lock: another process may be at work there
            os.close(lock)
            continue
        return building, lock
    return None


def _locked_directory(final: Path) -> tuple[Path, int]:
    """Make the directory to build in, locked for as long as this process lives."""
    while True:
        building = final.parent / f".{final.name}.{secrets.token_hex(4)}.part"
        try:
            building.mkdir()
        except FileExistsError:
            continue
        try:
            lock = os.open(building, os.O_RDONLY)
        except FileNotFoundError:
            continue
        with suppress(OSError):  # a file system that cannot lock: nobody removes anything there
            fcntl.flock(lock, fcntl.LOCK_SH)
        # Another process may have taken it for a leftover before it was locked.
        if building.exists():
            return building, lock
        os.close(lock)


def _remove_leftovers(final: Path, kept: str) -> None:
    for leftover in _leftovers(final):
        _remove_abandoned(leftover, kept)


def remove_all_abandoned(folder: Path) -> int:
    """Remove what killed processes left in a folder, also what could be gone on with; return how many."""
    found = [path for path in folder.glob(".*.part") if path.is_dir()]
    return sum(_remove_abandoned(path, "") for path in found)


def _leftovers(final: Path) -> list[Path]:
    """Return that in which `final` was built, but not what has a name that only begins like it."""
    pattern = re.compile(rf"\.{re.escape(final.name)}\.[^.]+\.part")
    return [path for path in final.parent.iterdir() if pattern.fullmatch(path.name)]


def _remove_abandoned(leftover: Path, kept: str) -> bool:
    """Remove a directory unless its builder lives or it holds a file of the name `kept`; return whether it went."""
    if (lock := _opened(leftover)) is None:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if kept and any(leftover.rglob(kept)):
            return False
        shutil.rmtree(leftover, ignore_errors=True)
        return not leftover.exists()
    except OSError:  # locked, or on a file system that cannot lock
        return False
    finally:
        os.close(lock)


def _opened(leftover: Path) -> int | None:
    """Open a directory that somebody left; None where it is gone, is none, or is kept closed by another."""
    try:
        return os.open(leftover, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None


def fsync_tree(directory: Path) -> None:
    """Bring a folder and all in it to the disk."""
    for path in directory.rglob("*"):
        _fsync(path)
    _fsync(directory)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
