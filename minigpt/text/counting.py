"""How much text there is, and a hash of it: one reading of everything when a corpus is made."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from minigpt.tasks import Task
from minigpt.text.documents import BLOCK_BYTES, TextFacts, is_plain_text, read_documents, read_text_blocks
from minigpt.text.reading import Passed, Reading
from minigpt.text.storage import shown

# So many damaged or unusually encoded files are named.
_NAMED_FILES = 5
_PREFIX = "blake2b:"


class ContentHash:
    """A hash over the names and bytes of files, computed in a thread of its own while they are read.

    BLAKE2b, which is the fastest there is in the standard library on processors without SHA instructions.
    """

    def __init__(self, sha256: bool = False) -> None:
        self._digest = hashlib.sha256() if sha256 else hashlib.blake2b(digest_size=32)
        self._prefix = "" if sha256 else _PREFIX
        self._thread = ThreadPoolExecutor(1, "hash")
        self._last: Future[None] | None = None

    def __enter__(self) -> ContentHash:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown()

    def begin(self, name: str, size: int) -> None:
        """Begin a file, named as it is to be known."""
        self.update(os.fsencode(name) + b"\0" + str(size).encode() + b"\0")

    def update(self, data: bytes) -> None:
        """Take the next bytes; waits for those before, so that no more than two blocks are held."""
        if self._last is not None:
            self._last.result()
        self._last = self._thread.submit(self._digest.update, data)

    def add(self, name: str, path: Path) -> None:
        """Take a whole file."""
        self.begin(name, path.stat().st_size)
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                self.update(block)

    def hexdigest(self) -> str:
        if self._last is not None:
            self._last.result()
        return self._prefix + self._digest.hexdigest()


def content_hash(files: Iterable[tuple[str, Path]], like: str = "") -> str:
    """Return a hash over the names and bytes of (name, path) pairs, to be compared with one `like` this.

    Corpora of the first versions have SHA-256, without a prefix.
    """
    with ContentHash(sha256=bool(like) and not like.startswith(_PREFIX)) as digest:
        for name, path in files:
            digest.add(name, path)
        return digest.hexdigest()


@dataclass
class Count:
    """Totals over files; `bytes` are those of the text in UTF-8."""

    documents: int = 0
    conversations: int = 0
    characters: int = 0
    bytes: int = 0
    content_hash: str = ""
    encodings: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def count_files(files: Sequence[tuple[str, Path, Reading]], task: Task) -> Count:
    """Read all documents of files (name, path, how they are read); what could not be used is told in the notes."""
    count = Count()
    passed = Passed()
    encodings: Counter[str] = Counter()
    with ContentHash() as digest:
        for name, path, reading in files:
            facts = TextFacts()
            if is_plain_text(path) and reading.split in ("auto", "file") and len(files) == 1:
                digest.begin(name, path.stat().st_size)
                _count_lone_text(path, count, facts, task, digest)
            else:
                digest.add(name, path)
                _count_documents(path, reading, count, facts, passed, task)
            encodings[facts.encoding] += 1
            if len(count.notes) < _NAMED_FILES:
                count.notes += facts.notes(shown(Path(name)))
        count.content_hash = digest.hexdigest()
    count.encodings = dict(encodings)
    if passed.count:
        examples = "; ".join(passed.examples)
        more = " and so on" if passed.count > len(passed.examples) else ""
        rows = "One row or line" if passed.count == 1 else f"{passed.count:,} rows or lines"
        count.notes.append(f"{rows} could not be used, passed over: {examples}{more}.")
    return count


def _count_lone_text(path: Path, count: Count, facts: TextFacts, task: Task, digest: ContentHash) -> None:
    for block in read_text_blocks(path, facts, task, digest.update):
        count.characters += len(block)
        count.bytes += utf8_length(block)
        task.report("reading", count.bytes, path.stat().st_size, "bytes")
    count.documents = int(count.characters > 0)


def _count_documents(path: Path, reading: Reading, count: Count, facts: TextFacts, passed: Passed, task: Task) -> None:
    for document in read_documents(path, reading, passed, task, facts=facts):
        count.documents += 1
        count.conversations += bool(document.messages)
        for text in document.texts():
            count.characters += len(text)
            count.bytes += utf8_length(text)
        task.report("reading", count.bytes, None, "bytes")


def count_tokens(files: Sequence[Path], tokenizer: Path, task: Task) -> Count:
    """Count what token shards hold: their documents by end-of-text tokens, their bytes by those of each token."""
    import numpy as np

    from minigpt.text.shards import read_shard, token_blocks
    from minigpt.text.tokenizer import Tokenizer

    made_by = Tokenizer.load(tokenizer)
    lengths = made_by.token_byte_lengths()
    count = Count(content_hash=content_hash((path.name, path) for path in files))
    tokens = 0
    for path in files:
        for block in token_blocks(read_shard(path)):
            tokens += len(block)
            count.documents += int(np.count_nonzero(block == made_by.end_of_text))
            count.bytes += int(lengths[block].sum())
            task.report("reading", tokens, None, "tokens")
    count.characters = count.bytes
    count.documents = max(count.documents, int(tokens > 0))
    count.notes.append(f"{tokens:,} tokens; the characters are counted as bytes.")
    return count


def utf8_length(text: str) -> int:
    """Return how many bytes a text takes in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
