"""Cleaning: Unicode repaired, copies and very short documents left out. What was added stays as it is on disk.

cleaned = plan_cleaning(corpus.documents, CleaningSettings(deduplicate="exact"), scratch)
for document in cleaned.apply(corpus.documents()): ...      # the same decisions, as often as needed
cleaned.save(folder); Cleaned.load(folder)                  # also by another process, tomorrow
print(*cleaned.report.in_words(), sep="\\n")
"""

from __future__ import annotations

import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from minigpt.errors import JobFailed, UserError
from minigpt.tasks import NOBODY, Task
from minigpt.text.cleaning_report import CleaningReport, CleaningSettings
from minigpt.text.documents import Document
from minigpt.text.duplicates import EXAMPLES, HASH_BATCH, ExactCopies, NearCopies, Rows, document_hash, excerpt
from minigpt.text.records import read_json
from minigpt.text.repair import fixer, repair, repair_document
from minigpt.text.storage import shown, write_file

# So many documents are compared for near copies (half a gigabyte of memory); what comes later only word for word.
NEAR_LIMIT = 200_000

_REPORT = "cleaning.json"
_KEPT = "kept.bits"
_REPAIRED = "repaired.bits"
_BEFORE_CHANGE = 20


class _Bits:
    """One bit a document: a hundred million documents take 12 MB."""

    def __init__(self, data: bytes = b"", length: int = 0) -> None:
        self.data = bytearray(data)
        self.length = length

    def append(self, value: bool) -> None:
        if self.length % 8 == 0:
            self.data.append(0)
        if value:
            self.data[-1] |= 1 << (self.length % 8)
        self.length += 1

    def clear(self, numbers: Rows) -> None:
        masks = ~(np.uint8(1) << (numbers & np.uint64(7)).astype(np.uint8))
        np.bitwise_and.at(np.frombuffer(self.data, np.uint8), (numbers >> np.uint64(3)).astype(np.int64), masks)

    def __getitem__(self, number: int) -> bool:
        return bool(self.data[number >> 3] >> (number & 7) & 1)


