from __future__ import annotations

import random
import statistics as reference
from collections import Counter

import pytest

from minigpt.tasks import Cancelled, Task
from minigpt.text.documents import Document, Message
from minigpt.text.statistics import Bin, Repeated, Statistics, survey, survey_text


def random_documents(count: int, longest: int) -> list[Document]:
    choose = random.Random(count)
    letters = "abc dé\n漢字🙂"
    return [Document("".join(choose.choices(letters, k=1 + choose.randrange(longest)))) for _ in range(count)]


@pytest.mark.parametrize(("count", "longest"), [(1, 5), (2, 5), (1001, 30), (60, 20_000)])
def test_counts_are_pythons_own(count: int, longest: int) -> None:
    documents = random_documents(count, longest)
    texts = [document.text for document in documents]
    lengths = [len(text) for text in texts]
    found = survey(documents, encodings={"utf-8": 3})

    assert (found.documents, found.conversations, found.encodings) == (count, 0, {"utf-8": 3})
    assert found.characters == sum(lengths)
    assert found.bytes == sum(len(text.encode()) for text in texts)
    assert (found.shortest, found.longest) == (min(lengths), max(lengths))
    assert found.median == pytest.approx(reference.median_low(lengths), rel=0.001)
    assert found.distinct_characters == len(set("".join(texts)))
    assert found.repeated_documents == count - len(set(texts))


def test_the_histogram_has_human_bins_without_gaps() -> None:
    lengths = [3, 9, 10, 19, 700, 700, 700]
    assert survey(Document("x" * length) for length in lengths).histogram == [
        Bin(2, 5, 1),
        Bin(5, 10, 1),
        Bin(10, 20, 2),
        Bin(20, 50, 0),
        Bin(50, 100, 0),
        Bin(100, 200, 0),
        Bin(200, 500, 0),
        Bin(500, 1000, 3),
    ]


def test_conversations_count_with_all_that_is_said() -> None:
    messages = (Message("user", "Wer?"), Message("assistant", "Ä"))
    found = survey([Document(messages=messages), Document("plain")])
    assert (found.conversations, found.characters, found.bytes, found.longest) == (1, 10, 11, 5)


def test_the_most_repeated_document_is_named() -> None:
    texts = ["one"] * 3 + ["two \x1b[31m"] * 5 + ["three"]
    found = survey(map(Document, texts))
    assert (found.repeated_documents, found.most_repeated) == (6, Repeated("two \\x1b[31m", 5))
    assert survey(map(Document, ["one", "two"])).most_repeated is None


def test_documents_that_begin_alike_are_told_apart() -> None:
    found = survey(Document("the same beginning " * 50 + end) for end in "abca")
    assert found.repeated_documents == 1
    assert found.most_repeated is not None and found.most_repeated.count == 2


def test_the_commonest_line_has_its_share_of_the_characters() -> None:
    found = survey_text(["Home | About\n", "Some other text, once.\n", "  Home | About\n\n\n"])
    assert found.commonest_line is not None
    assert found.commonest_line.text == "Home | About"
    assert found.commonest_line.share == pytest.approx(24 / 46)


@pytest.mark.parametrize("text", ["one line alone", "first\nsecond", "\n\n\n", ""])
def test_no_line_is_common_that_comes_once(text: str) -> None:
    assert survey_text([text]).commonest_line is None
    assert survey([Document(text)] if text else []).commonest_line is None


def test_a_common_line_and_document_are_found_with_few_counters() -> None:
    choose = random.Random(1)
    texts = [f"an other line {choose.random()}" if choose.random() < 0.7 else "the common line" for _ in range(5000)]
    documents = [Document(text) for text in texts]
    found = survey(documents, counters=10)

    assert found.most_repeated == Repeated("the common line", Counter(texts)["the common line"])
    assert found.commonest_line is not None and found.commonest_line.text == "the common line"
    exact = 15 * Counter(texts)["the common line"] / sum(map(len, texts))
    assert exact - 0.1 <= found.commonest_line.share <= exact


@pytest.mark.parametrize("size", [1, 1000, 3_000_000])
def test_a_lone_text_is_the_same_in_blocks_of_any_size(size: int) -> None:
    text = "".join(f"line {number % 3000} é\n" for number in range(10_000))
    blocks = (text[at : at + size] for at in range(0, len(text), size))
    assert survey_text(blocks) == survey_text([text])
    assert survey_text([text]).documents == 1


def test_a_huge_document_without_newlines_is_surveyed_as_in_blocks() -> None:
    text = "漢字 and words " * 300_000
    found = survey([Document(text)])
    assert found == survey_text([text[:1_500_000], text[1_500_000:]])
    assert (found.characters, found.bytes, found.distinct_characters) == (len(text), len(text.encode()), len(set(text)))


def test_lines_of_a_long_text_are_counted_in_a_part_of_it() -> None:
    block = "the same line of this text\n" * 20_000 + "x" * 500_000 + "\n"
    found = survey_text([block] * 80)
    assert found.characters == 80 * len(block)
    assert found.commonest_line is not None
    assert found.commonest_line.share == pytest.approx(520_000 / 1_020_000, rel=0.01)


def test_an_empty_corpus_has_empty_statistics() -> None:
    assert survey([]) == survey_text([]) == Statistics()


def test_surveying_tells_how_far_it_is_and_is_stopped() -> None:
    class Stopped(Task):
        def report(self, phase: str, done: float = 0, total: float | None = None, unit: str = "") -> None:
            assert (total, unit) == (100, "documents")
            if done == 50:
                raise Cancelled

    with pytest.raises(Cancelled):
        survey(random_documents(100, 10), Stopped(), total=100)
