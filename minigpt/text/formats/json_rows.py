"""Rows of JSON: one a line (.jsonl), or a list of them (.json)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from minigpt.errors import UserError, printable
from minigpt.text.formats.columns import CHAT_COLUMNS, TEXT_COLUMNS
from minigpt.text.formats.conversations import Unusable, is_chat, is_plain_chat, kind_of
from minigpt.text.formats.document import Message
from minigpt.text.formats.opening import Limits
from minigpt.text.formats.splitting import Broken, numbered_lines

# A row is an object by its fields, or a text that stands for itself.
Row = dict[str, Any] | str
Piece = str | bytes | msgspec.Raw
Decoder = Callable[[Piece], Row]
NumberedRows = Iterator[tuple[int, Row]]

_Outermost = list[msgspec.Raw] | dict[str, msgspec.Raw] | str | float | bool | None

_SHOWN_CHARACTERS = 100
_PLAIN_NAME = re.compile(r'[^\x00-\x1f"\\\ud800-\udfff]+')


def row_decoder(field: str, chats: bool) -> Decoder:
    """Return what makes a row of a piece of JSON; raises Unusable.

    Rows that have text (or `chats`) in `field`, plain and simple, are read ten times as fast, without their other
    fields.
    """
    # Whoever wrote such a name, msgspec does not decode by it.
    if not field or not _PLAIN_NAME.fullmatch(field):
        return _any_row
    wanted = tuple[Message, ...] if chats else str
    simple = msgspec.json.Decoder(msgspec.defstruct("OneField", [("value", wanted, msgspec.field(name=field))]))

    def decode(data: Piece) -> Row:
        try:
            value = simple.decode(data).value  # type: ignore[attr-defined]
        except (msgspec.DecodeError, RecursionError):
            return _any_row(data)
        return {field: value} if not chats or is_plain_chat(value) else _any_row(data)

    return decode


def jsonl_rows(blocks: Iterable[str], decode: Decoder, limits: Limits, broken: Broken) -> NumberedRows:
    """Yield (line, row); `broken` hears of the lines that are none."""
    lines = ((number, line) for number, line in numbered_lines(blocks, limits, broken) if line and not line.isspace())
    yield from _decoded(lines, decode, broken)


def json_rows(data: bytes, decode: Decoder, name: str, broken: Broken) -> NumberedRows:
    """Yield (number, row) of a list, of the list in an object, or of an object that is a row itself.

    Raises UserError when it is no JSON.
    """
    try:
        value = _outermost(data)
    except (msgspec.DecodeError, RecursionError) as error:
        why = printable(str(error), single_line=True)
        advice = "mend it, or name it .jsonl if it has a row a line"
        raise UserError(f"{name} is not valid JSON ({why}): {advice}.") from error
    return _decoded(enumerate(_rows_in(value, data), start=1), decode, broken)


def is_one_row_a_line(beginning: str) -> bool:
    """Whether a .json file is .jsonl by how it begins: with an object that ends with its line, and another."""
    first, *others = beginning.lstrip().split("\n", 2)
    if not (first.startswith("{") and others and others[0].lstrip().startswith("{")):
        return False
    try:
        return isinstance(_any_row(first), dict)
    except Unusable:
        return False


def without_lone_surrogates(value: Any) -> Any:
    """Return a value of JSON with U+FFFD for halves of characters, which no encoding can hold."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [without_lone_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_lone_surrogates(key): without_lone_surrogates(item) for key, item in value.items()}
    return value


def _decoded(pieces: Iterable[tuple[int, Piece]], decode: Decoder, broken: Broken) -> NumberedRows:
    for number, piece in pieces:
        try:
            row = decode(piece)
        except Unusable as error:
            broken(number, str(error))
            continue
        yield number, row


def _any_row(data: Piece) -> Row:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        value = _by_the_standard_library(data, error)
    if not isinstance(value, (dict, str)):
        raise Unusable(f"{kind_of(value)} in place of a record")
    return value


def _by_the_standard_library(data: Piece, error: Exception) -> Any:
    """Decode what the strict decoder does not: lone surrogates and NaN, which real files have."""
    try:
        return without_lone_surrogates(json.loads(data if isinstance(data, str) else bytes(data)))
    except (ValueError, RecursionError):
        raise Unusable(printable(str(error), single_line=True)[:_SHOWN_CHARACTERS]) from error


def _outermost(data: bytes) -> Any:
    """Decode a list or an object, but not yet what is in it."""
    try:
        return msgspec.json.decode(data, type=_Outermost)
    except msgspec.DecodeError as error:
        try:
            mended = msgspec.json.encode(without_lone_surrogates(json.loads(data)))
        except (ValueError, OverflowError):
            raise error from None
    return msgspec.json.decode(mended, type=_Outermost)


def _rows_in(value: Any, data: bytes) -> Iterable[Piece]:
    """Return the pieces of JSON that are rows: of a list, else the longest list of records in an object, and so on."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or any(
        key.lower() in CHAT_COLUMNS and is_chat(msgspec.json.decode(raw)) for key, raw in value.items()
    ):
        return [data]
    for opening in (b"[{", b"{", b"["):
        found = [raw for raw in value.values() if _begins(raw, opening)]
        if opening == b"{" and len(found) == len(value):
            return found  # rows by their names
        if opening == b"[" and any(key.lower() in TEXT_COLUMNS and _begins(raw, b'"') for key, raw in value.items()):
            break  # a row with a text of its own, and a list of tags, say
        if opening != b"{" and found:
            return msgspec.json.decode(max(found, key=len), type=list[msgspec.Raw])
    return [data]


def _begins(raw: msgspec.Raw, opening: bytes) -> bool:
    return b"".join(bytes(memoryview(raw)[:64]).split()).startswith(opening)
