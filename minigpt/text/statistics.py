"""What a corpus is, in figures: one reading, bounded memory whatever the size.

survey(corpus.documents(), task, encodings={"utf-8": 12}).median
survey_text(corpus.text_blocks())                  # a lone text that need not fit in memory
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from minigpt.tasks import NOBODY, Task
from minigpt.text.documents import Document
from minigpt.text.duplicates import excerpt

# Repeated documents are counted among so many (80 MB of hashes).
HASHED_DOCUMENTS = 10_000_000
# A line or document is known as a repeated one when it makes more than one in so many; in small corpora always.
_COUNTERS = 10_000
# Lines are counted in all of a text of this many characters; of a longer one's rest in every eighth million.
_LINES_WHOLE = 64_000_000
_LINES_STRIDE = 8
_PIECE = 1 << 20
_SHOWN = 200
_EXACT_DIGITS = 4
_CODE_POINTS = 0x110000

# What is counted: the beginning of a text, its length and its hash, which tells apart what begins alike.
_Key = tuple[str, int, int]


class Bin(msgspec.Struct, frozen=True):
    """Documents of at least `low` and fewer than `high` characters."""

    low: int
    high: int
    count: int


class Repeated(msgspec.Struct, frozen=True):
    """The document that comes most often: its beginning, and how often."""

    text: str
    count: int


class CommonLine(msgspec.Struct, frozen=True):
    """The line that makes most of the text: its beginning, and its share of all characters in lines.

    Beyond 64 million characters only every eighth million of them is counted.
    """

    text: str
    share: float


class Statistics(msgspec.Struct, frozen=True):
    """What `minigpt corpus stats` says. Lengths are in characters, `bytes` in UTF-8, `encodings` in files.

    `repeated_documents` counts those that came before, among the first ten million; `most_repeated` and
    `commonest_line` are None where nothing comes twice (or, in a large corpus, nothing does often).
    """

    documents: int = 0
    conversations: int = 0
    characters: int = 0
    bytes: int = 0
    shortest: int = 0
    median: int = 0
    longest: int = 0
    histogram: list[Bin] = []
    repeated_documents: int = 0
    most_repeated: Repeated | None = None
    commonest_line: CommonLine | None = None
    distinct_characters: int = 0
    encodings: dict[str, int] = {}


def survey(
    documents: Iterable[Document],
    task: Task = NOBODY,
    encodings: Mapping[str, int] | None = None,
    *,
    total: int | None = None,
    counters: int = _COUNTERS,
) -> Statistics:
    """Read all documents once; `total` is how many there are, where that is known."""
    lengths, copies, conversations = _Lengths(), _Copies(counters), 0
    text = _Text(counters)
    for number, document in enumerate(documents):
        task.report("reading", number, total, "documents")
        texts = document.texts()
        conversations += bool(document.messages)
        lengths.add(sum(map(len, texts)))
        copies.add(texts)
        for part in texts:
            text.add(part)
    return _statistics(lengths, copies, text, conversations, encodings)


def survey_text(
    blocks: Iterable[str],
    task: Task = NOBODY,
    encodings: Mapping[str, int] | None = None,
    *,
    total: int | None = None,
    counters: int = _COUNTERS,
) -> Statistics:
    """Read a lone text once, block by block; `total` is how many characters it has, where that is known."""
    lengths, text, characters = _Lengths(), _Text(counters), 0
    for piece in _pieces(blocks):
        task.report("reading", characters, total, "characters")
        characters += len(piece)
        text.count(piece)
    if characters:
        lengths.add(characters)
    return _statistics(lengths, _Copies(counters), text, 0, encodings)


def _statistics(
    lengths: _Lengths, copies: _Copies, text: _Text, conversations: int, encodings: Mapping[str, int] | None
) -> Statistics:
    text.flush()
    repeated, most_repeated = copies.found()
    return Statistics(
        documents=lengths.documents,
        conversations=conversations,
        characters=lengths.characters,
        bytes=text.bytes,
        shortest=lengths.shortest,
        median=lengths.median(),
        longest=lengths.longest,
        histogram=lengths.histogram(),
        repeated_documents=repeated,
        most_repeated=most_repeated,
        commonest_line=text.commonest_line(),
        distinct_characters=int(text.seen.sum()),
        encodings=dict(encodings or {}),
    )


class _Lengths:
    """Lengths of documents: exact to four digits, so that there are never more than some 50,000 different ones."""

    def __init__(self) -> None:
        self.documents = self.characters = self.longest = self.shortest = 0
        self._counts: dict[int, int] = {}

    def add(self, length: int) -> None:
        self.shortest = min(self.shortest, length) if self.documents else length
        self.longest = max(self.longest, length)
        self.documents += 1
        self.characters += length
        step = 10 ** max(0, len(str(length)) - _EXACT_DIGITS)
        rounded = length // step * step
        self._counts[rounded] = self._counts.get(rounded, 0) + 1

    def median(self) -> int:
        """Return the length of the middle document, of the shorter one where there are two."""
        seen = 0
        for length, count in sorted(self._counts.items()):
            seen += count
            if 2 * seen >= self.documents:
                return max(length, self.shortest)
        return 0

    def histogram(self) -> list[Bin]:
        """Return the counts between 1, 2, 5, 10, 20, 50, ... characters, from the shortest to the longest."""
        if not self.documents:
            return []
        edges = [0]
        power = 1
        while edges[-1] <= self.longest:
            edges += [power, 2 * power, 5 * power]
            power *= 10
        counts: Counter[int] = Counter()
        for length, count in self._counts.items():
            counts[int(np.searchsorted(edges, length, side="right")) - 1] += count
        return [Bin(edges[at], edges[at + 1], counts[at]) for at in range(min(counts), max(counts) + 1)]


class _Common:
    """The commonest of any number of texts by their weights, in bounded memory (Misra and Gries, 1982).

    A weight is never too high, and too low by at most all weights together divided by `counters`.
    """

    def __init__(self, counters: int) -> None:
        self._most = counters
        self.weights: Counter[_Key] = Counter()

    def add(self, weights: Mapping[_Key, int]) -> None:
        self.weights.update(weights)
        # Twice as many are let in, so that they are sorted seldom.
        if len(self.weights) > 2 * self._most:
            least = sorted(self.weights.values(), reverse=True)[self._most]
            self.weights = Counter({key: weight - least for key, weight in self.weights.items() if weight > least})


class _Copies:
    """Repeated documents, by hashes of this process."""

    def __init__(self, counters: int) -> None:
        self._hashes = array("q")
        self._batch: Counter[_Key] = Counter()
        self._common = _Common(counters)
        self._counters = counters

    def add(self, texts: list[str]) -> None:
        if len(self._hashes) >= HASHED_DOCUMENTS:
            return
        value = hash(texts[0]) if len(texts) == 1 else hash(tuple(texts))
        self._hashes.append(value)
        beginning = texts[0][:_SHOWN] if len(texts) == 1 else "\n".join(text[:_SHOWN] for text in texts[:2])[:_SHOWN]
        self._batch[beginning, sum(map(len, texts)), value] += 1
        if len(self._batch) > self._counters:
            self._common.add(self._batch)
            self._batch.clear()

    def found(self) -> tuple[int, Repeated | None]:
        """Return how many documents came before, and the one that comes most often."""
        hashes, counts = np.unique(np.array(self._hashes, np.int64), return_counts=True)
        self._common.add(self._batch)
        most: Repeated | None = None
        for text, _, value in self._common.weights:
            count = int(counts[np.searchsorted(hashes, value)])
            if count > (most.count if most else 1):
                most = Repeated(excerpt(text, _SHOWN), count)
        return len(self._hashes) - len(hashes), most


class _Text:
    """Characters, bytes and lines, counted a million characters at a time."""

    def __init__(self, counters: int) -> None:
        self.bytes = 0
        self.seen: npt.NDArray[np.bool_] = np.zeros(_CODE_POINTS, bool)
        self._waiting: list[str] = []
        self._size = 0
        self._lines = _Common(counters)
        self._in_lines = self._characters = self._pieces = 0

    def add(self, text: str) -> None:
        """Take a text that ends where a line does."""
        if len(text) > _PIECE:
            for piece in _pieces(text[at : at + _PIECE] for at in range(0, len(text), _PIECE)):
                self.count(piece)
            return
        self._waiting.append(text)
        self._size += len(text)
        if self._size >= _PIECE:
            self.flush()

    def flush(self) -> None:
        waiting, self._waiting, self._size = self._waiting, [], 0
        if waiting:
            self.count("".join(waiting), "\n".join(waiting))

    def count(self, text: str, lines: str | None = None) -> None:
        """Count a piece of text; `lines` is the same with the ends of documents as ends of lines."""
        self.bytes += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if text.isascii():
            self.seen[np.frombuffer(text.encode("ascii"), np.uint8)] = True
        else:
            self.seen[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)] = True
        self._pieces += 1
        self._characters += len(text)
        if self._characters <= _LINES_WHOLE or self._pieces % _LINES_STRIDE == 0:
            self._count_lines(text if lines is None else lines)

    def _count_lines(self, text: str) -> None:
        weights = Counter(map(str.strip, text.split("\n")))
        del weights[""]
        found = {(line[:_SHOWN], len(line), hash(line)): count * len(line) for line, count in weights.items()}
        self._in_lines += sum(found.values())
        self._lines.add(found)

    def commonest_line(self) -> CommonLine | None:
        """Return the line with the largest share of the characters, where it is certain that it comes again."""
        for (line, length, _), weight in self._lines.weights.most_common(1):
            if weight > length:
                return CommonLine(excerpt(line, _SHOWN), weight / self._in_lines)
        return None


def _pieces(blocks: Iterable[str]) -> Iterator[str]:
    """Yield a text in pieces of about a million characters that end with a line, where lines are not longer."""
    rest = ""
    for block in blocks:
        rest += block
        if len(rest) >= _PIECE:
            end = rest.rfind("\n") + 1 or len(rest)
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest
