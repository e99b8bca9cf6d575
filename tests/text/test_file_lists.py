"""Lists of files of JSON lines, on a server on this machine and on its disk."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import zstandard

from minigpt.errors import JobFailed, UserError
from minigpt.tasks import NOBODY, Cancelled, Task
from minigpt.text import file_lists, hub_parts, locations
from minigpt.text.corpus import Corpus
from minigpt.text.fetching import Unreachable
from minigpt.text.file_lists import FileListSource
from minigpt.text.manifest import SourceRecord
from minigpt.workspace import Workspace
from tests.text.servers import Answer, Site, no_proxies, redirect, serving


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    no_proxies(monkeypatch)
    with serving() as site:
        yield site


def rows(*texts: str) -> bytes:
    return b"".join(json.dumps({"id": "7", "text": text, "metadata": {"a": [1]}}).encode() + b"\n" for text in texts)


def source_of(
    site: Site, *files: str, target_characters: int | None = None, field: str = "text", pauses: tuple[float, ...] = ()
) -> FileListSource:
    listed = site.add("/list.txt", Answer("\n".join(files).encode()))
    return FileListSource(listed, field=field, target_characters=target_characters, allow_private=True, pauses=pauses)


def copied(source: FileListSource, folder: Path, task: Task = NOBODY) -> tuple[list[str], SourceRecord]:
    folder.mkdir(exist_ok=True)
    record = source.write(folder, task)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"part-{number:05}.jsonl" for number in range(len(names))]
    lines = [line for name in names for line in (folder / name).read_text().splitlines()]
    return [json.loads(line)["text"] for line in lines], record


def failure(source: FileListSource, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    with pytest.raises(UserError) as caught:
        source.write(folder, NOBODY)
    return str(caught.value)


def test_packed_and_plain_files_are_read_one_after_the_other(site: Site, tmp_path: Path) -> None:
    files = [
        site.add("/a.json.gz", Answer(gzip.compress(rows("one", "two")), "application/gzip")),
        site.add("/b.jsonl.zst", Answer(zstandard.compress(rows("three")))),
        site.add("/c.jsonl", Answer(rows("vier ü")[:-1])),
    ]
    texts, record = copied(source_of(site, "# Dolma's files", "", *files), tmp_path / "new")
    assert texts == ["one", "two", "three", "vier ü"]
    assert (record.kind, record.origin, record.notes) == ("list", site.url("/list.txt"), [])
    assert (record.reading.split, record.reading.field) == ("field", "text")


def test_a_list_on_the_disk_may_name_paths_from_its_own_folder(site: Site, tmp_path: Path) -> None:
    (tmp_path / "lists" / "more").mkdir(parents=True)
    (tmp_path / "lists" / "more" / "a.jsonl.gz").write_bytes(gzip.compress(rows("one")))
    (tmp_path / "b.jsonl").write_bytes(rows("two"))
    url = site.add("/c.jsonl", Answer(rows("three")))
    listed = tmp_path / "lists" / "files.txt"
    listed.write_text(f"more/a.jsonl.gz\n{tmp_path / 'b.jsonl'}\r\n{url}\n")
    source = FileListSource(str(listed), target_characters=None, allow_private=True)
    assert copied(source, tmp_path / "new")[0] == ["one", "two", "three"]


def test_a_list_from_elsewhere_names_no_files_of_this_machine(site: Site, tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_bytes(rows("secret"))
    site.add(str(tmp_path / "secret.jsonl"), Answer(rows("of the server")))
    assert copied(source_of(site, str(tmp_path / "secret.jsonl")), tmp_path / "new")[0] == ["of the server"]
    assert "file://" in failure(source_of(site, f"file://{tmp_path}/secret.jsonl"), tmp_path / "other")


def test_reading_stops_at_the_target(site: Site, tmp_path: Path) -> None:
    files = [site.add(f"/{n}.jsonl", Answer(rows("a" * 100, "b" * 100))) for n in range(4)]
    texts, record = copied(source_of(site, *files, target_characters=250), tmp_path / "new")
    assert len(texts) == 3
    assert record.notes == ["It was read up to 300 characters, as asked: 2 of 4 files, in the order of the list."]
    assert site.url("/2.jsonl") not in [site.url(path) for path, _ in site.asked]


def test_a_list_that_ends_before_the_target_says_so(site: Site, tmp_path: Path) -> None:
    _, record = copied(source_of(site, site.add("/a", Answer(rows("one"))), target_characters=100), tmp_path / "new")
    assert record.notes == ["It ended after 3 characters, before the 100 asked for."]


def test_another_field_may_hold_the_text(site: Site, tmp_path: Path) -> None:
    url = site.add("/a", Answer(b'{"the story": "Once", "text": "no"}\n'))
    assert copied(source_of(site, url, field="the story"), tmp_path / "new")[0] == ["Once"]


def test_broken_rows_are_counted_the_first_ones_told_and_the_rest_kept(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_lists, "LINE_BYTES", 3 << 20)
    broken = [
        b'{"text": "cut',
        b'{"text": 5}',
        b'{"id": "7", "content": "x"}',
        b'{"text": "' + b"x" * (3 << 20) + b'"}',
        b'{"text": "\xff\xfe"}',
        b'{"text": "\\ud800"}',
        b'{"text": "  "}',
        b'{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b', "text": "x"}',
        b"\x1b[31mred",
    ]
    url = site.add("/a", Answer(rows("first") + b"\n\n" + b"\n".join(broken) + b"\n" + rows("last")))
    texts, record = copied(source_of(site, url), tmp_path / "new")
    assert texts == ["first", "last"]
    assert record.notes[0].startswith(f"{len(broken)} of {len(broken) + 2} rows were left out ({url}, line 4: ")
    assert "there is: id, content" in record.notes[0]
    assert "\x1b" not in record.notes[0]


def test_a_file_that_cannot_be_had_is_left_out_and_told(site: Site, tmp_path: Path) -> None:
    site.add("/a", Answer(rows("one")))
    site.add("/b", Answer(rows("two")))
    texts, record = copied(source_of(site, "/a", "/missing", "/b", "/missing"), tmp_path / "new")
    assert texts == ["one", "two"]
    assert record.notes[0].startswith("2 files could not be read to the end. ")
    assert f"{site.url('/missing')} answers 404" in record.notes[0]


def test_what_came_before_a_file_broke_off_is_kept(site: Site, tmp_path: Path) -> None:
    body = rows("one", "two")
    site.add("/a", Answer(body, headers={"Content-Length": str(len(body) + 100)}))
    site.add("/b", Answer(gzip.compress(rows(*map(str, range(20_000))))[:-9]))
    site.add("/c", Answer(rows("last")))
    texts, record = copied(source_of(site, "/a", "/b", "/c"), tmp_path / "new")
    assert texts[:3] == ["one", "two", "0"]
    assert texts[-1] == "last"
    assert record.notes[0].count("What came before was kept.") == 2


def test_a_server_without_an_answer_is_asked_again(site: Site, tmp_path: Path) -> None:
    answers = iter([Answer(status=503), Answer(rows("one"))])

    def busy(handler: BaseHTTPRequestHandler) -> None:
        next(answers)(handler)

    site.add("/a", busy)
    assert copied(source_of(site, "/a", pauses=(0.01,)), tmp_path / "new")[0] == ["one"]


def test_three_files_in_a_row_that_fail_end_it(site: Site, tmp_path: Path) -> None:
    site.add("/d", Answer(rows("too late")))
    message = failure(source_of(site, "/a", "/b", "/c", "/d"), tmp_path / "new")
    assert "3 files in a row" in message
    assert "answers 404" in message


def test_three_files_in_a_row_that_fail_later_are_a_job_that_failed(site: Site, tmp_path: Path) -> None:
    site.add("/a", Answer(rows("one")))
    with pytest.raises(JobFailed, match="Until then 3 characters had come"):
        copied(source_of(site, "/a", "/b", "/c", "/d"), tmp_path / "new")


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"PAR1" + b"\0" * 500, "a Parquet file"),
        (b"<!doctype html><html></html>\n", "gives no document (line 1"),
        (b"", "it has no lines"),
        (b'{"content": "x"}\n' * 5000, "there is: content); choose another with --field"),
    ],
    ids=["parquet", "html", "empty", "another field"],
)
def test_files_that_are_no_such_rows_are_told(site: Site, tmp_path: Path, body: bytes, what: str) -> None:
    site.add("/a", Answer(body))
    assert what in failure(source_of(site, "/a"), tmp_path / "new")


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"<!doctype html><html></html>", "is no list of files"),
        (b'{"text": "Once"}\n', "is no list of files"),
        (b"# nothing yet\n\n", "names no files"),
        (b"%PDF-1.7 \0\0\0", "a PDF"),
        (b"http://x/\n" * 300, "too long for a list"),
    ],
    ids=["html", "rows", "empty", "pdf", "too long"],
)
def test_what_is_no_list_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes, what: str
) -> None:
    monkeypatch.setattr(locations, "LIST_BYTES", 2000)
    source = FileListSource(site.add("/list.txt", site_answer(body)), target_characters=None, allow_private=True)
    assert what in failure(source, tmp_path / "new")


def site_answer(body: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return an answer that is larger than its packed self, so that its declared size tells nothing."""
    return Answer(gzip.compress(body), headers={"Content-Encoding": "gzip"})


