"""A corpus: a named collection of documents with its manifest, kept under `data/<name>/`.

data/<name>/corpus.toml     where the documents come from and how they are read, how many there are, their content hash
data/<name>/documents/      the files as they were added, a folder for each source where there are several
data/<name>/tokenizer.json  of a corpus that came as tokens: the tokenizer that made them
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec
import tomlkit

from minigpt.errors import UserError
from minigpt.tasks import NOBODY, Task
from minigpt.text.counting import count_files, count_tokens
from minigpt.text.documents import Document, Message, is_plain_text, read_documents, read_text_blocks
from minigpt.text.hub_parts import PROGRESS
from minigpt.text.reading import Passed, Reading
from minigpt.text.records import read_toml
from minigpt.text.storage import atomic_directory, fsync_tree, shown, write_file
from minigpt.workspace import Workspace

if TYPE_CHECKING:
    from minigpt.text.tokenizer import Tokenizer

__all__ = ["Corpus", "CorpusExists", "Document", "Manifest", "Message", "Source", "SourceRecord"]

MANIFEST = "corpus.toml"
DOCUMENTS = "documents"
TOKENIZER = "tokenizer.json"
LOCK = ".changing"
STREAMED = ("huggingface", "list")  # kinds of sources that can go on where a killed process stopped
TOKENS = "tokens"  # the kind of a source whose files are token shards


# A folder that was added later; no folder of a user's is called so.
_ADDED = re.compile(r"added-[0-9a-f]{16}")


class SourceRecord(msgspec.Struct, frozen=True):
    """Where documents came from: `kind` (sample, file, folder, ...), `origin`, and what was noticed on the way.

    `folder` is the part of documents/ that this source filled (all of it for the only source); `reading` says how its
    files are split into documents.
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
    encodings: dict[str, int] = {}  # how many files are in each
    notes: list[str] = []  # what was noticed while reading


