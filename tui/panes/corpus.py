"""The Corpus pane: the texts to learn from, what is in them, and how they begin."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.worker import Worker, WorkerState

from minigpt.errors import JobFailed, UserError, printable
from minigpt.narration import size
from minigpt.text.corpus import Corpus
from minigpt.text.sources import add_path
from minigpt.workspace import Workspace
from tui.panes.corpus_facts import SAMPLE, CorpusFacts, Glance, list_corpora, look_into
from tui.panes.pane import Pane
from tui.widgets.browser import Browser, details
from tui.widgets.dialogs import Ask
from tui.widgets.listing import MARK, MUTED, Cell, Column, Listing, Row

HELP = """\
A **corpus** is the text that a model learns from: one text, many documents, or conversations.

- **Enter** chooses the one under the cursor for the next run; `●` marks the chosen one.
- **a** adds a text file (`.txt`, `.md`, `.jsonl`) or a folder of them. It is copied, so the original may go.
- `sample` is built in: stories and conversations about a village. It is made when it is first used.
"""
COLUMNS = (
    Column("corpus", flexible=True, widest=48),
    Column("size", right=True),
    Column("documents", right=True, rank=1),
    Column("kind", widest=40, rank=2),
)
EXPLAIN = (
    "The texts to learn from. A model can only know what its text says: a larger and cleaner one makes a better model.",
    "Where the text comes from, how much it is, and how it begins. Tokens are the pieces that the model reads: they "
    "are made once for each tokenizer and then kept.",
)
ASK = "The path of a text file (.txt, .md, .jsonl) or of a folder with such files. Its text is copied into data/."


class CorpusPane(Pane):
    """A list of corpora, and the facts and the beginning of the one under the cursor."""

    TITLE = "Corpus"
    HELP = HELP
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Choose", id="corpus.choose", tooltip="Use this text for the next run"),
        Binding("a", "add", "Add text", id="corpus.add", tooltip="Add a text file or a folder of them"),
    ]

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.corpora: dict[str, CorpusFacts] = {}
        self.glances: dict[str, Glance] = {}
        self._adding = False
        # Where the cursor goes with the next list.
        self._wanted: str | None = None
        empty = "There are no corpora. Press a to add a text file, or a folder of them."
        self.browser = Browser(COLUMNS, "corpora", empty, EXPLAIN)

    def compose(self) -> ComposeResult:
        yield self.browser

    def shown(self) -> None:
        self.browser.listing.focus()
        self._load()

    def _load(self) -> None:
        self.in_thread(partial(list_corpora, self.minigpt.workspace, self.minigpt.state.corpus), "corpora")

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        group, result = event.worker.group, event.worker.result
        if event.state is WorkerState.ERROR:
            self._adding = False
            self.browser.note(f"not read: {event.worker.error}")
        elif event.state is WorkerState.SUCCESS and result is not None:
            if group == "corpora":
                self._take(result)
            elif group == "glance":
                self._take_glance(result)
            else:
                self._take_added(result)

    def on_listing_highlighted(self, event: Listing.Highlighted) -> None:
        self._show_details(top=True)
        self._look()

    def on_listing_chosen(self, event: Listing.Chosen) -> None:
        self.action_choose()

    def action_choose(self) -> None:
        facts = self.corpora.get(self.browser.listing.key or "")
        if facts is None:
            return
        if facts.problem:
            self.minigpt.tell("This corpus cannot be used", facts.problem)
            return
        self.minigpt.choose_corpus(facts.name)
        self._show_rows()
        self._show_details()

    def action_add(self) -> None:
        if self._adding:
            self.minigpt.tell("One at a time", "A text is being added already: wait until it is in the list.")
        else:
            self.app.push_screen(Ask("Add a text", ASK), self._add)

    def _add(self, path: str | None) -> None:
        if path and path.strip():
            self._adding = True
            self.browser.note(f"adding {path.strip()} …")
            self.in_thread(partial(add_text, self.minigpt.workspace, path.strip()), "add")

    def _take_added(self, added: Corpus | str) -> None:
        self._adding = False
        self.browser.note("")
        if isinstance(added, str):
            self.minigpt.tell("The text was not added", added)
            return
        self.notify(printable(added.note), markup=False)
        self._wanted = added.name
        self._load()

    def _take(self, corpora: list[CorpusFacts]) -> None:
        wanted = self._wanted or (None if self.corpora else self.minigpt.state.corpus)
        self._wanted = None
        self.corpora = {facts.name: facts for facts in corpora}
        self.glances.clear()
        self._show_rows()
        if wanted:
            self.browser.listing.move_to(wanted)
        self._show_details()
        self._look()

    def _look(self) -> None:
        """Have the text's beginning read, unless that was done already."""
        facts = self.corpora.get(self.browser.listing.key or "")
        if facts is not None and not facts.problem and facts.name not in self.glances:
            self.in_thread(partial(look_into, self.minigpt.workspace, facts), "glance")

    def _take_glance(self, glance: Glance) -> None:
        self.glances[glance.name] = glance
        self._show_details()

    def _show_rows(self) -> None:
        chosen = self.minigpt.state.corpus
        self.browser.listing.set_rows(_row(facts, facts.name == chosen) for facts in self.corpora.values())

    def _show_details(self, top: bool = False) -> None:
        facts = self.corpora.get(self.browser.listing.key or "")
        if facts is None:
            self.browser.show_details(Content(""), Content(""), top)
            return
        glance = self.glances.get(facts.name) or Glance(facts.name)
        head = _facts(facts, glance, chosen=facts.name == self.minigpt.state.corpus)
        preview = (
            Content.styled("It begins:", MUTED) + Content(f"\n{glance.preview}") if glance.preview else Content("")
        )
        self.browser.show_details(head, preview, top)


