"""Token shards on disk, and the order in which training reads their windows.

A shard is a header of 256 int32 (magic, version, number of tokens, zeros) and then the tokens: the layout of llm.c and
modded-nanogpt, so that public pre-tokenised shards work as they are. Vocabularies up to 65,536 are stored as uint16
(magic 20240520, version 1), larger ones as uint32 (magic 20240801, version 7).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from minigpt.errors import UserError
from minigpt.text.storage import shown

SPLITS = ("train", "validation", "test")
HEADER_INTS = 256
HEADER_BYTES = 4 * HEADER_INTS
# magic -> (version, type of a token)
_FORMATS: dict[int, tuple[int, np.dtype[Any]]] = {20240520: (1, np.dtype("<u2")), 20240801: (7, np.dtype("<u4"))}
_WRITE_BUFFER = 1 << 20


class ShardWriter:
    """Writes one split's tokens as `train_000000.bin`, `train_000001.bin`, ...

    A shard bears its name only when it is whole. As a context manager it closes itself, or after an error leaves the
    unfinished shard out.
    """

    def __init__(self, directory: Path, split: str, vocab_size: int, shard_tokens: int = 100_000_000) -> None:
        assert split in SPLITS, split
        assert shard_tokens > 0
        self.paths: list[Path] = []
        self.tokens = 0
        self._directory = directory
        self._split = split
        self._vocab_size = vocab_size
        self._magic = 20240520 if vocab_size <= 1 << 16 else 20240801
        self._shard_tokens = shard_tokens
        self._file: BinaryIO | None = None
        self._in_shard = 0

    def add(self, tokens: np.ndarray) -> None:
        """Append ids (any integer type, each below the vocabulary's size)."""
        assert tokens.size == 0 or (tokens.min() >= 0 and tokens.max() < self._vocab_size), "id outside the vocabulary"
        _, dtype = _FORMATS[self._magic]
        tokens = tokens.astype(dtype, copy=False)
        while tokens.size:
            file = self._file or self._begin()
            part = tokens[: self._shard_tokens - self._in_shard]
            file.write(part.tobytes())
            self._in_shard += part.size
            self.tokens += part.size
            tokens = tokens[part.size :]
            if self._in_shard == self._shard_tokens:
                self._finish()

    def close(self) -> None:
        """Finish the last shard; a split without tokens has no file."""
        if self._file is not None:
            self._finish()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self._file is not None:
            self._file.close()
            self._unfinished().unlink(missing_ok=True)

    def _path(self) -> Path:
        return self._directory / f"{self._split}_{len(self.paths):06d}.bin"

    def _unfinished(self) -> Path:
        return self._path().with_suffix(".bin.part")

    def _begin(self) -> BinaryIO:
        self._file = self._unfinished().open("wb", buffering=_WRITE_BUFFER)
        self._file.write(bytes(HEADER_BYTES))
        self._in_shard = 0
        return self._file

    def _finish(self) -> None:
        assert self._file is not None
        header = np.zeros(HEADER_INTS, dtype="<i4")
        header[:3] = self._magic, _FORMATS[self._magic][0], self._in_shard
        self._file.seek(0)
        self._file.write(header.tobytes())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        path = self._path()
        self._unfinished().rename(path)
        self.paths.append(path)


def read_shard(path: Path) -> np.ndarray:
    """Return a shard's tokens, memory-mapped and read-only, as uint16 or uint32 (tokens,).

    Raises UserError when the file is missing, no shard, or not as long as its header says.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = np.frombuffer(file.read(HEADER_BYTES).ljust(HEADER_BYTES, b"\0"), dtype="<i4")
    except OSError as error:
        raise UserError(f"Cannot read the token shard {shown(path)} ({error.strerror}): prepare again.") from error
    magic, version, count = map(int, header[:3])
    if magic not in _FORMATS or version != _FORMATS[magic][0]:
        raise UserError(
            f"{shown(path)} is not a token shard (magic {magic}, version {version}): prepare the corpus again."
        )
    dtype = _FORMATS[magic][1]
    if size != HEADER_BYTES + count * dtype.itemsize:
        raise UserError(
            f"The token shard {shown(path)} is damaged (its header says {count:,} tokens, its {size:,} bytes do not "
            "fit that): remove its folder and prepare the corpus again."
        )
    if count == 0:
        return np.empty(0, dtype)
    # A plain array over the map: slicing np.memmap itself is several times slower.
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", offset=HEADER_BYTES, shape=(count,)))


class TokenSplit:
    """The tokens of one split, over all its shards."""

    def __init__(self, shards: Sequence[np.ndarray], name: str = "text") -> None:
        self.shards = list(shards)
        self.name = name
        self._ends = np.cumsum([len(shard) for shard in self.shards], dtype=np.int64)
        self.tokens = sum(len(shard) for shard in self.shards)

    @classmethod
    def open(cls, paths: Iterable[Path], name: str = "text") -> TokenSplit:
        """Map the shards of a split; raises UserError as `read_shard` does."""
        return cls([read_shard(path) for path in paths], name)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the tokens from start to stop, across shards, as int64."""
        stop = min(stop, self.tokens)
        parts: list[np.ndarray] = []
        shard = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            begin = int(self._ends[shard]) - len(self.shards[shard])
            end = min(stop, int(self._ends[shard]))
            parts.append(self.shards[shard][start - begin : end - begin])
            start, shard = end, shard + 1
        return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)


