"""Texts that come again: word for word, nearly, and in both the training text and what is held out from it.

ExactCopies(folder, found).add(value, number, characters)     # `found` is told of every repeat
NearCopies().original(number, texts)                          # an earlier document that is nearly the same, or None
across_splits(parts).in_words()
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import re
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from minigpt.errors import UserError, printable
from minigpt.tasks import NOBODY, Task
from minigpt.text.documents import Document

Rows = npt.NDArray[np.uint64]

EXAMPLES = 3
_EXCERPT = 80

# Hashes held in memory at once, 24 bytes each, before they go to disk.
HASH_BATCH = 1 << 18
# A billion documents take 24 GB of scratch disk, and 0.3 GB of memory while one bucket is sorted.
_BUCKET_BITS = 8

# Near copies have so large a share of their runs of five words in common (Jaccard). Figures like FineWeb's: 16 bands of
# 8 find 95 of 100 pairs at this similarity and 99.99 at 0.9.
NEAR_SIMILARITY = 0.8
_RUN = 5
_PERMUTATIONS = 128
_BANDS = 16
_SEED = 42
_PIECE = 1 << 20

# Scripts that put no spaces between words: there each character counts as a word. Thai to Tibetan, Myanmar, Khmer,
# the scripts around Java and Yunnan, then Chinese, Japanese, Yi and the rarer Chinese characters.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f\u2e80-\u2fff\u3040-\u9fff"
    "\ua000-\ua4cf\ua980-\ua9ff\uaa60-\uaadf\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
# ASCII's, then typographic quotes and dashes, then Chinese and Japanese.
_PUNCTUATION = r"!-/:-@\[-`{-~\u2000-\u206f\u3000-\u303f\uff00-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_PUNCTUATION}{_UNSPACED}]+")

# Finding held-out text in the training text stays cheap: so much of either is looked at.
HELD_OUT_CHARACTERS = 20_000_000
TRAIN_CHARACTERS = 200_000_000
_HELD_OUT_PARTS = 200_000
_LINE_CHARACTERS = 50
_COMPARED_CHARACTERS = 1_000_000
# Of a document, so much is looked at before all of it is: after white space, enough for a beginning.
_LOOKED_AT, _BEGINNING = 200, 20


def excerpt(text: str, characters: int = _EXCERPT) -> str:
    """Return the beginning of a text on one line, fit for a terminal."""
    start = text[: 4 * characters].strip()
    return printable(start[:characters], single_line=True) + ("…" if len(text.strip()) > characters else "")


def extra(module: str) -> Any:
    """Import a library that only cleaning needs; raises UserError saying how it is installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f'Cleaning needs the package {module}, which is not installed: run  pip install "minigpt-tui[clean]"'
        ) from error


def document_hash(document: Document) -> int:
    """Return 64 bits that are the same for the same document, today and tomorrow: splits depend on them."""
    try:
        data = msgspec.json.encode(document)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON cannot hold
        data = repr(document).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


class ExactCopies:
    """Finds repeated hashes among any number of them, in bounded memory: they are sorted on disk, bucket by bucket.

    `found` is given rows (number, characters) of the repeats, all but the first of each; some while hashes are added,
    the others by `finish`.
    """

    def __init__(self, folder: Path, found: Callable[[Rows], None], batch: int = HASH_BATCH) -> None:
        self._folder = folder
        self._found = found
        self._batch = batch
        self._values = array("Q")
        self._spilled = False

    def add(self, value: int, number: int, characters: int) -> None:
        """Take the 64-bit hash of one more document; numbers must rise."""
        self._values.extend((value, number, characters))
        if len(self._values) >= 3 * self._batch:
            self._spill(self._first_ones())

    def finish(self) -> None:
        """Look through what lies on disk, and remove it."""
        last = self._first_ones()
        if not self._spilled:
            return
        self._spill(last)
        for path in sorted(self._folder.glob("*.hashes")):
            self._only_first(np.fromfile(path, np.uint64).reshape(-1, 3))
            path.unlink()

    def _first_ones(self) -> Rows:
        """Empty the batch; one document repeated for ever would otherwise fill a single bucket."""
        rows = np.array(self._values, np.uint64).reshape(-1, 3)
        self._values = array("Q")
        return self._only_first(rows)

    def _only_first(self, rows: Rows) -> Rows:
        """Return the rows sorted by hash without repeats, and tell of those."""
        rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
        new = np.ones(len(rows), bool)
        new[1:] = rows[1:, 0] != rows[:-1, 0]
        if not new.all():
            self._found(rows[~new, 1:])
        return rows[new]

    def _spill(self, rows: Rows) -> None:
        buckets = rows[:, 0] >> np.uint64(64 - _BUCKET_BITS)
        ends = np.searchsorted(buckets, np.arange(1, 1 << _BUCKET_BITS, dtype=np.uint64))
        for bucket, part in enumerate(np.split(rows, ends)):
            if len(part):
                with (self._folder / f"{bucket:03d}.hashes").open("ab") as file:
                    part.tofile(file)
        self._spilled = True


class NearCopies:
    """Finds documents that are nearly the same as an earlier one, by MinHash; takes about 2 KB a document."""

    def __init__(self) -> None:
        self._rensa = extra("rensa")
        self._known = self._rensa.RMinHashDeduplicator(NEAR_SIMILARITY, _PERMUTATIONS, True, _BANDS, _SEED)

    def original(self, number: int, texts: list[str]) -> int | None:
        """Return the number of the first document that this one is nearly the same as; else remember this one."""
        sketch = self._rensa.RMinHash(_PERMUTATIONS, _SEED)
        for runs in word_runs(texts):
            sketch.update(runs)
        if self._known.add(str(number), sketch):
            return None
        return min(map(int, self._known.get_duplicates(sketch)))