class Source(Protocol):
    """Anything that documents come from: it puts their files into an empty folder and says what it was.

    Long work is told to the task, which raises Cancelled when it is to end; whoever called removes the folder.
    """

    kind: str
    origin: str

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
    def create(
        cls,
        workspace: Workspace,
        name: str,
        sources: Source | Sequence[Source],
        task: Task = NOBODY,
        check: Callable[[int], None] | None = None,
    ) -> Corpus:
        """Make the corpus `name` from its sources; nothing lies under its name before it is whole.

        A stream goes on where a killed process stopped. `check` is given the number of characters and may raise. Raises
        UserError when the name is taken (CorpusExists) or the sources hold no text.
        """
        directory = workspace.corpus_directory(name)
        workspace.require_writable()
        if directory.exists():
            raise _exists(directory)
        _refuse_other_case(directory)
        sources = sources if isinstance(sources, Sequence) else [sources]
        resumable = len(sources) == 1 and sources[0].kind in STREAMED
        try:
            with atomic_directory(directory, PROGRESS if resumable else "") as building:
                documents = building / DOCUMENTS
                documents.mkdir(exist_ok=True)
                records = _write(documents, sources, task)
                # The disk takes the documents in while they are counted.
                with ThreadPoolExecutor(1, "sync") as syncing, _named_as_the_user_knows(documents, records):
                    syncing.submit(fsync_tree, documents)
                    manifest = _manifest(building, name, records, task)
                if check is not None:
                    check(manifest.characters)
                _write_manifest(building, manifest)
        except FileExistsError as error:
            raise _exists(directory) from error
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path) -> Corpus:
        """Open an existing corpus; raises UserError when there is none or its manifest is damaged.

        Documents edited by hand since the manifest was written are counted and hashed anew.
        """
        manifest = _read_manifest(directory)
        if not _edited(directory):
            return cls(directory, manifest)
        try:
            with _changing(directory):
                manifest = _read_manifest(directory)
                manifest = _manifest(directory, manifest.name, manifest.sources, NOBODY, manifest.created)
                _write_manifest(directory, manifest)
        except BlockingIOError:
            return cls(directory, manifest)  # somebody adds to it now, and will count it
        except OSError:
            pass  # a corpus that is not ours to write in
        return cls(directory, manifest, note=f"The documents of {manifest.name} were edited: counted again.")

    def extended(self, sources: Sequence[Source], task: Task = NOBODY) -> Corpus:
        """Add more documents; those that are there already stay in their splits. Raises UserError as `create` does."""
        if self.is_tokenised:
            raise UserError(f"{self.name} came as tokens: text cannot be added to it; make a corpus of its own.")
        documents = self.directory / DOCUMENTS
        added: list[SourceRecord] = []
        try:
            with _changing(self.directory):
                before = _read_manifest(self.directory)
                known = {source.folder for source in before.sources}
                for orphan in documents.iterdir():
                    if _ADDED.fullmatch(orphan.name) and orphan.name not in known:
                        shutil.rmtree(orphan)
                try:
                    for source in sources:
                        folder = f"added-{secrets.token_hex(8)}"
                        with atomic_directory(documents / folder) as building:
                            added.append(_recorded(source.write(building, task), folder))
                    manifest = _manifest(self.directory, self.name, [*before.sources, *added], task, before.created)
                    _write_manifest(self.directory, manifest)
                except BaseException:
                    for record in added:
                        shutil.rmtree(documents / record.folder, ignore_errors=True)
                    raise
        except BlockingIOError as error:
            raise UserError(f"Another process adds to {self.name}: wait for it, then add this again.") from error
        return replace(self, manifest=manifest)

    def with_note(self, note: str) -> Corpus:
        return replace(self, note=note)

    @property
    def is_lone_text(self) -> bool:
        """Whether all of the corpus is one plain text."""
        manifest = self.manifest
        # A file beside it may be blank.
        single = (manifest.documents, manifest.conversations) == (1, 0) and not self.is_tokenised
        return single and len(self.files()) == 1

    @property
    def is_tokenised(self) -> bool:
        """Whether it came as token shards."""
        return any(source.kind == TOKENS for source in self.manifest.sources)

    def tokenizer(self) -> Tokenizer | None:
        """Return the tokenizer of a corpus that came as tokens."""
        if not self.is_tokenised:
            return None
        from minigpt.text.tokenizer import Tokenizer  # numpy and the library are not needed otherwise

        return Tokenizer.load(self.directory / TOKENIZER)

    def files(self) -> list[Path]:
        """Return the files of all documents, in the order in which they are read."""
        return [path for _, path in source_files(self.directory / DOCUMENTS, self.manifest.sources)]

    def documents(self, task: Task = NOBODY) -> Iterator[Document]:
        """Yield every document, source by source and file by file in sorted order; only one is held in memory.

        A lone text that is very long comes in several documents: see `text_blocks`.
        """
        if self.is_tokenised:
            from minigpt.text.pretokenised import token_documents

            tokenizer = self.tokenizer()
            assert tokenizer is not None
            yield from token_documents(self.files(), tokenizer)
            return
        for source, path in source_files(self.directory / DOCUMENTS, self.manifest.sources):
            yield from read_documents(path, source.reading, Passed(), task)

    def text_blocks(self) -> Iterator[str]:
        """Yield a lone text in blocks of some millions of characters, so that it need not fit in memory."""
        assert self.is_lone_text
        (path,) = self.files()
        if is_plain_text(path):
            yield from read_text_blocks(path)
        else:
            for document in self.documents():
                yield document.text


def _refuse_other_case(directory: Path) -> None:
    """Some file systems take names that differ in upper and lower case for one."""
    for other in directory.parent.iterdir():
        if other.name != directory.name and other.name.casefold() == directory.name.casefold():
            raise UserError(
                f"There is a corpus {shown(Path(other.name))} already, and some disks take the two names for one: "
                "choose another."
            )


def source_files(folder: Path, sources: Sequence[SourceRecord]) -> Iterator[tuple[SourceRecord, Path]]:
    """Yield the files of each source; what lies in no other source's folder belongs to the one without a folder."""
    apart = {source.folder for source in sources if source.folder}
    for source in sources:
        for path in document_files(folder / source.folder):
            top = path.relative_to(folder).parts[0]
            # What was being added when its process was killed belongs to nobody.
            if source.folder or not (top in apart or _ADDED.fullmatch(top)):
                yield source, path


