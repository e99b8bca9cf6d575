from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minigpt.errors import JobFailed, UserError
from minigpt.tasks import Cancelled, Task
from minigpt.text.corpus import Corpus
from minigpt.text.documents import Document, Message
from minigpt.text.manifest import SourceRecord
from minigpt.text.reading import Reading
from minigpt.text.sources import DocumentSource, PathSource, StreamSource, add_path
from minigpt.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def leftovers(workspace: Workspace) -> list[str]:
    return sorted(path.name for path in workspace.data.iterdir())


def test_a_file_becomes_a_corpus_and_is_kept_as_it_was(workspace: Workspace, tmp_path: Path) -> None:
    content = "Grüße\r\nzweite Zeile".encode()
    corpus = add_path(workspace, write(tmp_path / "my file.txt", content))

    assert corpus.directory == workspace.data / "my-file"
    assert (corpus.directory / "documents" / "my file.txt").read_bytes() == content
    assert list(corpus.documents()) == [Document("Grüße\nzweite Zeile")]
    manifest = Corpus.open(corpus.directory).manifest
    assert (manifest.documents, manifest.conversations, manifest.characters, manifest.bytes) == (1, 0, 18, 20)
    assert manifest.sources[0].origin == str(tmp_path / "my file.txt")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xef\xbb\xbfwith a mark", "with a mark"),
        ("Zürich ✓".encode("utf-16"), "Zürich ✓"),
        (b"\xfe\xff" + "Zürich ✓".encode("utf-16-be"), "Zürich ✓"),
        ("“Zürich” – 5 €".encode("cp1252"), "“Zürich” – 5 €"),
        (b"caf\xe9 \x81", "café \x81"),
        (b"one\r\ntwo\rthree\n", "one\ntwo\rthree\n"),
    ],
)
def test_text_is_read_in_the_encoding_it_has(workspace: Workspace, tmp_path: Path, content: bytes, text: str) -> None:
    corpus = add_path(workspace, write(tmp_path / "text.txt", content))
    assert [document.text for document in corpus.documents()] == [text]


