"""Token shards on disk.

A shard is a header of 256 int32 (magic, version, number of tokens, zeros) and then the tokens: the layout of llm.c and
modded-nanogpt, so that public pre-tokenised shards work as they are. Vocabularies up to 65,536 are stored as uint16
(magic 20240520, version 1), larger ones as uint32 (magic 20240801, version 7).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.errors import UserError
from minigpt.text.storage import shown

SPLITS = ("train", "validation", "test")
HEADER_INTS = 256
BLOCK_TOKENS = 1 << 20
HEADER_BYTES = 4 * HEADER_INTS
# magic -> (version, type of a token)
FORMATS: dict[int, tuple[int, np.dtype[Any]]] = {20240520: (1, np.dtype("<u2")), 20240801: (7, np.dtype("<u4"))}


def shard_header(magic: int, tokens: int) -> bytes:
    """Return the header of a shard with so many tokens."""
    header = np.zeros(HEADER_INTS, dtype="<i4")
    header[:3] = magic, FORMATS[magic][0], tokens
    return header.tobytes()


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
    if magic not in FORMATS or version != FORMATS[magic][0]:
        raise UserError(
            f"{shown(path)} is not a token shard (magic {magic}, version {version}): prepare the corpus again."
        )
    dtype = FORMATS[magic][1]
    if size != HEADER_BYTES + count * dtype.itemsize:
        raise UserError(
            f"The token shard {shown(path)} is damaged (its header says {count:,} tokens, its {size:,} bytes do not "
            "fit that): remove its folder and prepare the corpus again."
        )
    if count == 0:
        return np.empty(0, dtype)
    # A plain array over the map: slicing np.memmap itself is several times slower.
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", offset=HEADER_BYTES, shape=(count,)))


def token_blocks(tokens: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a shard's tokens in parts, so that what is made of them stays small."""
    return (tokens[start : start + BLOCK_TOKENS] for start in range(0, len(tokens), BLOCK_TOKENS))


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
