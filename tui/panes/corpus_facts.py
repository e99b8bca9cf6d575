"""What the Corpus pane shows of the texts on disk, read in bounded time whatever their size: for threads."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from minigpt.errors import printable
from minigpt.text.documents import Document, Message
from minigpt.text.manifest import DOCUMENTS, MANIFEST, Manifest
from minigpt.text.sources import RESERVED_NAMES
from minigpt.workspace import Workspace

SAMPLE = RESERVED_NAMES[0]
SHARDS, STATISTICS = "shards", "statistics.json"
PREVIEW_CHARACTERS = 3000
PREVIEW_DOCUMENTS = 12
_PREVIEW_BYTES = 1 << 16
_MANIFEST_BYTES = 1 << 20
_TOKENIZER_BYTES = 1 << 26
_SHARDS_TOLD = 4
# What is text as it stands in the file; of other formats `minigpt corpus documents` knows the beginning.
_READABLE = ("", ".txt", ".text", ".md", ".jsonl")


@dataclass(frozen=True)
class CorpusFacts:
    """A corpus by its manifest; without one it is the built-in text that is yet to be made, or there is a problem."""

    name: str
    manifest: Manifest | None = None
    problem: str = ""
    bytes: int = 0  # of its text, in UTF-8
    tokens: int | None = None  # of its newest shards

    @property
    def kind(self) -> str:
        """What it is made of, in a word or two."""
        if self.manifest is None:
            return ""
        documents, conversations = self.manifest.documents, self.manifest.conversations
        if conversations:
            return "conversations" if conversations == documents else "texts and conversations"
        return "one text" if documents == 1 else "texts"


@dataclass(frozen=True)
class Glance:
    """A look into a corpus: how it begins, safe for a screen, and what tokens were made of it."""

    name: str
    preview: str = ""
    shards: tuple[str, ...] = ()
    counted: bool = False  # whether its statistics are known already


def list_corpora(workspace: Workspace, chosen: str) -> list[CorpusFacts]:
    """Return all corpora, the built-in one first; the chosen one is among them even where it is gone."""
    found = {SAMPLE: CorpusFacts(SAMPLE, bytes=_sample_characters())}
    try:
        folders = sorted(path for path in workspace.data.iterdir() if not path.name.startswith("."))
    except OSError:
        folders = []
    for folder in folders:
        if _is_there(folder / MANIFEST) or _is_there(folder / DOCUMENTS):
            found[folder.name] = _read_manifest(folder)
    if chosen not in found:
        gone = "There is no corpus of that name among those added: choose another, or add it with the key a."
        found[chosen] = CorpusFacts(chosen, problem=gone)
    return list(found.values())


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True


def _read_manifest(folder: Path) -> CorpusFacts:
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            manifest = msgspec.toml.decode(file.read(_MANIFEST_BYTES), type=Manifest)
        return CorpusFacts(folder.name, manifest, bytes=manifest.bytes, tokens=_newest_tokens(folder / SHARDS))
    except OSError as error:
        reason = f"{error.strerror}"
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = f"it is damaged: {error}"
    shown = printable(f"{path} cannot be read ({reason})", single_line=True)
    return CorpusFacts(folder.name, problem=f"{shown}. Remove that folder and add the text again.")


def look_into(workspace: Workspace, facts: CorpusFacts) -> Glance:
    """Read how a corpus begins, and what tokens there are of it; what cannot be read is left out."""
    if facts.manifest is None:
        return Glance(facts.name, _told(_sample_documents()))
    folder = workspace.data / facts.name
    return Glance(
        facts.name,
        _preview(folder / DOCUMENTS),
        tuple(_shards(folder / SHARDS)),
        _is_there(folder / STATISTICS),
    )


def _sample_characters() -> int:
    from minigpt.text.sample import DEFAULT_CHARACTERS  # its word lists are not needed otherwise

    return DEFAULT_CHARACTERS


def _sample_documents() -> Iterable[Document]:
    from minigpt.text.sample import documents

    return islice(documents(), PREVIEW_DOCUMENTS)


def _preview(documents: Path) -> str:
    try:
        path = _first_file(documents)
        if path is None or path.suffix.lower() not in _READABLE:
            return ""
        with path.open("rb") as file:
            beginning = file.read(_PREVIEW_BYTES)
    except OSError:
        return ""
    encoding = "utf-16" if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(beginning)
    except UnicodeDecodeError:
        text = beginning.decode("cp1252", "replace")
    text = text.replace("\r\n", "\n")
    parsed = list(_documents(text)) if path.suffix.lower() == ".jsonl" else []
    # One document may be longer than what was read of it.
    return _told(parsed) if parsed else _shortened(printable(text))


def _first_file(folder: Path) -> Path | None:
    """Return the first file by the order in which a corpus is read, without walking through all of it."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_file():
            return Path(entry.path)
        if entry.is_dir(follow_symlinks=False) and (found := _first_file(Path(entry.path))):
            return found
    return None


