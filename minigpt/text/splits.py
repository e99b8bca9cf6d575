"""Which part of a corpus is for training, which for validation, which for the final test."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property

import msgspec

from minigpt.text.cleaning import Cleaned, repair
from minigpt.text.corpus import Corpus
from minigpt.text.documents import Document
from minigpt.text.shards import SPLITS

# Up to so many documents, a split that chance left empty is given one.
_SMALL_COLLECTION = 10_000
_HASH_RANGE = 1 << 64


class SplitPlan:
    """Which split each part of a corpus belongs to, after the corpus was cleaned."""

    def __init__(
        self, corpus: Corpus, validation_fraction: float, test_fraction: float, cleaned: Cleaned | None = None
    ) -> None:
        self.corpus = corpus
        self.cleaned = cleaned
        self.train_fraction = 1 - validation_fraction - test_fraction
        self._validation_fraction = validation_fraction
        self._test_fraction = test_fraction

    @property
    def characters(self) -> int:
        """About how many characters all splits have."""
        return self.corpus.manifest.characters if self.cleaned is None else self.cleaned.report.characters_after

    @property
    def lone(self) -> bool:
        """Whether the text is split by position."""
        return self.corpus.is_lone_text

    def lone_parts(self) -> Iterator[tuple[str, str]]:
        """Yield a lone text as (split, block), in order."""
        repaired = self.cleaned is not None and self.cleaned.settings.fix_unicode
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
                    yield split, repair(part) if repaired else part
                position, block = position + len(part), block[len(part) :]

    def documents(self) -> Iterator[tuple[str, Document]]:
        """Yield (split, document) of a corpus of several, in order."""
        names = ("test", "validation", "train")
        for document in self._read():
            yield names[bisect_right(self._hash_ends, _document_hash(document))], document

    def _read(self) -> Iterator[Document]:
        documents = self.corpus.documents()
        return documents if self.cleaned is None else self.cleaned.apply(documents)

    @cached_property
    def _hash_ends(self) -> tuple[int, int]:
        """Return below which hashes documents are test, and below which validation."""
        test_end = int(self._test_fraction * _HASH_RANGE)
        validation_end = int((self._test_fraction + self._validation_fraction) * _HASH_RANGE)
        if self.corpus.manifest.documents > _SMALL_COLLECTION:
            return test_end, validation_end
        hashes = sorted(set(map(_document_hash, self._read())))
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

    def whole_parts(self) -> Iterator[tuple[str, str]]:
        """Yield all text as (split, text): a lone text in blocks, else a document (a conversation too) at a time."""
        if self.lone:
            return self.lone_parts()
        return ((split, "\n".join(document.texts())) for split, document in self.documents())

    def texts(self, splits: Iterable[str]) -> Iterator[str]:
        """Yield all text of some splits, without joins."""
        wanted = set(splits)
        if self.lone:
            yield from (text for split, text in self.lone_parts() if split in wanted)
        else:
            for split, document in self.documents():
                if split in wanted:
                    yield from document.texts()


def _document_hash(document: Document) -> int:
    data = msgspec.json.encode(document)
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
