"""Documents that come as a stream, written as JSONL parts; a killed process goes on from the last whole part.

parts = JsonlParts(folder, "hf:roneneldan/TinyStories ...")
parts.add({"text": "Once upon a time ..."})
parts.rest(state)       # a good moment to close a part: `state` is what the stream needs to go on from here
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from minigpt.errors import JobFailed
from minigpt.readings import free_disk
from minigpt.text.records import read_json
from minigpt.text.storage import shown, write_file

PART_BYTES = 256_000_000
# What stays free, so that the machine remains usable.
SPARE_BYTES = 200_000_000
_CHECK_BYTES = 32_000_000
# A folder that holds it can be gone on with.
PROGRESS = ".progress.json"


class Progress(msgspec.Struct):
    """How far a stream had come at the end of its last whole part."""

    stream: str  # what was being read: another stream cannot go on from here
    columns: list[str] = []
    is_chat: bool = False
    parts: int = 0
    rows: int = 0
    documents: int = 0
    characters: int = 0
    passed: int = 0  # rows without a document
    folded: int = 0  # system messages put in front of the next question
    dropped: int = 0  # system messages with nothing after them
    examples: list[str] = []
    state: dict[str, Any] | None = None


class JsonlParts:
    """Writes part-00000.jsonl, part-00001.jsonl, ... of about PART_BYTES each.

    `progress` counts everything added; a folder that holds whole parts of the same stream is gone on with.
    """

    def __init__(self, folder: Path, stream: str) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._in_part = 0
        self._checked = 0
        self._encoder = msgspec.json.Encoder()
        self.progress = _kept_progress(folder, stream)

    def add(self, line: dict[str, Any]) -> None:
        """Append one document; raises JobFailed when the disk is nearly full."""
        if self._file is None:
            require_room(self._folder, 0)
            self._file = (self._folder / f"part-{self.progress.parts:05}.jsonl").open("wb")
        encoded = self._encode(line) + b"\n"
        self._file.write(encoded)
        self._in_part += len(encoded)
        if self._in_part - self._checked >= _CHECK_BYTES:
            self._checked = self._in_part
            require_room(self._folder, 0)

    def rest(self, state: dict[str, Any]) -> None:
        """Close the part when it is large enough and keep `state` with it."""
        if self._in_part >= PART_BYTES:
            self._close_part()
            self.progress.state = state
            write_file(self._folder / PROGRESS, self._encoder.encode(self.progress))

    def finish(self) -> None:
        """Close the last part; only parts are left in the folder."""
        self._close_part()
        (self._folder / PROGRESS).unlink(missing_ok=True)

    def close(self) -> None:
        """Leave the whole parts as they are, for a later attempt."""
        if self._file is not None:
            self._file.close()

    def _close_part(self) -> None:
        if self._file is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file, self._in_part, self._checked = None, 0, 0
        self.progress.parts += 1

    def _encode(self, line: dict[str, Any]) -> bytes:
        try:
            return self._encoder.encode(line)
        except UnicodeEncodeError:  # half of a surrogate pair: no UTF-8 file can hold it
            return self._encoder.encode(_encodable(msgspec.to_builtins(line)))


def require_room(folder: Path, needed: int) -> None:
    """Raise JobFailed unless `needed` bytes and something to spare are free where the folder lies."""
    free = free_disk(folder)
    if free < needed + SPARE_BYTES:
        raise JobFailed(
            f"The disk is too full: {_gigabytes(needed + SPARE_BYTES)} are needed and {_gigabytes(free)} are free in "
            f"{shown(folder)}; free some space, ask for less with --target-tokens, or choose another folder with "
            "--workspace DIR."
        )


def empty_folder(folder: Path) -> None:
    """Remove all that lies in a folder."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _kept_progress(folder: Path, stream: str) -> Progress:
    """Return how far an earlier attempt came; what it left unfinished, or left of another stream, is removed."""
    progress = None
    try:
        progress = read_json(folder / PROGRESS, Progress)
    except (FileNotFoundError, msgspec.DecodeError):
        pass
    whole = {f"part-{number:05}.jsonl" for number in range(progress.parts if progress else 0)}
    lost = any(not (folder / name).exists() for name in whole)
    if progress is None or progress.stream != stream or lost:
        empty_folder(folder)
        return Progress(stream)
    for path in folder.glob("part-*.jsonl"):
        if path.name not in whole:
            path.unlink()
    return progress


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, (list, tuple)):
        return [_encodable(item) for item in value]
    return {key: _encodable(item) for key, item in value.items()}
