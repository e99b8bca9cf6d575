"""Several corpora in one run, each with its share of the training.

    [corpus]
    mixture = ["stories:0.7", "facts:0.3"]

parse_mixture(config.corpus.mixture)        # [("stories", 0.7), ("facts", 0.3)]
Mixture([Windows(...), Windows(...)], ["stories", "facts"], [0.7, 0.3], seed=42).batch(position, 16)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from minigpt.errors import UserError, printable
from minigpt.text.windows import FOR_MIXTURES, Windows, epoch_keys, permute

# The shares are exact in every block of so many positions; in larger ones where a corpus would get too few of them.
BLOCK, LARGEST_BLOCK = 1024, 65_536
_FEWEST_A_BLOCK = 8
# Beyond about this many, reading a text again teaches nothing (Muennighoff et al., 2023).
MANY_EPOCHS = 40


def parse_mixture(entries: Sequence[str]) -> list[tuple[str, float]]:
    """Return the names (or paths) and weights of `corpus.mixture`; raises UserError where an entry has not both."""
    found = []
    for entry in entries:
        name, colon, text = entry.rpartition(":")
        try:
            weight = float(text) if colon and name else math.nan
        except ValueError:
            weight = math.nan
        if not 0 < weight < math.inf:
            raise UserError(
                f"corpus.mixture: {printable(entry)!r} is not NAME:WEIGHT with a weight above 0: "
                "write it as in stories:0.7."
            )
        found.append((name, weight))
    if len(found) == 1:
        raise UserError(
            f"corpus.mixture has one corpus, {printable(found[0][0])!r}, and a mixture takes two or more: "
            "add another, or give this one alone as corpus.name (--corpus)."
        )
    return found


class Mixture:
    """The training stream of several corpora: at each position the next window of one of them, without end.

    Which corpus that is, and the how-manieth of its own windows, is a pure function of (weights, seed, position).
    `count`, an epoch of the mixture, is as many windows as one epoch of each corpus has together. Raises UserError
    for a weight that is next to nothing beside the others.
    """

    def __init__(self, parts: Sequence[Windows], names: Sequence[str], weights: Sequence[float], seed: int) -> None:
        self.parts, self.names = list(parts), list(names)
        self.count = sum(part.count for part in parts)
        self.seq_len = parts[0].seq_len
        self.counts = _block_counts(names, weights)
        self.block = sum(self.counts)
        self._seed = seed
        self._ends = np.cumsum(self.counts)
        self._cached = -1
        self._pattern = np.empty(0, np.int64), np.empty(0, np.int64)

    @property
    def shares(self) -> list[float]:
        """Each corpus's share of the windows."""
        return [count / self.block for count in self.counts]

    def batch(self, position: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return windows position .. position+size of the stream: inputs and targets, int64 (size, seq_len)."""
        inputs = np.empty((size, self.seq_len), dtype=np.int64)
        targets = np.empty_like(inputs)
        corpora, windows = self.order(position, size)
        for number, part in enumerate(self.parts):
            rows = np.flatnonzero(corpora == number)
            if rows.size:
                # One after the other in its own stream, however far apart they lie in this one.
                inputs[rows], targets[rows] = part.batch(int(windows[rows[0]]), rows.size)
        return inputs, targets

    def order(self, position: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return of which corpus the windows position .. position+size are, and their positions in its own stream."""
        assert position >= 0
        corpora, windows = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        while size > 0:
            block, offset = divmod(position, self.block)
            if block != self._cached:
                self._cached, self._pattern = block, self._pattern_of(block)
            part = slice(offset, offset + size)
            corpora.append(self._pattern[0][part])
            windows.append(self._pattern[1][part])
            position, size = position + len(corpora[-1]), size - len(corpora[-1])
        return np.concatenate(corpora), np.concatenate(windows)

    def _pattern_of(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        keys = epoch_keys(self._seed, np.full(self.block, block), FOR_MIXTURES)
        slots = permute(np.arange(self.block, dtype=np.uint64), self.block, keys)
        corpora = np.searchsorted(self._ends, slots, side="right")
        windows = np.empty_like(corpora)
        for number, count in enumerate(self.counts):
            windows[corpora == number] = np.arange(block * count, (block + 1) * count)
        return corpora, windows

    def epoch_at(self, position: int) -> float:
        """Return how many epochs of the mixture a position amounts to."""
        return position / self.count

    def epochs_of_parts(self, position: int) -> list[float]:
        """Return how many epochs of each corpus a position amounts to."""
        return [position * share / part.count for share, part in zip(self.shares, self.parts, strict=True)]


def remarks(windows: Windows | Mixture, position: int) -> Iterator[tuple[str, str, str]]:
    """Yield what is worth a word about reading up to a position: (severity, code, message)."""
    if isinstance(windows, Mixture):
        epochs = dict(zip(windows.names, windows.epochs_of_parts(position), strict=True))
        told = ", ".join(
            f"{name} {100 * share:.3g}% ({epochs[name]:.3g} epochs of it)"
            for name, share in zip(windows.names, windows.shares, strict=True)
        )
        yield "info", "mixture", f"Mixture: {told}."
        for name, count in epochs.items():
            if count > MANY_EPOCHS:
                yield (
                    "warning",
                    "corpus-repeated",
                    f"All of {name} is read {count:,.0f} times, and will be learned by heart: give it less weight in "
                    "corpus.mixture or more text, or train for fewer steps.",
                )
    for part in windows.parts if isinstance(windows, Mixture) else [windows]:
        if part.documents is not None and part.documents.count < 2:
            yield (
                "info",
                "nothing-to-shuffle",
                f"corpus.shuffle_documents changes nothing: the {part.split.name} split is one document.",
            )


def _block_counts(names: Sequence[str], weights: Sequence[float]) -> list[int]:
    """Return how many windows of a block each corpus gives."""
    size = BLOCK
    counts = largest_remainder(weights, size)
    while min(counts) < _FEWEST_A_BLOCK and size < LARGEST_BLOCK:
        size *= 2
        counts = largest_remainder(weights, size)
    if min(counts) == 0:
        least = names[counts.index(0)]
        raise UserError(
            f"The weight of {printable(least)} in corpus.mixture is less than one window in {LARGEST_BLOCK:,}: "
            "give it more, or leave it out."
        )
    return counts


def largest_remainder(weights: Sequence[float], total: int) -> list[int]:
    """Share out `total` by weights (Hamilton's method): each gets its quota rounded down, the rest goes to the largest
    fractions, of equal ones to the first.
    """
    exact = [Fraction(weight) for weight in weights]
    quotas = [weight * total / sum(exact) for weight in exact]
    counts = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(counts)), key=lambda number: counts[number] - quotas[number])
    for number in by_remainder[: total - sum(counts)]:
        counts[number] += 1
    return counts
