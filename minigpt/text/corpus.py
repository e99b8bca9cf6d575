"""A corpus: a named collection of documents with its manifest, kept under `data/<name>/`.

data/<name>/corpus.toml     where the documents come from and how they are read, how many there are, their content hash
data/<name>/documents/      the files as they were added, a folder for each source where there are several
data/<name>/tokenizer.json  of a corpus that came as tokens: the tokenizer that made them
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from minigpt.errors import UserError
from minigpt.tasks import NOBODY, Task
from minigpt.text.documents import Document, is_plain_text, read_documents, read_text_blocks
from minigpt.text.hub_parts import PROGRESS
from minigpt.text.manifest import (
    ADDED,
    DOCUMENTS,
    TOKENIZER,
    TOKENS,
    Manifest,
    SourceRecord,
    is_edited,
    make_manifest,
    read_manifest,
    recorded,
    source_files,
    write_manifest,
)
from minigpt.text.reading import Passed
from minigpt.text.storage import atomic_directory, fsync_tree, shown
from minigpt.workspace import Workspace

if TYPE_CHECKING:
    from minigpt.text.tokenizer import Tokenizer

LOCK = ".changing"
STREAMED = ("huggingface", "list")  # kinds of sources that can go on where a killed process stopped


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
                    manifest = make_manifest(building, name, records, task)
                if check is not None:
                    check(manifest.characters)
                write_manifest(building, manifest)
        except FileExistsError as error:
            raise _exists(directory) from error
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path) -> Corpus:
        """Open an existing corpus; raises UserError when there is none or its manifest is damaged.

        Documents edited by hand since the manifest was written are counted and hashed anew.
        """
        manifest = read_manifest(directory)
        if not is_edited(directory):
            return cls(directory, manifest)
        try:
            with _changing(directory):
                manifest = read_manifest(directory)
                manifest = make_manifest(directory, manifest.name, manifest.sources, NOBODY, manifest.created)
                write_manifest(directory, manifest)
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
                before = read_manifest(self.directory)
                known = {source.folder for source in before.sources}
                for orphan in documents.iterdir():
                    if ADDED.fullmatch(orphan.name) and orphan.name not in known:
                        shutil.rmtree(orphan)
                try:
                    for source in sources:
                        folder = f"added-{secrets.token_hex(8)}"
                        with atomic_directory(documents / folder) as building:
                            added.append(recorded(source.write(building, task), folder))
                    manifest = make_manifest(self.directory, self.name, [*before.sources, *added], task, before.created)
                    write_manifest(self.directory, manifest)
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


def _write(documents: Path, sources: Sequence[Source], task: Task) -> list[SourceRecord]:
    """Have each source put its files below documents/: in a folder of its own where there are several."""
    if len(sources) == 1:
        return [recorded(sources[0].write(documents, task), "")]
    records = []
    for number, source in enumerate(sources, start=1):
        if source.kind == TOKENS:
            raise UserError(f"{source.origin} holds tokens: it cannot be joined with text; make a corpus of its own.")
        folder = f"{number:02d}-{source.kind}"
        (documents / folder).mkdir()
        records.append(recorded(source.write(documents / folder, task), folder))
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


@contextmanager
def _changing(directory: Path) -> Iterator[None]:
    """Be the only one to change a corpus; raises BlockingIOError when another process is."""
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def _exists(directory: Path) -> CorpusExists:
    return CorpusExists(f"There is a corpus in {shown(directory)} already: choose another name or remove that one.")
