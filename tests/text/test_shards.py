from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from minigpt.errors import UserError
from minigpt.text.shards import ShardWriter, TokenSplit, Windows, permute, read_shard


def read_as_llm_c_does(path: Path) -> tuple[int, int, list[int]]:
    data = path.read_bytes()
    magic, version, count = struct.unpack_from("<3i", data)
    size = {20240520: "H", 20240801: "I"}[magic]
    return magic, version, list(struct.unpack_from(f"<{count}{size}", data, 1024))


@pytest.mark.parametrize(("vocab_size", "magic", "version"), [(65_536, 20240520, 1), (65_537, 20240801, 7)])
def test_shards_have_the_public_layout(tmp_path: Path, vocab_size: int, magic: int, version: int) -> None:
    tokens = np.array([0, 1, 65_535, 7, vocab_size - 1, 3, 2])
    with ShardWriter(tmp_path, "train", vocab_size, shard_tokens=3) as writer:
        writer.add(tokens[:1])
        writer.add(tokens[1:6])
        writer.add(tokens[6:])
    assert [path.name for path in writer.paths] == [f"train_{i:06d}.bin" for i in range(3)]
    assert sorted(tmp_path.iterdir()) == writer.paths
    assert writer.tokens == 7
    expected = [[0, 1, 65_535], [7, vocab_size - 1, 3], [2]]
    for path, part in zip(writer.paths, expected, strict=True):
        assert read_as_llm_c_does(path) == (magic, version, part)
        assert path.stat().st_size == 1024 + len(part) * (2 if version == 1 else 4)
        assert read_shard(path).tolist() == part


def test_an_unfinished_shard_never_bears_its_name(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "validation", 100, shard_tokens=4)
    writer.add(np.arange(6))
    assert [path.name for path in tmp_path.glob("*.bin")] == ["validation_000000.bin"]
    with pytest.raises(RuntimeError), ShardWriter(tmp_path, "test", 100) as failing:
        failing.add(np.arange(6))
        raise RuntimeError
    assert list(tmp_path.glob("test*")) == []


def test_a_split_without_tokens_has_no_file(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "test", 100) as writer:
        writer.add(np.empty(0, np.int64))
    assert list(tmp_path.iterdir()) == []


def test_ids_outside_the_vocabulary_are_a_programming_error(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        ShardWriter(tmp_path, "train", 100).add(np.array([100]))


def shard_bytes(magic: int = 20240520, version: int = 1, count: int = 3, body: bytes = b"\0" * 6) -> bytes:
    return struct.pack("<256i", magic, version, count, *[0] * 253) + body


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a token shard"),
        (b"hello world " * 100, "not a token shard"),
        (shard_bytes(version=2), "not a token shard"),
        (shard_bytes(magic=20240801), "not a token shard"),
        (shard_bytes(body=b"\0" * 5), "damaged"),
        (shard_bytes(body=b"\0" * 8), "damaged"),
        (shard_bytes(count=-3), "damaged"),
    ],
)
def test_what_is_no_whole_shard_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "train_000000.bin"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_shard(path)


def test_a_missing_shard_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Cannot read the token shard"):
        read_shard(tmp_path / "train_000000.bin")


def test_a_split_reads_across_its_shards() -> None:
    split = TokenSplit([np.arange(0, 4), np.arange(4, 4), np.arange(4, 9)])
    assert split.tokens == 9
    assert split.read(0, 9).tolist() == list(range(9))
    assert split.read(2, 6).tolist() == [2, 3, 4, 5]
    assert split.read(4, 5).tolist() == [4]
    assert split.read(7, 99).tolist() == [7, 8]
    assert split.read(9, 12).tolist() == []


def make_windows(lengths: list[int], seq_len: int, seed: int = 0) -> Windows:
    """Tokens count on through all the shards, so that a window's first token says which one it is."""
    ends = np.cumsum(lengths)
    shards = [np.arange(end - length, end).astype(np.uint16) for end, length in zip(ends, lengths, strict=True)]
    return Windows(TokenSplit(shards), seq_len, seed)


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


def test_the_stream_depends_on_position_and_seed_alone() -> None:
    def stream(sizes: list[int], seed: int) -> list[list[int]]:
        windows = make_windows([5000], 2, seed)
        position, rows = 0, []
        for size in sizes:
            rows += windows.batch(position, size)[0].tolist()
            position += size
        return rows

    whole = stream([9000], 1)  # several epochs, and more than one block of the computed order
    assert stream([1, 2, 3000, 4000, 7, 1990], 1) == whole
    assert stream([4500, 4500], 1) == whole
    assert stream([9000], 2) != whole
    late = make_windows([5000], 2, 1)
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
