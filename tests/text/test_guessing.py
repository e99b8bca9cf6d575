"""How files are split into documents where nobody said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minigpt.errors import UserError
from minigpt.text.formats.guessing import guess_reading
from minigpt.text.reading import AUTO, Reading

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SHARED = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def rows(path: Path, *contents: Any) -> Path:
    return write(path, "\n".join(map(json.dumps, contents)))


def guess(*files: Path, reading: Reading = AUTO) -> Reading:
    return guess_reading(files, reading)[0]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "a", "id": "long identifier"}, Reading("field", "text")),
        ({"Text": "a", "id": "long identifier"}, Reading("field", "Text")),
        ({"title": "A", "content": "b"}, Reading("field", "content")),
        ({"title": "A tale", "tale": "once upon a time", "n": 3, "tags": ["x"]}, Reading("field", "tale")),
        ("just a text", Reading("field", "text")),
        ({"messages": TURNS, "text": "a"}, Reading("messages", "messages")),
        ({"conversations": SHARED, "id": "x"}, Reading("messages", "conversations")),
        ({"turns_of_it": SHARED}, Reading("messages", "turns_of_it")),
        ({"instruction": "a", "input": "b", "output": "c"}, Reading("messages", "instruction+input+output")),
        ({"instruction": "a", "output": "c", "text": "a c"}, Reading("messages", "instruction+output")),
        ({"prompt": "a", "completion": "c"}, Reading("messages", "prompt+completion")),
        ({"Question": "a", "Answer": "c"}, Reading("messages", "Question+Answer")),
        ({"question": "a", "answer": {"text": "c"}, "context": "ccc"}, Reading("field", "context")),
        ({"prompt": "a", "text": "c"}, Reading("field", "text")),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_rows_are_read_by_what_is_in_them(tmp_path: Path, name: str, row: Any, expected: Reading) -> None:
    path = rows(tmp_path / name, row) if name == "a.jsonl" else write(tmp_path / name, json.dumps([row]))
    assert guess(path) == expected


def test_columns_of_tables_are_found_by_their_names_and_types(tmp_path: Path) -> None:
    assert guess(write(tmp_path / "a.csv", "id,story\nlong identifier,x\n")) == Reading("field", "story")
    pq.write_table(pa.table({"vector": [[1.0]], "chat": [TURNS], "id": [1]}), tmp_path / "a.parquet")
    assert guess(tmp_path / "a.parquet") == Reading("messages", "chat")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "one\n\ntwo", Reading("file")),
        ("a.txt", "one\n<|endoftext|>\ntwo", Reading("endoftext")),
        ("a.md", "# one", Reading("file")),
        ("a.html", "<p>one", Reading("file")),
        ("a.jsonl", "", Reading("field", "text")),
    ],
)
def test_running_text_is_one_document_unless_it_is_marked(
    tmp_path: Path, name: str, content: str, expected: Reading
) -> None:
    assert guess(write(tmp_path / name, content)) == expected


def test_a_reason_is_given(tmp_path: Path) -> None:
    assert guess_reading([write(tmp_path / "a.txt", "x")])[1] == "It is one document."
    assert guess_reading([rows(tmp_path / "a.jsonl", {"tale": "x"})])[1] == 'Each row is a document, from "tale".'


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_rows_without_any_text_are_refused_by_their_columns(tmp_path: Path, name: str) -> None:
    if name == "a.jsonl":
        rows(tmp_path / name, {"id": 1, "score": 0.5})
    else:
        pq.write_table(pa.table({"id": [1], "score": [0.5]}), tmp_path / name)
    with pytest.raises(UserError, match=rf"{name} has no column with text in it \(only id, score\)"):
        guess(tmp_path / name)


def test_files_that_are_alike_are_read_alike(tmp_path: Path) -> None:
    files = [rows(tmp_path / f"{name}.jsonl", {"story": "x"}) for name in "abc"]
    assert guess(*files) == Reading("field", "story")
    assert guess(*(write(tmp_path / f"{name}.txt", "x") for name in "abc")) == Reading("file")


def test_files_that_differ_are_each_read_in_their_way(tmp_path: Path) -> None:
    text, tales = write(tmp_path / "a.txt", "x"), rows(tmp_path / "a.jsonl", {"story": "x"})
    assert guess(text, tales) == AUTO
    assert guess(text, write(tmp_path / "b.txt", "x<|endoftext|>y")) == AUTO
    assert guess(tales, rows(tmp_path / "b.jsonl", {"body": "x"})) == AUTO


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Reading("auto", "tale"), Reading("field", "tale")),
        (Reading("auto", "chat"), Reading("messages", "chat")),
        (Reading("auto", "tale+chat"), Reading("messages", "tale+chat")),
        (Reading("field"), Reading("field", "text")),
        (Reading("messages"), Reading("messages", "chat")),
        (Reading("field", "tale"), Reading("field", "tale")),
        (Reading("line"), Reading("messages", "chat")),
    ],
)
def test_what_was_said_stays_and_the_rest_is_guessed(tmp_path: Path, asked: Reading, expected: Reading) -> None:
    path = rows(tmp_path / "a.jsonl", {"tale": "x", "text": "y", "chat": TURNS})
    assert guess(path, reading=asked) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(Reading("line"), Reading("line")), (Reading("field", "text"), Reading("file")), (AUTO, Reading("file"))],
)
def test_running_text_has_no_fields(tmp_path: Path, asked: Reading, expected: Reading) -> None:
    assert guess(write(tmp_path / "a.txt", "x"), reading=asked) == expected
