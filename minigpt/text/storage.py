"""Files and folders that appear whole or not at all, whatever is killed and whenever."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minigpt.errors import JobFailed, UserError, printable


def shown(path: Path) -> str:
    """Return a path as a terminal may see it."""
    return printable(str(path), single_line=True)


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: beside, fsync'ed, renamed."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def atomic_directory(final: Path, kept: str = "") -> Iterator[Path]:
    """Build a directory beside `final`; at the end it is fsync'ed and renamed, after an error removed.

    What a killed process left behind is removed by the next one that builds the same directory, but for a directory
    that holds a file of the name `kept`: that one is handed out again, to go on with. Raises FileExistsError when
    `final` came to exist meanwhile, UserError when another process goes on with it and JobFailed when the disk is full.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
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
        _fsync(final.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise JobFailed(
                f"The disk is full: free some space where {shown(final.parent)} lies and start again."
            ) from error
        raise
    finally:
        if not (kept and any(building.rglob(kept))):
            shutil.rmtree(building, ignore_errors=True)
        os.close(lock)


def _locked_leftover(final: Path) -> tuple[Path, int] | None:
    """Return what an earlier process left to go on with, locked; raises UserError when another does that already."""
    for building in _leftovers(final):
        lock = os.open(building, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise UserError(
                f"{shown(final)} is being made by another process: wait for it, or choose another name."
            ) from error
        return building, lock
    return None


def _locked_directory(final: Path) -> tuple[Path, int]:
    """Make the directory to build in, locked for as long as this process lives."""
    while True:
        building = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}.", suffix=".part"))
        building.chmod(0o755)
        try:
            lock = os.open(building, os.O_RDONLY)
        except FileNotFoundError:
            continue
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
    """Return the directories in which `final` was built, but not those of a name that only begins like it."""
    pattern = re.compile(rf"\.{re.escape(final.name)}\.[^.]+\.part")
    return [path for path in final.parent.iterdir() if pattern.fullmatch(path.name)]


def _remove_abandoned(leftover: Path, kept: str) -> bool:
    """Remove a directory unless its builder lives or it holds a file of the name `kept`; return whether it went."""
    try:
        lock = os.open(leftover, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if kept and any(leftover.rglob(kept)):
            return False
        shutil.rmtree(leftover, ignore_errors=True)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(lock)


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
