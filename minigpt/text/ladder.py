"""What a loss means: how well the simplest models there are would predict the same text.

    rungs = ladder(train, validation, vocab_size)
    rungs.uniform > rungs.unigram > rungs.bigram > loss of a network that has learned something

A model that knows nothing pays ln(vocabulary) nats a token; one that knows how often each token comes, the unigram
loss; one that knows which token follows which, the bigram loss.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from minigpt.text.shards import TokenSplit

# So many tokens are counted, in pieces from all over the split, and so many are predicted: half a second at most.
COUNTED_TOKENS, PREDICTED_TOKENS = 1_000_000, 200_000
PIECES = 16
# Of a text without validation part, this share of what is counted is predicted instead.
_HELD_OUT = 0.1


class Ladder(NamedTuple):
    """Mean losses in nats a token."""

    uniform: float
    unigram: float
    bigram: float


def ladder(train: TokenSplit, validation: TokenSplit, vocab_size: int) -> Ladder | None:
    """Return the losses of the simple models, counted on a part of `train`, on the beginning of `validation`.

    None where there is too little text to count.
    """
    counted = pieces(train, COUNTED_TOKENS)
    predicted = validation.read(0, PREDICTED_TOKENS)
    if len(predicted) < 2:
        tokens = np.concatenate(counted) if counted else np.empty(0, np.int64)
        kept = len(tokens) - int(_HELD_OUT * len(tokens))
        counted, predicted = [tokens[:kept]], tokens[kept:]
    if len(predicted) < 2 or sum(map(len, counted)) < 2:
        return None
    return Ladder(math.log(vocab_size), *entropies(counted, predicted, vocab_size))


def entropies(counted: list[np.ndarray], predicted: np.ndarray, vocab_size: int) -> tuple[float, float]:
    """Return the unigram and the bigram loss of tokens, int64 (n,), by the counts in pieces of others.

    Unigrams with one added to each count; bigrams interpolated with them as by Witten and Bell (1991): a token after
    which many different ones came gives more weight to the unigrams.
    """
    unigrams = np.ones(vocab_size)
    for piece in counted:
        unigrams += np.bincount(piece, minlength=vocab_size)
    unigrams /= unigrams.sum()
    # The first token has nobody before it.
    before, wanted = predicted[:-1], predicted[1:]
    pairs, pair_counts = np.unique(
        np.concatenate([piece[:-1] * vocab_size + piece[1:] for piece in counted]), return_counts=True
    )
    after = np.bincount(pairs // vocab_size, weights=pair_counts, minlength=vocab_size)
    followers = np.bincount(pairs // vocab_size, minlength=vocab_size)
    asked = before * vocab_size + wanted
    place = np.minimum(np.searchsorted(pairs, asked), max(0, len(pairs) - 1))
    seen = np.where(pairs[place] == asked, pair_counts[place], 0) if len(pairs) else np.zeros(len(asked))
    weight = np.maximum(1, followers[before])
    probabilities = (seen + weight * unigrams[wanted]) / (after[before] + weight)
    return float(-np.log(unigrams[wanted]).mean()), float(-np.log(probabilities).mean())


def pieces(split: TokenSplit, tokens: int, count: int = PIECES) -> list[np.ndarray]:
    """Return about so many tokens of a split in pieces from all over it, int64 (n,) each; all of a short one."""
    if split.tokens <= tokens:
        return [split.read(0, split.tokens)] if split.tokens else []
    starts = np.linspace(0, split.tokens - tokens // count, count).astype(int).tolist()
    return [split.read(start, start + tokens // count) for start in starts]
