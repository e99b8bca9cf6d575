"""What cleaning is asked to do, and what it did: in numbers, in words, and by example.

report = CleaningReport(CleaningSettings(deduplicate="exact"), documents=12, kept=12)
print(*report.in_words(), sep="\\n")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from minigpt.config import CorpusSettings
from minigpt.text.duplicates import EXAMPLES, NEAR_SIMILARITY


class CleaningSettings(msgspec.Struct, frozen=True):
    """What is asked for; nothing by default."""

    fix_unicode: bool = False
    deduplicate: Literal["off", "exact", "near"] = "off"
    min_characters: int = 0

    @classmethod
    def of(cls, settings: CorpusSettings) -> CleaningSettings:
        return cls(settings.fix_unicode, settings.deduplicate, settings.min_characters)

    @property
    def any(self) -> bool:
        return self.fix_unicode or self.deduplicate != "off" or self.min_characters > 0


class Finding(msgspec.Struct):
    """Documents that one option repaired or left out: how many, their characters, the first few in words."""

    count: int = 0
    characters: int = 0
    examples: list[str] = msgspec.field(default_factory=list)

    def add(self, characters: int, example: Callable[[], str]) -> None:
        self.count += 1
        self.characters += characters
        if len(self.examples) < EXAMPLES:
            self.examples.append(example())

    def in_words(self, what: str) -> str:
        """Return a sentence; `what` has a place for "12 documents" in it."""
        if self.count == 0:
            return what.format("no document") + "."
        documents = "1 document" if self.count == 1 else f"{self.count:,} documents"
        return f"{what.format(documents)} ({self.characters:,} characters), such as {'; '.join(self.examples)}."


class CleaningReport(msgspec.Struct):
    """What cleaning does to a corpus. `near_compared`: documents that were compared for near copies."""

    settings: CleaningSettings
    documents: int = 0
    kept: int = 0
    characters_before: int = 0
    characters_after: int = 0
    repaired: Finding = msgspec.field(default_factory=Finding)
    exact: Finding = msgspec.field(default_factory=Finding)
    near: Finding = msgspec.field(default_factory=Finding)
    too_short: Finding = msgspec.field(default_factory=Finding)
    near_compared: int = 0
    near_complete: bool = True

    def in_words(self) -> list[str]:
        """Return a sentence on the whole and one on each option that was asked for."""
        settings = self.settings
        sentences = [
            f"Cleaning kept {self.kept:,} of {self.documents:,} documents "
            f"({self.characters_after:,} of {self.characters_before:,} characters)."
        ]
        if settings.fix_unicode:
            sentences.append(self.repaired.in_words("Repaired the Unicode of {}"))
        if settings.min_characters or self.too_short.count:
            least = max(1, settings.min_characters)
            sentences.append(self.too_short.in_words(f"Left out {{}} of fewer than {least:,} characters"))
        if settings.deduplicate != "off":
            sentences.append(self.exact.in_words("Left out {} that came before, word for word"))
        if settings.deduplicate == "near":
            alike = f"Left out {{}} nearly the same as an earlier one, with {NEAR_SIMILARITY:.0%} or more in common"
            sentences.append(self.near.in_words(alike))
            if not self.near_complete:
                sentences.append(
                    f"Only the first {self.near_compared:,} documents were compared for near copies, "
                    "the others word for word."
                )
        return sentences
