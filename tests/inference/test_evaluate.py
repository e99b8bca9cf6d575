from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minigpt.inference.evaluate import evaluate
from tests.inference.test_generate import random_model


def shard(length: int, vocab_size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, vocab_size, length).astype(np.uint16)


def expected_losses(model: torch.nn.Module, tokens: np.ndarray, context: int, stride: int) -> list[float]:
    """Predict each token by itself, from as much text as its window has before it: slow and plain."""
    losses = []
    end_of_window = context
    for target in range(1, len(tokens)):
        if target > end_of_window:
            end_of_window = min(end_of_window + stride, len(tokens) - 1)
        start = max(0, end_of_window - context)
        inputs = torch.from_numpy(tokens[start:target].astype(np.int64))[None]
        with torch.no_grad():
            logits = model(inputs)[0, -1]
        losses.append(F.cross_entropy(logits, torch.tensor(int(tokens[target]))).item())
    return losses


@pytest.mark.parametrize("length", [2, 16, 17, 18, 100])
@pytest.mark.parametrize("stride", [16, 5, 1])
def test_every_token_is_predicted_once(length: int, stride: int) -> None:
    model, _ = random_model(context=16)
    tokens = shard(length, model.config.vocab_size)
    result = evaluate(model, [tokens], stride=stride)
    losses = expected_losses(model, tokens, 16, stride)
    assert result.tokens == length - 1
    assert result.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert result.perplexity == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)


def test_accuracy_and_bits_per_byte() -> None:
    model, _ = random_model(context=16)
    tokens = shard(33, model.config.vocab_size)
    lengths = np.arange(model.config.vocab_size) % 3
    result = evaluate(model, [tokens], lengths)
    with torch.no_grad():
        windows = torch.from_numpy(tokens[:32].astype(np.int64)).view(2, 16)
        ranks = model(windows).flatten(0, 1).argsort(-1, descending=True)
    targets = torch.from_numpy(tokens[1:].astype(np.int64))[:, None]
    assert result.accuracy == pytest.approx((ranks[:, :1] == targets).float().mean().item())
    assert result.accuracy_top5 == pytest.approx((ranks[:, :5] == targets).any(-1).float().mean().item())
    assert result.bits_per_byte == pytest.approx(32 * result.loss / math.log(2) / lengths[tokens[1:]].sum())


def test_a_limit_counts_tokens_over_all_shards() -> None:
    model, _ = random_model(context=16)
    parts = [shard(20, model.config.vocab_size, seed) for seed in range(3)]
    assert evaluate(model, parts, max_tokens=30).tokens == 30
    assert evaluate(model, parts).tokens == 57


def test_evaluation_leaves_the_model_as_it_was() -> None:
    model, _ = random_model(context=16)
    model.train()
    state = torch.get_rng_state()
    evaluate(model, [shard(40, model.config.vocab_size)])
    assert model.training
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("lengths", "stride", "limit"), [((120, 2, 200), 16, 250), pytest.param((300,), 5, 180, marks=pytest.mark.slow)]
)
def test_blocks_are_the_means_of_contiguous_parts(lengths: tuple[int, ...], stride: int, limit: int | None) -> None:
    model, _ = random_model(context=16)
    parts = [shard(length, model.config.vocab_size, seed) for seed, length in enumerate(lengths)]
    result = evaluate(model, parts, max_tokens=limit, stride=stride)
    losses = [loss for part in parts for loss in expected_losses(model, part, 16, stride)]
    sizes = [tokens for tokens, _ in result.blocks]
    assert sum(sizes) == result.tokens
    assert max(sizes) - min(sizes) <= 1
    whole = losses[: result.tokens] if limit is None else losses
    for begin, (tokens, loss) in zip(np.cumsum([0, *sizes]), result.blocks[:-1], strict=False):
        assert loss == pytest.approx(np.mean(whole[begin : begin + tokens]), rel=1e-5)
    assert sum(tokens * loss for tokens, loss in result.blocks) / result.tokens == pytest.approx(result.loss)


def test_another_context_cuts_the_same_blocks() -> None:
    cuts = []
    for context in (8, 32):
        model, _ = random_model(context=context)
        blocks = evaluate(model, [shard(500, model.config.vocab_size), shard(90, model.config.vocab_size)]).blocks
        cuts.append([tokens for tokens, _ in blocks])
    assert cuts[0] == cuts[1]


def test_too_little_text_has_no_error() -> None:
    model, _ = random_model(context=16)
    assert evaluate(model, [shard(60, model.config.vocab_size)]).loss_error is None
    assert evaluate(model, []).blocks == ()
    assert (evaluate(model, [shard(600, model.config.vocab_size)]).loss_error or 0) > 0
