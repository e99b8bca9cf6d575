"""The order in which training reads a text: epoch after epoch, without end, and nothing of it stored.

windows = Windows(prepared.split("train"), seq_len=256, seed=42)
inputs, targets = windows.batch(position, 16)
"""

from __future__ import annotations

import numpy as np

from minigpt.errors import UserError
from minigpt.text.shards import TokenSplit

# Documents in a new order are held in memory twice, as they are and as the epoch has them.
MAX_SHUFFLED_TOKENS = 50_000_000

# The order is computed for this many positions at a time: vectorised, it costs next to nothing.
_ORDER_BLOCK = 4096
_COPIED_AT_ONCE = 1 << 20
# What keys are drawn for: the same seed and epoch must not tell one choice from another.
FOR_WINDOWS, FOR_OFFSETS, FOR_DOCUMENTS, FOR_MIXTURES = range(4)


class Windows:
    """The windows of a split in training order: each once an epoch, `count` an epoch.

    A window is seq_len inputs and, one further, as many targets: tokens i*seq_len to (i+1)*seq_len of one shard, both
    included. Which window comes at a position of the stream is a pure function of (shards, seed, position).

    With `random_offsets` an epoch's windows begin up to seq_len - 1 tokens later, each epoch's at another token. With
    `end_of_text`, the id that ends each document, the documents come in a new order each epoch, as one stream without
    shards. Raises UserError where the text is too short for one window, or too long to be shuffled.
    """

    def __init__(
        self,
        split: TokenSplit,
        seq_len: int,
        seed: int,
        *,
        random_offsets: bool = False,
        end_of_text: int | None = None,
    ) -> None:
        assert seq_len > 0
        self.split = split
        self.seq_len = seq_len
        self.seed = seed
        self.random_offsets = random_offsets
        lengths = [len(shard) for shard in split.shards] if end_of_text is None else [split.tokens]
        # So many fit whatever the offset, and an epoch has as many as any other.
        shortest = 2 * seq_len if random_offsets else seq_len + 1
        per_shard = [max(0, length - shortest + seq_len) // seq_len for length in lengths]
        self.count = sum(per_shard)
        self._first = np.cumsum([0, *per_shard], dtype=np.int64)  # each shard's first window
        if self.count == 0:
            raise UserError(
                f"The {split.name} split has {split.tokens:,} tokens and one window needs {shortest:,}: "
                "choose a shorter model.max_seq_len or add more text."
            )
        self.documents = None if end_of_text is None else ShuffledDocuments(split, end_of_text, seed)
        self._block = -1
        self._block_order = np.empty(0, np.int64)

    def batch(self, position: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return windows position .. position+size of the stream: inputs and targets, int64 (size, seq_len)."""
        tokens = np.empty((size, self.seq_len + 1), dtype=np.int64)
        windows = self.order(position, size)
        epochs = np.arange(position, position + size) // self.count
        shards = np.searchsorted(self._first, windows, side="right") - 1
        starts = (windows - self._first[shards]) * self.seq_len
        if self.random_offsets:
            offsets = epoch_keys(self.seed, epochs, FOR_OFFSETS) % np.uint64(self.seq_len)
            starts += offsets.astype(np.int64)
        for row, (epoch, shard, start) in enumerate(
            zip(epochs.tolist(), shards.tolist(), starts.tolist(), strict=True)
        ):
            text = self.split.shards[shard] if self.documents is None else self.documents.in_epoch(epoch)
            tokens[row] = text[start : start + self.seq_len + 1]
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
        return permute(indices, self.count, epoch_keys(self.seed, epochs, FOR_WINDOWS))

    def epoch_at(self, position: int) -> float:
        """Return how many epochs a position amounts to."""
        return position / self.count


class ShuffledDocuments:
    """The documents of a split one after the other, in a new order each epoch, which (shards, seed, epoch) decide.

    A document goes up to the id that ends it, that included; a shard's beginning begins one too. Raises UserError for
    a text that is too long to be held in memory.
    """

    def __init__(self, split: TokenSplit, end_of_text: int, seed: int) -> None:
        if split.tokens > MAX_SHUFFLED_TOKENS:
            raise UserError(
                f"The {split.name} split has {split.tokens:,} tokens, and corpus.shuffle_documents holds them in "
                f"memory up to {MAX_SHUFFLED_TOKENS:,}: switch it off, so much text gains little from it."
            )
        self._tokens = np.concatenate(split.shards)
        self._seed = seed
        shard_ends = np.cumsum([len(shard) for shard in split.shards], dtype=np.int64)
        ends = np.union1d(np.flatnonzero(self._tokens == end_of_text) + 1, shard_ends[shard_ends > 0])
        self._starts = np.concatenate([[0], ends[:-1]])
        self._lengths = np.diff(ends, prepend=0)
        self.count = len(ends)
        self._epoch = -1
        self._stream = self._tokens[:0]

    def in_epoch(self, epoch: int) -> np.ndarray:
        """Return an epoch's stream, uint16 or uint32 (tokens,)."""
        if epoch != self._epoch:
            self._epoch, self._stream = epoch, self._shuffled(epoch)
        return self._stream

    def _shuffled(self, epoch: int) -> np.ndarray:
        keys = epoch_keys(self._seed, np.full(self.count, epoch), FOR_DOCUMENTS)
        order = permute(np.arange(self.count, dtype=np.uint64), self.count, keys)
        lengths = self._lengths[order]
        ends = np.cumsum(lengths)
        moved_by = self._starts[order] - (ends - lengths)
        stream = np.empty_like(self._tokens)
        for begin in range(0, len(stream), _COPIED_AT_ONCE):
            end = min(begin + _COPIED_AT_ONCE, len(stream))
            first, last = np.searchsorted(ends, [begin, end - 1], side="right")
            here = slice(int(first), int(last) + 1)
            inside = np.minimum(ends[here], end) - np.maximum(ends[here] - lengths[here], begin)
            stream[begin:end] = self._tokens[np.arange(begin, end) + np.repeat(moved_by[here], inside)]
        return stream


def epoch_keys(seed: int, epochs: np.ndarray, purpose: int) -> np.ndarray:
    """Return a key for each epoch, for one of the purposes above: uint64."""
    start = np.array([seed], dtype=np.int64).view(np.uint64) + np.uint64(purpose << 32)
    return mix(mix(start) + epochs.astype(np.uint64))


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
        keys = mix(keys)
        low = low ^ (mix(high ^ keys) & low_mask)
        keys = mix(keys)
        high = high ^ (mix(low ^ keys) & high_mask)
    return (high << low_bits) | low


def mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's output function (Steele, Lea and Flood, 2014) on uint64, wrapping around."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