def word_runs(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield all runs of five words, in lists; a text that has fewer is one run, case and punctuation aside."""
    words: list[str] = []
    some = False
    for piece in (text[at : at + _PIECE] for text in texts for at in range(0, len(text), _PIECE)):
        words += _WORD.findall(piece.lower())
        if len(words) >= _RUN:
            yield [" ".join(run) for run in zip(*(words[start:] for start in range(_RUN)), strict=False)]
            some = True
            words = words[-_RUN + 1 :]
    if not some:
        yield [" ".join(words) or "\n".join(texts)]


class CrossReport(msgspec.Struct, frozen=True):
    """What stands both in the training text and in what is held out. `unit`: document or line."""

    unit: str
    compared: int
    found: int
    by_split: dict[str, int]
    examples: list[str]
    whole: bool  # False where the text was longer than what is looked at

    @property
    def share(self) -> float:
        return self.found / self.compared if self.compared else 0.0

    def in_words(self) -> list[str]:
        """Return a sentence or two; none where nothing is held out."""
        if not self.compared:
            return []
        kind = f"{self.unit}s" + (f" of {_LINE_CHARACTERS} characters and more" if self.unit == "line" else "")
        if self.found:
            where = " and ".join(f"{count:,} in {split}" for split, count in sorted(self.by_split.items()))
            sentences = [
                f"{self.found:,} of {self.compared:,} held-out {kind} ({self.share:.1%}: {where}) also stand in the "
                "training text, case and spaces aside, so the loss on them looks better than it is; "
                f"for example: {'; '.join(f'“{example}”' for example in self.examples)}."
            ]
        else:
            sentences = [f"None of {self.compared:,} held-out {kind} stands in the training text too."]
        if not self.whole:
            sentences.append(
                f"Of this much text, up to {HELD_OUT_CHARACTERS:,} held-out characters were looked for in the first "
                f"{TRAIN_CHARACTERS:,} of the training text."
            )
        return sentences


def across_splits(
    parts: Callable[[], Iterable[tuple[str, str]]],
    task: Task = NOBODY,
    *,
    lone: bool = False,
    held_out_characters: int = HELD_OUT_CHARACTERS,
    train_characters: int = TRAIN_CHARACTERS,
) -> CrossReport:
    """Compare what is held out (validation, test) with the training text, lowercased and with white space collapsed.

    `parts` gives (split, text) anew at each call: whole documents (a conversation as one text), or with `lone` the
    blocks of a single text, whose lines of 50 characters and more are compared. Very long documents are compared by
    their first million characters.
    """
    held_out, whole = _held_out(parts(), task, lone, held_out_characters)
    if not held_out:
        return CrossReport("line" if lone else "document", 0, 0, {}, [], whole)
    beginnings = {text[:_BEGINNING] for text in held_out}
    matched: dict[str, None] = {}
    read = 0
    for _, size, texts in _plain_texts((part for part in parts() if part[0] == "train"), lone, beginnings):
        if read >= train_characters:
            whole = False
            break
        read += size
        task.report("looking for held-out text in the training text", read, None, "characters")
        # In their order, so that the examples are always the same.
        common = held_out.keys() & texts
        matched.update((text, None) for text in texts if text in common)
    by_split = sum((held_out[text] for text in matched), Counter[str]())
    return CrossReport(
        unit="line" if lone else "document",
        compared=sum(counts.total() for counts in held_out.values()),
        found=by_split.total(),
        by_split=dict(by_split),
        examples=[excerpt(text) for text in itertools.islice(matched, EXAMPLES)],
        whole=whole,
    )


def _held_out(
    parts: Iterable[tuple[str, str]], task: Task, lone: bool, most: int
) -> tuple[dict[str, Counter[str]], bool]:
    """Return how often each held-out text comes in each split, and whether these are all."""
    held_out: dict[str, Counter[str]] = {}
    read = 0
    for split, _, texts in _plain_texts((part for part in parts if part[0] != "train"), lone):
        task.report("looking at the held-out text", read, None, "characters")
        for text in texts:
            if lone and len(text) < _LINE_CHARACTERS:
                continue
            if read + len(text) > most or len(held_out) >= _HELD_OUT_PARTS:
                return held_out, False
            read += len(text)
            held_out.setdefault(text, Counter())[split] += 1
    return held_out, True


def _plain_texts(
    parts: Iterable[tuple[str, str]], lone: bool, beginnings: Collection[str] | None = None
) -> Iterator[tuple[str, int, list[str]]]:
    """Yield (split, characters read, what is to be compared), without those that begin like none of `beginnings`."""
    if lone:
        yield from _plain_lines(parts)
        return
    for split, text in parts:
        if beginnings is None or _plain(text[:_LOOKED_AT])[:_BEGINNING] in beginnings:
            plain = _plain(text[:_COMPARED_CHARACTERS])
            yield split, len(text), [plain] if plain else []
        else:
            yield split, len(text), []


def _plain_lines(parts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, int, list[str]]]:
    """Yield the lines of a text in blocks; this is the way of every text, so it works on whole blocks at a time."""
    rest, last = "", ""
    for split, block in parts:
        if split != last:
            yield last, 0, [_plain(rest)]
            rest = ""
        text = (rest + block).lower()
        for space in ("\t", "\r"):
            text = text.replace(space, " ")
        while "  " in text:
            text = text.replace("  ", " ")
        *lines, rest = text.replace(" \n", "\n").replace("\n ", "\n").split("\n")
        if len(rest) > _COMPARED_CHARACTERS:
            lines, rest = [*lines, rest[:_COMPARED_CHARACTERS]], ""
        yield split, len(block), lines
        last = split
    yield last, 0, [_plain(rest)]


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
