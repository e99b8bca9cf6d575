"""Which column of somebody's rows holds the text, going by its name, else by what is in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minigpt.text.formats.conversations import is_chat

TEXT_COLUMNS = (
    "text",
    "content",
    "document",
    "story",
    "article",
    "body",
    "raw_content",
    "markdown",
    "passage",
    "transcript",
    "sentence",
    "poem",
    "lyrics",
)
CHAT_COLUMNS = ("messages", "conversations", "conversation", "chat", "dialogue", "dialog", "turns")
# One exchange, the answer last; the one before it, of three, belongs to the question.
PAIRS = (
    ("instruction", "input", "output"),
    ("instruction", "context", "response"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "response"),
    ("prompt", "completion"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("input", "output"),
)
JOIN = "+"

Record = Mapping[str, Any]


def chat_column(rows: Sequence[Record]) -> str | None:
    """Return the column that holds conversations: named as such, else any."""
    columns = [column for column in names_of(rows) if _mostly(is_chat, _values(rows, column))]
    return _named(columns, CHAT_COLUMNS) or next(iter(columns), None)


def pair_columns(rows: Sequence[Record]) -> str | None:
    """Return the columns of a question and its answer as "question+answer", or None."""
    texts = {column.lower(): column for column in reversed(_text_columns(rows))}
    for pair in PAIRS:
        if all(name in texts for name in pair):
            return JOIN.join(texts[name] for name in pair)
    return None


def text_column(rows: Sequence[Record]) -> str | None:
    """Return the column of text: named as such, else the one with the longest strings."""
    texts = _text_columns(rows)
    lengths = {column: sum(map(len, filter(_is_text, _values(rows, column)))) for column in texts}
    longest = max(lengths, key=lambda column: lengths[column], default=None)
    return _named(texts, TEXT_COLUMNS) or longest


def names_of(rows: Sequence[Record]) -> list[str]:
    """Return the columns' names, in the order in which they come."""
    return list(dict.fromkeys(column for row in rows for column in row))


def _values(rows: Sequence[Record], column: str) -> list[Any]:
    return [row[column] for row in rows if row.get(column) is not None]


def _text_columns(rows: Sequence[Record]) -> list[str]:
    """Return the columns with strings; some may be missing, and a broken row may hold something else."""
    return [column for column in names_of(rows) if _mostly(_is_text, _values(rows, column))]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _mostly(test: Callable[[Any], bool], values: Sequence[Any]) -> bool:
    return 2 * sum(map(test, values)) > len(values)


def _named(columns: Sequence[str], names: Sequence[str]) -> str | None:
    by_name = {column.lower(): column for column in reversed(columns)}
    return next((by_name[name] for name in names if name in by_name), None)
