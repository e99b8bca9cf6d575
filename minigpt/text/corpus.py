"""A corpus: a named collection of documents with its manifest, kept under `data/<name>/`.

data/<name>/corpus.toml     where the documents come from, how many there are, their content hash
data/<name>/documents/      the files as they were added: .jsonl holds one document a line,
                            any other file is one plain text
"""

from __future__ import annotations

import codecs
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

import msgspec
import tomlkit

from minigpt.errors import JobFailed, UserError, printable
from minigpt.workspace import Workspace

MANIFEST = "corpus.toml"
DOCUMENTS = "documents"
ROLES = ("user", "assistant")
_BLOCK_BYTES = 1 << 23
_SNIFFED_BYTES = 1 << 16

# How files that are no text begin, and what they are.
_MAGIC = {
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive or an office document",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "a database",
    b"{\\rtf": "an RTF document",
    b"\xd0\xcf\x11\xe0": "an old office document",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"\x7fELF": "a program",
}
_CONTROL_BYTES = bytes([*range(1, 9), *range(14, 27), *range(28, 32), 127])


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation; `role` is "user" or "assistant"."""

    role: str
    content: str


class Document(msgspec.Struct, frozen=True):
    """One document: a plain text or a conversation (one of the two is set)."""

    text: str = ""
    messages: tuple[Message, ...] = ()

    def texts(self) -> list[str]:
        """Return the text, or what each message says, without any join."""
        return [message.content for message in self.messages] if self.messages else [self.text]


class SourceRecord(msgspec.Struct, frozen=True):
    """Where documents came from: `kind` (sample, file, folder, ...), `origin`, and what was noticed on the way."""

    kind: str
    origin: str
    notes: list[str] = []


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
    """Anything that documents come from: it puts their files into a folder and says what it was."""

    def write(self, folder: Path) -> SourceRecord: ...


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
    def create(cls, workspace: Workspace, name: str, source: Source) -> Corpus:
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
                record = source.write(building / DOCUMENTS)
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
            if _is_jsonl(path):
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
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def read_documents(path: Path) -> Iterator[Document]:
    """Yield the documents of one file, "\\r\\n" read as "\\n"; those without any text are left out.

    Raises UserError naming the file (and line) when it is not readable text or not the expected JSON.
    """
    if _is_jsonl(path):
        yield from _read_jsonl(path)
    else:
        text = "".join(read_text_blocks(path))
        if text and not text.isspace():
            yield Document(text=text)


def read_text_blocks(path: Path) -> Iterator[str]:
    """Yield a text file's characters in blocks, "\\r\\n" read as "\\n"."""
    held = ""
    for block in _decoded_blocks(path, detect_encoding(path)):
        block = held + block
        # A "\r" at the end may be the first half of a "\r\n".
        held = "\r" if block.endswith("\r") else ""
        yield block[: len(block) - len(held)].replace("\r\n", "\n")
    if held:
        yield held


