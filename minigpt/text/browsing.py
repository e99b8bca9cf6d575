"""Looking into a corpus: a page of its documents, or those that hold some words."""

from __future__ import annotations

import itertools
import re

import msgspec

from minigpt.tasks import NOBODY, Task
from minigpt.text.corpus import Corpus
from minigpt.text.documents import Document

# A search gives what it found after so much text, and the place to go on from.
SEARCHED_CHARACTERS = 200_000_000
_BEFORE_MATCH = 60


class Shown(msgspec.Struct, frozen=True):
    """One document as a list shows it; `number` counts from 0."""

    number: int
    characters: int
    kind: str
    text: str


class Page(msgspec.Struct, frozen=True):
    """Some documents, the number to go on from (None at the end), and how many were looked at."""

    documents: list[Shown]
    next: int | None
    looked_at: int


def browse(
    corpus: Corpus, start: int = 0, limit: int = 20, search: str = "", characters: int = 200, task: Task = NOBODY
) -> Page:
    """Return up to `limit` documents from number `start` on, each with its first characters.

    With `search` only those that hold these words, whatever their case, and the text around them.
    """
    pattern = re.compile(re.escape(search), re.IGNORECASE) if search else None
    found: list[Shown] = []
    looked_at = read = 0
    numbered = enumerate(corpus.documents(task))
    for number, document in itertools.islice(numbered, start, None):
        if len(found) >= limit or read > SEARCHED_CHARACTERS:
            return Page(found, number, looked_at)
        text = readable(document)
        looked_at, read = looked_at + 1, read + len(text)
        match = pattern.search(text) if pattern else None
        if pattern and match is None:
            continue
        begin = max(0, match.start() - _BEFORE_MATCH) if match else 0
        kind = "conversation" if document.messages else "text"
        found.append(Shown(number, len(text), kind, text[begin : begin + characters]))
    return Page(found, None, looked_at)


def readable(document: Document) -> str:
    """Return a document as people read it: a conversation with its speakers' names."""
    return "\n".join(f"{message.role}: {message.content}" for message in document.messages) or document.text
