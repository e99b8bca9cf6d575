"""Disks of a test's own: small ones that fill, folders that become read-only. All is gone again when the test ends."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of that size (as tmpfs takes it: 6m) on a folder; skips the test where it may not."""
    folder.mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        _unmount(folder)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Have a folder read-only for whoever opens something in it from now on, as after a drive's error."""
    _mount("--bind", str(folder), str(folder))
    try:
        _mount("-o", "remount,bind,ro", str(folder))
        yield
    finally:
        _unmount(folder)


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs the right to mount a file system: {done.stderr.strip()}")


def _unmount(folder: Path) -> None:
    # Lazily: a process that still has a file open there must not keep it.
    subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Take all room on a disk but `leave` bytes; return the ballast, whose removal gives it back."""
    ballast = folder / "ballast"
    with ballast.open("ab") as file:
        while (free := os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize) > leave:
            # Others may have written meanwhile.
            with suppress(OSError):
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, free - leave)
    return ballast
