"""The Corpus pane: the texts to learn from, what is in them, and all that can be done with them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from minigpt.errors import printable
from tui.corpora.children import Children, in_thread
from tui.corpora.desk import Desk
from tui.corpora.facts import corpus_row
from tui.corpora.views import Views
from tui.panes.corpus_facts import SAMPLE, CorpusFacts, Glance, list_corpora, look_into, users_of
from tui.panes.pane import Pane
from tui.widgets.dialogs import Ask, confirm
from tui.widgets.listing import Column, Listing

HELP = """\
A **corpus** is the text that a model learns from: one text, many documents, or conversations.

| key | what it does |
|---|---|
| Enter | choose the corpus under the cursor for the next run; `●` marks the chosen one |
| a | add text: paste, files, a web page, Hugging Face, Kaggle, the catalogue, the built-in sample |
| p | make tokens of it for the chosen preset now (training does it by itself) |
| v, Left, Right | another view: facts, documents, statistics, tokens |
| / | search the documents; in the tokens view, paint a text of your own |
| Enter, in documents | read one whole |
| c | count a very large text for its statistics |
| x | stop adding or preparing |
| d, u | remove, and bring back what was removed (until the app closes) |

Adding and preparing go on when the app closes; the next session shows how they stand.
"""
COLUMNS = (
    Column("corpus", flexible=True, widest=48),
    Column("size", right=True),
    Column("documents", right=True, rank=2),
    Column("tokens", right=True, rank=1),
    Column("state", widest=40, rank=3),
)
EXPLAIN = (
    "The texts to learn from. A model can only know what its text says: a larger and cleaner one makes a better model. "
    "Tokens are counted once they are made."
)


class CorpusPane(Pane):
    """A list of corpora, and four views of the one under the cursor."""

    TITLE = "Corpus"
    HELP = HELP
    # The size classes are the screen's, which scoped rules do not see.
    SCOPED_CSS = False
    DEFAULT_CSS = """
    CorpusPane {
        layout: vertical;
        & > Listing { height: 1fr; min-height: 3; }
        & > Views { height: 2fr; }
    }
    .-wide CorpusPane { layout: horizontal; }
    .-wide CorpusPane > Listing { width: 2fr; height: 1fr; }
    .-wide CorpusPane > Views { width: 3fr; height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Choose", id="corpus.choose", tooltip="Use this text for the next run"),
        Binding("a", "add", "Add text", id="corpus.add", tooltip="Paste, files, web page, data sets, sample"),
        Binding("p", "prepare", "Prepare", id="corpus.prepare", tooltip="Make tokens for the chosen preset now"),
        Binding("v", "turn(1)", "View", id="corpus.view", tooltip="Facts, documents, statistics, tokens"),
        Binding("right", "turn(1)", "Next view", show=False, id="corpus.next_view", tooltip="The next view"),
        Binding("left", "turn(-1)", "Last view", show=False, id="corpus.last_view", tooltip="The view before"),
        Binding("slash", "search", "Search", show=False, id="corpus.search", tooltip="Look for words in the documents"),
        Binding("c", "count", "Count", show=False, id="corpus.count", tooltip="Make the statistics of a large text"),
        Binding("x", "stop", "Stop", show=False, id="corpus.stop", tooltip="Stop adding or preparing this corpus"),
        Binding("d", "remove", "Remove", show=False, id="corpus.remove", tooltip="Remove this corpus, after asking"),
        Binding("u", "undo", "Bring back", show=False, id="corpus.undo", tooltip="Bring back what was removed last"),
    ]

    def __init__(self, *, id: str | None = None, classes: str | None = None, children: Children | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.corpora: dict[str, CorpusFacts] = {}
        self.glances: dict[str, Glance] = {}
        self.asked = children or Children()
        self.desk = Desk(self, self.asked, self._moved, self.reload)
        self.listing = Listing(COLUMNS, "There are no corpora. Press a to add text.", EXPLAIN)
        self.listing.border_title = "corpora"
        self.views = Views(self._ask, lambda: (self.minigpt.state.corpus, self.minigpt.state.preset))
        self._wanted: str | None = None  # where the cursor goes with the next list

    def compose(self) -> ComposeResult:
        yield self.listing
        yield self.views

    def shown(self) -> None:
        self.desk.front = True
        self.listing.focus()
        self.reload()
        self.desk.look()

    def hidden(self) -> None:
        self.desk.front = False

    def on_unmount(self) -> None:
        self.desk.leave()

    def _ask(self, arguments: Sequence[str], text: str = "") -> Any:
        return self.asked.ask(self.minigpt.workspace, arguments, text)

    # What is shown

    def reload(self, wanted: str | None = None) -> None:
        """Read anew what corpora there are; the cursor goes to `wanted`."""
        self._wanted = wanted or self._wanted
        work = partial(list_corpora, self.minigpt.workspace, self.minigpt.state.corpus)
        in_thread(self, work, self._take, self._note, "corpora")

    def _take(self, corpora: list[CorpusFacts]) -> None:
        wanted = self._wanted or (None if self.corpora else self.minigpt.state.corpus)
        self._wanted = None
        self.corpora = {facts.name: facts for facts in corpora}
        self.glances.clear()
        self.views.forget()
        self._show_rows()
        if wanted:
            self.listing.move_to(wanted)
        self._show_current()
        self._look()

    def _moved(self) -> None:
        self._show_rows()
        self._show_current()

    def _show_rows(self) -> None:
        chosen, works = self.minigpt.state.corpus, self.desk.works
        # One that is being made has no folder yet.
        known = {**self.corpora, **{name: CorpusFacts(name) for name in works if name not in self.corpora}}
        rows = [corpus_row(facts, works.get(facts.name), facts.name == chosen) for facts in known.values()]
        self.listing.set_rows(rows)
        removed = self.desk.removed
        self._note(f"removed {removed[-1].name}: u brings it back" if removed else "")

    def _note(self, text: str) -> None:
        note = printable(text, single_line=True)
        if str(self.listing.border_subtitle or "") != note:
            self.listing.border_subtitle = Content(note)

    @property
    def _current(self) -> CorpusFacts | None:
        name = self.listing.key or ""
        return self.corpora.get(name) or (CorpusFacts(name) if name in self.desk.works else None)

    def _show_current(self, top: bool = False) -> None:
        facts = self._current
        work = self.desk.works.get(facts.name) if facts is not None else None
        self.views.show(facts, self.glances.get(facts.name) if facts is not None else None, work, top)

    def _look(self) -> None:
        """Have the text's beginning read, unless that was done already."""
        facts = self._current
        if facts is not None and not facts.problem and facts.name in self.corpora and facts.name not in self.glances:
            in_thread(self, partial(look_into, self.minigpt.workspace, facts), self._take_glance, self._note, "glance")

    def _take_glance(self, glance: Glance) -> None:
        self.glances[glance.name] = glance
        self._show_current()

    def on_listing_highlighted(self, event: Listing.Highlighted) -> None:
        self._show_current(top=True)
        self._look()

    def on_listing_chosen(self, event: Listing.Chosen) -> None:
        self.action_choose()

    def action_turn(self, by: int) -> None:
        self.views.turn(by)

    def action_search(self) -> None:
        if self.views.current != "tokens":
            self.views.search()
            return
        question = "A text of your own, to see how it is cut into tokens."
        self.app.push_screen(Ask("Paint a text", question), lambda text: self.views.tokens.paint(text or ""))

    def action_count(self) -> None:
        self.views.open("statistics")
        self.views.count()

    # What can be done

    def action_choose(self) -> None:
        facts = self._current
        if facts is None:
            return
        if facts.problem or facts.name not in self.corpora:
            why = facts.problem or "It is being made: choose it when it is whole."
            self.minigpt.tell("This corpus cannot be used", why)
            return
        self.minigpt.choose_corpus(facts.name)
        self._moved()

    def action_prepare(self) -> None:
        facts = self._current
        if facts is None:
            return
        name, preset = facts.name, self.minigpt.state.preset
        if name in self.desk.works:
            self.minigpt.tell("One at a time", f"{name} is at work already: {self.desk.works[name].doing}.")
        elif facts.problem:
            self.minigpt.tell("This corpus cannot be used", facts.problem)
        else:
            self.desk.start("prepare", name, ["corpus", "prepare", name, "--preset", preset])

    def action_stop(self) -> None:
        facts = self._current
        work = self.desk.works.get(facts.name) if facts is not None else None
        if work is None:
            self.notify("Nothing is being done to this corpus.", markup=False)
            return
        what = "Nothing of it is kept." if work.action == "add" else "What is done of it is used the next time."
        dialog = confirm(f"Stop {work.doing.split()[0]} {work.corpus}?", what, yes="Stop", no="Go on")
        self.app.push_screen(dialog, lambda answer: self.desk.stop(work) if answer == "yes" else None)

    def action_remove(self) -> None:
        facts = self._current
        if facts is None:
            return
        if facts.name in self.desk.works:
            self.minigpt.tell("It is at work", f"{facts.name} is being worked on: stop that first with the key x.")
        elif facts.manifest is None and not (self.minigpt.workspace.data / facts.name).is_dir():
            self.minigpt.tell("Nothing to remove", "It has no text of its own on this disk.")
        else:
            work = partial(users_of, self.minigpt.workspace, facts.name)
            in_thread(self, work, partial(self._ask_to_remove, facts.name), self._note, "users")

    def _ask_to_remove(self, name: str, users: list[str]) -> None:
        text = f"{name} leaves the list. The key u brings it back until the app closes; then it is deleted for good."
        if users:
            text = (
                f"The run {', '.join(users)} learns from it now: it goes on to its end, but cannot be resumed later "
                f"without the text.\n\n{text}"
            )
        dialog = confirm("Remove this corpus?", printable(text), yes="Remove", no="Keep")
        chosen = name == self.minigpt.state.corpus and name != SAMPLE
        self.app.push_screen(dialog, lambda answer: self.desk.remove(name, chosen) if answer == "yes" else None)

    def action_undo(self) -> None:
        if self.desk.removed:
            self.desk.undo()
        else:
            self.notify("Nothing was removed since the app was opened.", markup=False)

    # Adding

    def action_add(self) -> None:
        from tui.corpora.adding import AddMenu

        self.app.push_screen(AddMenu(), self._open_form)

    def _open_form(self, answer: tuple[str, int] | None) -> None:
        if answer is None:
            return
        from tui.corpora.adding import SOURCES, Addition
        from tui.corpora.forms import form

        taken = [*self.corpora, *self.desk.works]

        def add(addition: Addition | None) -> None:
            if addition is not None:
                self._wanted = addition.name
                self.desk.start("add", addition.name, addition.arguments, addition.scratch)

        self.app.push_screen(form(SOURCES[answer[1]][0], taken, self._ask, self.desk.scratch_folder, Path.cwd()), add)
