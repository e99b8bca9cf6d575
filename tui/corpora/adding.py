"""What every dialog that adds text has in common: a name, how documents are split, and what comes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Button, Input, Label, Select, Static

from minigpt.errors import UserError, printable
from minigpt.workspace import checked_name
from tui.widgets.pick import Pick

SPLITS = (
    ("guess what a document is", "auto"),
    ("each file is a document", "file"),
    ("each line is a document", "line"),
    ("blank lines part documents", "paragraph"),
    ("<|endoftext|> parts documents", "endoftext"),
    ("rows with a field (JSON, CSV, Parquet)", "field"),
    ("rows with chat messages", "messages"),
)
WITH_FIELD = ("field", "messages")
SOURCES = (
    ("paste", "Paste", "text from your clipboard"),
    ("files", "Files on this machine", "a file, or a folder of them"),
    ("url", "Web page", "an article or a text file by its address"),
    ("huggingface", "Hugging Face", "a data set by name, streamed"),
    ("kaggle", "Kaggle", "a data set by name"),
    ("catalogue", "Catalogue", "good first corpora, with size and licence"),
    ("sample", "Sample", "built-in stories, any size, no download"),
)
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Addition:
    """What is to be added: `arguments` are those of `minigpt`; `scratch` is a file to remove when that is done."""

    name: str
    source: str
    flags: tuple[str, ...] = ()
    scratch: Path | None = None

    @property
    def arguments(self) -> list[str]:
        return ["corpus", "add", self.name, self.source, *self.flags]


def suggested_name(text: str, taken: Collection[str]) -> str:
    """Return a name for a corpus from a title, a path or an address; one that is free."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", text.strip()).strip("-._")[:_LONGEST_NAME].rstrip("-._")
    if not stem:
        return ""
    number = 1
    while (name := stem if number == 1 else f"{stem}-{number}") in taken:
        number += 1
    return name


def stem_of(path: str) -> str:
    """Return the last part of a path, an address or a data set's name, without its endings."""
    last = re.split(r"[?#]", path.strip())[0].rstrip("/").rpartition("/")[2]
    return re.sub(r"(\.(txt|md|html?|jsonl?|csv|parquet|gz|zst|zip))+$", "", last, flags=re.IGNORECASE)


