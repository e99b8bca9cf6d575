"""The documents of a corpus: a list that grows as one goes down, a search in it, and each of them to be read whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import msgspec
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.message import Message
from textual.widgets import Input

from tui.corpora.children import in_thread
from tui.corpora.page import TextReader
from tui.widgets.listing import MUTED, Cell, Column, Listing, Row

# Asks `minigpt` with these arguments and this text on its standard input: for threads.
Ask = Callable[[Sequence[str], str], Any]

PAGE = 50
MOST_ROWS = 1000
READ_CHARACTERS = 1_000_000
_ROW_CHARACTERS = 240
COLUMNS = (
    Column("number", right=True),
    Column("characters", right=True, rank=1),
    Column("document", flexible=True, widest=400),
)
EXPLAIN = (
    "The documents one by one, with how they begin. Enter reads the one under the cursor, / searches all of them. "
    "Validation and test text are whole documents that training never sees."
)


class Shown(msgspec.Struct):
    """One document of a list; `text` is its beginning, or what is around a match."""

    number: int
    characters: int
    kind: str
    text: str


class Documents(msgspec.Struct):
    """The answer of `minigpt corpus documents`: `next` is the number to go on from, None at the end."""

    documents: list[Shown]
    next: int | None = None
    looked_at: int = 0


class Words(Input):
    """The words that are looked for."""

    explain = "Words that a document is to hold, in capitals or not. Enter looks in all documents, Esc ends it."


class DocumentsView(Container):
    """Lists the documents of one corpus."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "read", "Read", show=False, id="documents.read", tooltip="Read the whole document"),
        Binding("escape", "leave_search", "Leave search", show=False, id="documents.leave", tooltip="End the search"),
    ]
    DEFAULT_CSS = """
    DocumentsView Listing { height: 1fr; border: none; padding: 0; &:focus { border: none; } }
    DocumentsView Input { display: none; margin: 0 1; background: $boost; }
    DocumentsView.-searching Input { display: block; }
    """

    class Told(Message):
        """There is something new to say of the list."""

    def __init__(self, ask: Ask) -> None:
        super().__init__(id="documents")
        self.ask = ask
        self.corpus: str | None = None
        self.search = ""
        self.note = ""
        self.shown: list[Shown] = []
        self._next: int | None = None
        self._loading = self._asked = False
        self.listing = Listing(COLUMNS, "", EXPLAIN)

    def compose(self) -> ComposeResult:
        yield Words(placeholder="words to look for, then Enter", compact=True)
        yield self.listing

    @property
    def number(self) -> int:
        """The number of the document under the cursor, 0 where there is none."""
        return int(self.listing.key or 0)

    def set_corpus(self, name: str | None, why: str = "") -> None:
        """Show nothing of another corpus; `why` says why there is nothing to show."""
        if name != self.corpus:
            self.corpus, self.search = name, ""
            self.query_one(Input).value = ""
            self.remove_class("-searching")
            self._clear("" if name else why)

    def load(self) -> None:
        """Have the first documents listed, unless that was done already."""
        if self.corpus is not None and not self._asked:
            self._load(0)

    def forget(self) -> None:
        """Ask anew where there was nothing to list."""
        self._asked = bool(self.shown) or self._loading

    def start_search(self) -> None:
        """Let words be written that documents are to hold."""
        if self.corpus is not None:
            self.add_class("-searching")
            self.query_one(Input).focus()

    def action_leave_search(self) -> None:
        self.remove_class("-searching")
        self.listing.focus()
        if self.search:
            self._search("")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.listing.focus()
        if event.value.strip() != self.search:
            self._search(event.value.strip())

    def _search(self, words: str) -> None:
        self.search = words
        self._clear("")
        self._load(0)

    def _clear(self, why: str) -> None:
        self.shown, self._next = [], None
        self._loading = self._asked = False
        self.listing.empty = why
        self.listing.set_rows([])
        self.listing.refresh()
        self._tell("")

    def _load(self, start: int) -> None:
        assert self.corpus is not None
        self._loading = self._asked = True
        arguments = ["corpus", "documents", self.corpus, "--from", str(start), "--limit", str(PAGE), "--json"]
        arguments += ["--characters", str(_ROW_CHARACTERS)]
        # One word, so that what begins with a hyphen is no option.
        arguments += [f"--search={self.search}"] if self.search else []
        self._tell("searching …" if self.search else "reading …")
        in_thread(
            self,
            lambda: msgspec.convert(self.ask(arguments, ""), Documents),
            partial(self._take, self.corpus, self.search),
            self._fail,
            "documents",
        )

    def _take(self, corpus: str, search: str, answer: Documents) -> None:
        if (corpus, search) != (self.corpus, self.search):
            return
        self._loading = False
        self.shown += answer.documents
        self._next = answer.next
        self.listing.empty = "No document holds these words." if search else "There are no documents."
        self.listing.set_rows(map(_row, self.shown))
        if not self.shown:
            self.listing.refresh()
        self._tell(self._told())

    def _told(self) -> str:
        count = f"{len(self.shown):,}" + ("" if self._next is None else "+")
        if self.search:
            return f"{count} with “{self.search[:30]}”"
        documents = "document" if count == "1" else "documents"
        return f"{count} listed" if self._next is not None else f"{count} {documents}"

    def _fail(self, problem: str) -> None:
        self._loading = False
        self.listing.empty = problem
        self.listing.refresh()
        self._tell("")

    def _tell(self, note: str) -> None:
        self.note = note
        self.post_message(self.Told())

    def on_listing_highlighted(self, event: Listing.Highlighted) -> None:
        event.stop()
        at_end = bool(self.shown) and self.listing.cursor == len(self.shown) - 1
        if at_end and self._next is not None and not self._loading and len(self.shown) < MOST_ROWS:
            self._load(self._next)

    def on_listing_chosen(self, event: Listing.Chosen) -> None:
        event.stop()
        self.action_read()

    def action_read(self) -> None:
        if self.corpus is None or not self.shown:
            return
        found = self.shown[self.listing.cursor]
        cut = f", its first {READ_CHARACTERS:,}" if found.characters > READ_CHARACTERS else ""
        title = f"document {found.number:,} of {self.corpus}: {found.characters:,} characters{cut}"
        load = partial(document_text, self.ask, self.corpus, found.number, READ_CHARACTERS)
        self.app.push_screen(TextReader(title, load, self.search))


def document_text(ask: Ask, corpus: str, number: int, characters: int) -> str:
    """Return the beginning of one document; nothing where there is none."""
    arguments = ["corpus", "documents", corpus, "--from", str(number), "--limit", "1"]
    answer = msgspec.convert(ask([*arguments, "--characters", str(characters), "--json"], ""), Documents)
    return answer.documents[0].text if answer.documents else ""


def _row(shown: Shown) -> Row:
    sign = "” " if shown.kind == "conversation" else ""
    text = " ".join(f"{sign}{shown.text}".split())
    return Row(str(shown.number), (Cell(f"{shown.number:,}", MUTED), Cell(f"{shown.characters:,}"), Cell(text)))