def test_a_list_that_is_not_there_is_told(tmp_path: Path) -> None:
    source = FileListSource(str(tmp_path / "no.txt"), target_characters=None)
    assert "Cannot read" in failure(source, tmp_path / "new")


def test_private_addresses_in_a_list_are_refused_unless_allowed(site: Site, tmp_path: Path) -> None:
    site.add("/secret", Answer(rows("secret")))
    listed = tmp_path / "list.txt"
    listed.write_text(site.url("/secret"))
    assert "--allow-private" in failure(FileListSource(str(listed), target_characters=None), tmp_path / "new")
    with pytest.raises(Unreachable, match="--allow-private"):
        FileListSource(site.add("/list", redirect("/")), target_characters=None).write(tmp_path / "new", NOBODY)
    assert site.asked == []


def test_parts_are_of_a_size_and_a_later_attempt_goes_on_from_the_last_whole_one(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_parts, "PART_BYTES", 1000)
    site.add("/a", Answer(rows(*(f"a{n:03} {'x' * 90}" for n in range(25)))))
    site.add("/b", Answer(rows(*(f"b{n:03} {'x' * 90}" for n in range(25)))))

    class Stopping(Task):
        def report(self, phase: str, done: float = 0, total: float | None = None, unit: str = "") -> None:
            if done > 2000:
                raise Cancelled

    folder = tmp_path / "new"
    with pytest.raises(Cancelled):
        copied(source_of(site, "/a", "/b"), folder, Stopping())
    assert (folder / "part-00000.jsonl").exists()
    texts, _ = copied(source_of(site, "/a", "/b"), folder)
    assert [text[:4] for text in texts] == [f"{name}{n:03}" for name in "ab" for n in range(25)]
    assert len(list(folder.iterdir())) == 5


