"""How files are split into documents where nobody said: by their names and a sample of what is in them.

reading, why = guess_reading([Path("chats.jsonl")])     # Reading("messages", "conversations"), "Each row is ..."
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from minigpt.errors import UserError, printable
from minigpt.text.formats import format_of, has_rows
from minigpt.text.formats.columns import JOIN, Record, chat_column, names_of, pair_columns, text_column
from minigpt.text.formats.encodings import TextFacts, decode
from minigpt.text.formats.opening import LIMITS, Limits, Opening
from minigpt.text.formats.rows import OWN_CHAT, OWN_TEXT, open_rows
from minigpt.text.formats.splitting import END_OF_TEXT
from minigpt.text.formats.tables import shown_columns
from minigpt.text.reading import AUTO, Reading
from minigpt.text.storage import shown

_SAMPLE_ROWS = 100
_SAMPLE_BYTES = 1 << 20
# Of a folder with many files, so many are looked into.
_SAMPLE_FILES = 16


def guess_reading(files: Sequence[Path], reading: Reading = AUTO, limits: Limits = LIMITS) -> tuple[Reading, str]:
    """Return how files are best read where a reading leaves it open, and why, in a sentence.

    It is "auto" when each is to be read in its own way. Raises UserError when there is no text in their rows or one of
    those looked into cannot be read.
    """
    step = -(-len(files) // _SAMPLE_FILES) or 1
    guesses = [guess_one(path, reading, limits) for path in files[::step]]
    if len(guesses) == 1:
        return guesses[0]
    if len(set(guesses)) == 1 and len({has_rows(path) for path in files}) == 1:
        return guesses[0][0], f"All files are alike. {guesses[0][1]}"
    return reading, "Each file is read as its format is: text as one document, tables and JSON row by row."


def guess_one(path: Path, reading: Reading = AUTO, limits: Limits = LIMITS) -> tuple[Reading, str]:
    """Return how one file is best read where a reading leaves it open, and why.

    Rows are not split as running text is, nor has running text any fields: such readings count as "auto". Raises
    UserError when there is no text in its rows.
    """
    if has_rows(path):
        if reading.split in ("field", "messages") and reading.field:
            what = "conversation" if reading.split == "messages" else "document"
            return reading, f"Each row is a {what}, from {_named(reading.field)}, as chosen."
        return _guess_rows(path, reading, limits)
    if reading.split not in ("auto", "field", "messages"):
        return reading, f"It is split as chosen: {reading.split}."
    if format_of(path) == "html":
        return Reading("file"), "The page is one document."
    opening = Opening(path, limits, block_bytes=_SAMPLE_BYTES)
    if END_OF_TEXT in next(decode(opening.blocks(), opening.name, TextFacts()), ""):
        return Reading("endoftext"), f"It is split at {END_OF_TEXT}."
    return Reading("file"), "It is one document."


def _guess_rows(path: Path, reading: Reading, limits: Limits) -> tuple[Reading, str]:
    rows = _sample(path, limits)
    if reading.field:
        if JOIN in reading.field and not any(reading.field in row for row in rows):
            return _conversations(reading.field)
        rows = [{reading.field: row[reading.field]} for row in rows if reading.field in row]
    if reading.split != "field" and (found := chat_column(rows) or pair_columns(rows)):
        return _conversations(found)
    if reading.split == "messages":
        return _conversations(OWN_CHAT)
    column = text_column(rows) or reading.field or (None if rows else OWN_TEXT)
    if column is None:
        raise UserError(
            f"{shown(path)} has no column with text in it (only {shown_columns(names_of(rows)) or 'nothing'}): "
            "leave it out."
        )
    return Reading("field", column), f"Each row is a document, from {_named(column)}."


def _conversations(columns: str) -> tuple[Reading, str]:
    return Reading("messages", columns), f"Each row is a conversation, from {_named(columns)}."


def _sample(path: Path, limits: Limits) -> list[Record]:
    """Return the first rows; a row that is a mere text is one in our own shape."""
    opening = Opening(path, limits, block_bytes=_SAMPLE_BYTES)
    rows = open_rows(opening, AUTO, lambda number, why: None, TextFacts())
    sample = itertools.islice(rows, _SAMPLE_ROWS)
    return [{OWN_TEXT: row} if isinstance(row, str) else row for _, row in sample]


def _named(column: str) -> str:
    return f'"{printable(column, single_line=True)}"'
