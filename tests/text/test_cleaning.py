from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ftfy
import pytest

from minigpt.config import CorpusSettings
from minigpt.errors import JobFailed, UserError
from minigpt.tasks import Cancelled, Task
from minigpt.text.cleaning import Cleaned, plan_cleaning, plan_cleaning_of_text
from minigpt.text.cleaning_report import CleaningSettings
from minigpt.text.documents import Document, Message
from minigpt.text.duplicates import across_splits, document_hash
from minigpt.text.repair import repair

EXACT = CleaningSettings(deduplicate="exact")
NEAR = CleaningSettings(deduplicate="near")
CHINESE = "北风与太阳正在争论谁的力量更强大，这时来了一位身穿厚斗篷的旅人。他们商定，谁能先让旅人脱下斗篷，谁就算更强。"
THAI = "ลมเหนือและพระอาทิตย์เถียงกันว่าใครแข็งแรงกว่ากันขณะนั้นมีนักเดินทางคนหนึ่งสวมเสื้อคลุมหนาเดินผ่านมา"


def plan(documents: list[Document], settings: CleaningSettings, scratch: Path, **options: Any) -> Cleaned:
    return plan_cleaning(lambda: iter(documents), settings, scratch, **options)


def texts_of(*texts: str) -> list[Document]:
    return [Document(text) for text in texts]


def kept(cleaned: Cleaned, documents: list[Document]) -> list[str]:
    return [document.text for document in cleaned.apply(documents)]


def words(seed: int, count: int) -> list[str]:
    return [f"w{number}" for number in random.Random(seed).sample(range(100_000), count)]


def conversation(*contents: str) -> Document:
    roles = ("user", "assistant") * len(contents)
    return Document(messages=tuple(map(Message, roles, contents)))


@pytest.mark.parametrize(
    "text",
    [
        "plain text\nin two lines\t.",
        "the cafÃ© â€œopensâ€\x9d at 9\nand a good line: “so”",
        "one\r\ntwo\rthree\u2028four\n",
        "a\x00b\x07c \x1b[31mred\x1b[0m",
        "soft ﬁne oﬀer",
        "e\u0301te\u0301 a\u0308",
        "ï»¿start\nÃ la carte\n\nlast",
        "<b>3 &lt; 4 &amp; fÃ¼nf</b>\n&lt;",
        "Ð¿Ñ\x80Ð¸Ð²ÐµÑ\x82",
        "",
    ],
)
def test_a_repair_is_ftfys(text: str) -> None:
    config = ftfy.TextFixerConfig(unescape_html=False, uncurl_quotes=False, fix_character_width=False)
    assert repair(text) == ftfy.fix_text(text, config)


@pytest.mark.parametrize(
    "text", ["“Don’t,” she said – ‘no’…", CHINESE, THAI, "Ｆｕｌｌ　ｗｉｄｔｈ！", "3 &lt; 4", "naïve Æsir"]
)
def test_good_text_is_left_as_it_is(text: str) -> None:
    assert repair(text) == text


def test_documents_are_repaired_in_text_and_conversation(tmp_path: Path) -> None:
    documents = [Document("fine"), Document("the cafÃ©"), conversation("where?", "in ZÃ¼rich")]
    cleaned = plan(documents, CleaningSettings(fix_unicode=True), tmp_path)

    expected = [Document("fine"), Document("the café"), conversation("where?", "in Zürich")]
    assert list(cleaned.apply(documents)) == expected
    assert (cleaned.report.repaired.count, cleaned.report.characters_before - cleaned.report.characters_after) == (2, 2)
    assert cleaned.report.repaired.examples[0] == "“the cafÃ©” became “the café”"


def test_what_repair_makes_equal_is_a_copy(tmp_path: Path) -> None:
    documents = texts_of("the café", "the cafÃ©")
    assert kept(plan(documents, CleaningSettings(True, "exact"), tmp_path), documents) == ["the café"]


