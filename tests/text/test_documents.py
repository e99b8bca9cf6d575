"""How one file of running text becomes documents, and what is known of it afterwards."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.errors import UserError
from minigpt.tasks import Cancelled, Task
from minigpt.text.documents import (
    detect_encoding,
    is_jsonl,
    is_plain_text,
    read_documents,
    read_text_blocks,
)
from minigpt.text.formats.opening import LIMITS, Limits
from minigpt.text.reading import Passed, Reading, Split

SMALL = Limits(line=100, field=100, document=50, whole=1000, page=1000)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(path: Path, split: Split = "auto", limits: Limits = LIMITS) -> list[str]:
    return [document.text for document in read_documents(path, Reading(split), limits=limits)]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("file", ["one\ntwo\n\n \n  three\n<|endoftext|>\nfour<|endoftext|>five\n"]),
        ("line", ["one", "two", "  three", "<|endoftext|>", "four<|endoftext|>five"]),
        ("paragraph", ["one\ntwo", "  three\n<|endoftext|>\nfour<|endoftext|>five"]),
        ("endoftext", ["one\ntwo\n\n \n  three", "four", "five"]),
        ("auto", ["one\ntwo\n\n \n  three", "four", "five"]),
        ("field", ["one\ntwo\n\n \n  three", "four", "five"]),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 5, 1 << 20])
def test_running_text_is_split_as_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: Split, expected: list[str], block_bytes: int
) -> None:
    monkeypatch.setattr("minigpt.text.documents.BLOCK_BYTES", block_bytes)
    path = write(tmp_path / "a.txt", "one\r\ntwo\r\n\r\n \r\n  three\n<|endoftext|>\nfour<|endoftext|>five\n")
    assert texts(path, split) == expected


def test_only_newlines_part_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "a\u2028b\x0bc\x85d\re\nf")
    assert texts(path, "line") == ["a\u2028b\x0bc\x85d\re", "f"]


@pytest.mark.parametrize("split", ["file", "line", "paragraph", "endoftext"])
def test_what_says_nothing_is_no_document(tmp_path: Path, split: Split) -> None:
    assert texts(write(tmp_path / "a.txt", " \n\n\t\n"), split) == []


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab \n", max_size=400), st.sampled_from(["file", "paragraph", "endoftext"]), st.integers(1, 60))
def test_no_letter_is_lost_however_long_a_document_may_be(
    tmp_path_factory: pytest.TempPathFactory, text: str, split: Split, longest: int
) -> None:
    path = write(tmp_path_factory.mktemp("cut") / "a.txt", text)
    found = texts(path, split, Limits(document=longest))
    assert all(len(document) <= longest for document in found)
    assert "".join("".join(found).split()) == "".join(text.split())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(alphabet="aé\n \r", max_size=8), max_size=20), st.integers(1, 9))
def test_lines_are_those_of_the_text_whatever_the_blocks(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], block_bytes: int
) -> None:
    text = "".join(parts)
    path = write(tmp_path_factory.mktemp("lines") / "a.txt", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minigpt.text.documents.BLOCK_BYTES", block_bytes)
        assert texts(path, "line") == [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def test_a_long_text_is_cut_after_paragraphs_else_lines_else_words(tmp_path: Path) -> None:
    text = "p" * 30 + "\n\n" + "l" * 40 + "\n" + "w" * 40 + " " + "x" * 60
    path = write(tmp_path / "a.txt", text)
    assert texts(path, "file", SMALL) == ["p" * 30 + "\n\n", "l" * 40 + "\n", "w" * 40 + " ", "x" * 50, "x" * 10]


def test_a_line_that_is_too_long_is_passed_over_and_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "short\n" + "x" * 101 + "\n" + "y" * 100 + "\n" + "z" * 1000)
    passed = Passed()
    found = [document.text for document in read_documents(path, Reading("line"), passed, limits=SMALL)]
    assert found == ["short", "y" * 100]
    assert passed == Passed(
        2, ["a.txt, line 2: longer than 100 characters", "a.txt, line 4: longer than 100 characters"]
    )


def test_a_file_of_nothing_but_too_long_lines_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "x" * 1000)
    with pytest.raises(UserError, match=r"Nothing in .*a\.txt can be used: line 1: longer than 100 characters\.$"):
        list(read_documents(path, Reading("line"), limits=SMALL))


def test_one_reading_gives_the_text_and_hands_over_its_bytes(tmp_path: Path) -> None:
    content = "Grüße\r\nzweite\r\n\r\nZeile ✓".encode()
    path = write(tmp_path / "a.txt", content)
    digest = hashlib.sha256()
    text = "".join(read_text_blocks(path, on_bytes=digest.update))
    assert digest.digest() == hashlib.sha256(content).digest()
    assert text == content.decode().replace("\r\n", "\n")


def test_reading_can_be_watched_and_stopped(tmp_path: Path) -> None:
    class Impatient(Task):
        def report(self, phase: str, done: float = 0, total: float | None = None, unit: str = "") -> None:
            assert (phase, done, total, unit) == ("reading", 4, 4, "bytes")
            raise Cancelled

    with pytest.raises(Cancelled):
        list(read_documents(write(tmp_path / "a.txt", "text"), Reading("file"), task=Impatient()))


@pytest.mark.parametrize(
    ("name", "plain", "jsonl"),
    [
        ("a.txt", True, False),
        ("a.TXT.gz", True, False),
        ("README", True, False),
        ("a.html", False, False),
        ("a.jsonl.zst", False, True),
        ("a.ndjson", False, True),
        ("a.json", False, False),
    ],
)
def test_a_name_tells_the_format(name: str, plain: bool, jsonl: bool) -> None:
    assert (is_plain_text(Path(name)), is_jsonl(Path(name))) == (plain, jsonl)


def test_a_beginning_tells_the_encoding_though_it_cuts_a_character(tmp_path: Path) -> None:
    assert detect_encoding(write(tmp_path / "a.txt", "x" + "é" * 100_000)) == "utf-8"
    assert detect_encoding(write(tmp_path / "b.txt", "é, è et ê".encode("cp1252"))) == "cp1252"


def test_a_beginning_tells_what_is_no_parquet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.parquet is no Parquet file"):
        detect_encoding(write(tmp_path / "a.parquet", "text"))


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Cannot read .*nowhere\.txt \(No such file or directory\)"):
        list(read_text_blocks(tmp_path / "nowhere.txt"))
