"""A text cut into lines for the screen, and painted by its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from rich.cells import get_character_cell_size

from minigpt.errors import printable

TAB = "    "
LINE_END = "↵"


@dataclass(frozen=True)
class Painted:
    """A text that is safe for a screen, and where its tokens begin, in characters; one that has none is not painted."""

    text: str
    starts: tuple[int, ...] = ()
    tokens: int = 0
    characters: int = 0  # of the text as it was


def plain(text: str) -> Painted:
    """Return a text as it is to be read."""
    return Painted(printable(text).replace("\t", TAB), characters=len(text))


def painted(text: str, spans: Sequence[Sequence[int]]) -> Painted:
    """Return a text with its tokens; the ends of lines are shown, because they are in tokens too.

    `spans` are the tokens' places in the text. Tokens that make up one character together are painted as one.
    """
    pieces: list[str] = []
    starts: list[int] = []
    length = position = 0
    for begin, end in spans:
        if not position <= begin < end <= len(text):
            continue
        for piece, is_token in ((text[position:begin], False), (text[begin:end], True)):
            shown = printable(piece).replace("\t", TAB).replace("\n", f"{LINE_END}\n")
            if shown:
                starts.extend([length] if is_token else [])
                pieces.append(shown)
                length += len(shown)
        position = end
    return Painted("".join(pieces), tuple(starts), len(spans), len(text))


def wrap(text: str, width: int) -> list[tuple[int, int]]:
    """Return where each line of a text begins and ends so that none is wider than `width` cells; words stay whole."""
    lines: list[tuple[int, int]] = []
    start = 0
    while start <= len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        lines += _fold(text, start, end, max(2, width))
        start = end + 1
    return lines


def _fold(text: str, start: int, end: int, width: int) -> list[tuple[int, int]]:
    lines = []
    while not _fits(text, start, end, width):
        cut = _reach(text, start, end, width)
        if cut >= end:
            break
        # A blank at the end of a line may stand beyond its width.
        space = text.rfind(" ", start + 1, cut + 1)
        cut = space + 1 if space > start else cut
        lines.append((start, cut))
        start = cut
    lines.append((start, end))
    return lines


def _fits(text: str, start: int, end: int, width: int) -> bool:
    if end - start > width:
        return False
    part = text[start:end]
    return part.isascii() or sum(map(get_character_cell_size, part)) <= width


def _reach(text: str, start: int, end: int, width: int) -> int:
    """Return how far a line from `start` reaches, at least one character."""
    part = text[start : min(end, start + width + 1)]
    if part.isascii():
        return min(end, start + width)
    cells = accumulate(map(get_character_cell_size, part))
    count = next((index for index, wide in enumerate(cells) if wide > width), len(part))
    return start + max(1, count)
