"""Which part of a corpus is for training, which for validation, which for the final test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import msgspec

from minigpt.text.cleaning import Cleaned
from minigpt.text.corpus import Corpus
from minigpt.text.documents import Document
from minigpt.text.duplicates import document_hash
from minigpt.text.records import read_json
from minigpt.text.repair import repair
from minigpt.text.shards import SPLITS
from minigpt.text.storage import write_file

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
        for document in self._read():
            value = document_hash(document)
            yield self._chosen.get(value) or self._by_hash(value), document

    def _read(self) -> Iterator[Document]:
        documents = self.corpus.documents()
        return documents if self.cleaned is None else self.cleaned.apply(documents)

    def _by_hash(self, value: int) -> str:
        share = value / _HASH_RANGE
        held_out = self._test_fraction + self._validation_fraction
        return "test" if share < self._test_fraction else "validation" if share < held_out else "train"

    @cached_property
    def _chosen(self) -> dict[int, str]:
        """Return the documents that a small collection gives to a split which chance left empty.

        They are remembered beside the corpus: when documents are added, these stay where they are.
        """
        kept = self._remembered()
        if self.corpus.manifest.documents > _SMALL_COLLECTION:
            return kept
        hashes = sorted({document_hash(document) for document in self._read()})
        splits = {value: kept.get(value) or self._by_hash(value) for value in hashes}
        chosen = dict(kept)
        wanted = {"train": 1.0, "validation": self._validation_fraction, "test": self._test_fraction}
        for split, fraction in wanted.items():
            if fraction == 0 or split in splits.values():
                continue
            # One is always for training; validation is worth more than a test.
            train = [value for value in hashes if splits[value] == "train"]
            test = [value for value in hashes if splits[value] == "test"]
            spare = hashes[-1:] if split == "train" else train[:-1] or (test if split == "validation" else [])
            for value in spare[:1]:
                splits[value] = chosen[value] = split
        if chosen != kept:
            self._remember(chosen)
        return chosen

    @property
    def _memory(self) -> Path:
        repaired = self.cleaned is not None and self.cleaned.settings.fix_unicode
        kind = "-repaired" if repaired else ""
        return self.corpus.directory / "splits" / f"{self._validation_fraction:g}-{self._test_fraction:g}{kind}.json"

    def _remembered(self) -> dict[int, str]:
        try:
            return read_json(self._memory, dict[int, str])
        except (OSError, msgspec.DecodeError):
            return {}  # never needed yet, or spoilt: then they are chosen anew

    def _remember(self, chosen: dict[int, str]) -> None:
        try:
            self._memory.parent.mkdir(exist_ok=True)
            write_file(self._memory, msgspec.json.encode(chosen))
        except OSError:
            pass  # a corpus in a folder that is not ours to write in

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
