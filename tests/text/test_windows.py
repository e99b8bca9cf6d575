from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigpt.errors import UserError
from minigpt.text.shards import TokenSplit
from minigpt.text.windows import Windows, permute
from tests.text import reference

Choices = dict[str, Any]
# The token 777 ends the first of two documents.
CHOICES: list[Choices] = [
    {},
    {"random_offsets": True},
    {"end_of_text": 777},
    {"random_offsets": True, "end_of_text": 777},
]


def make_windows(lengths: list[int], seq_len: int, seed: int = 0, **choices: Any) -> Windows:
    """Tokens count on through all the shards, so that a window's first token says which one it is."""
    ends = np.cumsum(lengths)
    shards = [np.arange(end - length, end).astype(np.uint16) for end, length in zip(ends, lengths, strict=True)]
    return Windows(TokenSplit(shards), seq_len, seed, **choices)


def test_every_window_comes_once_an_epoch_and_stays_in_its_shard() -> None:
    windows = make_windows([101, 8, 3, 57], 7)
    starts = [7 * i for i in range(14)] + [101] + [112 + 7 * i for i in range(8)]
    assert windows.count == len(starts) == 23
    orders = []
    for epoch in range(5):
        inputs, targets = windows.batch(epoch * windows.count, windows.count)
        assert inputs.shape == targets.shape == (23, 7)
        assert inputs.dtype == targets.dtype == np.int64
        assert (inputs == inputs[:, :1] + np.arange(7)).all()
        assert (targets == inputs + 1).all()
        assert sorted(inputs[:, 0].tolist()) == starts
        orders.append(inputs[:, 0].tolist())
    assert len({tuple(order) for order in [*orders, starts]}) == 6


@pytest.mark.parametrize("choices", CHOICES)
def test_the_stream_depends_on_position_and_seed_alone(choices: Choices) -> None:
    def stream(sizes: list[int], seed: int) -> list[list[int]]:
        windows = make_windows([5000], 2, seed, **choices)
        position, rows = 0, []
        for size in sizes:
            rows += windows.batch(position, size)[0].tolist()
            position += size
        return rows

    whole = stream([9000], 1)  # several epochs, and more than one block of the computed order
    assert stream([1, 2, 3000, 4000, 7, 1990], 1) == whole
    assert stream([4500, 4500], 1) == whole
    assert stream([9000], 2) != whole
    late = make_windows([5000], 2, 1, **choices)
    assert late.batch(8990, 10)[0].tolist() == whole[8990:]
    assert late.batch(3, 5)[0].tolist() == whole[3:8]


def test_the_order_is_the_same_on_every_machine() -> None:
    # Runs resume by this order: if it changes, every interrupted run would see other text.
    assert make_windows([41], 2, 7).order(0, 20).tolist() == [
        13, 15, 14, 0, 3, 1, 17, 19, 5, 7, 18, 12, 16, 9, 11, 8, 2, 4, 10, 6
    ]  # fmt: skip


def test_epochs_are_counted_by_windows() -> None:
    windows = make_windows([21], 2)
    assert windows.count == 10
    assert windows.epoch_at(0) == 0
    assert windows.epoch_at(25) == 2.5


# Random offsets


def test_with_random_offsets_each_epoch_cuts_at_another_token() -> None:
    windows = make_windows([101, 8, 15, 57], 7, random_offsets=True)
    shard_starts = [0, 101, 109, 124]
    assert windows.count == 13 + 0 + 1 + 7
    offsets = []
    for epoch in range(40):
        inputs, targets = windows.batch(epoch * windows.count, windows.count)
        assert (inputs == inputs[:, :1] + np.arange(7)).all()
        assert (targets == inputs + 1).all()
        offset = int(inputs.min())
        expected = [shard_starts[0] + 7 * i for i in range(13)] + [109] + [shard_starts[3] + 7 * i for i in range(7)]
        assert sorted(inputs[:, 0].tolist()) == [start + offset for start in expected]
        offsets.append(offset)
    assert set(offsets) == set(range(7))


@pytest.mark.parametrize("length", range(2, 30))
def test_as_many_windows_as_fit_at_every_offset(length: int) -> None:
    seq_len = 5
    fitting = min(len(range(offset, length - seq_len, seq_len)) for offset in range(seq_len))
    if fitting == 0:
        with pytest.raises(UserError, match=r"one window needs 10:"):
            make_windows([length], seq_len, random_offsets=True)
    else:
        assert make_windows([length], seq_len, random_offsets=True).count == fitting


# Shuffled documents