class Cleaned:
    """What was decided on each document, in their order."""

    def __init__(self, report: CleaningReport, kept: _Bits, repaired: _Bits) -> None:
        self.report = report
        self._kept = kept
        self._repaired = repaired

    @property
    def settings(self) -> CleaningSettings:
        return self.report.settings

    def apply(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Yield those of the same documents, read again, that stay; raises JobFailed when there are more or fewer."""
        count = 0
        for number, document in enumerate(documents):
            count += 1
            if number < self._kept.length and self._kept[number]:
                yield repair_document(document) if self._repaired[number] else document
        if count != self._kept.length:
            raise JobFailed(
                f"The text was changed while it was being prepared ({count:,} documents, before {self._kept.length:,}):"
                " start again."
            )

    def save(self, folder: Path) -> None:
        """Write the decisions into an existing folder; the report comes last."""
        write_file(folder / _KEPT, bytes(self._kept.data))
        write_file(folder / _REPAIRED, bytes(self._repaired.data))
        write_file(folder / _REPORT, msgspec.json.encode(self.report))

    @classmethod
    def load(cls, folder: Path) -> Cleaned:
        """Read what `save` wrote; raises UserError when it is missing or damaged."""
        try:
            report = read_json(folder / _REPORT, CleaningReport)
            bits = [_Bits((folder / name).read_bytes(), report.documents) for name in (_KEPT, _REPAIRED)]
            whole = all(len(part.data) == (report.documents + 7) // 8 for part in bits)
        except (OSError, msgspec.DecodeError) as error:
            raise _damaged(folder) from error
        if not whole:
            raise _damaged(folder)
        return cls(report, *bits)


def plan_cleaning(
    documents: Callable[[], Iterator[Document]],
    settings: CleaningSettings,
    scratch: Path,
    task: Task = NOBODY,
    *,
    total: int | None = None,
    near_limit: int = NEAR_LIMIT,
    batch: int = HASH_BATCH,
) -> Cleaned:
    """Decide which documents stay, in one reading (and part of a second one, for the examples).

    Hashes are sorted in a folder of their own inside `scratch`, in batches of `batch`; it is removed again.
    """
    folder = Path(tempfile.mkdtemp(dir=scratch, prefix="hashes."))
    try:
        plan = _Plan(settings, folder, near_limit, batch)
        for number, document in enumerate(documents()):
            task.report("looking for what to clean", number, total, "documents")
            plan.look(number, document)
        plan.finish()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    plan.take_examples(documents, task)
    return Cleaned(plan.report, plan.kept, plan.repaired)


def plan_cleaning_of_text(
    blocks: Callable[[], Iterable[str]], settings: CleaningSettings, task: Task = NOBODY
) -> Cleaned:
    """Decide the same for a lone text that comes in blocks: it is one document, which stays whatever its length."""
    report = CleaningReport(settings, documents=1, kept=1)
    for block in blocks():
        task.report("looking for what to clean", report.characters_before, None, "characters")
        fixed = repair(block) if settings.fix_unicode else block
        report.characters_before += len(block)
        report.characters_after += len(fixed)
        if fixed != block:
            report.repaired.add(len(block), partial(_change, block, fixed))
            report.repaired.count = 1
    kept, repaired = _Bits(), _Bits()
    kept.append(True)
    repaired.append(report.repaired.count > 0)
    return Cleaned(report, kept, repaired)


class _Plan:
    """The decisions as they are made."""

    def __init__(self, settings: CleaningSettings, folder: Path, near_limit: int, batch: int) -> None:
        if settings.fix_unicode:
            fixer()  # a missing package is told before anything is read
        self.report = CleaningReport(settings)
        self.kept, self.repaired = _Bits(), _Bits()
        self._exact = ExactCopies(folder, self._found_copies, batch) if settings.deduplicate != "off" else None
        self._near = NearCopies() if settings.deduplicate == "near" else None
        self._near_limit = near_limit
        self._compared: set[int] = set()  # hashes of those that were compared for near copies
        self._exact_copies: list[int] = []
        self._near_pairs: list[tuple[int, int]] = []

    def look(self, number: int, document: Document) -> None:
        report, added = self.report, document
        if report.settings.fix_unicode:
            document = repair_document(document)
        before, characters = _length(added), _length(document)
        if document is not added:
            report.repaired.add(before, lambda: _change(_joined(added), _joined(document)))
        report.documents += 1
        report.characters_before += before
        self.repaired.append(document is not added)
        if characters < max(1, report.settings.min_characters):
            report.too_short.add(characters, lambda: f"“{excerpt(_joined(document))}”")
            self.kept.append(False)
            return
        value = document_hash(document) if self._exact is not None else 0
        original = self._near_original(number, document, value)
        if original is None:
            report.kept += 1
            report.characters_after += characters
        else:
            report.near.count += 1
            report.near.characters += characters
            self._near_pairs = [*self._near_pairs, (number, original)][:EXAMPLES]
        self.kept.append(original is None)
        if self._exact is not None:
            # Last, as it may find copies in all that is decided so far. Those of a near copy are copies word for word.
            self._exact.add(value, number, characters)

    def _near_original(self, number: int, document: Document, value: int) -> int | None:
        if self._near is None or value in self._compared:
            return None
        if self.report.near_compared >= self._near_limit:
            self.report.near_complete = False
            return None
        self._compared.add(value)
        self.report.near_compared += 1
        return self._near.original(number, document.texts())

    def _found_copies(self, rows: Rows) -> None:
        """Leave out documents that came before: (number, characters) each."""
        characters = int(rows[:, 1].sum())
        self.kept.clear(rows[:, 0])
        self.report.kept -= len(rows)
        self.report.characters_after -= characters
        self.report.exact.count += len(rows)
        self.report.exact.characters += characters
        self._exact_copies = sorted([*self._exact_copies, *np.sort(rows[:, 0])[:EXAMPLES].tolist()])[:EXAMPLES]

    def finish(self) -> None:
        if self._exact is not None:
            self._exact.finish()

    def take_examples(self, documents: Callable[[], Iterator[Document]], task: Task) -> None:
        """Read again as far as the first few copies."""
        wanted = {number for pair in self._near_pairs for number in pair}.union(self._exact_copies)
        texts: dict[int, str] = {}
        for number, document in enumerate(documents() if wanted else ()):
            task.report("taking examples", number, None, "documents")
            if number in wanted:
                texts[number] = excerpt(_joined(document))
                if len(texts) == len(wanted):
                    break
        texts = {number: texts.get(number, "") for number in wanted}  # a text changed meanwhile is found by `apply`
        self.report.near.examples = [f"“{texts[copy]}” like “{texts[first]}”" for copy, first in self._near_pairs]
        self.report.exact.examples = [f"“{texts[number]}”" for number in self._exact_copies]


def _length(document: Document) -> int:
    return sum(map(len, document.texts()))


def _joined(document: Document) -> str:
    return "\n".join(document.texts())


def _change(before: str, after: str) -> str:
    """Return in words where two texts first differ: “the cafÃ©” became “the café”."""
    common = bisect_left(
        range(min(len(before), len(after))), True, key=lambda end: before[: end + 1] != after[: end + 1]
    )
    start = max(0, common - _BEFORE_CHANGE)
    return f"“{excerpt(before[start : common + 200])}” became “{excerpt(after[start : common + 200])}”"


def _damaged(folder: Path) -> UserError:
    return UserError(f"What was decided on cleaning in {shown(folder)} is damaged: remove that folder and start again.")
