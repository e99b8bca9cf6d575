"""What `corpus.toml` says of a corpus: where its documents come from, how they are read, how many there are.

manifest = read_manifest(workspace.corpus_directory("tale"))
files = [path for source, path in source_files(directory / DOCUMENTS, manifest.sources)]
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import tomlkit

from minigpt.errors import UserError
from minigpt.tasks import Task
from minigpt.text.counting import count_files, count_tokens
from minigpt.text.reading import Reading
from minigpt.text.records import read_toml
from minigpt.text.storage import shown, write_file

MANIFEST = "corpus.toml"
DOCUMENTS = "documents"
TOKENIZER = "tokenizer.json"
TOKENS = "tokens"  # the kind of a source whose files are token shards
# The folder of a source that was added later; no folder of a user's is called so.
ADDED = re.compile(r"added-[0-9a-f]{16}")


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


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of the corpus in a directory; raises UserError when there is none or it is damaged."""
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


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `corpus.toml`, whole or not at all."""
    write_file(directory / MANIFEST, tomlkit.dumps(msgspec.to_builtins(manifest)).encode())


def make_manifest(
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


def recorded(record: SourceRecord, folder: str) -> SourceRecord:
    """Return a source's record as it goes into the manifest: with the folder that it filled, and when."""
    return msgspec.structs.replace(record, folder=folder, added=record.added or _now())


def is_edited(directory: Path) -> bool:
    """Whether a document is newer than the manifest; raises UserError when that cannot be seen."""
    documents = directory / DOCUMENTS
    try:
        written = (directory / MANIFEST).stat().st_mtime_ns
        return any(path.stat().st_mtime_ns > written for path in (documents, *documents.rglob("*")))
    except OSError as error:
        raise UserError(f"Cannot read {shown(documents)} ({error.strerror}): make it readable.") from error


def source_files(folder: Path, sources: Sequence[SourceRecord]) -> Iterator[tuple[SourceRecord, Path]]:
    """Yield the files of each source; what lies in no other source's folder belongs to the one without a folder."""
    apart = {source.folder for source in sources if source.folder}
    for source in sources:
        for path in document_files(folder / source.folder):
            top = path.relative_to(folder).parts[0]
            # What was being added when its process was killed belongs to nobody.
            if source.folder or not (top in apart or ADDED.fullmatch(top)):
                yield source, path


def document_files(folder: Path) -> list[Path]:
    """Return the files below a folder, sorted by their relative path; hidden ones are left out."""
    files = (
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    return sorted(files, key=lambda path: path.relative_to(folder).parts)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
