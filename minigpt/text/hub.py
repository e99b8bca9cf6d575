"""Data sets at huggingface.co, streamed: a few hundred rows are in memory at a time, whatever the data set's size.

tokens = 100_000_000
source = HubSource("roneneldan/TinyStories", target_characters=tokens * CHARACTERS_PER_TOKEN)
record = source.write(folder, task)      # part-00000.jsonl, part-00001.jsonl, ...
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from minigpt.errors import UserError
from minigpt.tasks import Task
from minigpt.text.corpus import Source
from minigpt.text.hub_choice import KIND, Choice, CredentialsMissing, SourceUnavailable, WrongChoice, sentence
from minigpt.text.hub_copy import Copying
from minigpt.text.hub_open import Opened, open_data_set
from minigpt.text.hub_parts import JsonlParts, empty_folder, require_room
from minigpt.text.manifest import SourceRecord
from minigpt.text.waiting import Worker

__all__ = ["CHARACTERS_PER_TOKEN", "CredentialsMissing", "FirstOf", "HubSource", "SourceUnavailable"]

# An estimate, for English text and a vocabulary of tens of thousands: turns a wish in tokens into characters.
CHARACTERS_PER_TOKEN = 4

_BYTES_PER_CHARACTER = 1.1  # UTF-8 and JSON, by estimate


class HubSource:
    """A data set at huggingface.co by name, or a folder laid out like one (a path that starts with `.`, `/` or `~`).

    `name` is OWNER/NAME[@REVISION][:CONFIG]. `field` is guessed when empty; a column of chats becomes conversations.
    When the data set cannot be opened, the `fallbacks` are tried one after the other.
    """

    def __init__(
        self,
        name: str,
        *,
        config: str | None = None,
        split: str = "train",
        field: str = "",
        target_characters: int | None,
        fallbacks: Sequence[Source] = (),
    ) -> None:
        """Raises UserError when the name cannot be one."""
        self.choice = Choice.parse(name, config, split)
        self.kind = KIND
        self.origin = self.choice.origin
        self.field = field
        self.target_characters = target_characters
        self.fallbacks = tuple(fallbacks)

    def write(self, folder: Path, task: Task) -> SourceRecord:
        """Write the documents as JSONL parts; a folder with whole parts of an earlier attempt is gone on with.

        Raises UserError when nothing can be opened (CredentialsMissing when an account may help) or a config, split or
        field is not there; JobFailed when the stream breaks off or the disk is full.
        """
        if self.fallbacks:
            alone = copy.copy(self)
            alone.fallbacks = ()
            return FirstOf([alone, *self.fallbacks]).write(folder, task)
        with closing(Worker()) as worker:
            opened = worker.call(lambda: open_data_set(self.choice), lambda: task.report("opening"))
            there = sum(path.stat().st_size for path in folder.glob("part-*.jsonl"))
            require_room(folder, max(0, self._needed_bytes(opened) - there))
            stream = msgspec.json.encode([opened.choice, opened.commit, self.field]).decode()
            with closing(JsonlParts(folder, stream)) as parts:
                return Copying(opened, self.field, self.target_characters, parts, worker, task).run()

    def as_fallback(self) -> HubSource:
        """Return this source for when nobody is asked: where a config must be chosen, the first one is."""
        other = copy.copy(self)
        other.choice = msgspec.structs.replace(self.choice, any_config=True)
        return other

    def _needed_bytes(self, opened: Opened) -> int:
        sizes = [opened.size] if opened.size else []
        if self.target_characters is not None:
            sizes.append(int(self.target_characters * _BYTES_PER_CHARACTER))
        return min(sizes, default=0)


class FirstOf:
    """The first of several sources that can be opened, of any kinds; its notes say what was wrong with those before."""

    def __init__(self, sources: Sequence[Source]) -> None:
        first, *others = sources
        self.kind, self.origin = first.kind, first.origin
        self.sources = [first, *(other.as_fallback() if isinstance(other, HubSource) else other for other in others)]

    def write(self, folder: Path, task: Task) -> SourceRecord:
        """Raises UserError with all reasons when none can be opened, JobFailed when one breaks off in the middle.

        A wrong config, split or field of the first is no reason to read something else: it is raised.
        """
        failures: list[UserError] = []
        for source in self.sources:
            if failures:
                task.notice(f"{sentence(failures[-1])} {source.origin} is tried in its place.")
            if not isinstance(source, HubSource):
                empty_folder(folder)
            try:
                record = source.write(folder, task)
            except UserError as error:
                if not failures and isinstance(error, WrongChoice):
                    raise
                failures.append(error)
                continue
            if not failures:
                return record
            why = " ".join(map(sentence, failures))
            note = f"{record.origin} was taken in place of {self.origin}. {why}"
            return msgspec.structs.replace(record, notes=[note, *record.notes])
        raise _none_opened(failures)


def _none_opened(failures: Sequence[UserError]) -> UserError:
    text = f"None of {len(failures)} sources could be opened. " + " ".join(map(sentence, failures))
    steps = next((error.steps for error in failures if isinstance(error, CredentialsMissing)), None)
    return UserError(text) if steps is None else CredentialsMissing(text, steps)
