"""A text and the tokens it is cut into, ready to be painted.

painted = paint(tokenizer, "The cat sees")
painted.tokens, painted.spans      # ["The", " cat", " sees"], [(0, 3), (3, 7), (7, 12)]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.cells import cell_len

from minigpt.errors import printable
from minigpt.text.pieces import without_surrogates
from minigpt.text.tokenizer import Tokenizer

Span = tuple[int, int]


@dataclass(frozen=True)
class Painted:
    """A text with its tokens; `tokens` are as a terminal may see them, `spans` are in characters of the text.

    Each span begins where the one before ends, the first at 0, and the last ends with the text. A character that took
    several tokens belongs to the first of them, the others' spans are empty.
    """

    text: str
    ids: list[int]
    tokens: list[str]
    spans: list[Span]

    def parts(self) -> Iterator[tuple[int, str]]:
        """Yield the text in parts to be painted, each with the id of its (first) token."""
        for token_id, (start, end) in zip(self.ids, self.spans, strict=True):
            if start < end:
                yield token_id, self.text[start:end]

    def interlinear(self, width: int) -> Iterator[tuple[str, str]]:
        """Yield rows of tokens and of their ids beneath, no wider than `width` cells (but for a longer token)."""
        row: list[tuple[str, str]] = []
        used = 0
        for token_id, token in zip(self.ids, self.tokens, strict=True):
            shown = printable(token, single_line=True)
            cells = max(cell_len(shown), len(str(token_id)))
            if row and used + cells > width:
                yield _joined(row)
                row, used = [], 0
            row.append((shown + " " * (cells - cell_len(shown)), str(token_id).ljust(cells)))
            used += cells + 1
        if row:
            yield _joined(row)


def paint(tokenizer: Tokenizer, text: str) -> Painted:
    """Cut a text into tokens and say which part of it each token is."""
    text = without_surrogates(text)
    ids, offsets = tokenizer.encode_with_offsets(text)
    shown = {token_id: tokenizer.token_text(token_id) for token_id in set(ids)}
    return Painted(text, ids, [shown[token_id] for token_id in ids], _without_gaps(offsets, len(text)))


def _without_gaps(offsets: Iterable[Span], length: int) -> list[Span]:
    """Join spans that leave characters out (dropped blanks go to the token after them) or share some."""
    spans: list[Span] = []
    position = 0
    for _, end in offsets:
        spans.append((position, max(position, end)))
        position = spans[-1][1]
    if spans:
        spans[-1] = (spans[-1][0], length)
    return spans


def _joined(row: list[tuple[str, str]]) -> tuple[str, str]:
    tokens, ids = zip(*row, strict=True)
    return "|".join(tokens), " ".join(ids)