def test_nothing_is_left_of_a_corpus_that_is_stopped_in_the_middle(site: Site, tmp_path: Path) -> None:
    class Stopping(Task):
        def report(self, phase: str, done: float = 0, total: float | None = None, unit: str = "") -> None:
            if phase.startswith("reading file 2"):
                raise Cancelled

    site.add("/a", Answer(rows("one")))
    site.add("/b", Answer(rows("two")))
    with pytest.raises(Cancelled):
        Corpus.create(Workspace(tmp_path), "dolma", source_of(site, "/a", "/b"), Stopping())
    assert not (tmp_path / "data" / "dolma").exists()


def test_a_list_becomes_a_corpus(site: Site, tmp_path: Path) -> None:
    site.add("/a", Answer(gzip.compress(rows("one", "two"))))
    corpus = Corpus.create(Workspace(tmp_path), "dolma", source_of(site, "/a"))
    assert [document.text for document in corpus.documents()] == ["one", "two"]


def test_a_disk_too_full_for_the_target_is_told_before_any_file(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_parts, "free_disk", lambda path: 10**9)
    site.add("/a", Answer(rows("one")))
    with pytest.raises(JobFailed, match="disk is too full"):
        copied(source_of(site, "/a", target_characters=10**10), tmp_path / "new")
    assert [path for path, _ in site.asked] == ["/list.txt"]
