"""The rows of a file of any format that has some, and what document each one is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from minigpt.errors import printable
from minigpt.text.formats import format_of
from minigpt.text.formats.columns import JOIN
from minigpt.text.formats.conversations import Unusable, chat_of, is_chat, kind_of, pair_of, with_newlines
from minigpt.text.formats.document import Document
from minigpt.text.formats.encodings import TextFacts, decode
from minigpt.text.formats.json_rows import (
    Decoder,
    NumberedRows,
    Row,
    is_one_row_a_line,
    json_rows,
    jsonl_rows,
    row_decoder,
)
from minigpt.text.formats.opening import Opening
from minigpt.text.formats.splitting import Broken
from minigpt.text.formats.tables import csv_rows, parquet_rows, shown_columns
from minigpt.text.reading import Reading

# Reading line by line, small blocks are faster, and thousands of lines of a large one would be in memory.
_LINES_BYTES = 1 << 20
# What MiniGPT's own JSONL calls them.
OWN_TEXT, OWN_CHAT = "text", "messages"


def open_rows(opening: Opening, reading: Reading, broken: Broken, facts: TextFacts) -> NumberedRows:
    """Yield (number, row) of a file; `broken` hears of those that are none, `facts` of the encoding.

    A table's rows have only the columns that are needed ("auto": all with text). Raises UserError when the file cannot
    be read or has no such column.
    """
    kind = format_of(opening.path)
    columns = columns_of(reading) if reading.field else None
    if kind == "parquet":
        return parquet_rows(columns, opening, broken)
    if kind == "json":
        return _json(opening, reading, broken, facts)
    lines = replace(opening, block_bytes=min(_LINES_BYTES, opening.block_bytes))
    blocks = decode(lines.blocks(), opening.name, facts)
    if kind == "csv":
        return csv_rows(blocks, columns, opening, broken)
    return jsonl_rows(blocks, _decoder(reading), opening.limits, broken)


def document_of(row: Row, reading: Reading) -> Document:
    """Return what document a row is; it may be empty. Raises Unusable when there is none.

    MiniGPT's own JSONL has texts and conversations side by side: either is found where the other was looked for.
    """
    if isinstance(row, str):
        return Document(with_newlines(row))
    field = reading.field
    if reading.split == "messages":
        if field in row:
            return Document(messages=chat_of(row[field]).messages)
        if isinstance(row.get(OWN_TEXT), str) and field == OWN_CHAT:
            return Document(with_newlines(row[OWN_TEXT]))
        return Document(messages=pair_of(row, columns_of(reading)))
    if field in row:
        return Document(_text(row[field]))
    if field == OWN_TEXT and is_chat(row.get(OWN_CHAT)):
        return Document(messages=chat_of(row[OWN_CHAT]).messages)
    raise Unusable(f'no field "{_shown(field)}" (it has {shown_columns(list(row)) or "none"})')


def columns_of(reading: Reading) -> list[str]:
    """Return the columns that a reading needs."""
    return reading.field.split(JOIN) if reading.split == "messages" else [reading.field]


def _json(opening: Opening, reading: Reading, broken: Broken, facts: TextFacts) -> NumberedRows:
    beginning = next(decode(opening.blocks(), opening.name, TextFacts()), "")
    if is_one_row_a_line(beginning):
        blocks = decode(opening.blocks(), opening.name, facts)
        return jsonl_rows(blocks, _decoder(reading), opening.limits, broken)
    data = opening.whole(opening.limits.whole, "write it as .jsonl, with a row a line, which can be of any size")
    for _ in decode(_slices(data, opening.block_bytes), opening.name, facts):
        pass
    if facts != TextFacts():  # as text it takes several times the room, so UTF-8 stays as it is
        data = "".join(decode([data], opening.name, TextFacts())).encode()
    return json_rows(data, _decoder(reading), opening.name, broken)


def _slices(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def _decoder(reading: Reading) -> Decoder:
    several = len(columns_of(reading)) > 1
    return row_decoder("" if several else reading.field, chats=reading.split == "messages")


def _text(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise Unusable(f"{kind_of(value)} in place of text")
    return with_newlines(value or "")


def _shown(name: str) -> str:
    return printable(name, single_line=True)
