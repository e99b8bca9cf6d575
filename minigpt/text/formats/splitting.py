"""Running text, which comes in blocks, in lines or in documents: no more than one of them is in memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from minigpt.text.formats.opening import Limits
from minigpt.text.reading import Split

END_OF_TEXT = "<|endoftext|>"
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
# Where a document that is too long is cut, best first: after a paragraph, a line, a word.
_CUTS = ("\n\n", "\n", " ")

Broken = Callable[[int, str], None]


def split_text(blocks: Iterable[str], split: Split, limits: Limits, broken: Broken) -> Iterator[str]:
    """Yield the documents of running text as `split` says; a split that is for rows leaves it whole.

    A document longer than limits.document characters comes in parts; `broken` hears of lines beyond limits.line.
    """
    if split == "line":
        return _filled(line for _, line in numbered_lines(blocks, limits, broken))
    if split == "paragraph":
        return _filled(part.strip("\n") for part in _parts(blocks, _BLANK_LINES.split, limits.document))
    if split == "endoftext":
        pieces = _parts(blocks, lambda text: text.split(END_OF_TEXT), limits.document)
        return _filled(piece.strip("\n") for piece in pieces)
    return _filled(_parts(blocks, lambda text: [text], limits.document))


def numbered_lines(blocks: Iterable[str], limits: Limits, broken: Broken) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its end), parted by "\n" alone; those that are too long are passed over."""
    too_long = f"longer than {limits.line:,} characters"
    number = 1
    held: list[str] = []  # the line that the last block cut through
    size = 0
    for block in blocks:
        lines = block.split("\n")
        size += len(lines[0])
        if size <= limits.line:
            held.append(lines[0])
        else:
            held.clear()
        if len(lines) == 1:
            continue
        last = lines.pop()
        lines[0] = "".join(held)
        if size > limits.line:
            broken(number, too_long)
            lines[0] = ""
        for line in lines:
            if len(line) <= limits.line:
                yield number, line
            else:
                broken(number, too_long)
            number += 1
        held, size = [last], len(last)
    if size > limits.line:
        broken(number, too_long)
    elif size:
        yield number, "".join(held)


def _parts(blocks: Iterable[str], divide: Callable[[str], list[str]], limit: int) -> Iterator[str]:
    """Yield what lies between separators, in parts where it is longer than the limit."""
    rest = ""
    for block in blocks:
        *whole, rest = divide(rest + block)
        for text in whole:
            yield from _cut(text, limit)
        *parts, rest = _cut(rest, limit)
        yield from parts
    yield rest


def _cut(text: str, limit: int) -> list[str]:
    """Return a text in parts of at most so many characters, which joined are the text."""
    parts = []
    start = 0
    while len(text) - start > limit:
        end = start + limit
        middle = start + limit // 2
        found = (text.rfind(mark, middle, end) + len(mark) for mark in _CUTS)
        end = next((place for place in found if place > middle), end)
        parts.append(text[start:end])
        start = end
    return [*parts, text[start:] if start else text]


def _filled(texts: Iterable[str]) -> Iterator[str]:
    return (text for text in texts if text and not text.isspace())
