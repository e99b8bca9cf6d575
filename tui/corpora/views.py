"""What is shown of the corpus under the cursor: facts, its documents, statistics, or its text painted by tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.message import Message
from textual.style import Style
from textual.timer import Timer
from textual.widget import Widget

from minigpt.errors import UserError
from tui.corpora.children import in_thread
from tui.corpora.documents import Ask, DocumentsView, document_text
from tui.corpora.facts import facts_of
from tui.corpora.statistics import Survey, figures, histogram, survey_of
from tui.corpora.tasks import Work
from tui.corpora.tokens import TokensView
from tui.corpora.wrapping import plain
from tui.panes.corpus_facts import CorpusFacts, Glance
from tui.widgets.browser import Details, details
from tui.widgets.listing import MUTED

NAMES = ("facts", "documents", "statistics", "tokens")
# How long the cursor rests on a corpus before a process is started for it.
REST_SECONDS = 0.3
# Up to this size the statistics are made unasked.
COUNTED_BYTES = 200_000_000
_BEGINNING = 2000
COUNTING = "counting …"
EXPLAIN_FACTS = (
    "Where the text comes from, how much it is, what its figures mean for the preset you chose, and how it begins. "
    "Tokens are the pieces that the model reads: they are made once for each tokenizer and then kept."
)
EXPLAIN_STATISTICS = (
    "How many documents there are and how long: a bar for each range of lengths. What is repeated is learnt by heart "
    "instead of understood."
)


class _Bars(Details):
    """Figures with bars beside them, which are as long as there is room: it tells when that is known."""

    class Placed(Message):
        """It has its place, or another one."""

    def on_resize(self) -> None:
        self.post_message(self.Placed())


class Views(Container):
    """Four views of one corpus, one at a time; what needs a process waits until the cursor rests."""

    SCOPED_CSS = False
    DEFAULT_CSS = """
    Views {
        border: round $panel-lighten-2;
        border-title-color: $text-muted;
        border-subtitle-color: $text-muted;
        &:focus-within { border: round $primary; border-title-color: $text; }
        & > * { height: 1fr; display: none; }
        & > .current { display: block; }
        & > Details, & > Details:focus { border: none; }
    }
    """

    def __init__(self, ask: Ask, chosen: Callable[[], tuple[str, str]]) -> None:
        """`chosen` gives the corpus and the preset of the next run."""
        super().__init__()
        self.ask, self.chosen = ask, chosen
        self.current = NAMES[0]
        self.facts: CorpusFacts | None = None
        self._work: Work | None = None
        self._glances: dict[str, Glance] = {}
        self._surveys: dict[tuple[str, ...], Survey | str] = {}
        self._timer: Timer | None = None
        self._facts_view, self._statistics = Details(EXPLAIN_FACTS), _Bars(EXPLAIN_STATISTICS)
        self._facts_view.id, self._statistics.id = "facts", "statistics"
        self.documents, self.tokens = DocumentsView(ask), TokensView(ask)

    def compose(self) -> ComposeResult:
        yield self._facts_view
        yield self.documents
        yield self._statistics
        yield self.tokens

    def on_mount(self) -> None:
        self.turn(0)

    # What is shown

    def show(self, facts: CorpusFacts | None, glance: Glance | None, work: Work | None, top: bool = False) -> None:
        """Show a corpus, with what was seen in it and what is being done to it."""
        self.facts, self._work = facts, work
        if facts is not None and glance is not None:
            self._glances[facts.name] = glance
        name, why = self._readable()
        self.documents.set_corpus(name, why)
        self.tokens.want(name, self.documents.number, why)
        self._show_facts(top)
        self._show_statistics(top)
        self._rest()

    def forget(self) -> None:
        """Ask anew for what may have changed on disk."""
        self._surveys = {key: survey for key, survey in self._surveys.items() if isinstance(survey, Survey)}
        self.documents.forget()
        self.tokens.forget()

    def turn(self, by: int) -> None:
        """Go to the next view, or the one before."""
        self.open(NAMES[(NAMES.index(self.current) + by) % len(NAMES)])

    def open(self, name: str) -> None:
        """Bring a view to the front; the focus goes along where it was inside."""
        inside = self.has_focus_within
        self.current = name
        for view in self.children:
            view.set_class(view.id == name, "current")
        self.border_title = Content(" ").join(self._tab(view) for view in NAMES)
        if inside:
            self.main.focus()
        corpus, why = self._readable()
        self.tokens.want(corpus, self.documents.number, why)
        self._tell()
        self._load()

    def action_open_view(self, name: str) -> None:
        self.open(name)

    @property
    def main(self) -> Widget:
        """What takes the focus in the view that is in front."""
        inner = {"documents": self.documents.listing, "tokens": self.tokens.page}
        return inner.get(self.current) or self.query_one(f"#{self.current}")

    def search(self) -> None:
        """Look for words in the documents."""
        self.open("documents")
        self.documents.start_search()

    def count(self) -> None:
        """Make the statistics now, whatever the size."""
        if self.facts is not None and self.facts.manifest is not None and self._survey_key not in self._surveys:
            self._survey()

    def _tab(self, name: str) -> Content:
        look = "bold reverse" if name == self.current else ""
        action = Style.from_meta({"@click": f"open_view('{name}')"})
        return Content.styled(f" {name} ", look).stylize(action)

    def on_documents_view_told(self, event: DocumentsView.Told) -> None:
        event.stop()
        self._tell()

    def _tell(self) -> None:
        note = {"facts": "", "documents": self.documents.note}.get(self.current, "")
        if self.current == "statistics" and self._known == COUNTING:
            note = COUNTING
        if str(self.border_subtitle or "") != note:
            self.border_subtitle = Content(note)

    def _readable(self) -> tuple[str | None, str]:
        """Return the corpus's name where it can be looked into, else why not."""
        if self.facts is None:
            return None, ""
        if self.facts.manifest is not None:
            return self.facts.name, ""
        if self._work is not None:
            return None, "It is being made: there is nothing to see yet."
        return None, self.facts.problem or "It is made when it is first used; the key p makes it now."

    # What needs a process

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(REST_SECONDS, self._load)

    def _load(self) -> None:
        facts = self.facts
        if facts is None or facts.manifest is None or not self.size:
            return
        if self.current == "documents":
            self.documents.load()
        elif self.current == "tokens":
            self.tokens.want(facts.name, self.documents.number)
            self.tokens.load()
        else:
            glance = self._glances.get(facts.name)  # without one, how it begins is not known to be unknown
            small = facts.bytes <= COUNTED_BYTES
            if glance is not None and (small or glance.counted) and self._survey_key not in self._surveys:
                self._survey()

    @property
    def _survey_key(self) -> tuple[str, ...]:
        assert self.facts is not None and self.facts.manifest is not None
        return (self.facts.name, self.facts.manifest.content_hash, self.chosen()[1])

    @property
    def _known(self) -> Survey | str | None:
        readable = self.facts is not None and self.facts.manifest is not None
        return self._surveys.get(self._survey_key) if readable else None

    def _survey(self) -> None:
        key = self._survey_key
        # One at a time: what another corpus was to be asked is asked when the cursor is there again.
        self._surveys = {known: survey for known, survey in self._surveys.items() if survey != COUNTING}
        self._surveys[key] = COUNTING
        glance = self._glances.get(key[0])
        work = partial(look_through, self.ask, key[0], key[2], with_beginning=glance is None or not glance.preview)
        in_thread(self, work, partial(self._take, key), partial(self._fail, key), "survey")
        self._show_statistics(top=False)
        self._tell()

    def _take(self, key: tuple[str, ...], found: tuple[Survey, str]) -> None:
        survey, beginning = found
        self._surveys[key] = survey
        if beginning:
            glance = self._glances.get(key[0], Glance(key[0]))
            self._glances[key[0]] = replace(glance, preview=beginning)
        self._show_again()

    def _fail(self, key: tuple[str, ...], problem: str) -> None:
        self._surveys[key] = problem
        self._show_again()

    def _show_again(self) -> None:
        self._show_facts(top=False)
        self._show_statistics(top=False)
        self._tell()

    # Words

    def _show_facts(self, top: bool) -> None:
        facts = self.facts
        if facts is None:
            self._facts_view.show(Content(""), Content(""))
            return
        glance = self._glances.get(facts.name) or Glance(facts.name)
        chosen = facts.name == self.chosen()[0]
        self._facts_view.show(*facts_of(facts, glance, self._work, self._known, chosen))
        if top:
            self._facts_view.scroll_home(animate=False)

    def _show_statistics(self, top: bool) -> None:
        if self.facts is None:
            return
        survey = self._known
        if isinstance(survey, Survey):
            head = figures(survey)
            width = self._statistics.query_one(".more").content_size.width
            more = histogram(survey.statistics.histogram, width) if width else Content("")
        else:
            name, why = self._readable()
            asked = self.facts.bytes > COUNTED_BYTES and survey is None
            why = "The text is large: the key c counts it, which takes a while." if name and asked else survey or why
            head, more = details(self.facts.name, [], Content.styled(why, MUTED)), Content("")
        self._statistics.show(head, more)
        if top:
            self._statistics.scroll_home(animate=False)

    @on(_Bars.Placed)
    def _draw_bars(self, event: _Bars.Placed) -> None:
        event.stop()
        self._show_statistics(top=False)


def look_through(ask: Ask, corpus: str, preset: str, with_beginning: bool) -> tuple[Survey, str]:
    """Return a corpus's figures, with advice for a preset, and how it begins if that is asked for."""
    arguments = ["corpus", "stats", corpus, "--json"]
    try:
        answer: Any = ask([*arguments, "--preset", preset], "")
    except UserError:
        # A preset that is gone or broken says nothing of the corpus.
        answer = ask(arguments, "")
    beginning = document_text(ask, corpus, 0, _BEGINNING) if with_beginning else ""
    return survey_of(answer), plain(beginning).text
