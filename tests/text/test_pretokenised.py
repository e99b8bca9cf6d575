from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from minigpt.errors import UserError
from minigpt.text.corpus import Corpus
from minigpt.text.prepare import prepare
from minigpt.text.prepared import Prepared
from minigpt.text.pretokenised import TokenSource
from minigpt.text.shards import read_shard
from minigpt.text.tokenizer import Tokenizer
from minigpt.workspace import Workspace

TEXTS = [f"Story {number}: the quick brown fox jumps over {number % 9} lazy dogs." for number in range(300)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> tokenizers.Tokenizer:
    """A tokenizer like GPT-2's, made by the library alone."""
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    core.train_from_iterator(TEXTS, trainer)
    return core


@pytest.fixture
def tokenizer(library: tokenizers.Tokenizer) -> Tokenizer:
    return Tokenizer.from_json(library.to_str())


@pytest.fixture
def ids(library: tokenizers.Tokenizer) -> np.ndarray:
    """The texts as llm.c's scripts write them: each behind an end-of-text token."""
    end = library.token_to_id("<|endoftext|>")
    return np.array([token for text in TEXTS for token in [end, *library.encode(text).ids]], dtype="<u2")


def shard(path: Path, tokens: np.ndarray) -> Path:
    """Write a shard by the letter of llm.c's data format."""
    header = np.zeros(256, dtype="<i4")
    header[:3] = 20240520, 1, len(tokens)
    path.write_bytes(header.tobytes() + tokens.tobytes())
    return path


def prepared(corpus: Corpus, **more: object) -> Prepared:
    fractions = {"validation_fraction": 0.1, "test_fraction": 0.05}
    return prepare(corpus, tokenizer_kind="auto", vocab_size=300, **fractions, **more)  # type: ignore[arg-type]


def tokens(made: Prepared, split: str) -> list[int]:
    return made.split(split).read(0, made.tokens[split]).tolist()


def test_shards_are_used_as_they_are_and_the_end_is_held_out(
    tmp_path: Path, ids: np.ndarray, tokenizer: Tokenizer
) -> None:
    files = [shard(tmp_path / f"x_{number}.bin", part) for number, part in enumerate(np.array_split(ids, 4))]
    corpus = Corpus.create(Workspace(tmp_path / "w"), "tokens", TokenSource(files, tokenizer))
    made = prepared(corpus)
    assert tokens(made, "train") + tokens(made, "validation") + tokens(made, "test") == ids.tolist()
    assert (made.tokens["validation"], made.tokens["test"]) == (int(len(ids) * 0.1), int(len(ids) * 0.05))
    # The same bytes on the disk, not a copy.
    assert made.splits["train"][0].samefile(files[0])
    assert sum(made.bytes.values()) == sum(map(len, TEXTS)) == corpus.manifest.bytes
    assert made.tokenizer.to_json() == tokenizer.to_json()
    assert [document.text for document in corpus.documents()] == TEXTS
    assert corpus.manifest.documents == len(TEXTS)


def test_shards_that_are_named_for_validation_are_that(tmp_path: Path, ids: np.ndarray, tokenizer: Tokenizer) -> None:
    files = [shard(tmp_path / "fineweb_train_000001.bin", ids[:4000])]
    files.append(shard(tmp_path / "fineweb_val_000000.bin", ids[4000:]))
    made = prepared(Corpus.create(Workspace(tmp_path / "w"), "tokens", TokenSource(files, tokenizer)))
    assert tokens(made, "validation") == ids[4000:].tolist()
    assert tokens(made, "train") + tokens(made, "test") == ids[:4000].tolist()


def test_another_tokenizer_reads_their_text(tmp_path: Path, ids: np.ndarray, tokenizer: Tokenizer) -> None:
    source = TokenSource([shard(tmp_path / "x.bin", ids)], tokenizer)
    corpus = Corpus.create(Workspace(tmp_path / "w"), "tokens", source)
    made = prepared(corpus, tokenizer=Tokenizer.train("char", TEXTS, 0))
    texts = [
        text for split in made.splits for text in made.tokenizer.decode(tokens(made, split)).split("Story") if text
    ]
    assert sorted("Story" + text for text in texts) == sorted(TEXTS)


def test_tokens_of_another_tokenizer_are_refused(tmp_path: Path, ids: np.ndarray, tokenizer: Tokenizer) -> None:
    source = TokenSource([shard(tmp_path / "x.bin", ids + 100)], tokenizer)
    with pytest.raises(UserError, match=r"name the tokenizer.json that made these shards"):
        Corpus.create(Workspace(tmp_path / "w"), "tokens", source)
    assert not list((tmp_path / "w" / "data").iterdir())


def test_what_is_no_shard_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "x.bin").write_bytes(b"not tokens" * 300)
    with pytest.raises(UserError, match=r"x\.bin is not a token shard"):
        TokenSource([tmp_path / "x.bin"], tokenizer)


def test_an_added_shard_outlives_its_original(tmp_path: Path, ids: np.ndarray, tokenizer: Tokenizer) -> None:
    path = shard(tmp_path / "x.bin", ids)
    corpus = Corpus.create(Workspace(tmp_path / "w"), "tokens", TokenSource([path], tokenizer))
    path.unlink()
    assert np.array_equal(read_shard(corpus.files()[0]), ids)
