"""What a document is, and how documents are read from a file of any format.

for document in read_documents(Path("tales.jsonl.gz"), Reading("field", "story"), passed):

Formats go by the file's name (see `formats`), and what is not known is plain text. Nothing is held whole but a
document, or a file of those formats that cannot be read in parts, whose size is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from minigpt.errors import UserError, printable
from minigpt.tasks import NOBODY, Task
from minigpt.text.formats import format_of, has_rows
from minigpt.text.formats.binaries import PARQUET
from minigpt.text.formats.conversations import Unusable
from minigpt.text.formats.document import ROLES, Document, Message
from minigpt.text.formats.encodings import SAMPLE_BYTES, TextFacts, decode, encoding_of_beginning
from minigpt.text.formats.guessing import guess_one
from minigpt.text.formats.opening import BLOCK_BYTES, LIMITS, Limits, Opening
from minigpt.text.formats.pages import page_source, page_text
from minigpt.text.formats.rows import document_of, open_rows
from minigpt.text.formats.splitting import Broken, split_text
from minigpt.text.reading import AUTO, Passed, Reading

__all__ = [
    "BLOCK_BYTES",
    "ROLES",
    "Document",
    "Message",
    "TextFacts",
    "detect_encoding",
    "is_jsonl",
    "is_plain_text",
    "read_documents",
    "read_text_blocks",
]


def read_documents(
    path: Path,
    reading: Reading = AUTO,
    passed: Passed | None = None,
    task: Task = NOBODY,
    *,
    facts: TextFacts | None = None,
    limits: Limits = LIMITS,
) -> Iterator[Document]:
    """Yield the documents of one file, "\\r\\n" read as "\\n"; those without any text are left out.

    Rows and lines that cannot be used are told to `passed`, the encoding and what was wrong with it to `facts`. Running
    text longer than limits.document characters comes in several documents. Raises UserError when the file cannot be
    read, is no text, has no such column, or nothing in it can be used.
    """
    opening = Opening(path, limits, task, block_bytes=BLOCK_BYTES)
    trouble = _Trouble(path, "row" if format_of(path) in ("json", "parquet") else "line", passed or Passed())
    reading, _ = guess_one(path, reading, limits)
    facts = facts or TextFacts()
    if has_rows(path):
        documents = _row_documents(opening, reading, trouble.add, facts)
    else:
        documents = _text_documents(opening, reading, trouble.add, facts)
    found = False
    for document in documents:
        found = True
        yield document
    if not found and trouble.first:
        raise UserError(
            f"Nothing in {opening.name} can be used: {trouble.first}"
            + (f", and {trouble.count - 1:,} more like it." if trouble.count > 1 else ".")
        )


def read_text_blocks(
    path: Path, facts: TextFacts | None = None, task: Task = NOBODY, on_bytes: Callable[[bytes], object] | None = None
) -> Iterator[str]:
    """Yield a plain text's characters in blocks, "\\r\\n" read as "\\n"; the whole file is read just once.

    `facts` hears of the encoding and what was wrong with it, `on_bytes` gets the file's bytes, block by block. Raises
    UserError when the file cannot be read or is not text.
    """
    opening = Opening(path, LIMITS, task, on_bytes, BLOCK_BYTES)
    return decode(opening.blocks(), opening.name, facts or TextFacts())


def detect_encoding(path: Path) -> str:
    """Return the encoding that a file's beginning shows; "utf-8" for ASCII, which later bytes may turn into another.

    Raises UserError when the file cannot be read or is not text (or not the Parquet that its name says).
    """
    opening = Opening(path)
    head = opening.beginning(SAMPLE_BYTES)
    if format_of(path) != "parquet":
        return encoding_of_beginning(head, opening.name)
    if not head.startswith(PARQUET):
        raise UserError(f"{opening.name} is no Parquet file, whatever its name says: leave it out or rename it.")
    return "utf-8"


def is_plain_text(path: Path) -> bool:
    """Whether a file's name says that all of it is running text, as `read_text_blocks` reads it."""
    return format_of(path) == "text"


def is_jsonl(path: Path) -> bool:
    return format_of(path) == "jsonl"


class _Trouble:
    """What cannot be used of one file, in words for `passed`."""

    def __init__(self, path: Path, unit: str, passed: Passed) -> None:
        self.count = 0
        self.first = ""
        self._name = printable(path.name, single_line=True)
        self._unit = unit
        self._passed = passed

    def add(self, number: int, why: str) -> None:
        where = f"{self._unit} {number:,}: {why}"
        self.first = self.first or where
        self.count += 1
        self._passed.add(f"{self._name}, {where}")


def _row_documents(opening: Opening, reading: Reading, broken: Broken, facts: TextFacts) -> Iterator[Document]:
    for number, row in open_rows(opening, reading, broken, facts):
        try:
            document = document_of(row, reading)
        except Unusable as error:
            broken(number, str(error))
            continue
        if _says_something(document.text) or any(_says_something(message.content) for message in document.messages):
            yield document


def _text_documents(opening: Opening, reading: Reading, broken: Broken, facts: TextFacts) -> Iterator[Document]:
    if format_of(opening.path) == "html":
        page = opening.whole(opening.limits.page, "that is no page to read; save its text as .txt")
        blocks = iter([page_text(page_source(page, opening.name, facts))])
    else:
        blocks = decode(opening.blocks(), opening.name, facts)
    for text in split_text(blocks, reading.split, opening.limits, broken):
        yield Document(text)


def _says_something(text: str) -> bool:
    return bool(text) and not text.isspace()
