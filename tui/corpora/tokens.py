"""A document painted by its tokens: what the model really reads."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import msgspec
from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.widgets import Static

from tui.corpora.children import in_thread
from tui.corpora.documents import Ask, document_text
from tui.corpora.page import Page
from tui.corpora.wrapping import Painted, painted, plain
from tui.widgets.listing import MUTED

CHARACTERS = 4000
EXPLAIN = (
    "The text cut into tokens, the pieces that the model reads and writes: neighbours have different colours, "
    "every other one is underlined. The more characters a token holds, the more text fits into the model's window."
)


class Cut(msgspec.Struct):
    """The answer of `minigpt tokenizer show`: `spans` are the tokens' places, in characters."""

    kind: str
    vocab_size: int
    spans: list[tuple[int, int]]


class Seen(NamedTuple):
    """A painted text and how it was cut."""

    painted: Painted
    head: str


class TokensView(Container):
    """Paints the beginning of a document, or a text of the person's own."""

    DEFAULT_CSS = """
    TokensView { padding: 0 1; }
    TokensView > .head { height: auto; max-height: 3; }
    TokensView > Page { height: 1fr; }
    """

    def __init__(self, ask: Ask) -> None:
        super().__init__(id="tokens")
        self.ask = ask
        self.page = Page(EXPLAIN)
        self._wanted: tuple[str | None, int, str] = (None, 0, "")
        self._seen: tuple[str | None, int, str] | None = None

    def compose(self) -> ComposeResult:
        yield Static(classes="head", markup=False)
        yield self.page

    def want(self, corpus: str | None, number: int, why: str = "") -> None:
        """Say which document is to be painted by the corpus's newest tokens; `why` says why there is none."""
        if (corpus, number) != self._wanted[:2]:
            self._wanted, self._seen = (corpus, number, ""), None
            self._show(Seen(plain("" if corpus else why), ""))

    def paint(self, text: str) -> None:
        """Paint a text of the person's own."""
        self._wanted = (*self._wanted[:2], text)
        self.load()

    def load(self) -> None:
        """Have the text that is wanted painted, unless it is already."""
        corpus, number, text = wanted = self._wanted
        if corpus is None or wanted == self._seen:
            return
        self._say("cutting the text into tokens …")
        work = partial(cut_into_tokens, self.ask, corpus, number, text)
        self._seen = wanted
        in_thread(self, work, partial(self._take, wanted), self._fail, "tokens")

    def forget(self) -> None:
        """Paint anew when next shown: there may be newer tokens."""
        self._seen = None

    def _take(self, wanted: tuple[str | None, int, str], seen: Seen) -> None:
        if wanted == self._wanted:
            self._show(seen)

    def _fail(self, problem: str) -> None:
        self._show(Seen(plain(f"{problem}\n\nThe key p makes tokens of this corpus."), ""))

    def _show(self, seen: Seen) -> None:
        self._say(seen.head)
        self.page.show(seen.painted)

    def _say(self, text: str) -> None:
        self.query_one(".head", Static).update(Content.styled(text, MUTED))


def cut_into_tokens(ask: Ask, corpus: str, number: int, text: str) -> Seen:
    """Return a text, or the beginning of a document, painted by the corpus's newest tokenizer."""
    own, text = bool(text), text or document_text(ask, corpus, number, CHARACTERS)
    cut = msgspec.convert(ask(["tokenizer", "show", corpus, "--stdin", "--json"], text), Cut)
    count, length = len(cut.spans), len(text)
    ratio = f"{length / count:.2f} characters a token" if count else "no tokens"
    what = "your text" if own else f"document {number:,}" + (", its beginning" if length >= CHARACTERS else "")
    head = f"{what}: {count:,} tokens for {length:,} characters, {ratio} ({cut.kind}, vocabulary {cut.vocab_size:,})"
    return Seen(painted(text, cut.spans), head)
