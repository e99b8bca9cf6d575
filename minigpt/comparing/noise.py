"""How far the loss on a piece of text tells of more than that piece: standard errors from blocks of it.

    standard_error(evaluation.blocks)                   # of one evaluation, nats a token
    paired_error(first.blocks, second.blocks)           # of the difference of two on the same tokens
    paired_limit(first.blocks, second.blocks)           # a difference beyond this is hardly chance

The losses of neighbouring tokens go together, so that tokens must not be counted as independent; blocks of hundreds of
them nearly are (the method of batch means: Law, Simulation Modeling and Analysis, chapter 9), and what a long document
leaves of likeness between neighbouring blocks is added (Newey and West, Econometrica 55, 1987, with their weights, and
their rule of 1994 for how far to look). Where documents are longer than a block the error comes out too small all the
same; so what may be chance is judged by merged blocks too, fewer and with Student's t of as many, and the largest
limit counts (merging as Flyvbjerg and Petersen, J. Chem. Phys. 91, 1989). It then holds the true mean 19 times in 20
for documents of up to 500 tokens in a text of 8,192, and 18 times for those of 1,000: of eight documents nobody can
tell more.

The loss is a mean weighted by the blocks' tokens, a ratio estimate; its
variance is that of Cochran, Sampling Techniques (1977), chapter 6. Two models that read the same text find the same
places hard: the error of their difference is that of the differences, block by block, and smaller than theirs together
(clustered and paired standard errors: Miller, Adding Error Bars to Evals, 2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# Tokens and mean loss (nats a token) of contiguous blocks of the evaluated text, in order.
Blocks = Sequence[tuple[int, float]]

# Fewer tell next to nothing of their spread.
FEWEST_BLOCKS = 4
MOST_BLOCKS = 32
# Merged into fewer than these, their spread is itself mostly chance.
FEWEST_MERGED = 8
# Shorter blocks are not independent of their neighbours.
LEAST_BLOCK_TOKENS = 32
# Of the normal distribution: 95 % lie within so many standard deviations.
_NORMAL = 1.959963984540054


def block_ends(tokens: int) -> list[int]:
    """Return where the blocks of so many evaluated tokens end: the same cut for the same text, whatever the model."""
    count = max(1, min(MOST_BLOCKS, tokens // LEAST_BLOCK_TOKENS))
    return [tokens * (number + 1) // count for number in range(count)] if tokens > 0 else []


def standard_error(blocks: Blocks) -> float | None:
    """Return the standard error of the mean loss (nats a token), or None where the blocks are too few to tell."""
    return _error(*_columns(blocks))


def limit(blocks: Blocks) -> float | None:
    """Return how far the mean loss may lie from that of all such text, 19 times in 20 (nats), or None as above."""
    return _limit(*_columns(blocks))


def paired_error(first: Blocks, second: Blocks) -> float | None:
    """Return the standard error of the difference of two mean losses on the same tokens, or None as above.

    Raises ValueError unless the blocks are cut alike.
    """
    return _error(*_paired(first, second))


def paired_limit(first: Blocks, second: Blocks) -> float | None:
    """Return the difference on the same tokens up to which it may be chance; None and ValueError as above."""
    return _limit(*_paired(first, second))


def unpaired_error(first: float | None, second: float | None) -> float | None:
    """Return the standard error (or limit) of a difference of two independent means, from those of both."""
    return None if first is None or second is None else math.hypot(first, second)


def cut_alike(first: Blocks, second: Blocks) -> bool:
    """Return whether two evaluations have the same numbers of tokens, block by block."""
    return bool(first) and [tokens for tokens, _ in first] == [tokens for tokens, _ in second]


def t_quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t: a difference within so many errors may be chance, 19 times in 20.

    Exact for 1 and 2 degrees of freedom, else within 0.2 % (Abramowitz and Stegun, 26.7.5).
    """
    if freedom < 1:
        raise ValueError(f"there is no t distribution with {freedom} degrees of freedom")
    if freedom == 1:
        return math.tan(math.pi * 0.475)
    if freedom == 2:
        return 0.95 * math.sqrt(2 / (1 - 0.95**2))
    x, n = _NORMAL, freedom
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / n**power for power, term in enumerate(terms, 1))


def _columns(blocks: Blocks) -> tuple[list[int], list[float]]:
    return [tokens for tokens, _ in blocks], [loss for _, loss in blocks]


def _paired(first: Blocks, second: Blocks) -> tuple[list[int], list[float]]:
    if not cut_alike(first, second):
        raise ValueError("paired blocks have the same numbers of tokens")
    differences = [one[1] - other[1] for one, other in zip(first, second, strict=True)]
    return [tokens for tokens, _ in first], differences


def _limit(tokens: Sequence[int], means: Sequence[float]) -> float | None:
    error = _error(tokens, means)
    if error is None:
        return None
    largest, count = t_quantile(len(tokens) - 1) * error, len(tokens) // 2
    while count >= FEWEST_MERGED:
        error = _error(*_columns(_merged(tokens, means, count)))
        largest, count = max(largest, t_quantile(count - 1) * (error or 0.0)), count // 2
    return largest


def _merged(tokens: Sequence[int], means: Sequence[float], count: int) -> list[tuple[int, float]]:
    """Return tokens and mean of `count` blocks, each of neighbours."""
    found = []
    for number in range(count):
        own = slice(len(tokens) * number // count, len(tokens) * (number + 1) // count)
        total = sum(tokens[own])
        found.append((total, sum(n * mean for n, mean in zip(tokens[own], means[own], strict=True)) / max(1, total)))
    return found


def _error(tokens: Sequence[int], means: Sequence[float]) -> float | None:
    count, total = len(tokens), sum(tokens)
    if count < FEWEST_BLOCKS or total <= 0 or not all(map(math.isfinite, means)):
        return None
    mean = sum(n * value for n, value in zip(tokens, means, strict=True)) / total
    parts = [n / total * (value - mean) for n, value in zip(tokens, means, strict=True)]
    independent = sum(part * part for part in parts)
    lags = int(4 * (count / 100) ** (2 / 9))
    together = sum(
        2 * (1 - lag / (lags + 1)) * sum(one * other for one, other in zip(parts, parts[lag:], strict=False))
        for lag in range(1, lags + 1)
    )
    # Where neighbours seem to contradict each other, that is chance.
    return math.sqrt((independent + max(0.0, together)) * count / (count - 1))
