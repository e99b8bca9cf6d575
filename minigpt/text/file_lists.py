"""Data sets that are a list of files, as Dolma is: JSON lines, packed or not, streamed one file after the other.

source = FileListSource("https://huggingface.co/datasets/allenai/dolma/resolve/main/urls/v1_7.txt",
                        target_characters=400_000_000)
record = source.write(folder, task)      # part-00000.jsonl, part-00001.jsonl, ...
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from minigpt.errors import JobFailed, UserError, printable
from minigpt.tasks import Task
from minigpt.text.fetching import BrokenOff, Unreachable
from minigpt.text.formats.binaries import refuse_known_binaries
from minigpt.text.hub_parts import JsonlParts, require_room
from minigpt.text.locations import open_location, read_list, shown_location
from minigpt.text.manifest import SourceRecord
from minigpt.text.reading import EXAMPLES, Reading
from minigpt.text.unpacking import numbered_lines, with_head

LINE_BYTES = 64 << 20
# After so many files in a row that cannot be read, the fault is not the files'.
FAILURES = 3
# A file that begins with so many useless rows has no others.
USELESS_ROWS = 1000
# Before a server that had no answer is asked again, seconds.
PAUSES = (5.0, 30.0)
_BYTES_PER_CHARACTER = 1.1  # UTF-8 and JSON, by estimate


class FileListSource:
    """The files that a list names, a URL or path a line: each holds JSON lines with the text in `field`.

    The list lies at a URL or in a file; only a file may name paths, which start from its own folder.
    """

    kind = "list"

    def __init__(
        self,
        list_location: str,
        *,
        field: str = "text",
        target_characters: int | None,
        allow_private: bool = False,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self.origin = shown_location(list_location)
        self.location = list_location
        self.field = field or "text"
        self.target_characters = target_characters
        self.allow_private = allow_private
        self.pauses = pauses

    def write(self, folder: Path, task: Task) -> SourceRecord:
        """Write the documents as JSONL parts; a folder with whole parts of an earlier attempt is gone on with.

        Files that cannot be read are left out and noted. Raises UserError when the list or the first files cannot be
        read or hold no documents, JobFailed when several files in a row fail later, or the disk is full.
        """
        locations = read_list(self.location, self.allow_private, lambda: task.report("reading the list"))
        require_room(folder, int((self.target_characters or 0) * _BYTES_PER_CHARACTER))
        signature = [self.origin, self.field, sha256("\n".join(locations).encode()).hexdigest()]
        with closing(JsonlParts(folder, msgspec.json.encode(signature).decode())) as parts:
            return _Copying(self, locations, parts, task).run()


class _Copying:
    """One way through the files of a list: rows in, documents out."""

    def __init__(self, source: FileListSource, locations: list[str], parts: JsonlParts, task: Task) -> None:
        self._source, self._locations, self._parts, self._task = source, locations, parts, task
        self._progress = parts.progress
        state: dict[str, Any] = self._progress.state or {}
        self._file: int = state.get("file", 0)
        self._line: int = state.get("line", 0)  # those before are read
        self._left_out: list[str] = state.get("left_out", [])
        self._in_a_row = 0
        row = msgspec.defstruct("Row", [("text", str | None, None)], rename={"text": source.field})
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row)

    def run(self) -> SourceRecord:
        while self._file < len(self._locations) and not self._is_enough():
            self._read_file(self._locations[self._file])
            self._file, self._line = self._file + 1, 0
        if not self._progress.documents:
            raise UserError(f"The files of {self._source.origin} hold no text. {' '.join(self._left_out[:EXAMPLES])}")
        self._parts.finish()
        return SourceRecord("list", self._source.origin, self._notes(), Reading("field", "text"))

    def _read_file(self, location: str) -> None:
        """Copy one file's documents; raises UserError or JobFailed when it is one failure too many."""
        before = self._progress.documents
        pauses = iter(self._source.pauses)
        while True:
            try:
                self._copy(location)
                self._in_a_row = 0
                return
            except Unreachable as error:
                pause = next(pauses, None) if error.passing and self._progress.documents == before else None
                if pause is None:
                    self._leave_out(str(error), self._progress.documents > before)
                    return
                self._wait(pause)
            except (UserError, BrokenOff) as error:
                self._leave_out(str(error), self._progress.documents > before)
                return

    def _leave_out(self, why: str, in_part: bool) -> None:
        self._left_out.append(f"{why} What came before was kept." if in_part else why)
        self._in_a_row = 0 if in_part else self._in_a_row + 1
        if self._in_a_row < FAILURES:
            return
        failure = f"{self._in_a_row} files in a row of {self._source.origin} could not be read: {why}"
        if not self._progress.documents:
            raise UserError(failure)
        raise JobFailed(f"{failure} Until then {self._progress.characters:,} characters had come.")

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._report("waiting to try again")
            time.sleep(min(left, 0.1))

    def _copy(self, location: str) -> None:
        """Copy a file's documents from the line where an earlier attempt stopped."""
        name = shown_location(location)
        useful = self._progress.documents
        useless, why = 0, "it has no lines"
        with open_location(location, self._source.allow_private, self._report) as unpacked:
            head, blocks = with_head(unpacked, 1)  # no more: it may break off after that
            refuse_known_binaries(head, name)
            for number, line in numbered_lines(blocks, LINE_BYTES):
                if number <= self._line or (line is not None and (not line or line.isspace())):
                    continue
                reason = self._add(line)
                if reason:
                    useless, why = useless + 1, f"line {number:,}: {printable(reason, single_line=True)}"
                    self._pass_over(f"{name}, {why}")
                if self._is_enough():
                    return
                if self._progress.documents == useful and useless >= USELESS_ROWS:
                    break
                self._parts.rest({"file": self._file, "line": number, "left_out": self._left_out})
        if self._progress.documents == useful and not self._line:
            raise UserError(f"{name} gives no document ({why}).")

    def _add(self, line: bytes | None) -> str:
        """Write the document of a line; return why there is none."""
        self._progress.rows += 1
        if line is None:
            return f"longer than {LINE_BYTES >> 20} MB"
        try:
            text = self._decoder.decode(line).text
        except msgspec.DecodeError as error:
            return str(error)
        except UnicodeDecodeError:
            return "not valid UTF-8"
        except RecursionError:
            return "nested too deeply"
        if text is None:
            return self._what_is_there(line)
        if not text.strip():
            return "empty text"
        self._parts.add({"text": text})
        self._progress.documents += 1
        self._progress.characters += len(text)
        return ""

    def _what_is_there(self, line: bytes) -> str:
        names = ", ".join(msgspec.json.decode(line, type=dict[str, msgspec.Raw]))
        return f"nothing in the field {self._source.field!r} (there is: {names[:100]}); choose another with --field"

    def _pass_over(self, what: str) -> None:
        self._progress.passed += 1
        if len(self._progress.examples) < EXAMPLES:
            self._progress.examples.append(what)

    def _is_enough(self) -> bool:
        target = self._source.target_characters
        return target is not None and self._progress.characters >= target

    def _report(self, phase: str = "") -> None:
        phase = phase or f"reading file {self._file + 1:,} of {len(self._locations):,}"
        self._task.report(phase, self._progress.characters, self._source.target_characters, "characters")

    def _notes(self) -> list[str]:
        progress, target = self._progress, self._source.target_characters
        notes = []
        if self._is_enough():
            notes.append(
                f"It was read up to {progress.characters:,} characters, as asked: {self._file:,} of "
                f"{len(self._locations):,} files, in the order of the list."
            )
        elif target is not None:
            notes.append(f"It ended after {progress.characters:,} characters, before the {target:,} asked for.")
        if progress.passed:
            examples = "; ".join(progress.examples)
            notes.append(f"{progress.passed:,} of {progress.rows:,} rows were left out ({examples}).")
        if self._left_out:
            shown_ones = " ".join(self._left_out[:EXAMPLES])
            notes.append(f"{len(self._left_out):,} files could not be read to the end. {shown_ones}")
        return notes
