"""How well a model predicts a text: loss, perplexity, bits per byte, accuracy.

result = evaluate(model, [tokens], byte_lengths)
print(result.loss, result.loss_error, result.perplexity)
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from minigpt.comparing.noise import block_ends, standard_error
from minigpt.model.gpt import GPT

# How many tokens go through the network at once: enough to keep it busy, little enough to fit anywhere.
TOKENS_AT_ONCE = 8192
LOGITS_AT_ONCE = 1 << 25


@dataclass(frozen=True)
class Evaluation:
    """Means over `tokens` predicted tokens: loss in nats, accuracies as shares, bits_per_byte None if unknown.

    `blocks` are tokens and mean loss of contiguous parts of the text, cut alike for every model that reads it.
    """

    tokens: int
    loss: float
    bits_per_byte: float | None
    accuracy: float
    accuracy_top5: float
    blocks: tuple[tuple[int, float], ...] = ()

    @property
    def loss_error(self) -> float | None:
        """The standard error of the loss (nats): how far other text of the kind may move it; None for too little."""
        return standard_error(self.blocks)

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss) if self.loss < 700 else math.inf


@torch.no_grad()
def evaluate(
    model: GPT,
    shards: Sequence[np.ndarray],
    byte_lengths: np.ndarray | None = None,
    max_tokens: int | None = None,
    stride: int | None = None,
    precision: torch.dtype = torch.float32,
    windows_at_once: int | None = None,
) -> Evaluation:
    """Predict every token of the shards once, but each shard's first, in windows of the model's context.

    With a `stride` below the context, windows overlap and each predicts its last `stride` tokens only, which then
    have more text before them. `byte_lengths` gives each token id's length in bytes of text. How many
    `windows_at_once` pass through the network is chosen by its size, where it is not said.
    """
    device = next(model.parameters()).device
    lengths = None if byte_lengths is None else torch.from_numpy(byte_lengths.astype(np.int64)).to(device)
    was_training = model.training
    model.eval()
    wide = torch.float64 if device.type != "mps" else torch.float32
    totals = torch.zeros(5, dtype=wide, device=device)
    ends = block_ends(_predicted(shards, max_tokens))
    of_blocks = torch.zeros(len(ends), dtype=wide, device=device)
    try:
        for inputs, targets, counted, place in _batches(model, shards, max_tokens, stride, windows_at_once):
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                logits = model(inputs.to(device)).float()
            logits, targets = logits[:, -counted:], targets[:, -counted:].to(device)
            nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").to(wide)
            totals += _sums(logits, targets, nats, lengths)
            _share_out(nats, place, ends, of_blocks)
    finally:
        model.train(was_training)
    tokens, nats, correct, among_five, n_bytes = totals.tolist()
    if not tokens:
        return Evaluation(0, math.nan, None, math.nan, math.nan)
    bits_per_byte = nats / math.log(2) / n_bytes if n_bytes else None
    sizes = [end - begin for begin, end in pairwise([0, *ends])]
    blocks = tuple((size, sum_ / size) for size, sum_ in zip(sizes, of_blocks.tolist(), strict=True))
    return Evaluation(int(tokens), nats / tokens, bits_per_byte, correct / tokens, among_five / tokens, blocks)


def _predicted(shards: Sequence[np.ndarray], max_tokens: int | None) -> int:
    """Return how many tokens are predicted: of each shard all but the first."""
    every = sum(max(0, len(shard) - 1) for shard in shards)
    return every if max_tokens is None else min(every, max(0, max_tokens))


def _sums(logits: Tensor, targets: Tensor, nats: Tensor, byte_lengths: Tensor | None) -> Tensor:
    flat, wanted = logits.flatten(0, 1), targets.flatten()
    likeliest = flat.topk(min(5, flat.size(1)), dim=1).indices == wanted[:, None]
    n_bytes = byte_lengths[wanted].sum() if byte_lengths is not None else torch.zeros_like(nats[0])
    count = torch.tensor(wanted.numel(), device=flat.device)
    sums = (count, nats.sum(), likeliest[:, 0].sum(), likeliest.any(dim=1).sum(), n_bytes)
    return torch.stack([value.to(nats.dtype) for value in sums])


def _share_out(nats: Tensor, place: int, ends: Sequence[int], of_blocks: Tensor) -> None:
    """Add the losses of the tokens from the `place`-th on to the blocks they lie in, without asking the device."""
    begin, stop = place, place + len(nats)
    block = bisect_right(ends, begin)
    while begin < stop:
        end = min(stop, ends[block])
        of_blocks[block] += nats[begin - place : end - place].sum()
        begin, block = end, block + 1


def _batches(
    model: GPT,
    shards: Sequence[np.ndarray],
    max_tokens: int | None,
    stride: int | None,
    windows_at_once: int | None,
) -> Iterator[tuple[Tensor, Tensor, int, int]]:
    """Yield inputs and targets (batch, time), how many of each window's last positions count, and the place of the
    first of these among all predicted tokens. Those of a batch follow one another in the text.
    """
    context = model.config.max_seq_len
    stride = min(stride or context, context)
    at_once = windows_at_once or usual_windows(model)
    left = max_tokens if max_tokens is not None else sum(len(shard) for shard in shards)
    place = 0
    for shard in shards:
        same: list[np.ndarray] = []
        kind = (0, 0)
        for window, counted in _windows(shard, context, stride):
            if left <= 0:
                break
            counted = min(counted, left)
            left -= counted
            if same and (kind != (len(window), counted) or len(same) == at_once):
                yield *_pair(same), kind[1], place
                place += len(same) * kind[1]
                same = []
            kind = (len(window), counted)
            same.append(window)
        if same:
            yield *_pair(same), kind[1], place
            place += len(same) * kind[1]


def usual_windows(model: GPT) -> int:
    """Return how many windows of its context a network evaluates at once, unless told otherwise."""
    return max(1, min(TOKENS_AT_ONCE, LOGITS_AT_ONCE // model.config.vocab_size) // model.config.max_seq_len)


def _windows(shard: np.ndarray, context: int, stride: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield windows of up to context + 1 tokens, and how many of their last tokens are new."""
    predicted = 1
    while predicted < len(shard):
        end = min(len(shard), predicted + (context if predicted == 1 else stride))
        yield shard[max(0, end - 1 - context) : end], end - predicted
        predicted = end


def _pair(windows: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    tokens = torch.from_numpy(np.stack(windows).astype(np.int64))
    return tokens[:, :-1], tokens[:, 1:]