class AddMenu(Pick):
    """Choose where text comes from; a digit chooses too."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(str(number), f"take({number - 1})", label, show=False, id=f"add.{name}", tooltip=f"Add: {about}")
        for number, (name, label, about) in enumerate(SOURCES, 1)
    ]

    def __init__(self) -> None:
        width = max(len(label) for _, label, _ in SOURCES)
        rows = [
            Content.assemble(f"{number} ", (f"{label:<{width}}", "bold"), f"  {about}")
            for number, (_, label, about) in enumerate(SOURCES, 1)
        ]
        super().__init__("Add text from", rows, "")

    def action_take(self, index: int) -> None:
        self.dismiss(("open", index))


class AddForm(ModalScreen[Addition | None]):
    """A dialog that gives what is to be added, or None for Escape. Forms say what is between title and name."""

    TITLE_TEXT: ClassVar[str] = ""
    SPLIT: ClassVar[bool] = True  # whether it can be chosen what a document is
    ADD: ClassVar[str] = "Add"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", id="form.cancel", tooltip="Close without adding anything"),
        Binding("ctrl+s", "add", "Add", id="form.add", tooltip="Add it"),
    ]
    DEFAULT_CSS = """
    AddForm {
        align: center middle;
        & > .form {
            width: 95%; max-width: 100; height: auto; max-height: 95%;
            border: round $primary; padding: 0 1; background: $surface;
        }
        .row { height: auto; }
        .row > Label { width: 12; color: $foreground-muted; }
        .row > Input, .row > Select { width: 1fr; background: $panel; }
        .row > Input:focus, .row > Select:focus-within { background: $primary 30%; }
        .hint { color: $foreground-muted; height: auto; }
        .problem { color: $text-error; height: auto; display: none; }
        .field { display: none; }
        &.-field .field { display: block; }
        .buttons { height: auto; margin-top: 1; }
        .buttons Button { margin-right: 2; }
    }
    """

    def __init__(self, taken: Iterable[str]) -> None:
        super().__init__()
        self.taken = set(taken)
        self.scratch: list[Path] = []  # files with text on its way; those that are not given away are removed
        self._suggested = ""

    def compose(self) -> ComposeResult:
        with Vertical(classes="form") as box:
            box.border_title = Content(self.TITLE_TEXT)
            box.border_subtitle = "Ctrl+S adds, Esc closes"
            yield from self.fields()
            yield row("name", Input(id="name", compact=True, placeholder="what the corpus is to be called"))
            if self.SPLIT:
                splits = Select(SPLITS, value="auto", allow_blank=False, compact=True, id="split")
                yield row("documents", splits)
                yield row("field", Input(id="field", compact=True, placeholder="text"), classes="field")
            yield Static(classes="problem", markup=False)
            with Horizontal(classes="buttons"):
                yield Button(self.ADD, id="add", variant="primary", compact=True)
                yield Button("Cancel", id="cancel", compact=True)

    # What the forms say of themselves

    def fields(self) -> Iterable[Widget]:
        """Return what asks for the source."""
        return []

    def addition(self, name: str, flags: tuple[str, ...]) -> Addition | None:
        """Return what is to be added; raises UserError. None says that the form ends by itself."""
        raise NotImplementedError

    # What they share

    def value(self, name: str) -> str:
        return self.query_one(f"#{name}", Input).value.strip()

    def suggest(self, text: str) -> None:
        """Offer a name, unless the person has written one."""
        field = self.query_one("#name", Input)
        if field.value in ("", self._suggested):
            self._suggested = suggested_name(text, self.taken)
            field.value = self._suggested

    def say(self, problem: str) -> None:
        """Say below the fields what is missing."""
        line = self.query_one(".problem", Static)
        line.update(Content(printable(problem)))
        line.display = bool(problem)

    def attempt(self, work: Callable[[], None]) -> None:
        """Do something, or say why it cannot be done."""
        try:
            work()
        except UserError as error:
            self.say(str(error))

    def action_add(self) -> None:
        self.attempt(self._add)

    def _add(self) -> None:
        name = checked_name(self.value("name"), "corpus")
        if name in self.taken:
            raise UserError(f"There is a corpus {name} already: choose another name.")
        added = self.addition(name, self._split_flags())
        if added is not None:
            self.give(added)

    def give(self, added: Addition) -> None:
        """End with what is to be added."""
        self.scratch = [path for path in self.scratch if path != added.scratch]
        self.dismiss(added)

    def on_unmount(self) -> None:
        for path in self.scratch:
            self.app.run_worker(partial(path.unlink, missing_ok=True), name="tidy", thread=True, exit_on_error=False)

    def _split_flags(self) -> tuple[str, ...]:
        if not self.SPLIT:
            return ()
        split = str(self.query_one("#split", Select).value)
        flags = () if split == "auto" else ("--split", split)
        return (*flags, f"--field={self.value('field')}") if split in WITH_FIELD and self.value("field") else flags

    def on_select_changed(self, event: Select.Changed) -> None:
        event.stop()
        self.set_class(event.value in WITH_FIELD, "-field")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_add()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        if event.button.id == "add":
            self.action_add()
        elif event.button.id == "cancel":
            self.dismiss(None)


def row(label: str, field: Widget, classes: str = "") -> Horizontal:
    """Return a field with its label before it."""
    return Horizontal(Label(label), field, classes=f"row {classes}")


def hint(text: str) -> Static:
    """Return a line that helps."""
    return Static(Content(text), classes="hint")