def test_a_guessed_encoding_is_said(workspace: Workspace, tmp_path: Path) -> None:
    corpus = add_path(workspace, write(tmp_path / "old.txt", b"caf\xe9"))
    assert "not UTF-8 and was read as cp1252" in corpus.note
    assert "cp1252" in corpus.manifest.notes[0]
    assert corpus.manifest.encodings == {"cp1252": 1}


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 7, 12])
def test_newlines_and_characters_survive_the_blocks_of_reading(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr("minigpt.text.documents.BLOCK_BYTES", block_bytes)
    text = "abc\r\nde é\r\r\n" * 20 + "\r"
    expected = text.replace("\r\n", "\n")
    corpus = add_path(workspace, write(tmp_path / "long.txt", text))
    assert next(corpus.documents()).text == expected
    blocks = list(corpus.text_blocks())
    assert len(blocks) > 1
    assert "".join(blocks) == expected
    assert corpus.manifest.characters == len(expected)


def test_jsonl_holds_texts_and_conversations(workspace: Workspace, tmp_path: Path) -> None:
    lines = (
        '{"text": "one\\r\\ntwo", "meta": 3}\n'
        "\n"
        '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\r\n'
        '{"text": ""}'
    )
    corpus = add_path(workspace, write(tmp_path / "chat.jsonl", lines))
    assert list(corpus.documents()) == [
        Document("one\ntwo"),
        Document(messages=(Message("user", "Hi"), Message("assistant", "Hello"))),
    ]
    assert (corpus.manifest.documents, corpus.manifest.conversations, corpus.manifest.characters) == (2, 1, 14)


@pytest.mark.parametrize("line", ['{"text": 3}', "{", "[]", "{}", '{"messages": [{"role": "robot", "content": "x"}]}'])
def test_a_bad_line_is_passed_over_and_told(workspace: Workspace, tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "bad.jsonl", '{"text": "fine"}\n' * 9 + line + "\n")
    corpus = add_path(workspace, path)
    assert corpus.manifest.documents == 9
    assert "One row or line could not be used, passed over: bad.jsonl, line 10: " in corpus.note


def test_a_folder_gives_its_text_files_sorted(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "books"
    write(folder / "b.md", "second")
    write(folder / "a" / "x.txt", "first")
    write(folder / "c.jsonl", '{"text": "third"}\n{"text": "fourth"}\n')
    write(folder / "image.png", b"\x89PNG")
    write(folder / "empty.txt", "")
    write(folder / ".hidden.txt", "not this")
    corpus = add_path(workspace, folder)
    assert [document.text for document in corpus.documents()] == ["first", "second", "third", "fourth"]
    assert f"Left out: {folder / 'empty.txt'} is empty." in corpus.note


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("paper.txt", b"%PDF-1.7 ...", "is a PDF, not text"),
        ("novel.docx", b"PK\x03\x04...", "a zip archive or an office document"),
        ("data.txt", b"abc\0def", "binary file"),
        ("noise.txt", bytes(range(1, 256)) * 4, "binary file"),
        ("empty.txt", b"", "is empty"),
        ("blank.jsonl", b"\n\n", "holds no text"),
        ("broken.txt", b"\xff\xfea", "not valid UTF-16"),
        ("folder/notes.pdf", b"%PDF", None),
    ],
)
def test_what_is_no_text_is_refused_by_name(
    workspace: Workspace, tmp_path: Path, name: str, content: bytes, said: str | None
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(UserError, match=said or "The folder .* has no text in it") as caught:
        add_path(workspace, path if said else path.parent)
    assert str(path if said else path.parent) in str(caught.value)
    assert not workspace.data.exists() or leftovers(workspace) == []


def test_a_missing_path_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no file, folder or corpus"):
        add_path(workspace, tmp_path / "nowhere.txt")


def test_an_unreadable_file_is_refused(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "secret.txt", "x")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"Cannot read .*secret\.txt \(Permission denied\)"):
        add_path(workspace, path)


def test_the_same_content_is_added_once_and_other_content_gets_another_name(
    workspace: Workspace, tmp_path: Path
) -> None:
    first = add_path(workspace, write(tmp_path / "text.txt", "one"))
    again = add_path(workspace, write(tmp_path / "copy" / "text.txt", "one"))
    assert (first.name, again.directory) == ("text", first.directory)
    assert "is the corpus text already" in again.note

    other = add_path(workspace, write(tmp_path / "other" / "text.txt", "two"))
    assert other.name == "text-2"
    assert "because the name text is taken" in other.note
    assert add_path(workspace, tmp_path / "other" / "text.txt").name == "text-2"
    assert leftovers(workspace) == ["text", "text-2"]


def test_a_file_may_not_take_the_samples_name(workspace: Workspace, tmp_path: Path) -> None:
    assert add_path(workspace, write(tmp_path / "sample.txt", "mine")).name == "sample-2"


def test_documents_edited_by_hand_are_counted_again(workspace: Workspace, tmp_path: Path) -> None:
    corpus = add_path(workspace, write(tmp_path / "text.txt", "one"))
    stored = write(corpus.directory / "documents" / "text.txt", "edited")
    later = (corpus.directory / "corpus.toml").stat().st_mtime_ns + 1_000_000_000
    os.utime(stored, ns=(later, later))
    changed = Corpus.open(corpus.directory)
    assert changed.manifest.characters == 6
    assert changed.manifest.content_hash != corpus.manifest.content_hash
    assert add_path(workspace, write(tmp_path / "edited" / "text.txt", "edited")).name == "text"


@pytest.mark.parametrize("content", [None, b"name = ", b"name = 'x'", b"\xff"])
def test_a_missing_or_damaged_manifest_is_one_sentence(workspace: Workspace, content: bytes | None) -> None:
    directory = workspace.data / "broken"
    directory.mkdir(parents=True)
    if content is not None:
        write(directory / "corpus.toml", content)
    with pytest.raises(UserError, match="damaged" if content else "There is no corpus"):
        Corpus.open(directory)


