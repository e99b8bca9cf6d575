"""A corpus: a named collection of documents with its manifest, kept under `data/<name>/`.

data/<name>/corpus.toml     where the documents come from, how many there are, their content hash
data/<name>/documents/      the files as they were added: .jsonl holds one document a line,
                            any other file is one plain text
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

import msgspec
import tomlkit

from minigpt.errors import UserError
from minigpt.tasks import NOBODY, Task
from minigpt.text.documents import BLOCK_BYTES, Document, Message, is_jsonl, read_documents, read_text_blocks
from minigpt.text.reading import Reading
from minigpt.text.storage import atomic_directory, shown, write_file
from minigpt.workspace import Workspace

__all__ = ["Corpus", "CorpusExists", "Document", "Manifest", "Message", "Source", "SourceRecord", "content_hash"]

MANIFEST = "corpus.toml"
DOCUMENTS = "documents"


class SourceRecord(msgspec.Struct, frozen=True):
    """Where documents came from: `kind` (sample, file, folder, ...), `origin`, and what was noticed on the way.

    `folder` is the part of documents/ that this source filled (all of it for the only source); `reading` says how its
    files are split into documents, never "auto" once the corpus is made.
    """

    kind: str
    origin: str
    notes: list[str] = []
    reading: Reading = Reading()
    folder: str = ""
    added: str = ""
    licence: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """What `corpus.toml` says. `characters` and `bytes` (UTF-8) count the documents' text alone."""

    name: str
    created: str
    sources: list[SourceRecord]
    documents: int
    conversations: int
    characters: int
    bytes: int
    content_hash: str


class Source(Protocol):
    """Anything that documents come from: it puts their files into an empty folder and says what it was.

    Long work is told to the task, which raises Cancelled when it is to end; whoever called removes the folder.
    """

    def write(self, folder: Path, task: Task) -> SourceRecord: ...


class CorpusExists(UserError):
    """A corpus of that name is there already."""


@dataclass(frozen=True)
class Corpus:
    """A corpus on disk. `note` says in a sentence what was decided when it was looked up or made."""

    directory: Path
    manifest: Manifest
    note: str = ""

    @property
    def name(self) -> str:
        return self.manifest.name

    @classmethod
    def create(cls, workspace: Workspace, name: str, source: Source, task: Task = NOBODY) -> Corpus:
        """Make the corpus `name` from a source; nothing lies under its name before it is whole.

        Raises UserError when the name is taken (CorpusExists) or the source holds no text.
        """
        directory = workspace.corpus_directory(name)
        workspace.require_writable()
        if directory.exists():
            raise _exists(directory)
        try:
            with atomic_directory(directory) as building:
                (building / DOCUMENTS).mkdir()
                record = source.write(building / DOCUMENTS, task)
                manifest = _survey(building / DOCUMENTS, name, [record])
                if manifest.documents == 0:
                    raise UserError(f"{record.origin} holds no text: name a file or folder with some in it.")
                write_file(building / MANIFEST, tomlkit.dumps(msgspec.to_builtins(manifest)).encode())
        except FileExistsError as error:
            raise _exists(directory) from error
        return cls(directory, manifest)

    @classmethod
    def open(cls, directory: Path) -> Corpus:
        """Open an existing corpus; raises UserError when there is none or its manifest is damaged.

        Documents edited by hand since the manifest was written are counted and hashed anew.
        """
        path = directory / MANIFEST
        try:
            manifest = msgspec.toml.decode(path.read_bytes(), type=Manifest)
            written = path.stat().st_mtime_ns
            documents = directory / DOCUMENTS
            changed = any(p.stat().st_mtime_ns > written for p in (documents, *documents.rglob("*")))
        except FileNotFoundError as error:
            raise UserError(
                f"There is no corpus in {shown(directory)} (no {MANIFEST}): add the text again under another name."
            ) from error
        except OSError as error:
            raise UserError(f"Cannot read {shown(path)} ({error.strerror}): make it readable.") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{shown(path)} is damaged ({error}): remove that corpus and add it again.") from error
        if not changed:
            return cls(directory, manifest)
        manifest = _survey(directory / DOCUMENTS, manifest.name, manifest.sources)
        write_file(path, tomlkit.dumps(msgspec.to_builtins(manifest)).encode())
        return cls(directory, manifest, note=f"The documents of {manifest.name} were edited: counted again.")

    def with_note(self, note: str) -> Corpus:
        return replace(self, note=note)

    @property
    def is_lone_text(self) -> bool:
        """Whether all of the corpus is one plain text."""
        return self.manifest.documents == 1 and self.manifest.conversations == 0

    def documents(self) -> Iterator[Document]:
        """Yield every document, file by file in sorted order; only one is held in memory at a time."""
        for path in document_files(self.directory / DOCUMENTS):
            yield from read_documents(path)

    def text_blocks(self) -> Iterator[str]:
        """Yield a lone text in blocks of some millions of characters, so that it need not fit in memory."""
        assert self.is_lone_text
        for path in document_files(self.directory / DOCUMENTS):
            if is_jsonl(path):
                for document in read_documents(path):
                    yield document.text
            else:
                yield from read_text_blocks(path)


def document_files(folder: Path) -> list[Path]:
    """Return the files below a folder, sorted by their relative path; hidden ones are left out."""
    files = (
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    return sorted(files, key=lambda path: path.relative_to(folder).parts)


def content_hash(files: Iterable[tuple[str, Path]]) -> str:
    """Return the SHA-256 over the names and bytes of (name, path) pairs, in hexadecimal."""
    digest = hashlib.sha256()
    for name, path in files:
        digest.update(os.fsencode(name) + b"\0" + str(path.stat().st_size).encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def _survey(folder: Path, name: str, sources: list[SourceRecord]) -> Manifest:
    """Read everything once: count it and hash it."""
    files = document_files(folder)
    documents = conversations = characters = size = 0
    for path in files:
        if is_jsonl(path):
            for document in read_documents(path):
                documents += 1
                conversations += bool(document.messages)
                characters += sum(map(len, document.texts()))
                size += sum(len(text.encode()) for text in document.texts())
        else:
            counted = characters
            for block in read_text_blocks(path):
                characters += len(block)
                size += len(block.encode())
            documents += characters > counted
    return Manifest(
        name=name,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        sources=sources,
        documents=documents,
        conversations=conversations,
        characters=characters,
        bytes=size,
        content_hash=content_hash((path.relative_to(folder).as_posix(), path) for path in files),
    )


def _exists(directory: Path) -> CorpusExists:
    return CorpusExists(f"There is a corpus in {shown(directory)} already: choose another name or remove that one.")