class _Line(msgspec.Struct):
    text: str = ""
    messages: list[Message] = []


def _documents(lines: str) -> Iterable[Document]:
    decoder = msgspec.json.Decoder(_Line)
    for line in lines.split("\n")[:PREVIEW_DOCUMENTS]:
        try:
            found = decoder.decode(line)
        except (msgspec.DecodeError, ValueError, RecursionError):
            continue
        yield Document(found.text, tuple(found.messages))


def _told(documents: Iterable[Document]) -> str:
    parts = []
    for document in documents:
        turns = [f"{message.role}: {message.content}" for message in document.messages]
        parts.append(printable("\n".join(turns) or document.text).strip("\n"))
    return _shortened("\n\n".join(parts))


def _shortened(text: str) -> str:
    return text if len(text) <= PREVIEW_CHARACTERS else text[:PREVIEW_CHARACTERS].rstrip() + " …"


class _Split(msgspec.Struct):
    tokens: int


class _ShardsRecord(msgspec.Struct):
    splits: dict[str, _Split]


def _newest_tokens(folder: Path) -> int | None:
    """Return how many tokens the newest shards hold, over all splits."""
    try:
        manifests = [path / "shards.toml" for path in folder.iterdir() if not path.name.startswith(".")]
        newest = max(
            (path for path in manifests if path.is_file()), key=lambda path: path.stat().st_mtime, default=None
        )
        if newest is None:
            return None
        record = msgspec.toml.decode(newest.read_bytes(), type=_ShardsRecord)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError):
        return None
    return sum(split.tokens for split in record.splits.values())


class _Model(msgspec.Struct):
    type: str
    vocab: dict[str, int]
    merges: list[Any] = []


class _TokenizerRecord(msgspec.Struct):
    """The part of tokenizer.json that tells its kind: to open it whole would take numpy and `tokenizers`."""

    model: _Model
    added_tokens: list[dict[str, Any]] = []

    def told(self) -> str:
        words = {"WordLevel": "word", "BPE": "bpe" if self.model.merges else "char"}
        vocabulary = {*self.model.vocab, *(str(token.get("content")) for token in self.added_tokens)}
        return f"{words.get(self.model.type, 'other')}, vocabulary {len(vocabulary):,}"


def _shards(folder: Path) -> Iterable[str]:
    try:
        folders = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return
    for directory in folders[:_SHARDS_TOLD]:
        try:
            record = msgspec.toml.decode((directory / "shards.toml").read_bytes(), type=_ShardsRecord)
            with (directory / "tokenizer.json").open("rb") as file:
                tokenizer = msgspec.json.decode(file.read(_TOKENIZER_BYTES), type=_TokenizerRecord)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError):
            continue
        counts = ", ".join(f"{split.tokens:,} {printable(name)}" for name, split in record.splits.items())
        yield f"{tokenizer.told()}: {counts}"
    if len(folders) > _SHARDS_TOLD:
        yield f"and {len(folders) - _SHARDS_TOLD} more"


def users_of(workspace: Workspace, corpus: str) -> list[str]:
    """Return the runs at work that learn from a corpus."""
    from minigpt.runs import summarise
    from minigpt.start import running_runs

    return [run for run in running_runs(workspace) if summarise(workspace.checkpoints / run).corpus == corpus]
