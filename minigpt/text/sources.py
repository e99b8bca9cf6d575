"""Text that lies on this machine, or is made or pasted here: see `corpus.Source`.

PathSource(Path("novels"))                     a file, or a folder with all text files below it
StreamSource(sys.stdin.buffer)                 pasted or piped text
DocumentSource("sample", "built in", documents)
"""

from __future__ import annotations

import os
import re
import select
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from minigpt.errors import UserError, printable
from minigpt.readings import free_disk
from minigpt.tasks import NOBODY, Task
from minigpt.text.corpus import Corpus, CorpusExists
from minigpt.text.counting import content_hash
from minigpt.text.documents import Document, detect_encoding
from minigpt.text.formats import SUFFIXES, is_readable
from minigpt.text.formats.guessing import guess_one, guess_reading
from minigpt.text.manifest import MANIFEST, SourceRecord, document_files
from minigpt.text.reading import Reading
from minigpt.text.storage import shown
from minigpt.workspace import Workspace

SAMPLE = "sample"
# The sample corpus is made by name, so no file may take it.
RESERVED_NAMES = (SAMPLE,)
_COPY_BYTES = 1 << 18
_NAMED = 3
_LOOK_SECONDS = 0.2


class PathSource:
    """A file, or a folder with all text files below it; they are copied as they are.

    Files in a folder that hold no text are left out and named in the notes. Raises UserError when the path is missing,
    empty, unreadable or not text. `reading` says how files are split into documents; "auto" is guessed from them.
    """

    def __init__(self, path: Path, reading: Reading | None = None, *, kind: str = "", origin: str = "") -> None:
        self.path = path
        self.kind = kind or ("folder" if path.is_dir() else "file")
        self.origin = origin or shown(path.absolute())
        self.notes: list[str] = []
        self.files = self._folder_files() if path.is_dir() else self._one_file()
        self.reading, why = guess_reading([file for _, file in self.files], reading or Reading())
        self.notes.append(why)

    def _one_file(self) -> list[tuple[str, Path]]:
        if self.path.exists() and not self.path.is_file():
            raise UserError(
                f"{shown(self.path)} is no file or folder: pipe it in instead, as `... | corpus add NAME -`."
            )
        if not self.path.is_file():
            raise UserError(
                f"There is no file, folder or corpus {shown(self.path)}: check the name, "
                "or use the built-in corpus with the name sample."
            )
        if self._size(self.path) == 0:
            raise UserError(f"{shown(self.path)} is empty: name a file with some text in it.")
        if is_readable(self.path):
            return [(self.path.name.lstrip("."), self.path)]
        detect_encoding(self.path)  # refuses what is no text
        self.notes.append(f"{shown(self.path)} is read as one plain text.")
        # Hidden files are no documents of a corpus, but this one was asked for.
        return [(self.path.name.lstrip("."), self.path)]

    def _folder_files(self) -> list[tuple[str, Path]]:
        if not os.access(self.path, os.R_OK | os.X_OK):
            raise UserError(f"Cannot read the folder {shown(self.path)}: check its permissions.")
        files: list[tuple[str, Path]] = []
        left_out: list[str] = []
        others: Counter[str] = Counter()
        for file in document_files(self.path):
            if not is_readable(file):
                others[file.suffix or file.name] += 1
                continue
            if not file.resolve().is_relative_to(self.path.resolve()):
                left_out.append(f"{shown(file)} links to a place outside of the folder")
                continue
            try:
                if self._size(file) == 0:
                    left_out.append(f"{shown(file)} is empty")
                    continue
                detect_encoding(file)
                guess_one(file)
            except UserError as error:
                left_out.append(str(error))
                continue
            files.append((file.relative_to(self.path).as_posix(), file))
        if not files:
            why = f" ({left_out[0]})" if left_out else ""
            raise UserError(
                f"The folder {shown(self.path)} has no text in it{why}: "
                f"put files ending in {', '.join(SUFFIXES)} there."
            )
        if others:
            kinds = ", ".join(f"{printable(kind)} {count:,}" for kind, count in others.most_common(_NAMED))
            self.notes.append(f"Files of other kinds are left out: {kinds}{' ...' if len(others) > _NAMED else ''}.")
        if left_out:
            more = f" and {len(left_out) - _NAMED:,} more" if len(left_out) > _NAMED else ""
            self.notes.append(f"Left out: {'; '.join(left_out[:_NAMED])}{more}.")
        return files

    @staticmethod
    def _size(file: Path) -> int:
        try:
            return file.stat().st_size
        except OSError as error:
            raise UserError(f"Cannot read {shown(file)} ({error.strerror}): check its permissions.") from error

    def write(self, folder: Path, task: Task) -> SourceRecord:
        total, done = sum(self._size(file) for _, file in self.files), 0
        require_room(folder, total, self.origin)
        for name, file in self.files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as source, target.open("wb") as copy:
                while block := source.read(_COPY_BYTES):
                    copy.write(block)
                    done += len(block)
                    task.report("copying", done, total, "bytes")
        return SourceRecord(self.kind, self.origin, self.notes, self.reading)


