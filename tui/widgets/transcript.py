"""A conversation on the screen: a text that grows repaints its last lines and no others.

transcript.add(Entry("you", "you", text="Hello"))
entry = Entry("tiny-1", "model")
transcript.add(entry)
entry.append("Hel")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len, get_character_cell_size
from rich.segment import Segment
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from minigpt.errors import printable

MAX_MOUNTED = 60
_INDENT = 2


def fold(text: str, start: int, width: int) -> list[tuple[int, int]]:
    """Return where the rows of text[start:] begin and end: at newlines, else between words, else at the width."""
    rows = []
    while True:
        newline = text.find("\n", start)
        stop = len(text) if newline < 0 else newline
        rows += _fold_line(text, start, stop, max(1, width))
        if newline < 0:
            return rows
        start = newline + 1


def _fold_line(text: str, start: int, stop: int, width: int) -> list[tuple[int, int]]:
    rows = []
    cells, after_space = 0, -1
    index = start
    while index < stop:
        size = get_character_cell_size(text[index])
        if cells + size > width and index > start:
            # A space at the edge hangs over it.
            end = index if text[index] == " " else max(after_space, start)
            end = end if end > start else index
            rows.append((start, end))
            index = start = end + (text[end] == " ")
            cells, after_space = 0, -1
            continue
        cells += size
        index += 1
        if text[index - 1] == " ":
            after_space = index
    rows.append((start, stop))
    return rows


def shown(text: str) -> str:
    """Return a text as the terminal may see it, a tab being four spaces."""
    return printable(text).replace("\t", "    ")


class Entry(Widget):
    """What one of the two said: a label, the text, and a note. `kind` is you or model.

    `prompt` is the part of the text that the model was given, marked as such.
    """

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "entry--you",
        "entry--model",
        "entry--text",
        "entry--prompt",
        "entry--note",
    }
    DEFAULT_CSS = """
    Entry {
        height: auto;
        margin-bottom: 1;
        & > .entry--you { color: $text-accent; text-style: bold; }
        & > .entry--model { color: $text-success; text-style: bold; }
        & > .entry--text { color: $foreground; }
        & > .entry--prompt { color: $text-accent; text-style: bold; }
        & > .entry--note { color: $foreground-muted; }
    }
    """

    def __init__(self, label: str, kind: str, prompt: str = "", text: str = "", note: str = "") -> None:
        super().__init__()
        self.label, self.kind = printable(label, single_line=True), kind
        prompt = shown(prompt)
        self.text, self._prompt_length = prompt + shown(text), len(prompt)
        self.note = printable(note, single_line=True)
        self._rows: list[tuple[int, int]] = []
        self._notes: list[tuple[int, int]] = []
        self._folded_for = 0

    def append(self, piece: str) -> None:
        """Let the text grow."""
        self.text += shown(piece)
        if not self._folded_for:
            return
        before = len(self._rows)
        start = self._rows.pop()[0] if self._rows else 0
        first = len(self._rows)
        self._rows += fold(self.text, start, self._folded_for)
        changed = Region(0, 1 + first, self.size.width, len(self._rows) - first + len(self._notes))
        self.refresh(changed, layout=len(self._rows) != before)

    def set_label(self, label: str) -> None:
        """Say who speaks."""
        label = printable(label, single_line=True)
        if label != self.label:
            self.label = label
            self.refresh(Region(0, 0, self.size.width, 1))

    def set_note(self, note: str) -> None:
        """Say below the text how it ended."""
        note = printable(note, single_line=True)
        if note != self.note:
            self.note, self._folded_for = note, 0
            self.refresh(layout=True)

    def _fold(self, width: int) -> None:
        if width == self._folded_for:
            return
        self._folded_for = width
        self._rows = fold(self.text, 0, width) if self.text else []
        self._notes = fold(self.note, 0, width) if self.note else []

    def get_content_width(self, container: Size, viewport: Size) -> int:
        return container.width

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        self._fold(max(1, width - _INDENT))
        return 1 + len(self._rows) + len(self._notes)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        self._fold(max(1, width - _INDENT))
        segments = self._segments(y)
        blank = self.get_component_rich_style("entry--text")
        return Strip(segments, sum(cell_len(segment.text) for segment in segments)).adjust_cell_length(width, blank)

    def _segments(self, y: int) -> list[Segment]:
        if y == 0:
            return [Segment(self.label, self.get_component_rich_style(f"entry--{self.kind}"))]
        plain = self.get_component_rich_style("entry--text")
        indent = Segment(" " * _INDENT, plain)
        y -= 1
        if y < len(self._rows):
            start, end = self._rows[y]
            given = min(max(start, self._prompt_length), end)
            prompt = Segment(self.text[start:given], self.get_component_rich_style("entry--prompt"))
            return [indent, prompt, Segment(self.text[given:end], plain)]
        y -= len(self._rows)
        start, end = self._notes[y] if y < len(self._notes) else (0, 0)
        return [indent, Segment(self.note[start:end], self.get_component_rich_style("entry--note"))]


class Transcript(VerticalScroll):
    """The entries of a conversation, the last ones mounted; stays at its end until somebody scrolls."""

    explain = "The conversation so far. Scroll with the arrow keys or Page Up and Page Down, also while you type."

    DEFAULT_CSS = """
    Transcript {
        padding: 0 1;
        scrollbar-size-vertical: 1;
        & > .earlier { color: $foreground-muted; height: auto; }
    }
    """

    def compose(self) -> ComposeResult:
        yield Static("", classes="earlier", markup=False)

    def on_mount(self) -> None:
        self._hidden = 0
        self.query_one(".earlier").display = False

    def on_resize(self) -> None:
        self.keep_to_end()

    def watch_virtual_size(self) -> None:
        self.keep_to_end()

    def keep_to_end(self) -> None:
        """Follow the end where there is more than fits; what fits stays at the top."""
        full = self.virtual_size.height > self.container_size.height > 0
        if full != self.is_anchored:
            self.anchor(full)
            if not full:
                self.scroll_home(animate=False, immediate=True, force=True)

    @property
    def last(self) -> Entry | None:
        """The entry at the end."""
        entries = self.query(Entry)
        return entries.last() if entries else None

    async def show(self, entries: Sequence[Entry]) -> None:
        """Replace what is shown."""
        await self.query(Entry).remove()
        self._hidden = 0
        self._hide(len(entries) - MAX_MOUNTED)
        await self.mount_all(entries[-MAX_MOUNTED:])
        self._follow()

    async def add(self, entry: Entry) -> None:
        """Add an entry at the end, and let go of the first where there are many."""
        await self.mount(entry)
        mounted = list(self.query(Entry))
        for old in mounted[: max(0, len(mounted) - MAX_MOUNTED)]:
            await old.remove()
            self._hide(1)
        self._follow()

    def _follow(self) -> None:
        """Go to the end again, wherever somebody has scrolled to."""
        if self.is_anchored:
            self.anchor()

    async def drop(self, count: int) -> None:
        """Take away the last entries."""
        for entry in list(self.query(Entry))[-count:] if count else []:
            await entry.remove()

    def _hide(self, count: int) -> None:
        self._hidden += max(0, count)
        earlier = self.query_one(".earlier", Static)
        earlier.display = self._hidden > 0
        earlier.update(f"{self._hidden:,} earlier messages are kept in the saved conversation")
