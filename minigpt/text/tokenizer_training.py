"""What a tokenizer learns from: a sample of bounded size, spread evenly over a text of any length.

Tokenizer.train("bpe", learning_sample(texts, characters), 4096)
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from minigpt.tasks import NOBODY, Task
from minigpt.text.corpus import Corpus
from minigpt.text.pieces import OUR_CUTS, cut
from minigpt.text.tokenizer import Tokenizer
from minigpt.text.tokenizer_kinds import Kind

# More text than this changes few tokens.
LEARNING_CHARACTERS = 100_000_000
# Learning holds each different word in memory, some 120 bytes for each byte of it: below 700 MB in all.
LEARNING_WORD_BYTES = 5_000_000
_SLICE = 65_536
_SHORTEST_SLICE = 100
_FEWEST_SLICES = 100
_LARGEST_CHARACTER = 4  # bytes
# Numbers make no end of these, and forgetting them costs only time.
_REMEMBERED_GROUPS = 1_000_000
_WORD = re.compile(r"[^\W\d_]+|(?:_|[^\w\s])+")


def train_on(
    corpus: Corpus, kind: Kind, vocab_size: int, characters: int = LEARNING_CHARACTERS, task: Task = NOBODY
) -> Tokenizer:
    """Make a tokenizer from a corpus: char from all of it, word and bpe from so many of its characters at most.

    Validation text is learned from as well. Raises UserError when `vocab_size` is too small for the kind.
    """
    total = corpus.manifest.characters
    texts = watched(corpus_texts(corpus), total, "reading", task)
    return Tokenizer.train(kind, texts if kind == "char" else learning_sample(texts, total, characters), vocab_size)


def corpus_texts(corpus: Corpus) -> Iterator[str]:
    """Yield all text of a corpus, without joins."""
    for document in corpus.documents():
        yield from document.texts()


def learning_sample(texts: Iterable[str], total: int, wanted: int = LEARNING_CHARACTERS) -> Iterator[str]:
    """Yield `wanted` of the `total` characters of some texts, or less where too many words are different.

    In text without spaces between words (Chinese, Thai, encoded data) nearly all that stands between two commas is a
    word of its own. Then less and less of it is taken, but some of every part.
    """
    sample = spread(texts, total, wanted)
    expected = min(total, wanted)
    if expected * _LARGEST_CHARACTER <= LEARNING_WORD_BYTES:
        yield from sample
        return
    groups = _New(_REMEMBERED_GROUPS)
    words = _New(LEARNING_WORD_BYTES)
    word_bytes = done = 0
    for piece in itertools.chain.from_iterable(cut([text], OUR_CUTS) for text in sample):
        # Few new words come late in a text: a straight line would turn too much of its beginning away.
        if word_bytes <= LEARNING_WORD_BYTES * min(1.0, done / expected) ** 0.5:
            # What stands between spaces is mostly known: the slower search is for the rest.
            unknown = words.of(_WORD.findall(" ".join(groups.of(piece.split()))))
            word_bytes += sum(len(word.encode()) for word in unknown)
            yield piece
        done += len(piece)


class _New:
    """Tells what was not there before; remembers hashes alone, and of `limit` words at least."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: set[int] = set()

    def of(self, words: Iterable[str]) -> list[str]:
        new = [word for word in set(words) if hash(word) not in self._seen]
        if len(self._seen) > self._limit:
            self._seen.clear()
        self._seen.update(map(hash, new))
        return new


def spread(texts: Iterable[str], total: int, wanted: int) -> Iterator[str]:
    """Yield `wanted` of the `total` characters of some texts, in slices taken at even distances."""
    if total <= wanted:
        yield from texts
        return
    length = min(wanted, _SLICE, max(_SHORTEST_SLICE, wanted // _FEWEST_SLICES))
    distance = length * total / wanted
    number = position = 0
    for text in texts:
        while (begin := int(number * distance)) < position + len(text):
            part = text[max(0, begin - position) : begin + length - position]
            if part:
                yield part
            if begin + length > position + len(text):
                break  # the rest of this slice is in the next text
            number += 1
        position += len(text)


def watched(texts: Iterable[str], total: int, phase: str, task: Task) -> Iterator[str]:
    """Yield texts on their way to a tokenizer that learns from them; the task hears how far they are."""
    done = 0
    task.report(phase, 0, total, "characters")
    for text in texts:
        yield text
        done += len(text)
        task.report(phase, done, total, "characters")
    task.report("learning tokens")
