"""Files of all formats, as other programs write them and as nobody should have written them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.errors import UserError
from minigpt.text.documents import Document, Message, TextFacts, read_documents, read_text_blocks
from minigpt.text.formats.opening import LIMITS, Limits
from minigpt.text.reading import AUTO, Passed, Reading

STORY = Reading("field", "story")
CHAT = Reading("messages", "messages")

Row = dict[str, Any]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(path: Path, reading: Reading = AUTO, limits: Limits = LIMITS) -> list[str]:
    return [document.text for document in read_documents(path, reading, limits=limits)]


def passed_over(path: Path, reading: Reading = AUTO, limits: Limits = LIMITS) -> tuple[list[str], Passed]:
    passed = Passed()
    return [document.text for document in read_documents(path, reading, passed, limits=limits)], passed


def as_csv(rows: list[Row], delimiter: str = ",") -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, ["id", "story"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def as_parquet(rows: list[Row], **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, **options)
    return file.getvalue()


WRITERS: dict[str, Callable[[list[Row]], bytes]] = {
    "a.json": lambda rows: json.dumps(rows, indent=1).encode(),
    "b.json": lambda rows: json.dumps({"version": 1, "data": rows}, ensure_ascii=False).encode(),
    "c.json": lambda rows: "\n".join(map(json.dumps, rows)).encode(),
    "d.json": lambda rows: json.dumps({f"row {row['id']}": row for row in rows}).encode(),
    "a.jsonl": lambda rows: "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode("utf-16"),
    "a.ndjson": lambda rows: "\n\n".join(map(json.dumps, rows)).encode(),
    "a.csv": as_csv,
    "b.csv": lambda rows: as_csv(rows, ";"),
    "a.tsv": lambda rows: as_csv(rows, "\t"),
    "a.parquet": as_parquet,
    "b.parquet": lambda rows: as_parquet(rows, row_group_size=2, compression="zstd", use_dictionary=False),
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("name", WRITERS)
def test_rows_come_back_as_other_libraries_wrote_them(tmp_path: Path, name: str, packing: str) -> None:
    stories = ["one", 'a "quoted", one;\nwith\ttabs', "Zürich ✓ 🙂 \u2028 line", " spaces ", "x" * 5000]
    rows = [{"id": number, "story": story} for number, story in enumerate(stories)]
    path = write(tmp_path / (name + packing), PACKERS[packing](WRITERS[name](rows)))
    assert texts(path, STORY) == stories
    assert texts(path) == stories


TEXTS = st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=20), max_size=8)


@pytest.mark.parametrize("name", ["a.json", "a.ndjson", "a.csv", "a.tsv", "a.parquet"])
@settings(max_examples=25, deadline=None)
@given(stories=TEXTS)
def test_any_text_survives_any_format(tmp_path_factory: pytest.TempPathFactory, name: str, stories: list[str]) -> None:
    rows = [{"id": number, "story": story} for number, story in enumerate(["first", *stories])]
    path = write(tmp_path_factory.mktemp("rows") / name, WRITERS[name](rows))
    assert texts(path, STORY) == [story for story in ["first", *stories] if story.strip()]


def test_a_list_of_texts_needs_no_field(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.json", '["one", "two\\r\\nthree", ""]')) == ["one", "two\nthree"]


def test_an_object_that_is_a_row_is_one_document(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.json", '{"text": "one", "tags": ["a", "b"]}')) == ["one"]


def test_broken_rows_are_counted_the_first_told_and_the_rest_kept(tmp_path: Path) -> None:
    lines = [
        '{"story": "one"}',
        "{bad",
        "[1]",
        '{"text": "no"}',
        '{"story": 3}',
        "",
        '{"story": null}',
        '{"story": "two"}',
    ]
    found, passed = passed_over(write(tmp_path / "a.jsonl", "\n".join(lines)), STORY)
    assert found == ["one", "two"]
    assert passed.count == 4
    assert passed.examples == [
        "a.jsonl, line 2: JSON is malformed: object keys must be strings (byte 1)",
        "a.jsonl, line 3: a list in place of a record",
        'a.jsonl, line 4: no field "story" (it has text)',
    ]


def test_rows_of_json_are_counted_by_their_number(tmp_path: Path) -> None:
    found, passed = passed_over(write(tmp_path / "a.json", '[{"story": "one"}, 2, {"story": []}]'), STORY)
    assert found == ["one"]
    assert passed.examples == ["a.json, row 2: a number in place of a record", "a.json, row 3: a list in place of text"]


def test_broken_rows_of_csv_are_counted_the_first_told_and_the_rest_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'id,story\n1,one\n2\n\n3,a,b\n4,"two\nlines"\n5,"never closed\n6,lost\n')
    found, passed = passed_over(path, STORY)
    assert found == ["one", "two\nlines"]
    assert passed.examples == [
        "a.csv, line 3: 1 fields where the first line names 2",
        "a.csv, line 5: 3 fields where the first line names 2",
        "a.csv, line 9: a quotation mark is opened and never closed",
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_row_that_is_too_long_is_passed_over(tmp_path: Path, name: str) -> None:
    rows = [{"id": 1, "story": "one"}, {"id": 2, "story": "x" * 5000}, {"id": 3, "story": "two"}]
    writer = WRITERS["a.ndjson"] if name == "a.jsonl" else as_csv
    found, passed = passed_over(write(tmp_path / name, writer(rows)), STORY, Limits(line=1000))
    assert found == ["one", "two"]
    assert (passed.count, "longer than 1,000 characters" in passed.examples[0]) == (1, True)


@pytest.mark.parametrize("name", ["sto\0ry", 'the "story"', "a\\b", "a\nb", "é", "\ud800"])
def test_a_field_may_have_any_name(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / "rows.jsonl", json.dumps({name: "Once."}) + "\n")
    reading = Reading("field", name) if name != "\ud800" else AUTO
    assert texts(file, reading) == ["Once."]


def test_a_field_of_csv_that_is_too_long_is_passed_over(tmp_path: Path) -> None:
    rows = [{"id": 1, "story": "one"}, {"id": 2, "story": "many\nlines" * 500}]
    found, passed = passed_over(write(tmp_path / "a.csv", as_csv(rows)), STORY, Limits(field=1000))
    assert found[0] == "one"
    assert "larger than field limit" in passed.examples[0]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"text": 1}\n{bad\n', 'line 1: no field "story" .it has text., and 1 more like it'),
        ("a.json", b'[{"text": "x"}]', 'row 1: no field "story"'),
        ("a.json", b'{"text": ', r"a\.json is not valid JSON \(Input data was truncated\)"),
        ("a.json", b"[" * 100_000, r"a\.json is not valid JSON"),
        ("a.csv", b"id,text\n1,x\n", r'has no column "story": choose one of id, text with --field'),
        ("a.csv", b"story,text\n1\n2\n", "line 2: 1 fields where the first line names 2, and 1 more like it"),
        ("a.parquet", as_parquet([{"id": 1, "text": "x"}]), r'has no column "story": choose one of id, text with'),
        ("a.parquet", as_parquet([{"story": 1}]), "row 1: a number in place of text"),
        ("a.parquet", as_parquet([{"story": "x" * 1000}])[:-20], "cannot be read as Parquet"),
        ("a.parquet", b"PAR1" + bytes(100) + b"PAR1", "cannot be read as Parquet"),
        ("a.txt.gz", gzip.compress(b"text" * 100, mtime=0)[:-9], "ends in the middle"),
        ("a.txt.zst", zstandard.compress(b"text" * 100)[:-3], "ends in the middle"),
        ("a.txt.gz", gzip.compress(b"text" * 100, mtime=0) + b"junk", "cannot be unpacked"),
        ("a.txt.zst", zstandard.compress(b"text" * 100) + b"junk", "cannot be unpacked"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(UserError, match=said) as caught:
        list(read_documents(path, STORY))
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["a.json", "a.html", "a.parquet.gz"])
def test_what_is_read_in_one_piece_has_a_bound(tmp_path: Path, name: str) -> None:
    content = gzip.compress(b"x" * 2000, mtime=0) if name.endswith(".gz") else b"x" * 2000
    with pytest.raises(UserError, match=r"is larger than 0 MB, unpacked: "):
        list(read_documents(write(tmp_path / name, content), STORY, limits=Limits(whole=1000, page=1000)))


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_decompression_bomb_is_refused(tmp_path: Path, packing: str) -> None:
    path = write(tmp_path / f"a.txt{packing}", PACKERS[packing](b"bomb\n" * 1_000_000))
    with pytest.raises(UserError, match="a decompression bomb"):
        list(read_documents(path, Reading("line"), limits=Limits(unpacked=1000, ratio=100)))


def test_packed_parts_that_follow_one_another_are_all_read(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.txt.gz", gzip.compress(b"one ", mtime=0) + bytes(9) + gzip.compress(b"two"))) == [
        "one two"
    ]
    assert texts(write(tmp_path / "a.txt.zst", zstandard.compress(b"one ") + zstandard.compress(b"two"))) == ["one two"]


def test_packing_goes_by_what_is_in_a_file(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.txt.gz", "never packed")) == ["never packed"]
    assert texts(write(tmp_path / "a.txt", gzip.compress(b"packed", mtime=0))) == ["packed"]


def test_text_in_parquet_that_is_not_utf8_is_read_with_marks(tmp_path: Path) -> None:
    damaged = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\4\0\0\0\7\0\0\0"), pa.py_buffer(b"ab\xffctwo")]
    )
    pq.write_table(pa.table({"story": damaged}), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet", STORY) == ["ab\ufffdc", "two"]


def test_halves_of_characters_and_nan_do_not_break_a_row(tmp_path: Path) -> None:
    content = '{"story": "a\\ud800b", "score": NaN}\n{"story": "\\ud83d\\ude42"}'
    assert texts(write(tmp_path / "a.jsonl", content), STORY) == ["a\ufffdb", "🙂"]
    assert texts(write(tmp_path / "a.json", '[{"story": "a\\ud800b"}]'), STORY) == ["a\ufffdb"]


MESSAGES = (Message("user", "Hi\nyou"), Message("assistant", "Hello"))


HELLO = {"role": "assistant", "content": "Hello"}


@pytest.mark.parametrize(
    ("field", "row"),
    [
        ("messages", {"messages": [{"role": "user", "content": "Hi\nyou"}, HELLO]}),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi\nyou"}]}, HELLO]}),
        ("messages", {"messages": {"role": ["user", "assistant"], "content": ["Hi\nyou", "Hello"]}}),
        ("chat", {"chat": [{"role": "Human", "content": "Hi\r\nyou"}, {"role": "bot", "content": "Hello"}]}),
        ("turns", {"turns": [{"from": "human", "value": "Hi\nyou"}, {"from": "gpt", "value": "Hello"}]}),
        ("prompt+response", {"prompt": "Hi\r\nyou", "response": "Hello", "text": "Hi you Hello"}),
        ("instruction+input+output", {"instruction": "Hi\nyou", "input": "", "output": "Hello"}),
    ],
)
def test_conversations_are_read_in_the_shapes_that_people_use(tmp_path: Path, field: str, row: Row) -> None:
    path = write(tmp_path / "a.jsonl", json.dumps(row))
    assert list(read_documents(path, Reading("messages", field))) == [Document(messages=MESSAGES)]
    assert list(read_documents(path)) == [Document(messages=MESSAGES)]


def test_conversations_come_from_tables_too(tmp_path: Path) -> None:
    turns = [{"role": message.role, "content": message.content} for message in MESSAGES]
    pq.write_table(pa.table({"messages": [turns], "id": [1]}), tmp_path / "a.parquet")
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "messages"], [1, json.dumps(turns)]])
    for name in ("a.parquet", "a.csv"):
        assert list(read_documents(tmp_path / name)) == [Document(messages=MESSAGES)]


def test_an_input_belongs_to_its_instruction(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"instruction": "Add.", "input": "1, 2", "output": "3"}')
    assert list(read_documents(path)) == [
        Document(messages=(Message("user", "Add.\n\n1, 2"), Message("assistant", "3")))
    ]


def test_the_system_speaks_through_the_user(tmp_path: Path) -> None:
    turns = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello")]
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    path = write(tmp_path / "a.jsonl", json.dumps(row))
    expected = (Message("user", "Be kind.\n\nHi"), Message("assistant", "Hello"))
    assert list(read_documents(path, CHAT)) == [Document(messages=expected)]


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"role": "tool\x1b", "content": "x"}], r"unknown role 'tool\x1b'"),
        ([{"role": "user", "content": None}], "a message that says nothing"),
        ([{"role": "user", "content": 3}], "a number in place of what is said"),
        ([{"role": "user", "content": [{"type": "image"}]}], "a message that is more than text"),
        ([], "a list in place of messages"),
        ("Hi", "text in place of messages"),
        (None, "nothing in place of messages"),
    ],
)
def test_a_conversation_that_is_none_is_passed_over(tmp_path: Path, messages: Any, said: str) -> None:
    good = {"messages": [{"role": "user", "content": "Hi"}]}
    path = write(tmp_path / "a.jsonl", f"{json.dumps(good)}\n{json.dumps({'messages': messages})}\n")
    found, passed = passed_over(path, CHAT)
    assert (len(found), passed.examples) == (1, [f"a.jsonl, line 2: {said}"])


@pytest.mark.parametrize("reading", [AUTO, Reading("field", "text"), CHAT])
def test_texts_and_conversations_may_stand_side_by_side(tmp_path: Path, reading: Reading) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "one"}\n{"messages": [{"role": "user", "content": "Hi"}]}\n')
    assert list(read_documents(path, reading)) == [Document("one"), Document(messages=(Message("user", "Hi"),))]


PAGE = """<html><head><title>On cats</title><script>var x = "no";</script></head><body><nav><a href="/">Menu</a></nav>
<article><p>{}</p><p>{}</p></article><footer>Imprint</footer></body></html>"""


def test_a_page_is_its_title_and_main_text(tmp_path: Path) -> None:
    page = PAGE.format("The cat sleeps on the mat all day long. " * 9, "Nobody knows “why” it does so. " * 9)
    [text] = texts(write(tmp_path / "a.html", page))
    assert text.startswith("On cats\n\n")
    assert "“why”" in text
    assert not any(word in text for word in ("Menu", "Imprint", "var x", "<p>"))


def test_a_page_without_an_article_is_all_its_text(tmp_path: Path) -> None:
    page = '<meta charset="koi8-r"><script>no</script><b>Привет,</b> мир'.encode("koi8-r")
    facts = TextFacts()
    found = [document.text for document in read_documents(write(tmp_path / "a.htm", page), facts=facts)]
    assert found == ["Привет, мир"]
    assert facts.notes("a.htm") == ["a.htm is not UTF-8 and was read as koi8-r."]


@pytest.mark.parametrize("page", ["", "<html></html>", "<script>x</script>"])
def test_an_empty_page_is_no_document(tmp_path: Path, page: str) -> None:
    assert texts(write(tmp_path / "a.html", page)) == []


RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. "

JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"


@pytest.mark.parametrize(
    ("content", "text", "encoding"),
    [
        (b"\xef\xbb\xbfwith a mark", "with a mark", "utf-8-sig"),
        ("Zürich ✓".encode("utf-16"), "Zürich ✓", "utf-16"),
        ("Zürich ✓".encode("utf-32"), "Zürich ✓", "utf-32"),
        ("Zurich, no mark".encode("utf-16-le"), "Zurich, no mark", "utf-16-le"),
        ("Zurich, no mark".encode("utf-32-be"), "Zurich, no mark", "utf-32-be"),
        ("“Zürich” – 5 €".encode("cp1252"), "“Zürich” – 5 €", "cp1252"),
        (b"caf\xe9 \x81", "café \x81", "cp1252"),
        ("Die Straße führt über die schöne Brücke nach Köln. ".encode("cp1252") * 9, None, "cp1252"),
        (RUSSIAN.encode("cp1251"), RUSSIAN, "cp1251"),
        (RUSSIAN.encode("koi8-r"), RUSSIAN, "koi8_r"),
        (JAPANESE.encode("shift_jis"), JAPANESE, "cp932"),
    ],
)
def test_text_is_read_in_the_encoding_it_has(tmp_path: Path, content: bytes, text: str | None, encoding: str) -> None:
    path = write(tmp_path / "a.txt", content)
    facts = TextFacts()
    found = "".join(document.text for document in read_documents(path, facts=facts))
    assert facts.encoding == encoding
    assert found == (content.decode("cp1252") if text is None else text)


def test_an_old_encoding_that_shows_late_is_found_in_one_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "plain ascii. " * 100_000 + "déjà vu")
    path.write_bytes(path.read_text().encode("cp1252"))
    facts = TextFacts()
    [document] = read_documents(path, facts=facts)
    assert document.text.endswith("plain ascii. déjà vu")
    assert facts.notes("a.txt") == ["a.txt is not UTF-8 and was read as cp1252."]


def test_damage_to_utf8_is_marked_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "Grüße. ".encode() * 200 + b"Gr\xfc\xdfe \xe2\x82 " + "Grüße \ufffd".encode())
    facts = TextFacts()
    list(read_text_blocks(path, facts))
    assert facts.notes("a.txt") == ["a.txt is damaged in 3 places (not valid utf-8): read as U+FFFD."]
    assert texts(path)[0].endswith("Gr\ufffd\ufffde \ufffd Grüße \ufffd")


def test_a_nul_now_and_then_is_left_out_and_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"a line of text\n" * 50 + b"\0" + b"the end")
    facts = TextFacts()
    list(read_text_blocks(path, facts))
    assert facts.notes("a.txt") == ["a.txt has 1 NUL characters: they were left out."]
    assert texts(path)[0].endswith("text\nthe end")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"%PDF-1.7 ...", "is a PDF, not text: save its text as .txt"),
        (b"PK\x03\x04....word/document.xml", "is an office document"),
        (b"PK\x03\x04....mimetypeapplication/epub+zip", "is an e-book"),
        (b"PK\x03\x04....", "is a zip archive or an office document"),
        (b"BZh91AY", "is a bzip2 archive"),
        (b"name".ljust(257, b"\0") + b"ustar", "is a tar archive"),
        (b"PAR1....", "is a Parquet file, not text: give it a name that ends in .parquet"),
        (b"SQLite format 3\0", "is a database"),
        (b"\x89PNG....", "is an image"),
        (b"\x7fELF....", "is a program"),
        (b"MZ\x90\0\x03\0", "is a binary file, a program, not text"),
        (b"\0\0\0\x20ftypisom", "is a binary file, a film, not text"),
        (b"abc\0def", "is a binary file, not text .it holds NUL bytes."),
        (b"text " * 100_000 + bytes(9000), "is a binary file, not text .it holds NUL bytes."),
        (bytes(range(1, 256)) * 4, "is a binary file, not text"),
        (b"\xff\xfea", "is not valid UTF-16 text"),
        (gzip.compress(gzip.compress(b"text", mtime=0), mtime=0), "is a gzip archive inside another"),
    ],
)
def test_what_is_no_text_is_refused_by_its_kind(tmp_path: Path, content: bytes, said: str) -> None:
    path = write(tmp_path / "a.txt", content)
    with pytest.raises(UserError, match=rf"^{path} {said}"):
        list(read_text_blocks(path))