class Windows:
    """The windows of a split in training order: epoch after epoch, each window once an epoch, without end.

    A window is seq_len inputs and, one further, as many targets: tokens i*seq_len to (i+1)*seq_len of one shard, both
    included. Which window comes at a position of the stream is a pure function of (shards, seed, position).
    """

    def __init__(self, split: TokenSplit, seq_len: int, seed: int) -> None:
        assert seq_len > 0
        self.split = split
        self.seq_len = seq_len
        self.seed = seed
        per_shard = [max(0, len(shard) - 1) // seq_len for shard in split.shards]
        self.count = sum(per_shard)
        self._first = np.cumsum([0, *per_shard], dtype=np.int64)  # each shard's first window
        if self.count == 0:
            raise UserError(
                f"The {split.name} split has {split.tokens:,} tokens and one window needs {seq_len + 1:,}: "
                "choose a shorter model.max_seq_len or add more text."
            )
        self._block = -1
        self._block_order = np.empty(0, np.int64)

    def batch(self, position: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return windows position .. position+size of the stream: inputs and targets, int64 (size, seq_len)."""
        tokens = np.empty((size, self.seq_len + 1), dtype=np.int64)
        windows = self.order(position, size)
        shards = np.searchsorted(self._first, windows, side="right") - 1
        starts = (windows - self._first[shards]) * self.seq_len
        for row, (shard, start) in enumerate(zip(shards.tolist(), starts.tolist(), strict=True)):
            tokens[row] = self.split.shards[shard][start : start + self.seq_len + 1]
        return np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:])

    def order(self, position: int, size: int) -> np.ndarray:
        """Return the numbers (0 .. count-1) of windows position .. position+size of the stream, int64 (size,)."""
        assert position >= 0
        parts = []
        while size > 0:
            block, offset = divmod(position, _ORDER_BLOCK)
            if block != self._block:
                self._block, self._block_order = block, self._order_of_block(block)
            parts.append(self._block_order[offset : offset + size])
            position, size = position + len(parts[-1]), size - len(parts[-1])
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _order_of_block(self, block: int) -> np.ndarray:
        positions = np.arange(block * _ORDER_BLOCK, (block + 1) * _ORDER_BLOCK, dtype=np.uint64)
        epochs, indices = np.divmod(positions, np.uint64(self.count))
        return permute(indices, self.count, _mix(_mix(np.array([self.seed], dtype=np.int64).view(np.uint64)) + epochs))

    def epoch_at(self, position: int) -> float:
        """Return how many epochs a position amounts to."""
        return position / self.count


# The order is computed for this many positions at a time: vectorised, it costs next to nothing.
_ORDER_BLOCK = 4096
_ROUNDS = 4
# Smaller domains shuffle badly; cycle walking cuts this one down to any count.
_MIN_BITS = 6


def permute(indices: np.ndarray, count: int, keys: np.ndarray) -> np.ndarray:
    """Return where a keyed permutation of range(count) takes each index: uint64 in, int64 out.

    An unbalanced Feistel network over the next power of two; what falls outside the range is sent through again until
    it is inside (cycle walking; Black and Rogaway, 2002). One key per index.
    """
    bits = max(_MIN_BITS, (count - 1).bit_length())
    result = _feistel(indices, keys, bits)
    while (outside := np.flatnonzero(result >= count)).size:
        result[outside] = _feistel(result[outside], keys[outside], bits)
    return result.astype(np.int64)


def _feistel(values: np.ndarray, keys: np.ndarray, bits: int) -> np.ndarray:
    low_bits = np.uint64(bits // 2)
    low_mask = np.uint64((1 << (bits // 2)) - 1)
    high_mask = np.uint64((1 << (bits - bits // 2)) - 1)
    low, high = values & low_mask, values >> low_bits
    for _ in range(_ROUNDS):
        keys = _mix(keys)
        low = low ^ (_mix(high ^ keys) & low_mask)
        keys = _mix(keys)
        high = high ^ (_mix(low ^ keys) & high_mask)
    return (high << low_bits) | low


def _mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's output function (Steele, Lea and Flood, 2014) on uint64, wrapping around."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
