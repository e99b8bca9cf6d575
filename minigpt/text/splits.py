"""Which part of a corpus is for training, which for validation, which for the final test."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property

import msgspec

from minigpt.text.corpus import Corpus
from minigpt.text.documents import Document
from minigpt.text.shards import SPLITS

# Up to so many documents, a split that chance left empty is given one.
_SMALL_COLLECTION = 10_000
_HASH_RANGE = 1 << 64


class SplitPlan:
    """Which split each part of a corpus belongs to."""

    def __init__(self, corpus: Corpus, validation_fraction: float, test_fraction: float) -> None:
        self.corpus = corpus
        self.train_fraction = 1 - validation_fraction - test_fraction
        self._validation_fraction = validation_fraction
        self._test_fraction = test_fraction

    def lone_parts(self) -> Iterator[tuple[str, str]]:
        """Yield a lone text as (split, block), in order."""
        characters = self.corpus.manifest.characters
        ends = [
            int(characters * self.train_fraction),
            characters if self._test_fraction == 0 else int(characters * (1 - self._test_fraction)),
            characters,
        ]
        position = 0
        for block in self.corpus.text_blocks():
            for split, end in zip(SPLITS, ends, strict=True):
                part = block[: max(0, end - position)]
                if part:
                    yield split, part
                position, block = position + len(part), block[len(part) :]

    def documents(self) -> Iterator[tuple[str, Document]]:
        """Yield (split, document) of a corpus of several, in order."""
        names = ("test", "validation", "train")
        for document in self.corpus.documents():
            yield names[bisect_right(self._hash_ends, _document_hash(document))], document

    @cached_property
    def _hash_ends(self) -> tuple[int, int]:
        """Return below which hashes documents are test, and below which validation."""
        test_end = int(self._test_fraction * _HASH_RANGE)
        validation_end = int((self._test_fraction + self._validation_fraction) * _HASH_RANGE)
        if self.corpus.manifest.documents > _SMALL_COLLECTION:
            return test_end, validation_end
        hashes = sorted(set(map(_document_hash, self.corpus.documents())))
        spare = len(hashes) - 1  # one is for training
        validation = sum(test_end <= value < validation_end for value in hashes)
        test = sum(value < test_end for value in hashes)
        if self._validation_fraction > 0:
            validation = max(1, validation)
        if self._test_fraction > 0:
            test = max(1, test)
        validation = min(validation, spare)
        test = min(test, spare - validation)
        return hashes[test], hashes[test + validation]

    def texts(self, splits: Iterable[str]) -> Iterator[str]:
        """Yield all text of some splits, without joins."""
        wanted = set(splits)
        if self.corpus.is_lone_text:
            yield from (block for split, block in self.lone_parts() if split in wanted)
        else:
            for split, document in self.documents():
                if split in wanted:
                    yield from document.texts()


def _document_hash(document: Document) -> int:
    data = msgspec.json.encode(document)
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