def add_text(workspace: Workspace, path: str) -> Corpus | str:
    """Add the text at a path; return the corpus, or in words why there is none."""
    try:
        return add_path(workspace, Path(path).expanduser())
    except (UserError, JobFailed) as error:
        return printable(str(error))
    except (OSError, ValueError, RuntimeError) as error:
        # A name too long, a NUL in it, the home folder of nobody.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"Cannot read {printable(path, single_line=True)} ({printable(reason)}): check the path."


def _row(facts: CorpusFacts, chosen: bool) -> Row:
    name = Cell(facts.name, "bold")
    if facts.problem:
        return Row(facts.name, (name, Cell("-"), Cell("-"), Cell("✗ cannot be used", "$text-error")), chosen)
    if facts.manifest is None:
        about = Cell("built in, made on first use", MUTED)
        return Row(facts.name, (name, Cell(f"about {size(facts.bytes)}", MUTED), Cell("-"), about), chosen)
    documents = f"{facts.manifest.documents:,}"
    return Row(facts.name, (name, Cell(size(facts.bytes)), Cell(documents), Cell(facts.kind)), chosen)


def _facts(facts: CorpusFacts, glance: Glance, chosen: bool) -> Content:
    remark = f"{MARK} chosen for the next run" if chosen else ""
    pairs: list[tuple[str, str]] = []
    manifest = facts.manifest
    if manifest is not None:
        documents, talks = manifest.documents, manifest.conversations
        counted = f"{documents:,} documents, " if documents != 1 else ""
        counted += f"{talks:,} of them conversations, " if 0 < talks < documents else ""
        pairs.append(("text", f"{facts.kind}: {counted}{manifest.characters:,} characters ({size(manifest.bytes)})"))
        pairs += [("from", f"{source.kind}: {source.origin}") for source in manifest.sources]
        pairs.append(("added", manifest.created[:10]))
        notes = [note for source in manifest.sources for note in source.notes]
        pairs += [("tokens", told) for told in glance.shards or (["not made yet"] if glance.preview else [])]
        return details(facts.name, pairs, *(Content(f"! {printable(note)}") for note in notes), remark=remark)
    if facts.problem:
        return details(facts.name, pairs, Content.styled(f"✗ {facts.problem}", "$text-error"), remark=remark)
    about = "Built in: stories and conversations about a village. It is made when it is first used."
    return details(SAMPLE, pairs, Content(about), remark=remark)