def documents_of(stream: list[int], end_of_text: int) -> list[tuple[int, ...]]:
    ends = [place + 1 for place, token in enumerate(stream) if token == end_of_text]
    return [tuple(stream[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]


def epoch_stream(windows: Windows, epoch: int) -> list[int]:
    """Lay an epoch's windows out in the order of their numbers: the text as that epoch cut it."""
    first = epoch * windows.count
    inputs, targets = windows.batch(first, windows.count)
    places = np.argsort(windows.order(first, windows.count))
    return [*inputs[places].ravel().tolist(), int(targets[places[-1]][-1])]


def test_shuffled_documents_stay_whole_and_come_once_an_epoch() -> None:
    tokens = np.random.default_rng(0).integers(1, 100, 3001)
    tokens[np.random.default_rng(1).choice(3000, 200, replace=False)] = 0
    tokens[-1] = 0
    shards = [tokens[:1500], tokens[1500:]]
    shards[0][-1] = 0
    windows = Windows(TokenSplit([shard.astype(np.uint16) for shard in shards]), 6, 5, end_of_text=0)
    assert windows.count == 500
    ours = documents_of(tokens.tolist(), 0)
    orders = [documents_of(epoch_stream(windows, epoch), 0) for epoch in range(3)]
    assert all(sorted(order) == sorted(ours) for order in orders)
    assert len({tuple(order) for order in [ours, *orders]}) == 4


def test_documents_are_laid_out_alike_in_parts_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = epoch_stream(make_windows([900, 101], 4, end_of_text=777), 0)
    monkeypatch.setattr("minigpt.text.windows._COPIED_AT_ONCE", 7)
    assert epoch_stream(make_windows([900, 101], 4, end_of_text=777), 0) == whole


def test_a_shard_without_a_last_end_of_text_parts_documents_too() -> None:
    windows = make_windows([10, 0, 11], 4, end_of_text=999)
    assert windows.documents is not None
    assert windows.documents.count == 2
    streams = {tuple(windows.documents.in_epoch(epoch).tolist()) for epoch in range(20)}
    assert streams == {tuple(range(21)), (*range(10, 21), *range(10))}


def test_too_much_text_to_shuffle_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.text.windows.MAX_SHUFFLED_TOKENS", 5000)
    assert make_windows([5000], 2, end_of_text=1).count
    with pytest.raises(UserError, match=r"5,001 tokens, and corpus.shuffle_documents.* up to 5,000: switch it off"):
        make_windows([5001], 2, end_of_text=1)


# Both, against a plain re-implementation


@pytest.mark.parametrize("choices", [*CHOICES, {"end_of_text": 3}, {"random_offsets": True, "end_of_text": 3}])
@pytest.mark.parametrize("seed", [0, 42, 2**63 - 1])
def test_the_stream_is_what_the_reference_says(choices: Choices, seed: int) -> None:
    shards = [np.arange(n) * 7919 % 11 for n in (50, 1, 0, 83)]
    windows = Windows(TokenSplit([shard.astype(np.uint32) for shard in shards]), 5, seed, **choices)
    rows = reference.windows([shard.tolist() for shard in shards], 5, seed, 70, **choices)
    inputs, targets = windows.batch(0, 70)
    assert inputs.tolist() == [row[:-1] for row in rows]
    assert targets.tolist() == [row[1:] for row in rows]


# The permutation


@pytest.mark.parametrize("count", [1, 2, 3, 63, 64, 65, 1000, 4097, 100_000])
def test_the_permutation_is_one(count: int) -> None:
    indices = np.arange(count, dtype=np.uint64)
    for key in (0, 1, 2**64 - 1):
        result = permute(indices, count, np.full(count, key, np.uint64))
        assert np.array_equal(np.sort(result), np.arange(count))


@pytest.mark.parametrize("count", [5, 60, 64])
def test_each_place_is_as_likely_as_any_other(count: int) -> None:
    keys = np.arange(20_000, dtype=np.uint64)
    for index in (0, count // 2, count - 1):
        places = permute(np.full(len(keys), index, np.uint64), count, keys)
        expected = len(keys) / count
        chi_square = float(((np.bincount(places, minlength=count) - expected) ** 2 / expected).sum())
        # Its mean is count - 1, its standard deviation sqrt(2 (count - 1)).
        assert chi_square < count - 1 + 6 * (2 * (count - 1)) ** 0.5


def test_neighbours_are_scattered_like_a_random_shuffle() -> None:
    count = 50_000
    order = permute(np.arange(count, dtype=np.uint64), count, np.full(count, 3, np.uint64))
    position = np.arange(count)
    assert abs(np.corrcoef(order, position)[0, 1]) < 5 / count**0.5
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 5 / count**0.5
    assert (np.abs(np.diff(order)) == 1).sum() < 20  # about 2 by chance
    assert (order == position).sum() < 15  # about 1 by chance
    other = permute(np.arange(count, dtype=np.uint64), count, np.full(count, 4, np.uint64))
    assert (order == other).sum() < 15


def test_a_split_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(UserError, match=r"validation split has 8 tokens and one window needs 9: .*max_seq_len"):
        Windows(TokenSplit([np.arange(8)], "validation"), 8, 0)
    with pytest.raises(UserError, match="has 0 tokens"):
        Windows(TokenSplit([]), 8, 0)
    assert Windows(TokenSplit([np.arange(9)]), 8, 0).count == 1