def documents_that_fail(error: BaseException) -> Iterator[Document]:
    yield Document("one")
    raise error


def test_a_failure_midway_leaves_nothing_behind(workspace: Workspace) -> None:
    source = DocumentSource("test", "nowhere", documents_that_fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        Corpus.create(workspace, "half", source)
    assert leftovers(workspace) == []


def test_a_full_disk_is_said_so(workspace: Workspace) -> None:
    source = DocumentSource("test", "nowhere", documents_that_fail(OSError(28, "No space left on device")))
    with pytest.raises(JobFailed, match="The disk is full"):
        Corpus.create(workspace, "half", source)
    assert leftovers(workspace) == []


def test_a_killed_process_leaves_no_corpus_and_the_next_one_cleans_up(workspace: Workspace) -> None:
    script = f"""
import os, signal
from minigpt.text.corpus import Corpus
from minigpt.text.documents import Document
from minigpt.text.sources import DocumentSource
from minigpt.workspace import Workspace
def documents():
    yield Document("one")
    os.kill(os.getpid(), signal.SIGKILL)
Corpus.create(Workspace.find({str(workspace.root)!r}), "text", DocumentSource("test", "nowhere", documents()))
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    assert len(leftovers(workspace)) == 1
    assert not (workspace.data / "text").exists()

    corpus = Corpus.create(workspace, "text", DocumentSource("test", "here", [Document("two")]))
    assert [document.text for document in corpus.documents()] == ["two"]
    assert leftovers(workspace) == ["text"]


def test_what_another_process_is_building_is_left_alone(workspace: Workspace) -> None:
    def documents() -> Iterator[Document]:
        Corpus.create(workspace, "text", DocumentSource("test", "inner", [Document("inner")]))
        yield Document("outer")

    with pytest.raises(UserError, match="already"):
        Corpus.create(workspace, "text", DocumentSource("test", "outer", documents()))
    assert [document.text for document in Corpus.open(workspace.data / "text").documents()] == ["inner"]
    assert leftovers(workspace) == ["text"]


class Stream:
    """A source in parts, whose process is stopped in the second attempt's first part or not at all."""

    kind, origin = "list", "somewhere"

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.found: list[str] = []

    def write(self, folder: Path, task: Task) -> SourceRecord:
        self.found = sorted(path.name for path in folder.iterdir())
        write(folder / f"part-{len(self.found)}.jsonl", '{"text": "a part of it"}\n')
        write(folder / ".progress.json", "{}")
        if self.error:
            raise self.error
        (folder / ".progress.json").unlink()
        return SourceRecord(self.kind, self.origin)


def test_a_stream_goes_on_where_it_was_stopped(workspace: Workspace) -> None:
    with pytest.raises(Cancelled):
        Corpus.create(workspace, "stream", Stream(Cancelled()))
    again = Stream(None)
    corpus = Corpus.create(workspace, "stream", again)
    assert again.found == [".progress.json", "part-0.jsonl"]
    assert corpus.manifest.documents == 2
    assert leftovers(workspace) == ["stream"]


def test_more_can_be_added_and_what_was_there_stays_as_it_was(workspace: Workspace, tmp_path: Path) -> None:
    corpus = add_path(workspace, write(tmp_path / "a.txt", "first"))
    more = [PathSource(write(tmp_path / "b.txt", "second")), PathSource(write(tmp_path / "c.txt", "third"))]
    corpus.extended(more)
    again = Corpus.open(corpus.directory)
    assert [document.text for document in again.documents()] == ["first", "second", "third"]
    assert [source.origin for source in again.manifest.sources] == [str(tmp_path / f"{name}.txt") for name in "abc"]
    assert again.note == ""


def test_several_sources_make_one_corpus(workspace: Workspace, tmp_path: Path) -> None:
    sources = [
        StreamSource(io.BytesIO(b"one line\nanother\n"), reading=Reading("line")),
        PathSource(write(tmp_path / "rows.csv", "story,n\nfrom a table,1\n")),
    ]
    corpus = Corpus.create(workspace, "both", sources)
    assert [document.text for document in corpus.documents()] == ["one line", "another", "from a table"]
    assert [source.reading for source in corpus.manifest.sources] == [Reading("line"), Reading("field", "story")]


def test_a_source_may_be_refused_for_what_it_holds(workspace: Workspace, tmp_path: Path) -> None:
    def refuse(characters: int) -> None:
        raise UserError(f"only {characters}")

    with pytest.raises(UserError, match="only 5"):
        add_path(workspace, write(tmp_path / "a.txt", "first"), check=refuse)
    assert leftovers(workspace) == []


def test_an_addition_that_fails_or_is_killed_leaves_the_corpus_as_it_was(workspace: Workspace, tmp_path: Path) -> None:
    corpus = add_path(workspace, write(tmp_path / "a.txt", "first"))
    with pytest.raises(Cancelled):
        corpus.extended([PathSource(write(tmp_path / "b.txt", "second")), Stream(Cancelled())])
    orphan = corpus.directory / "documents" / f"added-{'0' * 16}"  # as a process leaves it that is killed
    write(orphan / "c.txt", "third")
    assert [document.text for document in Corpus.open(corpus.directory).documents()] == ["first"]
    again = Corpus.open(corpus.directory).extended([PathSource(tmp_path / "b.txt")])
    assert [document.text for document in again.documents()] == ["first", "second"]
    assert not orphan.exists()


def test_a_reader_does_not_undo_an_addition(workspace: Workspace, tmp_path: Path) -> None:
    corpus = add_path(workspace, write(tmp_path / "a.txt", "first"))

    class Watched(PathSource):
        def write(self, folder: Path, task: Task) -> SourceRecord:
            os.utime(corpus.directory / "documents")
            assert Corpus.open(corpus.directory).note == ""
            with pytest.raises(UserError, match="Another process adds to a"):
                corpus.extended([])
            return super().write(folder, task)

    corpus.extended([Watched(write(tmp_path / "b.txt", "second"))])
    assert Corpus.open(corpus.directory).manifest.documents == 2


def test_what_another_corpus_of_a_longer_name_left_is_not_ours(workspace: Workspace) -> None:
    with pytest.raises(Cancelled):
        Corpus.create(workspace, "wiki.en", Stream(Cancelled()))
    Corpus.create(workspace, "wiki", Stream(None))
    again = Stream(None)
    Corpus.create(workspace, "wiki.en", again)
    assert again.found == [".progress.json", "part-0.jsonl"]


def test_a_text_beside_a_blank_file_is_prepared(workspace: Workspace, tmp_path: Path) -> None:
    write(tmp_path / "books" / "a.txt", "some text\n" * 50)
    write(tmp_path / "books" / "blank.txt", "\n\n")
    corpus = add_path(workspace, tmp_path / "books")
    assert not corpus.is_lone_text
    assert corpus.manifest.documents == 1


def test_piped_rows_are_read_by_their_field(workspace: Workspace) -> None:
    stream = io.BytesIO(b'{"story": "One."}\n{"story": "Two."}\n')
    corpus = Corpus.create(workspace, "piped", StreamSource(stream, reading=Reading("auto", "story")))
    assert [document.text for document in corpus.documents()] == ["One.", "Two."]


def test_of_a_folder_the_files_that_are_no_text_are_told(tmp_path: Path) -> None:
    for name in ("a.txt", "b.png", "c.png", "d.exe"):
        write(tmp_path / "folder" / name, "Some words.")
    assert "Files of other kinds are left out: .png 2, .exe 1." in PathSource(tmp_path / "folder").notes


def test_a_name_that_differs_in_case_only_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    source = PathSource(write(tmp_path / "a.txt", "Some words."))
    Corpus.create(workspace, "Wiki", source)
    with pytest.raises(UserError, match="There is a corpus Wiki already"):
        Corpus.create(workspace, "wiki", source)
    assert leftovers(workspace) == ["Wiki"]