def detect_encoding(path: Path) -> str:
    """Return the codec a text file reads with: by its byte-order mark, else UTF-8, else cp1252 or Latin-1.

    Raises UserError when the file cannot be read or is not text.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_SNIFFED_BYTES)
            for magic, what in _MAGIC.items():
                if head.startswith(magic):
                    raise UserError(f"{shown(path)} is {what}, not text: save its text as .txt first and add that.")
            if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return "utf-16"
            file.seek(0)
            if any(b"\0" in block for block in iter(lambda: file.read(_BLOCK_BYTES), b"")):
                raise UserError(f"{shown(path)} is a binary file, not text (it holds NUL bytes): leave it out.")
        for encoding in ("utf-8-sig" if head.startswith(codecs.BOM_UTF8) else "utf-8", "cp1252"):
            if _decodes(path, encoding):
                break
            if len(head) - len(head.translate(None, _CONTROL_BYTES)) > len(head) // 50:
                raise UserError(f"{shown(path)} is a binary file, not text: leave it out.")
        else:
            encoding = "latin-1"
    except OSError as error:
        raise UserError(f"Cannot read {shown(path)} ({error.strerror}): check the path and its permissions.") from error
    return encoding


def _decodes(path: Path, encoding: str) -> bool:
    try:
        for _ in _strict_blocks(path, encoding):
            pass
    except UnicodeDecodeError:
        return False
    return True


def _decoded_blocks(path: Path, encoding: str) -> Iterator[str]:
    try:
        yield from _strict_blocks(path, encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"{shown(path)} is not valid {encoding} text: save it as UTF-8 and add it again.") from error


def _strict_blocks(path: Path, encoding: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield decoder.decode(block)
        yield decoder.decode(b"", True)


class _Line(msgspec.Struct):
    text: str | None = None
    messages: list[Message] | None = None


def _read_jsonl(path: Path) -> Iterator[Document]:
    decoder = msgspec.json.Decoder(_Line)
    for number, line in enumerate(_lines(path), start=1):
        if not line or line.isspace():
            continue
        try:
            document = _document(decoder.decode(line))
        except (msgspec.DecodeError, ValueError) as error:
            raise UserError(
                f"{shown(path)}, line {number}: {printable(str(error), single_line=True)}; each line must be "
                '{"text": "..."} or {"messages": [{"role": "user" or "assistant", "content": "..."}, ...]}.'
            ) from error
        if any(document.texts()):
            yield document


def _lines(path: Path) -> Iterator[str]:
    rest = ""
    for block in _decoded_blocks(path, detect_encoding(path)):
        *lines, rest = (rest + block).split("\n")
        yield from lines
    yield rest


def _document(line: _Line) -> Document:
    if (line.text is None) == (line.messages is None):
        raise ValueError('one of "text" and "messages" is needed')
    messages = tuple(Message(m.role, m.content.replace("\r\n", "\n")) for m in line.messages or ())
    for message in messages:
        if message.role not in ROLES:
            raise ValueError(f"unknown role {message.role!r}")
    return Document((line.text or "").replace("\r\n", "\n"), messages)


def _is_jsonl(path: Path) -> bool:
    return path.suffix.lower() == ".jsonl"


def _survey(folder: Path, name: str, sources: list[SourceRecord]) -> Manifest:
    """Read everything once: count it and hash it."""
    files = document_files(folder)
    documents = conversations = characters = size = 0
    for path in files:
        if _is_jsonl(path):
            for document in read_documents(path):
                documents += 1
                conversations += bool(document.messages)
                characters += sum(map(len, document.texts()))
                size += sum(len(text.encode()) for text in document.texts())
        else:
            has_text, block_characters, block_bytes = False, 0, 0
            for block in read_text_blocks(path):
                has_text = has_text or not (block == "" or block.isspace())
                block_characters += len(block)
                block_bytes += len(block.encode())
            if has_text:
                documents += 1
                characters += block_characters
                size += block_bytes
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


def shown(path: Path) -> str:
    """Return a path as a terminal may see it."""
    return printable(str(path), single_line=True)


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: beside, fsync'ed, renamed."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def atomic_directory(final: Path) -> Iterator[Path]:
    """Build a directory beside `final`; at the end it is fsync'ed and renamed, after an error removed.

    What a killed process left behind is removed by the next one that builds the same directory. Raises
    FileExistsError when `final` came to exist meanwhile and JobFailed when the disk is full.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(final)
    building, lock = _locked_directory(final)
    try:
        yield building
        _fsync_tree(building)
        try:
            building.rename(final)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise FileExistsError(str(final)) from error
            raise
        _fsync(final.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise JobFailed(f"The disk is full: free some space for {shown(final)} and start again.") from error
        raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
        os.close(lock)


def _locked_directory(final: Path) -> tuple[Path, int]:
    """Make the directory to build in, locked for as long as this process lives."""
    while True:
        building = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}.", suffix=".part"))
        building.chmod(0o755)
        try:
            lock = os.open(building, os.O_RDONLY)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_SH)
        # Another process may have taken it for a leftover before it was locked.
        if building.exists():
            return building, lock
        os.close(lock)


def _remove_leftovers(final: Path) -> None:
    for leftover in final.parent.glob(f".{final.name}.*.part"):
        try:
            lock = os.open(leftover, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(leftover, ignore_errors=True)
        except BlockingIOError:
            pass  # its builder lives
        finally:
            os.close(lock)


def _fsync_tree(directory: Path) -> None:
    for path in directory.rglob("*"):
        _fsync(path)
    _fsync(directory)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
