"""The files in a run's directory: which checkpoints there are, what they take on the disk, and the person's note."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from minigpt.errors import UserError, printable
from minigpt.events import open_file

CONFIG, NOTE = "config.toml", "note.txt"
BEST, FINAL, INTERRUPTED = "best_model.pt", "final_model.pt", "interrupted_checkpoint.pt"
PERIODIC = "checkpoint_*.pt"
MAX_NOTE_LETTERS = 2000
_MAX_NOTE_BYTES = 4 * MAX_NOTE_LETTERS


def best_checkpoint(directory: Path) -> Path | None:
    """Return the checkpoint to generate from: the best one known, else the last, else None."""
    for name in (BEST, FINAL, INTERRUPTED):
        if (directory / name).is_file():
            return directory / name
    return newest_file(directory.glob(PERIODIC))


def newest_file(paths: Iterable[Path]) -> Path | None:
    return max(paths, key=modified, default=None)


def modified(path: Path) -> float:
    """Return when a file was last written to (Unix seconds), or 0 where there is none to be seen."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def disk_use(directory: Path) -> int:
    """Return the bytes of all files in a run, those with two names counted once; what cannot be seen takes none."""
    sizes: dict[tuple[int, int], int] = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                found = Path(folder, name).lstat()
            except OSError:  # gone meanwhile
                continue
            sizes[found.st_dev, found.st_ino] = found.st_size
    return sum(sizes.values())


def note_of(directory: Path) -> str:
    """Return what somebody has noted of a run, or nothing."""
    try:
        with open_file(directory / NOTE) as file:
            return (file.read(_MAX_NOTE_BYTES) or b"").decode("utf-8", "replace").strip()[:MAX_NOTE_LETTERS]
    except OSError:
        return ""


def set_note(directory: Path, text: str) -> None:
    """Write a note beside a run, in place of the one before; without any text the note goes. Raises UserError."""
    text = printable(text).strip()
    name = printable(directory.name, single_line=True)
    if len(text) > MAX_NOTE_LETTERS:
        raise UserError(f"A note has up to {MAX_NOTE_LETTERS:,} letters, this one has {len(text):,}: shorten it.")
    beside = directory / f".{NOTE}.{os.getpid()}.part"
    try:
        if not text:
            (directory / NOTE).unlink(missing_ok=True)
            return
        beside.write_text(text + "\n", encoding="utf-8")
        beside.replace(directory / NOTE)
    except OSError as error:
        raise UserError(
            f"Cannot write the note of the run {name} ({error.strerror}): make room, or the folder writable."
        ) from error
    finally:
        beside.unlink(missing_ok=True)
