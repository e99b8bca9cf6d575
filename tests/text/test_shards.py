from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from minigpt.errors import UserError
from minigpt.text.shard_writer import ShardWriter
from minigpt.text.shards import TokenSplit, read_shard


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
    assert list(tmp_path.glob("test*.bin")) == []


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
