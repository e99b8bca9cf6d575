"""How well a model predicts a text: loss, perplexity, bits per byte, accuracy.

result = evaluate(model, [tokens], byte_lengths)
print(result.loss, result.perplexity)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from minigpt.model.gpt import GPT

# How many tokens go through the network at once: enough to keep it busy, little enough to fit anywhere.
TOKENS_AT_ONCE = 8192
LOGITS_AT_ONCE = 1 << 25


@dataclass(frozen=True)
class Evaluation:
    """Means over `tokens` predicted tokens: loss in nats, accuracies as shares, bits_per_byte None if unknown."""

    tokens: int
    loss: float
    bits_per_byte: float | None
    accuracy: float
    accuracy_top5: float

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
) -> Evaluation:
    """Predict every token of the shards once, but each shard's first, in windows of the model's context.

    With a `stride` below the context, windows overlap and each predicts its last `stride` tokens only, which then
    have more text before them. `byte_lengths` gives each token id's length in bytes of text.
    """
    device = next(model.parameters()).device
    lengths = None if byte_lengths is None else torch.from_numpy(byte_lengths.astype(np.int64)).to(device)
    was_training = model.training
    model.eval()
    totals = torch.zeros(5, dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
    try:
        for inputs, targets, counted in _batches(model, shards, max_tokens, stride):
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                logits = model(inputs.to(device)).float()
            totals += _sums(logits[:, -counted:], targets[:, -counted:].to(device), lengths)
    finally:
        model.train(was_training)
    tokens, nats, correct, among_five, n_bytes = totals.tolist()
    if not tokens:
        return Evaluation(0, math.nan, None, math.nan, math.nan)
    bits_per_byte = nats / math.log(2) / n_bytes if n_bytes else None
    return Evaluation(int(tokens), nats / tokens, bits_per_byte, correct / tokens, among_five / tokens)


def _sums(logits: Tensor, targets: Tensor, byte_lengths: Tensor | None) -> Tensor:
    flat, wanted = logits.flatten(0, 1), targets.flatten()
    nats = (
        F.cross_entropy(flat, wanted, reduction="none").double().sum()
        if flat.device.type != "mps"
        else (F.cross_entropy(flat, wanted, reduction="sum"))
    )
    likeliest = flat.topk(min(5, flat.size(1)), dim=1).indices == wanted[:, None]
    n_bytes = byte_lengths[wanted].sum() if byte_lengths is not None else torch.zeros_like(nats)
    count = torch.tensor(wanted.numel(), device=flat.device)
    sums = (count, nats, likeliest[:, 0].sum(), likeliest.any(dim=1).sum(), n_bytes)
    return torch.stack([value.to(nats.dtype) for value in sums])


def _batches(
    model: GPT, shards: Sequence[np.ndarray], max_tokens: int | None, stride: int | None
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Yield inputs and targets (batch, time), and how many of each window's last positions count."""
    context, vocab_size = model.config.max_seq_len, model.config.vocab_size
    stride = min(stride or context, context)
    at_once = max(1, min(TOKENS_AT_ONCE, LOGITS_AT_ONCE // vocab_size) // context)
    left = max_tokens if max_tokens is not None else sum(len(shard) for shard in shards)
    for shard in shards:
        windows: dict[tuple[int, int], list[np.ndarray]] = {}
        for window, counted in _windows(shard, context, stride):
            if left <= 0:
                break
            counted = min(counted, left)
            left -= counted
            same = windows.setdefault((len(window), counted), [])
            same.append(window)
            if len(same) == at_once:
                yield _pair(windows.pop((len(window), counted)), counted)
        for (_, counted), same in windows.items():
            yield _pair(same, counted)


def _windows(shard: np.ndarray, context: int, stride: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield windows of up to context + 1 tokens, and how many of their last tokens are new."""
    predicted = 1
    while predicted < len(shard):
        end = min(len(shard), predicted + (context if predicted == 1 else stride))
        yield shard[max(0, end - 1 - context) : end], end - predicted
        predicted = end


def _pair(windows: list[np.ndarray], counted: int) -> tuple[Tensor, Tensor, int]:
    tokens = torch.from_numpy(np.stack(windows).astype(np.int64))
    return tokens[:, :-1], tokens[:, 1:], counted
