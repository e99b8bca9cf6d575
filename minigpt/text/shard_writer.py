"""Writing token shards so that a killed process loses at most one of them.

with ShardWriter(folder, "train", vocab_size) as writer:
    writer.add(ids)
    state = writer.sync()      # what a later process needs to go on from here
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from types import TracebackType

import msgspec
import numpy as np

from minigpt.errors import UserError
from minigpt.text.shards import FORMATS, HEADER_BYTES, SPLITS, shard_header
from minigpt.text.storage import shown

SHARD_TOKENS = 100_000_000
_SYNC_BYTES = 32 << 20


class WriterState(msgspec.Struct, frozen=True):
    """How far a writer has come: whole shards, tokens in the unfinished one, tokens in all."""

    finished: int = 0
    in_shard: int = 0
    tokens: int = 0


class ShardsLost(UserError):
    """What an earlier process wrote is no longer there as it was."""


class ShardWriter:
    """Writes one split's tokens as `train_000000.bin`, `train_000001.bin`, ...

    A shard bears its name only when it is whole. Given the state that `sync` once returned, it goes on from there.
    """

    def __init__(
        self,
        directory: Path,
        split: str,
        vocab_size: int,
        shard_tokens: int = SHARD_TOKENS,
        state: WriterState | None = None,
    ) -> None:
        """Raises ShardsLost when the files are not what `state` says."""
        assert split in SPLITS, split
        assert shard_tokens > 0
        self._directory = directory
        self._split = split
        self._vocab_size = vocab_size
        self._magic = 20240520 if vocab_size <= 1 << 16 else 20240801
        self._dtype = FORMATS[self._magic][1]
        self._shard_tokens = shard_tokens
        self._file: FileIO | None = None
        self._behind = _SyncBehind()
        state = state or WriterState()
        self.tokens, self._in_shard = state.tokens, state.in_shard
        self.paths = [self._path(number) for number in range(state.finished)]
        if not all(path.exists() for path in self.paths):
            raise ShardsLost(f"Finished shards are missing in {shown(directory)}.")
        if state.in_shard:
            self._file = self._reopen()

    def add(self, tokens: np.ndarray) -> int:
        """Append ids (any integer type, each below the vocabulary's size); return how many shards that finished."""
        assert tokens.size == 0 or tokens.max() < self._vocab_size, "id outside the vocabulary"
        assert tokens.size == 0 or tokens.dtype.kind == "u" or tokens.min() >= 0, "id below zero"
        tokens = tokens.astype(self._dtype, copy=False)
        before = len(self.paths)
        while tokens.size:
            if self._file is None:
                self._file = self._begin()
            part = tokens[: self._shard_tokens - self._in_shard]
            _write(self._file, np.ascontiguousarray(part).data.cast("B"))
            self._behind.written(self._file, part.nbytes)
            self._in_shard += part.size
            self.tokens += part.size
            tokens = tokens[part.size :]
            if self._in_shard == self._shard_tokens:
                self._finish()
        return len(self.paths) - before

    def sync(self) -> WriterState:
        """Bring everything to the disk and return the state from which a later writer can go on."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        return WriterState(len(self.paths), self._in_shard, self.tokens)

    def close(self) -> None:
        """Finish the last shard; a split without tokens has no file."""
        if self._file is not None:
            self._finish()

    def leave(self) -> None:
        """Close an unfinished shard as it is, for a later writer."""
        if self._file is not None:
            self._behind.wait()
            self._file.close()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            # On a full disk closing fails like the write before it, whose error is the one to tell.
            try:
                self.leave()
            except OSError:
                pass

    def _path(self, number: int) -> Path:
        return self._directory / f"{self._split}_{number:06d}.bin"

    def _unfinished(self) -> Path:
        return self._path(len(self.paths)).with_suffix(".bin.part")

    def _begin(self) -> FileIO:
        # Unbuffered, because what is added comes in large pieces.
        file = self._unfinished().open("wb", buffering=0)
        _write(file, bytes(HEADER_BYTES))
        self._in_shard = 0
        return file

    def _reopen(self) -> FileIO:
        path, length = self._unfinished(), HEADER_BYTES + self._in_shard * self._dtype.itemsize
        finished = self._path(len(self.paths))
        if not path.exists() and finished.exists():
            finished.rename(path)  # it was finished after the state was taken
        if not path.exists() or path.stat().st_size < length:
            raise ShardsLost(f"The unfinished shard {shown(path)} is shorter than it was.")
        file = path.open("r+b", buffering=0)
        file.truncate(length)
        file.seek(length)
        return file

    def _finish(self) -> None:
        assert self._file is not None
        self._file.seek(0)
        _write(self._file, shard_header(self._magic, self._in_shard))
        self._behind.wait()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        path = self._path(len(self.paths))
        self._unfinished().rename(path)
        self.paths.append(path)
        self._in_shard = 0


class _SyncBehind:
    """Brings a file to the disk in a thread while more of it is written: less is left to wait for at its end."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "sync")
        self._syncing: Future[None] | None = None
        self._unsynced = 0

    def written(self, file: FileIO, size: int) -> None:
        """Hear of bytes that were written; raises OSError where the disk refused earlier ones."""
        self._unsynced += size
        if self._unsynced >= _SYNC_BYTES and (self._syncing is None or self._syncing.done()):
            self.wait()
            self._syncing, self._unsynced = self._thread.submit(os.fsync, file.fileno()), 0

    def wait(self) -> None:
        """Let a sync end that goes on; to be called before its file is closed. Raises OSError as `written` does."""
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            syncing.result()


def _write(file: FileIO, data: bytes | memoryview) -> None:
    """Write all of the data: the system may take less of it at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