@pytest.mark.parametrize("batch", [1, 7, 100, 10_000])
def test_exact_copies_are_those_that_a_set_finds(tmp_path: Path, batch: int) -> None:
    choose = random.Random(batch)
    documents = [Document(f"text {choose.randrange(300)}") for _ in range(1000)]
    cleaned = plan(documents, EXACT, tmp_path, batch=batch)

    assert kept(cleaned, documents) == list(dict.fromkeys(document.text for document in documents))
    assert cleaned.report.exact.count == cleaned.report.documents - cleaned.report.kept
    left_out = sum(len(document.text) for document in documents) - sum(map(len, kept(cleaned, documents)))
    assert cleaned.report.exact.characters == left_out
    assert cleaned.report.characters_after == cleaned.report.characters_before - left_out


def test_hashes_go_to_disk_and_one_document_for_ever_does_not_fill_it(tmp_path: Path) -> None:
    sizes: list[int] = []

    def watched(documents: list[Document]) -> Callable[[], Iterator[Document]]:
        def read() -> Iterator[Document]:
            for document in documents:
                yield document
                sizes.append(sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()))

        return read

    plan_cleaning(watched([Document(str(number)) for number in range(200)]), EXACT, tmp_path, batch=10)
    assert max(sizes) == 200 * 24
    sizes.clear()
    plan_cleaning(watched([Document("again")] * 200), EXACT, tmp_path, batch=10)
    assert max(sizes) == 200 // 10 * 24
    assert list(tmp_path.iterdir()) == []


def test_a_conversation_is_no_copy_of_a_text_or_of_other_turns() -> None:
    hashes = map(
        document_hash,
        [Document("ab"), conversation("ab"), conversation("a", "b"), conversation("", "ab"), conversation("ab", "")],
    )
    assert len(set(hashes)) == 5


def similarity(one: str, other: str) -> float:
    """Return the exact Jaccard similarity of two texts' runs of five words."""
    runs = [{tuple(text.split()[at : at + 5]) for at in range(len(text.split()) - 4)} for text in (one, other)]
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