def document_files(folder: Path) -> list[Path]:
    """Return the files below a folder, sorted by their relative path; hidden ones are left out."""
    files = (
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    return sorted(files, key=lambda path: path.relative_to(folder).parts)


def _write(documents: Path, sources: Sequence[Source], task: Task) -> list[SourceRecord]:
    """Have each source put its files below documents/: in a folder of its own where there are several."""
    if len(sources) == 1:
        return [_recorded(sources[0].write(documents, task), "")]
    records = []
    for number, source in enumerate(sources, start=1):
        if source.kind == TOKENS:
            raise UserError(f"{source.origin} holds tokens: it cannot be joined with text; make a corpus of its own.")
        folder = f"{number:02d}-{source.kind}"
        (documents / folder).mkdir()
        records.append(_recorded(source.write(documents / folder, task), folder))
    return records


@contextmanager
def _named_as_the_user_knows(documents: Path, records: Sequence[SourceRecord]) -> Iterator[None]:
    """Have errors name the files that were added, not our copies of them."""
    try:
        yield
    except UserError as error:
        here = f"{shown(documents)}/"
        there = ""
        if len(records) == 1 and records[0].kind in ("file", "folder"):
            origin = Path(records[0].origin)
            there = f"{origin if records[0].kind == 'folder' else origin.parent}/"
        raise UserError(str(error).replace(here, there)) from error


def _read_manifest(directory: Path) -> Manifest:
    path = directory / MANIFEST
    try:
        return read_toml(path, Manifest)
    except FileNotFoundError as error:
        raise UserError(
            f"There is no corpus in {shown(directory)} (no {MANIFEST}): add the text again under another name."
        ) from error
    except OSError as error:
        raise UserError(f"Cannot read {shown(path)} ({error.strerror}): make it readable.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{shown(path)} is damaged ({error}): remove that corpus and add it again.") from error


def _edited(directory: Path) -> bool:
    """Whether a document is newer than the manifest."""
    documents = directory / DOCUMENTS
    try:
        written = (directory / MANIFEST).stat().st_mtime_ns
        return any(path.stat().st_mtime_ns > written for path in (documents, *documents.rglob("*")))
    except OSError as error:
        raise UserError(f"Cannot read {shown(documents)} ({error.strerror}): make it readable.") from error


@contextmanager
def _changing(directory: Path) -> Iterator[None]:
    """Be the only one to change a corpus; raises BlockingIOError when another process is."""
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def _recorded(record: SourceRecord, folder: str) -> SourceRecord:
    return msgspec.structs.replace(record, folder=folder, added=record.added or _now())


def _manifest(
    directory: Path, name: str, sources: Sequence[SourceRecord], task: Task, created: str | None = None
) -> Manifest:
    """Read everything once: count it and hash it. Raises UserError when there is no text."""
    folder = directory / DOCUMENTS
    files = list(source_files(folder, sources))
    if any(source.kind == TOKENS for source in sources):
        count = count_tokens([path for _, path in files], directory / TOKENIZER, task)
    else:
        named = [(path.relative_to(folder).as_posix(), path, source.reading) for source, path in files]
        count = count_files(named, task)
    if count.documents == 0:
        raise UserError(f"{sources[0].origin} holds no text: name a file or folder with some in it.")
    return Manifest(
        name=name,
        created=created or _now(),
        sources=list(sources),
        documents=count.documents,
        conversations=count.conversations,
        characters=count.characters,
        bytes=count.bytes,
        content_hash=count.content_hash,
        encodings=count.encodings,
        notes=count.notes,
    )


def _write_manifest(directory: Path, manifest: Manifest) -> None:
    write_file(directory / MANIFEST, tomlkit.dumps(msgspec.to_builtins(manifest)).encode())


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _exists(directory: Path) -> CorpusExists:
    return CorpusExists(f"There is a corpus in {shown(directory)} already: choose another name or remove that one.")