class StreamSource:
    """Text that comes through a pipe or from the clipboard, as it is, of any length."""

    kind = "text"

    def __init__(self, stream: BinaryIO, origin: str = "standard input", reading: Reading | None = None) -> None:
        self.stream = stream
        self.origin = origin
        self.reading = reading or Reading()

    def write(self, folder: Path, task: Task) -> SourceRecord:
        rows = self.reading.split in ("field", "messages") or self.reading.field != ""
        path = folder / ("text.jsonl" if rows else "text.txt")
        done = 0
        with path.open("wb") as file:
            for block in _blocks(self.stream, task):
                require_room(folder, len(block), self.origin)
                file.write(block)
                done += len(block)
                task.report("reading", done, None, "bytes")
        if done == 0:
            raise UserError(f"There was no text on {self.origin}: pipe some into the command, as in `cat book.txt |`.")
        source = PathSource(path, self.reading)
        return SourceRecord(self.kind, self.origin, source.notes, source.reading)


def _blocks(stream: BinaryIO, task: Task) -> Iterator[bytes]:
    """Yield what comes through a stream as it comes; the task is asked for an end while nothing does."""
    try:
        descriptor = stream.fileno()
    except OSError:  # no pipe or file: in memory
        yield from iter(lambda: stream.read(_COPY_BYTES), b"")
        return
    while True:
        wait_for_input(descriptor, task)
        block = os.read(descriptor, _COPY_BYTES)
        if not block:
            return
        yield block


def wait_for_input(descriptor: int, task: Task) -> None:
    """Wait until something can be read, and let the task be stopped meanwhile."""
    while not select.select([descriptor], [], [], _LOOK_SECONDS)[0]:
        task.report("waiting for input")


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise UserError where the disk has not so many bytes free."""
    free = free_disk(folder)
    if needed > free:
        raise UserError(
            f"{what} takes {needed / 1e6:,.0f} MB and {shown(folder.parent)} has {free / 1e6:,.0f} MB free: make room "
            "there, or choose another folder with --workspace DIR."
        )


class DocumentSource:
    """Documents made by the program: they are stored as one JSONL file."""

    def __init__(self, kind: str, origin: str, documents: Iterable[Document]) -> None:
        self.kind = kind
        self.origin = origin
        self.documents = documents

    def write(self, folder: Path, task: Task) -> SourceRecord:
        encoder = msgspec.json.Encoder()
        with (folder / f"{self.kind}.jsonl").open("wb") as file:
            for document in self.documents:
                task.report("writing", file.tell(), None, "bytes")
                line = {"messages": document.messages} if document.messages else {"text": document.text}
                file.write(encoder.encode(line) + b"\n")
        return SourceRecord(self.kind, self.origin)


def add_path(
    workspace: Workspace,
    path: Path,
    task: Task = NOBODY,
    check: Callable[[int], None] | None = None,
    reading: Reading | None = None,
) -> Corpus:
    """Return the corpus of a file or folder, adding it under its stem when it is not there yet.

    A corpus of that name with the same content, read in the same way, is reused; with other content the name gets -2,
    -3, ...; the corpus's note says which. Raises UserError as `PathSource` and `Corpus.create` do.
    """
    source = PathSource(path, reading)
    wanted = corpus_name(path)
    number = 2 if wanted in RESERVED_NAMES else 1
    while True:
        name = wanted if number == 1 else f"{wanted}-{number}"
        directory = workspace.corpus_directory(name)
        if (directory / MANIFEST).is_file():
            corpus = Corpus.open(directory)
            content = content_hash(source.files, like=corpus.manifest.content_hash)
            alike = reading is None or corpus.manifest.sources[0].reading == source.reading
            if corpus.manifest.content_hash == content and alike:
                return corpus.with_note(f"{shown(path)} is the corpus {name} already.")
        elif not directory.exists():
            try:
                corpus = Corpus.create(workspace, name, source, task, check)
            except CorpusExists:
                continue  # made by another process meanwhile: look again
            taken = "" if number == 1 else f", because the name {wanted} is taken"
            notes = [f"Added {shown(path)} as the corpus {name}{taken}.", *source.notes, *corpus.manifest.notes]
            return corpus.with_note(" ".join(notes))
        number += 1


def corpus_name(path: Path) -> str:
    """Return the name a file or folder's corpus gets: its stem, in characters that a name may have."""
    path = path.absolute()
    if path.suffix.lower() in (".gz", ".zst"):
        path = path.with_suffix("")
    stem = path.name if path.is_dir() else path.stem
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", printable(stem)).strip("-._")
    return name[:80] or "corpus"