def test_near_copies_are_those_of_high_similarity(tmp_path: Path) -> None:
    documents, alike = [], []
    for number in range(60):
        text = words(number, 400)
        for place in random.Random(number).sample(range(400), 1 + number // 3):
            text[place] = "changed"
        documents += texts_of(" ".join(words(number, 400)), " ".join(text))
        alike.append(similarity(documents[-2].text, documents[-1].text))
    left = set(kept(plan(documents, NEAR, tmp_path), documents))

    found = [documents[2 * number + 1].text not in left for number in range(60)]
    assert all(was for was, value in zip(found, alike, strict=True) if value > 0.92)
    assert not any(was for was, value in zip(found, alike, strict=True) if value < 0.68)
    assert {value > 0.92 for value in alike} == {value < 0.68 for value in alike} == {True, False}
    assert all(document.text in left for document in documents[::2])


@pytest.mark.parametrize("text", [CHINESE, THAI, "The north wind and the sun argued " * 3 + "about who was stronger."])
def test_near_copies_need_no_spaces_between_words(tmp_path: Path, text: str) -> None:
    other = "".join(random.Random(0).sample(text, len(text)))
    documents = texts_of(text, other, text + "!", text.replace("。", "").upper())
    cleaned = plan(documents, NEAR, tmp_path)
    assert kept(cleaned, documents) == [text, other]
    assert cleaned.report.near.examples[0].startswith(f"“{text[:20]}")


def test_short_texts_are_near_copies_only_when_they_say_the_same(tmp_path: Path) -> None:
    documents = texts_of("Yes, please!", "yes please", "No, thanks.", "!!!", "???")
    assert kept(plan(documents, NEAR, tmp_path), documents) == ["Yes, please!", "No, thanks.", "!!!", "???"]


def test_a_copy_of_a_near_copy_goes_too(tmp_path: Path) -> None:
    first, near = " ".join(words(1, 300)), " ".join([*words(1, 300), "more"])
    documents = texts_of(first, near, near, first)
    cleaned = plan(documents, NEAR, tmp_path)
    assert kept(cleaned, documents) == [first]
    assert (cleaned.report.near.count, cleaned.report.exact.count, cleaned.report.kept) == (1, 2, 1)


def test_beyond_the_limit_only_exact_copies_are_found_and_that_is_said(tmp_path: Path) -> None:
    texts = [" ".join(words(number, 100)) for number in range(4)]
    documents = texts_of(*texts, texts[0] + " more", texts[1])
    cleaned = plan(documents, NEAR, tmp_path, near_limit=3)
    assert kept(cleaned, documents) == [*texts, texts[0] + " more"]
    assert cleaned.report.in_words()[-1].startswith("Only the first 3 documents were compared for near copies")
    assert "Only the first" not in plan(documents, NEAR, tmp_path).report.in_words()[-1]


def test_short_documents_are_left_out_by_their_characters(tmp_path: Path) -> None:
    documents = [Document("1234"), Document("12345"), conversation("ab", "cd"), conversation("ab", "cde")]
    cleaned = plan(documents, CleaningSettings(min_characters=5), tmp_path)
    assert list(cleaned.apply(documents)) == [documents[1], documents[3]]
    assert cleaned.report.too_short.characters == 8


def test_each_option_says_what_it_did_with_examples(tmp_path: Path) -> None:
    long = " ".join(words(1, 200))
    documents = texts_of(long, long + " more", long, "tiny", *["donâ€™t stop\x1b[31m now"] * 2)
    report = plan(documents, CleaningSettings(True, "near", 10), tmp_path).report

    sentences = report.in_words()
    assert sentences[0].startswith("Cleaning kept 2 of 6 documents")
    assert sentences[1].startswith(
        "Repaired the Unicode of 2 documents (42 characters), such as “donâ€™t stop\\x1b[31m"
    )
    assert sentences[2] == "Left out 1 document of fewer than 10 characters (4 characters), such as “tiny”."
    assert sentences[3].startswith("Left out 2 documents that came before, word for word")
    assert sentences[4].startswith("Left out 1 document nearly the same as an earlier one")
    assert report.kept + report.exact.count + report.near.count + report.too_short.count == report.documents
    assert not any("\x1b" in sentence for sentence in sentences)


def test_what_found_nothing_says_so(tmp_path: Path) -> None:
    report = plan(texts_of("one", "two"), EXACT, tmp_path).report
    assert report.in_words()[1] == "Left out no document that came before, word for word."


def test_decisions_replay_exactly_also_from_disk(tmp_path: Path) -> None:
    choose = random.Random(3)
    documents = [Document("cafÃ© " * choose.randrange(4) + str(choose.randrange(20))) for _ in range(500)]
    settings = CleaningSettings(True, "near", 8)
    cleaned = plan(documents, settings, tmp_path)
    cleaned.save(tmp_path)
    loaded = Cleaned.load(tmp_path)

    first = list(cleaned.apply(documents))
    assert 0 < len(first) == cleaned.report.kept < 500
    assert list(cleaned.apply(documents)) == list(loaded.apply(documents)) == first
    assert (loaded.report, loaded.settings) == (cleaned.report, settings)
    assert [list(plan(documents, settings, tmp_path).apply(documents)) for _ in range(2)] == [first, first]


@pytest.mark.parametrize("count", [2, 4])
def test_documents_that_changed_meanwhile_are_noticed(tmp_path: Path, count: int) -> None:
    cleaned = plan(texts_of("one", "two", "three"), EXACT, tmp_path)
    with pytest.raises(JobFailed, match="changed while"):
        list(cleaned.apply([Document(str(number)) for number in range(count)]))


@pytest.mark.parametrize("damage", ["kept.bits", "repaired.bits", "cleaning.json"])
def test_damaged_decisions_are_refused(tmp_path: Path, damage: str) -> None:
    plan(texts_of(*map(str, range(20))), EXACT, tmp_path).save(tmp_path)
    (tmp_path / damage).write_bytes((tmp_path / damage).read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged"):
        Cleaned.load(tmp_path)


def test_a_huge_document_is_compared_whole(tmp_path: Path) -> None:
    book = "\n".join(" ".join(words(number, 50)) for number in range(3000))
    other_end = book[: len(book) // 2] + "\n".join(" ".join(words(number, 50)) for number in range(9000, 10500))
    documents = texts_of(book, book, book + " The end.", other_end)
    assert kept(plan(documents, NEAR, tmp_path), documents) == [book, other_end]


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rensa", None)
    with pytest.raises(UserError, match=r'pip install "minigpt-tui\[clean\]"'):
        plan(texts_of("one"), NEAR, tmp_path)


def test_cleaning_is_stopped_and_leaves_nothing(tmp_path: Path) -> None:
    class Stopped(Task):
        def report(self, phase: str, done: float = 0, total: float | None = None, unit: str = "") -> None:
            if done == 50:
                raise Cancelled

    documents = [Document(str(number)) for number in range(100)]
    with pytest.raises(Cancelled):
        plan_cleaning(lambda: iter(documents), EXACT, tmp_path, Stopped(), batch=10)
    assert list(tmp_path.iterdir()) == []


def test_a_lone_text_is_repaired_block_by_block() -> None:
    blocks = ["good\n", "the cafÃ©\n", "ZÃ¼rich"]
    cleaned = plan_cleaning_of_text(lambda: blocks, CleaningSettings(True, "exact", 1000))
    assert (cleaned.report.kept, cleaned.report.repaired.count) == (1, 1)
    assert cleaned.report.characters_after == len("good\nthe café\nZürich") == cleaned.report.characters_before - 2
    assert [document.text for document in cleaned.apply(texts_of("".join(blocks)))] == ["good\nthe café\nZürich"]


def test_settings_come_from_the_configuration() -> None:
    settings = CleaningSettings.of(CorpusSettings(fix_unicode=True, deduplicate="near", min_characters=3))
    assert settings == CleaningSettings(True, "near", 3) and settings.any
    assert not CleaningSettings.of(CorpusSettings()).any


def test_held_out_documents_that_are_in_train_too_are_counted() -> None:
    parts = [
        ("train", "Once upon a TIME\nthere was"),
        ("validation", "once upon a time there  was"),
        ("train", "something else"),
        ("test", "a new one"),
        ("test", "Something  ELSE"),
        ("test", "something else"),
    ]
    report = across_splits(lambda: parts)
    assert (report.compared, report.found, report.by_split) == (4, 3, {"validation": 1, "test": 2})
    assert report.share == 0.75 and report.whole
    assert "3 of 4 held-out documents (75.0%: 2 in test and 1 in validation)" in report.in_words()[0]
    assert "“once upon a time there was”" in report.in_words()[0]


def test_no_copies_and_nothing_held_out_are_told_apart() -> None:
    clean = across_splits(lambda: [("train", "one"), ("test", "two")])
    assert clean.in_words() == ["None of 1 held-out documents stands in the training text too."]
    assert across_splits(lambda: [("train", "one")]).in_words() == []


@pytest.mark.parametrize("size", [1, 10, 64, 10_000])
def test_a_lone_texts_lines_are_compared_across_blocks(size: int) -> None:
    line, other = (
        "A line that is long enough to be worth comparing, by far.",
        "Another line that stands in one of the parts only, once.",
    )
    train, validation = f"{line}\nshort\n{other}\n{line}", f"{line.upper()}\nshort\n{'x' * 60}"
    parts = [
        (split, text[at : at + size])
        for split, text in (("train", train), ("validation", validation))
        for at in range(0, len(text), size)
    ]
    report = across_splits(lambda: parts, lone=True)
    assert (report.unit, report.compared, report.found) == ("line", 2, 1)


def test_only_so_much_text_is_compared_and_that_is_said() -> None:
    parts = [("test", "held out"), ("test", "never looked at"), ("train", "first"), ("train", "never looked at")]
    assert across_splits(lambda: parts, held_out_characters=8).compared == 1
    report = across_splits(lambda: parts, train_characters=5)
    assert (report.found, report.whole) == (0, False)
    assert report.in_words()[-1].startswith("Of this much text")
