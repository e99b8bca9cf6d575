"""From the rows of an opened data set to documents on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minigpt.errors import JobFailed, UserError, printable
from minigpt.tasks import Task
from minigpt.text.formats.columns import JOIN, chat_column, pair_columns, text_column
from minigpt.text.formats.conversations import Unusable, chat_of, is_chat, kind_of, pair_of
from minigpt.text.formats.document import Message
from minigpt.text.hub_choice import KIND, WrongChoice, reading_errors, reason, sentence
from minigpt.text.hub_open import Opened
from minigpt.text.hub_parts import JsonlParts
from minigpt.text.manifest import SourceRecord
from minigpt.text.reading import EXAMPLES, Reading
from minigpt.text.waiting import Worker

_BATCH_ROWS = 32  # small, for a row may be a whole book
_CHUNK_ROWS = 512
_CHUNK_CHARACTERS = 4_000_000

Row = Mapping[str, Any]


class Copying:
    """One way through a data set: rows in, documents out."""

    def __init__(
        self, opened: Opened, field: str, target_characters: int | None, parts: JsonlParts, worker: Worker, task: Task
    ) -> None:
        self._opened = opened
        self._field = field
        self._target = target_characters
        self._parts = parts
        self._progress = parts.progress
        self._worker = worker
        self._task = task
        self._errors = reading_errors()
        if self._progress.state is not None:
            opened.dataset.load_state_dict(self._progress.state)
        self._batches = opened.dataset.iter(batch_size=_BATCH_ROWS)

    def run(self) -> SourceRecord:
        """Raises SourceUnavailable before the first row, JobFailed after it."""
        rows, state = self._chunk()
        self._settle_columns(rows)
        while rows and not self._is_enough():
            for row in rows:
                self._add(row)
                if self._is_enough():
                    break
            else:
                self._parts.rest(state)
                rows, state = self._chunk()
        if not self._progress.documents:
            raise UserError(
                f"{self._opened.choice.origin} has no text in its column {self._column}: name another with --field."
            )
        self._worker.call(self._batches.close, self._report)
        self._parts.finish()
        shape = "messages" if self._progress.is_chat else "text"
        reading = Reading("messages", "messages") if self._progress.is_chat else Reading("field", "text")
        return SourceRecord(
            KIND, self._opened.choice.origin, self._notes(shape), reading=reading, licence=self._opened.licence
        )

    def _chunk(self) -> tuple[list[Row], dict[str, Any]]:
        """Return the next rows and what is needed to go on after them."""
        try:
            return self._worker.call(self._fetch, self._report)
        except self._errors as error:
            if not self._progress.rows:
                raise reason(self._opened.choice, error) from error
            why = sentence(reason(self._opened.choice, error))
            raise JobFailed(f"The stream broke off after {self._progress.characters:,} characters. {why}") from error

    def _fetch(self) -> tuple[list[Row], dict[str, Any]]:
        rows: list[Row] = []
        characters = 0
        while len(rows) < _CHUNK_ROWS and characters < _CHUNK_CHARACTERS:
            batch = next(self._batches, None)
            if batch is None:
                break
            rows += [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
            characters += sum(map(_length, batch.values()))
        return rows, self._opened.dataset.state_dict()

    def _settle_columns(self, rows: list[Row]) -> None:
        """Choose the column to read, or those of a question and its answer; what an earlier attempt chose stays."""
        if self._progress.columns:
            return
        if not rows:
            raise UserError(f"{self._opened.choice.origin} has no rows: choose another split with --hf-split.")
        columns = list(dict.fromkeys(column for row in rows for column in row))
        named = printable(", ".join(columns), single_line=True)
        wanted = [self._field] if self._field in columns else self._field.split(JOIN) if self._field else []
        for column in wanted:
            if column not in columns:
                raise WrongChoice(
                    f"{self._opened.choice.origin} has no column of text {printable(column, single_line=True)!r}: "
                    f"choose one of {named} with --field."
                )
        filled = [{column: value for column, value in row.items() if value not in (None, "", [])} for row in rows]
        found = self._field or chat_column(filled) or pair_columns(filled) or text_column(filled)
        if not found:
            raise WrongChoice(
                f"{self._opened.choice.origin} has no column of text among {named}: name the one to read with --field."
            )
        self._progress.columns = [found] if found in columns else found.split(JOIN)
        values = [row[found] for row in filled if found in row]
        self._progress.is_chat = len(self._progress.columns) > 1 or (bool(values) and all(map(is_chat, values)))

    def _add(self, row: Row) -> None:
        progress = self._progress
        progress.rows += 1
        line: dict[str, Any]
        try:
            if not progress.is_chat:
                text = _text(row.get(progress.columns[0]))
                line, characters = {"text": text}, len(text)
            else:
                messages = self._messages(row)
                line, characters = {"messages": messages}, sum(len(message.content) for message in messages)
        except Unusable as why:
            progress.passed += 1
            if len(progress.examples) < EXAMPLES:
                progress.examples.append(f"row {progress.rows:,}: {why}")
            return
        self._parts.add(line)
        progress.documents += 1
        progress.characters += characters

    def _messages(self, row: Row) -> Sequence[Message]:
        if len(self._progress.columns) > 1:
            return pair_of(row, self._progress.columns)
        chat = chat_of(row.get(self._progress.columns[0]))
        if not any(message.content.strip() for message in chat.messages):
            raise Unusable("nobody says anything")
        self._progress.folded += chat.folded
        self._progress.dropped += chat.dropped
        return chat.messages

    @property
    def _column(self) -> str:
        return printable(JOIN.join(self._progress.columns), single_line=True)

    def _is_enough(self) -> bool:
        return self._target is not None and self._progress.characters >= self._target

    def _report(self) -> None:
        self._task.report("downloading", self._progress.characters, self._target, "characters")

    def _notes(self, shape: str) -> list[str]:
        progress = self._progress
        notes = list(self._opened.notes)
        if self._column not in (self._field, shape):
            notes.append(f"Its {shape} came from the column {self._column}.")
        if self._is_enough():
            notes.append(f"It was read up to {progress.characters:,} characters, as asked; there may be more of it.")
        elif self._target is not None:
            notes.append(f"It ended after {progress.characters:,} characters, before the {self._target:,} asked for.")
        if progress.passed:
            examples = printable("; ".join(progress.examples), single_line=True)
            notes.append(f"{progress.passed:,} of {progress.rows:,} rows were left out ({examples}).")
        if progress.folded:
            notes.append(f"{progress.folded:,} system messages were put in front of what the user says next.")
        if progress.dropped:
            notes.append(f"{progress.dropped:,} system messages with nothing after them were left out.")
        return notes


def _text(value: Any) -> str:
    if value is None or value == "":
        raise Unusable("no text")
    if not isinstance(value, str):
        raise Unusable(f"{kind_of(value)} in place of text")
    if value.isspace():
        raise Unusable("no text")
    return value


def _length(value: Any) -> int:
    """Return about how many characters a value of a row holds, however deep."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_length(item) for item in value.values())
    return sum(_length(item) for item in value) if isinstance(value, list) else 0
