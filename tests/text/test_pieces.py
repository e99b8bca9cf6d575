from __future__ import annotations

import itertools
import random
import re
import tracemalloc
from collections.abc import Iterator

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.text.pieces import GPT2_CUTS, LONGEST_PIECE, OUR_CUTS, PIECE, Cuts, cut, without_long_words
from minigpt.text.tokenizer import Tokenizer
from minigpt.text.tokenizer_training import LEARNING_WORD_BYTES, learning_sample, spread

LETTERS = "".join(random.Random(0).choices("abcdefgh", k=PIECE))


def blocks(text: str, size: int) -> Iterator[str]:
    return (text[i : i + size] for i in range(0, len(text), size))


@pytest.mark.parametrize("cuts", [OUR_CUTS, GPT2_CUTS, ()])
@pytest.mark.parametrize(
    "text", [LETTERS * 20, " " * 1_500_000, "\n" * 1_500_000, "你好，" * 500_000, "e\u0301" * 800_000], ids=str.__len__
)
def test_a_text_without_any_place_to_cut_comes_in_pieces_of_bounded_length(cuts: Cuts, text: str) -> None:
    pieces = list(cut(blocks(text, 900_000), cuts))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= LONGEST_PIECE


def test_an_endless_line_is_not_held_in_memory() -> None:
    def line() -> Iterator[str]:
        for _ in range(250):
            yield LETTERS

    tracemalloc.start()
    try:
        total = sum(map(len, cut(line(), OUR_CUTS)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 250 * PIECE
    assert peak < 7 * LONGEST_PIECE


@pytest.mark.parametrize("block", [1000, 10_000_000])
def test_a_line_is_searched_a_few_times_however_it_comes(block: int) -> None:
    searched = 0

    class Counting:
        """A kind of cut that is nowhere in the text."""

        def search(self, text: str, start: int, end: int) -> re.Match[str] | None:
            nonlocal searched
            searched += max(0, min(end, len(text)) - start)
            return None

    text = LETTERS * 50
    assert sum(map(len, cut(blocks(text, block), (Counting(),)))) == len(text)  # type: ignore[arg-type]
    assert searched < 4 * len(text)


@pytest.mark.parametrize(
    ("text", "after", "before"),
    [
        ("a" * PIECE + " b,1" * 250_000 + "a" * PIECE, "1", " "),
        ("a" * PIECE + "b,1\n" * 250_000 + "a" * PIECE, "\n", "b"),
        ("a" * PIECE + "e\u0301" * 500_000 + "\u0301" * PIECE, "\u0301", "e"),
        ("," * (LONGEST_PIECE + 5), ",", ","),
    ],
)
def test_a_forced_cut_is_where_it_does_least_harm(text: str, after: str, before: str) -> None:
    first, second, *_ = cut([text], ())
    assert (first[-1], second[0]) == (after, before)


def test_a_foreign_tokenizer_keeps_its_words_where_it_is_cut() -> None:
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<unk>": 0, "speak": 1, "hear": 2}, unk_token="<unk>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    text = "speak hear " * 200_000
    assert Tokenizer.from_json(core.to_str()).encode(text) == [1, 2] * 200_000


@given(st.lists(st.sampled_from(["a", "1", "\n", " ", ",", "你"]), max_size=60).map("".join))
@settings(max_examples=200, deadline=None)
def test_ordinary_text_is_cut_as_before(text: str) -> None:
    """After newlines between other characters, and nowhere within words: by the definition, read one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minigpt.text.pieces.PIECE", 1)
        pieces = list(cut([text], OUR_CUTS[:1]))
    assert "".join(pieces) == text
    for left, right in itertools.pairwise(pieces):
        assert left.endswith("\n")
        assert left.rstrip("\n")[-1:].strip()
        assert right[0].strip()


@pytest.mark.parametrize(
    "text",
    ["hear me speak\n" * 5000, "a" * 3000 + " b", " " * 2500 + "x", "=" * 2500, "ab_" * 1000, "你" * 2500 + "。"],
)
def test_long_words_come_in_short_parts_and_nothing_is_lost(text: str) -> None:
    parts = list(without_long_words(text))
    assert "".join(parts) == text
    longest = max(len(run) for part in parts for run in re.findall(r"[^\W\d_]+|(?:_|[^\w\s])+|\s+", part))
    assert longest <= 1000
    assert len(parts) == 1 or max(len(run) for run in re.findall(r"[^\W\d_]+|(?:_|[^\w\s])+|\s+", text)) > 1000


def test_a_line_of_letters_is_learned_from_as_quickly_as_a_text() -> None:
    # Took minutes when its time grew with the square of the line's length; the whole suite has a time limit.
    tokenizer = Tokenizer.train("bpe", [LETTERS * 6], 300)
    assert tokenizer.vocab_size == 300


def test_learning_from_ordinary_text_is_as_it_was() -> None:
    texts = ["Hear me speak.\n" * 10, "Größe 12", ""]
    assert list(learning_sample(texts, sum(map(len, texts)))) == texts


@pytest.mark.parametrize("size", [3, 100, 65_536, 1_000_000])
@pytest.mark.parametrize(("total", "wanted"), [(200_000, 50_000), (200_000, 7000), (199_999, 199_998)])
def test_a_sample_is_as_large_as_asked_and_from_all_parts(size: int, total: int, wanted: int) -> None:
    text = "".join(chr(0x4E00 + i * 50 // total) for i in range(total))
    sample = "".join(spread(blocks(text, size), total, wanted))
    assert len(sample) == pytest.approx(wanted, rel=0.02)
    counts = [sample.count(chr(0x4E00 + i)) for i in range(50)]
    assert min(counts) > 0
    assert sample == "".join(sorted(sample))


def test_a_sample_of_different_words_is_bounded_and_from_all_parts() -> None:
    pick = random.Random(0)
    texts = ["".join(pick.choices("abcdefghij", k=2000)) + f" {i // 400}" for i in range(4000)]
    sample = list(learning_sample(texts, sum(map(len, texts))))
    assert sum(map(len, sample)) < LEARNING_WORD_BYTES * 1.1
    assert {text.split()[1] for text in sample} == {str(i) for i in range(10)}
