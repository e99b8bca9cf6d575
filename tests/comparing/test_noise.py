"""Standard errors of evaluations: against published tables, resampling by brute force, and many texts of one kind."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minigpt.comparing.noise import (
    FEWEST_BLOCKS,
    MOST_BLOCKS,
    block_ends,
    cut_alike,
    limit,
    paired_error,
    paired_limit,
    standard_error,
    t_quantile,
    unpaired_error,
)
from minigpt.config import ModelSettings
from minigpt.inference.evaluate import Evaluation, evaluate
from minigpt.model.gpt import GPT, GPTConfig
from minigpt.text import sample

CONTEXT, PIECES = 32, 20
# About as long as the stories are.
LENGTH = 512
# All of its windows are full.
PIECE = 256 * CONTEXT + 1


# Figures


@pytest.mark.parametrize(
    # Fisher and Yates, table III: probability 0.05 on both sides together.
    ("freedom", "value"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (20, 2.086), (30, 2.042), (120, 1.980)],
)
def test_quantiles_of_t_are_those_of_the_tables(freedom: int, value: float) -> None:
    assert t_quantile(freedom) == pytest.approx(value, rel=1.5e-3)


def test_there_is_no_t_without_freedom() -> None:
    with pytest.raises(ValueError, match="0 degrees"):
        t_quantile(0)


def test_the_error_of_equal_blocks_is_that_of_a_mean() -> None:
    losses = np.random.default_rng(0).normal(2, 0.3, 32)
    found = standard_error([(100, loss) for loss in losses.tolist()])
    assert found == pytest.approx(losses.std(ddof=1) / np.sqrt(32), rel=0.25)


def test_few_blocks_tell_no_error() -> None:
    assert standard_error([(10, 1.0 + number) for number in range(FEWEST_BLOCKS - 1)]) is None
    assert standard_error([]) is None
    assert standard_error([(10, float("nan"))] * 8) is None
    assert unpaired_error(0.1, None) is None


def test_what_is_common_to_both_drops_out_of_a_paired_difference() -> None:
    hard = np.random.default_rng(1).normal(2, 0.5, 32)
    first = [(64, loss) for loss in hard.tolist()]
    second = [(64, loss + 0.01) for loss in hard.tolist()]
    assert paired_error(first, second) == pytest.approx(0, abs=1e-12)
    assert unpaired_error(standard_error(first), standard_error(second)) > 0.05


def test_blocks_that_are_cut_otherwise_do_not_pair() -> None:
    assert not cut_alike([(10, 1.0)], [(11, 1.0)])
    assert not cut_alike([], [])
    with pytest.raises(ValueError, match="same numbers"):
        paired_error([(10, 1.0)], [(10, 1.0), (10, 2.0)])


@pytest.mark.parametrize("tokens", [0, 1, 31, 64, 1000, 16_384, 999_999])
def test_blocks_cover_the_text_in_equal_parts(tokens: int) -> None:
    ends = block_ends(tokens)
    sizes = np.diff([0, *ends])
    assert sizes.sum() == tokens
    assert len(ends) <= MOST_BLOCKS
    assert not len(sizes) or sizes.max() - sizes.min() <= 1


def coverage(document: int, tokens: int, texts: int) -> float:
    """Return how often the true mean, 0, is within the limit, for documents that differ in how hard they are."""
    random, within = np.random.default_rng(document), 0
    size = tokens // MOST_BLOCKS
    for _ in range(texts):
        first = random.integers(0, document)
        hard = np.repeat(random.normal(0, 0.3, tokens // document + 3), document)[first : first + tokens]
        means = (hard + random.normal(0, 1, tokens)).reshape(MOST_BLOCKS, size).mean(axis=1)
        within += abs(means.mean()) <= limit([(size, mean) for mean in means.tolist()])
    return within / texts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("document", "tokens", "least"),
    [(1, 8192, 0.94), (100, 8192, 0.94), (500, 8192, 0.93), (1000, 8192, 0.88), (1000, 65_536, 0.94)],
)
def test_the_limit_holds_the_truth_for_documents_of_any_length(document: int, tokens: int, least: float) -> None:
    assert least <= coverage(document, tokens, 1000) < 0.99


def test_blocks_that_resemble_their_neighbours_widen_the_limit() -> None:
    hard = np.random.default_rng(5).normal(2, 0.3, 8)
    alike = [(256, loss) for loss in np.repeat(hard, 4).tolist()]
    assert limit(alike) == pytest.approx(t_quantile(7) * standard_error([(1024, loss) for loss in hard.tolist()]))
    assert limit(alike) > 1.1 * t_quantile(31) * standard_error(alike)
    assert limit(alike[:3]) is None


# Real evaluations


class Trial(NamedTuple):
    """Two small networks, pieces of text of one kind, and what each network makes of each piece."""

    networks: tuple[GPT, GPT]
    pieces: list[np.ndarray]
    first: list[Evaluation]
    second: list[Evaluation]


def trained(tokens: np.ndarray, vocab_size: int, seed: int, steps: int) -> GPT:
    torch.manual_seed(seed)
    settings = ModelSettings(d_model=32, n_layers=1, n_heads=2, max_seq_len=CONTEXT)
    network = GPT(GPTConfig.from_settings(settings, vocab_size))
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    starts = np.random.default_rng(seed)
    for _ in range(steps):
        batch = np.stack([tokens[at : at + CONTEXT + 1] for at in starts.integers(0, len(tokens) - CONTEXT - 1, 16)])
        windows = torch.from_numpy(batch.astype(np.int64))
        loss = F.cross_entropy(network(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


@pytest.fixture(scope="module")
def trial() -> Trial:
    text = "\n".join(document.text for document in sample.documents(500_000, 7) if document.text)
    letters = {letter: number for number, letter in enumerate(sorted(set(text)))}
    tokens = np.array([letters[letter] for letter in text], dtype=np.uint16)
    held_out = tokens[: PIECES * PIECE]
    networks = tuple(trained(tokens[len(held_out) :], len(letters), seed, 60 + 20 * seed) for seed in (0, 1))
    pieces = np.split(held_out, PIECES)
    first, second = ([evaluate(network, [piece]) for piece in pieces] for network in networks)
    return Trial(networks, pieces, first, second)  # type: ignore[arg-type]


def token_losses(network: GPT, piece: np.ndarray) -> np.ndarray:
    """Predict every token from as much text as its window has before it, as `evaluate` does."""
    windows = torch.from_numpy(piece[:-1].astype(np.int64)).view(-1, CONTEXT)
    with torch.no_grad():
        logits = network(windows).flatten(0, 1)
    targets = torch.from_numpy(piece[1:].astype(np.int64))
    return F.cross_entropy(logits, targets, reduction="none").double().numpy()


def resampled_error(losses: np.ndarray, length: int, times: int = 400) -> float:
    """Return the spread of the mean over texts put together from stretches of this one (Kuensch 1989, circular)."""
    random = np.random.default_rng(0)
    sums = np.convolve(np.concatenate([losses, losses[: length - 1]]), np.ones(length), "valid")
    starts = random.integers(0, len(losses), (times, len(losses) // length))
    return float((sums[starts].mean(axis=1) / length).std())


@pytest.mark.slow
def test_blocks_are_the_means_of_their_tokens(trial: Trial) -> None:
    losses = token_losses(trial.networks[0], trial.pieces[0])
    ends = block_ends(len(losses))
    expected = [losses[begin:end].mean() for begin, end in zip([0, *ends], ends, strict=False)]
    np.testing.assert_allclose([loss for _, loss in trial.first[0].blocks], expected, rtol=1e-5)


@pytest.mark.slow
def test_the_error_agrees_with_resampling_by_brute_force(trial: Trial) -> None:
    ratios = []
    for piece, told in zip(trial.pieces[:8], trial.first, strict=False):
        ratios.append(told.loss_error / resampled_error(token_losses(trial.networks[0], piece), LENGTH))
    assert np.mean(ratios) == pytest.approx(1, abs=0.2)
    assert min(ratios) > 0.6 and max(ratios) < 1.6


@pytest.mark.slow
def test_the_paired_error_agrees_with_resampling_by_brute_force(trial: Trial) -> None:
    ratios = []
    for number in range(8):
        both = [token_losses(network, trial.pieces[number]) for network in trial.networks]
        error = paired_error(trial.first[number].blocks, trial.second[number].blocks)
        ratios.append(error / resampled_error(both[0] - both[1], LENGTH))
    assert np.mean(ratios) == pytest.approx(1, abs=0.2)


@pytest.mark.slow
def test_losses_on_other_texts_lie_as_far_apart_as_the_error_says(trial: Trial) -> None:
    spread = np.std([told.loss for told in trial.first], ddof=1)
    assert np.mean([told.loss_error for told in trial.first]) == pytest.approx(spread, rel=0.4)


@pytest.mark.slow
def test_differences_on_other_texts_lie_as_far_apart_as_the_paired_error_says(trial: Trial) -> None:
    differences = np.array([one.loss - two.loss for one, two in zip(trial.first, trial.second, strict=True)])
    errors = [paired_error(one.blocks, two.blocks) for one, two in zip(trial.first, trial.second, strict=True)]
    assert np.mean(errors) == pytest.approx(differences.std(ddof=1), rel=0.35)
    both = [unpaired_error(one.loss_error, two.loss_error) for one, two in zip(trial.first, trial.second, strict=True)]
    assert np.mean(errors) < 0.8 * np.mean(both), "pairing tells finer differences"


@pytest.mark.slow
def test_the_true_difference_is_within_the_quantile_19_times_in_20(trial: Trial) -> None:
    differences = np.array([one.loss - two.loss for one, two in zip(trial.first, trial.second, strict=True)])
    limits = np.array([paired_limit(a.blocks, b.blocks) for a, b in zip(trial.first, trial.second, strict=True)])
    outside = np.abs(differences - differences.mean()) > limits
    assert outside.sum() <= 4, "of 20, one is expected"
