"""Data sets of others by name (Hugging Face, Kaggle, the catalogue), and the built-in sample of any size."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

import msgspec
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Input, Static

from minigpt.errors import UserError
from tui.corpora.adding import AddForm, Addition, hint, row, stem_of
from tui.corpora.children import in_thread
from tui.corpora.documents import Ask
from tui.figures import short
from tui.widgets.browser import details
from tui.widgets.listing import MUTED, Cell, Column, Listing, Row

TARGET = "100M"
_AMOUNT = re.compile(r"(\d+(\.\d+)?[kmgb]?|all)", re.IGNORECASE)


def amount(text: str, what: str) -> str:
    """Return an amount such as 500k, 100M or 2G as it was written; raises UserError for anything else."""
    if not _AMOUNT.fullmatch(text):
        raise UserError(f"{what} {text!r} is no amount: write a number such as 500k, 100M or 2G.")
    return text


class HuggingFaceForm(AddForm):
    """Adds a data set of Hugging Face, read as a stream."""

    TITLE_TEXT = "Add text: Hugging Face"
    SPLIT = False

    def fields(self) -> Iterable[Widget]:
        return [
            hint(
                "A data set by its name on huggingface.co/datasets. It is read as a stream and stops when there is "
                "enough: 100M tokens are about 400 MB. Some data sets need an account: you are told how."
            ),
            row("data set", Input(id="source", compact=True, placeholder="roneneldan/TinyStories")),
            row("config", Input(id="config", compact=True, placeholder="the default one")),
            row("split", Input(id="hf_split", compact=True, placeholder="train")),
            row("field", Input(id="column", compact=True, placeholder="text")),
            row("tokens", Input(TARGET, id="target", compact=True, placeholder="100M, 1G or all")),
            row("or else", Input(id="fallback", compact=True, placeholder="taken if it cannot be read: hf:allenai/c4")),
        ]

    def on_mount(self) -> None:
        self.query_one("#source", Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "source":
            self.suggest(stem_of(event.value).lower())

    def addition(self, name: str, flags: tuple[str, ...]) -> Addition | None:
        source = re.sub(r"^(hf:|https://huggingface\.co/datasets/)", "", self.value("source")).rstrip("/")
        if not source:
            raise UserError("Write the name of a data set, such as roneneldan/TinyStories.")
        given = [f"--target-tokens={amount(self.value('target') or TARGET, 'tokens')}"]
        for field, flag in (
            ("config", "config"),
            ("hf_split", "hf-split"),
            ("column", "field"),
            ("fallback", "fallback"),
        ):
            given += [f"--{flag}={self.value(field)}"] if self.value(field) else []
        return Addition(name, f"hf:{source}", tuple(given))


class KaggleForm(AddForm):
    """Adds a data set of Kaggle."""

    TITLE_TEXT = "Add text: Kaggle"

    def fields(self) -> Iterable[Widget]:
        return [
            hint(
                "A data set by its address on kaggle.com/datasets. Some need an account: you are told how to use yours."
            ),
            row("data set", Input(id="source", compact=True, placeholder="OWNER/NAME")),
        ]

    def on_mount(self) -> None:
        self.query_one("#source", Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "source":
            self.suggest(stem_of(event.value).lower())

    def addition(self, name: str, flags: tuple[str, ...]) -> Addition | None:
        source = re.sub(r"^(kaggle:|https://www\.kaggle\.com/datasets/)", "", self.value("source")).rstrip("/")
        if not re.fullmatch(r"[^/\s]+/[^/\s]+", source):
            raise UserError("Write the data set as OWNER/NAME, as its address ends.")
        return Addition(name, f"kaggle:{source}", flags)


class SampleForm(AddForm):
    """Makes built-in stories, as many as are wanted."""

    TITLE_TEXT = "Add text: the built-in sample"
    SPLIT = False
    ADD = "Make"

    def fields(self) -> Iterable[Widget]:
        return [
            hint(
                "Stories and conversations about a village, made here: no download. Another seed gives other stories."
            ),
            row("size", Input("5M", id="size", compact=True, placeholder="characters: 500k, 5M, 2G")),
            row("seed", Input("0", id="seed", compact=True, type="integer", placeholder="0")),
        ]

    def on_mount(self) -> None:
        self.query_one("#size", Input).focus()
        self._suggest()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id in ("size", "seed"):
            self._suggest()

    def _suggest(self) -> None:
        seed = self.value("seed")
        self.suggest(f"sample-{self.value('size')}" + (f"-seed{seed}" if seed not in ("", "0") else ""))

    def addition(self, name: str, flags: tuple[str, ...]) -> Addition | None:
        size, seed = amount(self.value("size"), "size"), self.value("seed") or "0"
        if size.lower() == "all" or not re.fullmatch(r"\d{1,9}", seed):
            raise UserError("The size is a number such as 500k, 5M or 2G; the seed a whole number.")
        return Addition(name, "sample", (f"--size={size}", f"--seed={seed}"))


class Entry(msgspec.Struct):
    """One of the catalogue: `tokens` of all of it, `target_tokens` (100M, all) what is taken unless told."""

    name: str
    source: str = ""
    title: str = ""
    size: str = ""
    licence: str = ""
    good_for: str = ""
    how: str = ""
    tokens: int = 0
    target_tokens: str | int | None = None


class CatalogueForm(AddForm):
    """Adds one of the good first corpora."""

    TITLE_TEXT = "Add text: catalogue"
    SPLIT = False
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("corpus", widest=24),
        Column("tokens", right=True),
        Column("licence", widest=18, rank=1),
        Column("what it is good for", flexible=True, widest=90),
    )
    DEFAULT_CSS = """
    CatalogueForm {
        & > .form { height: 95%; max-height: 34; }
        Listing { height: 1fr; min-height: 3; }
        VerticalScroll { height: 1fr; min-height: 2; max-height: 10; }
    }
    """

    def __init__(self, taken: Iterable[str], ask: Ask) -> None:
        super().__init__(taken)
        self.ask = ask
        self.entries: dict[str, Entry] = {}
        explain = (
            "Good first corpora. Move to one: below is what it is, how it is fetched and what may be done with it."
        )
        self.listing = Listing(self.COLUMNS, "Looking …", explain)

    def fields(self) -> Iterable[Widget]:
        return [
            self.listing,
            VerticalScroll(Static(id="about", markup=False), can_focus=False),
            row("tokens", Input(id="target", compact=True, placeholder="100M, 1G or all")),
        ]

    def on_mount(self) -> None:
        self.listing.focus()
        work = lambda: msgspec.convert(self.ask(["corpus", "catalogue", "--json"], ""), list[Entry])  # noqa: E731
        in_thread(self, work, self._take, self.say, "catalogue")

    def _take(self, entries: list[Entry]) -> None:
        self.entries = {entry.name: entry for entry in entries}
        self.listing.empty = "The catalogue is empty."
        self.listing.set_rows(
            Row(
                entry.name,
                (
                    Cell(entry.name, "bold"),
                    Cell(_about(entry.tokens)),
                    Cell(entry.licence, MUTED),
                    Cell(entry.good_for),
                ),
            )
            for entry in entries
        )

    def on_listing_highlighted(self, event: Listing.Highlighted) -> None:
        event.stop()
        entry = self.entries.get(event.key or "")
        if entry is None:
            return
        pairs = [("good for", entry.good_for), ("size", entry.size), ("licence", entry.licence), ("how", entry.how)]
        pairs.append(("from", entry.source))
        self.query_one("#about", Static).update(details(entry.title or entry.name, pairs))
        self.query_one("#target", Input).value = _amount_of(entry)
        self.suggest(entry.name)

    def on_listing_chosen(self, event: Listing.Chosen) -> None:
        event.stop()
        self.action_add()

    def key_enter(self) -> None:
        if self.listing.has_focus:
            self.query_one("#name", Input).focus()

    def addition(self, name: str, flags: tuple[str, ...]) -> Addition | None:
        entry = self.entries.get(self.listing.key or "")
        if entry is None:
            raise UserError("The catalogue is not there yet: a moment.")
        target = amount(self.value("target") or "all", "tokens")
        return Addition(name, entry.name, (f"--target-tokens={target}",))


def _about(tokens: int) -> str:
    return short(tokens) if tokens else "-"


def _amount_of(entry: Entry) -> str:
    """Return how much to take at first: of a large corpus a part."""
    if isinstance(entry.target_tokens, int):
        return str(entry.target_tokens)
    if entry.target_tokens:
        return entry.target_tokens
    return TARGET if entry.tokens > 2e8 else "all"
