"""Where documents come from. Each source puts files into a corpus's folder: see `corpus.Source`."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec

from minigpt.errors import UserError, printable
from minigpt.tasks import Task
from minigpt.text.corpus import MANIFEST, Corpus, CorpusExists, SourceRecord, content_hash, document_files
from minigpt.text.documents import Document, detect_encoding, is_jsonl, read_documents
from minigpt.text.storage import shown
from minigpt.workspace import Workspace

SUFFIXES = (".txt", ".md", ".jsonl")
# The sample corpus is made by name, so no file may take it.
RESERVED_NAMES = ("sample",)


class PathSource:
    """A file, or a folder with all text files below it; they are copied as they are.

    Raises UserError when it is missing, empty, unreadable, not text or not the JSON that is expected.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kind = "folder" if path.is_dir() else "file"
        self.notes: list[str] = []
        self.files = self._folder_files() if self.kind == "folder" else self._one_file()
        for _, file in self.files:
            encoding = detect_encoding(file)
            if encoding in ("cp1252", "latin-1"):
                self.notes.append(f"{shown(file)} is not UTF-8 and was read as {encoding}.")
            if is_jsonl(file):
                # A bad line is found before anything is copied, and named in the file that the user knows.
                for _ in read_documents(file):
                    pass

    def _one_file(self) -> list[tuple[str, Path]]:
        if not self.path.is_file():
            raise UserError(
                f"There is no file, folder or corpus {shown(self.path)}: check the name, "
                "or use the built-in corpus with the name sample."
            )
        if self._size(self.path) == 0:
            raise UserError(f"{shown(self.path)} is empty: name a file with some text in it.")
        if self.path.suffix.lower() not in SUFFIXES:
            self.notes.append(f"{shown(self.path)} is read as one plain text.")
        # Hidden files are no documents of a corpus, but this one was asked for.
        return [(self.path.name.lstrip("."), self.path)]

    def _folder_files(self) -> list[tuple[str, Path]]:
        if not os.access(self.path, os.R_OK | os.X_OK):
            raise UserError(f"Cannot read the folder {shown(self.path)}: check its permissions.")
        files: list[tuple[str, Path]] = []
        for file in document_files(self.path):
            if file.suffix.lower() not in SUFFIXES:
                continue
            if self._size(file) == 0:
                self.notes.append(f"{shown(file)} is empty and was left out.")
                continue
            files.append((file.relative_to(self.path).as_posix(), file))
        if not files:
            raise UserError(
                f"The folder {shown(self.path)} has no text in it: put files ending in {', '.join(SUFFIXES)} there."
            )
        return files

    @staticmethod
    def _size(file: Path) -> int:
        try:
            return file.stat().st_size
        except OSError as error:
            raise UserError(f"Cannot read {shown(file)} ({error.strerror}): check its permissions.") from error

    def write(self, folder: Path, task: Task) -> SourceRecord:
        for name, file in self.files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        return SourceRecord(self.kind, shown(self.path.absolute()), self.notes)


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
                line = {"messages": document.messages} if document.messages else {"text": document.text}
                file.write(encoder.encode(line) + b"\n")
        return SourceRecord(self.kind, self.origin)


def add_path(workspace: Workspace, path: Path) -> Corpus:
    """Return the corpus of a file or folder, adding it under its stem when it is not there yet.

    A corpus of that name with the same content is reused; with other content the name gets -2, -3, ...;
    the corpus's note says which. Raises UserError as `PathSource` does.
    """
    source = PathSource(path)
    wanted = corpus_name(path)
    content = content_hash(source.files)
    number = 2 if wanted in RESERVED_NAMES else 1
    while True:
        name = wanted if number == 1 else f"{wanted}-{number}"
        directory = workspace.corpus_directory(name)
        if (directory / MANIFEST).is_file():
            corpus = Corpus.open(directory)
            if corpus.manifest.content_hash == content:
                return corpus.with_note(f"{shown(path)} is the corpus {name} already.")
        elif not directory.exists():
            try:
                corpus = Corpus.create(workspace, name, source)
            except CorpusExists:
                continue  # made by another process meanwhile: look again
            taken = "" if number == 1 else f", because the name {wanted} is taken"
            notes = [f"Added {shown(path)} as the corpus {name}{taken}.", *source.notes]
            return corpus.with_note(" ".join(notes))
        number += 1


def corpus_name(path: Path) -> str:
    """Return the name a file or folder's corpus gets: its stem, in characters that a name may have."""
    path = path.absolute()
    stem = path.name if path.is_dir() else path.stem
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", printable(stem)).strip("-._")
    return name[:80] or "corpus"
