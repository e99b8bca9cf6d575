"""Text from the clipboard: a box to paste into. A megabyte goes to a file, and only its beginning is shown."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from textual import events
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Button, Static, TextArea

from minigpt.errors import UserError
from minigpt.narration import size
from tui.corpora.adding import AddForm, Addition, hint
from tui.corpora.children import in_thread, scratch_file
from tui.corpora.page import Page
from tui.corpora.wrapping import plain

# More is slow in a field that can be edited.
EDITABLE_CHARACTERS = 100_000
SHOWN_CHARACTERS = 2000
ORIGIN = "pasted text"
LITTLE, ENOUGH = 5_000, 50_000
_NAME_WORDS = 4


class PasteBox(TextArea):
    """A text field that leaves much text to others."""

    explain = "Paste here: with the mouse, or by your terminal's key (often Ctrl+Shift+V). Tab goes to the name."

    class Much(Message):
        """More was pasted than can be edited."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self) -> None:
        super().__init__(id="text", soft_wrap=True, highlight_cursor_line=False, tab_behavior="focus", compact=True)
        for key in ("f6", "f7"):
            self._bindings.key_to_bindings.pop(key, None)

    async def _on_paste(self, event: events.Paste) -> None:
        if len(self.text) + len(event.text) > EDITABLE_CHARACTERS:
            event.stop()
            event.prevent_default()
            self.post_message(self.Much(self.text + event.text))


class PasteForm(AddForm):
    """Adds what is pasted or written."""

    TITLE_TEXT = "Add text: paste"
    DEFAULT_CSS = """
    PasteForm {
        & > .form { height: 95%; max-height: 40; }
        #text, Page { height: 1fr; min-height: 3; background: $panel; }
        #text:focus { background: $primary 20%; background-tint: $foreground 0%; }
        Page { display: none; }
        &.-much #text { display: none; }
        &.-much Page { display: block; }
    }
    """

    def __init__(self, taken: Iterable[str], folder: Path) -> None:
        super().__init__(taken)
        self.folder = folder
        self.much: Path | None = None

    def fields(self) -> Iterable[Widget]:
        return [
            hint("Paste by your terminal's key, often Ctrl+Shift+V. Tab goes on to the name."),
            PasteBox(),
            Page("How the pasted text begins. All of it is kept in a file until it is added."),
            Static(id="size", classes="hint", markup=False),
        ]

    def on_mount(self) -> None:
        self.query_one(PasteBox).focus()
        self._count("")

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self._count(event.text_area.text)

    def _count(self, text: str) -> None:
        if self.much is None and not self.has_class("-much"):
            self.query_one("#size", Static).update(_told(len(text)))
            self.suggest(_first_words(text))

    def on_paste_box_much(self, event: PasteBox.Much) -> None:
        event.stop()
        self.add_class("-much")
        self.suggest(_first_words(event.text[:SHOWN_CHARACTERS]))
        shown = event.text[:SHOWN_CHARACTERS] + " …"
        self.query_one(Page).show(plain(shown))
        self.query_one("#name").focus()
        self.query_one("#size", Static).update(f"{len(event.text):,} characters: writing …")
        work = partial(written, event.text, self.folder)
        in_thread(self, work, partial(self._kept, len(event.text)), self._not_kept, "paste")

    def _kept(self, characters: int, path: Path) -> None:
        self.much = path
        self.scratch.append(path)
        told = f"{_told(characters)} ({size(path.stat().st_size)}); above is only how it begins."
        self.query_one("#size", Static).update(told)

    def _not_kept(self, problem: str) -> None:
        self.remove_class("-much")
        self.say(problem)

    def addition(self, name: str, flags: tuple[str, ...]) -> Addition | None:
        if self.much is not None:
            return self._from(name, flags, self.much)
        if self.has_class("-much"):
            raise UserError("The text is still being written: a moment.")
        text = self.query_one(PasteBox).text
        if not text.strip():
            raise UserError("There is no text yet: paste some.")
        self.query_one("#add", Button).disabled = True
        ready = partial(self._ready, name, flags)
        in_thread(self, partial(written, text, self.folder), ready, self._refuse, "paste")
        return None

    def _ready(self, name: str, flags: tuple[str, ...], path: Path) -> None:
        self.give(self._from(name, flags, path))

    def _refuse(self, problem: str) -> None:
        self.query_one("#add", Button).disabled = False
        self.say(problem)

    def _from(self, name: str, flags: tuple[str, ...], path: Path) -> Addition:
        return Addition(name, str(path), (*flags, "--origin", ORIGIN), path)


def written(text: str, folder: Path) -> Path:
    """Write a text to a new file; raises OSError. What a terminal cannot send as UTF-8 becomes a question mark."""
    path = scratch_file(folder, "pasted")
    # Terminals paste the end of a line as a carriage return.
    path.write_bytes(text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace"))
    return path


def _told(characters: int) -> str:
    if not characters:
        return "0 characters"
    verdict = ": too little to learn from, tens of thousands are a start" if characters < LITTLE else ""
    verdict = verdict or (": little, but enough for a first try" if characters < ENOUGH else "")
    return f"{characters:,} characters{verdict}"


def _first_words(text: str) -> str:
    return "-".join(text[:200].lower().split()[:_NAME_WORDS])
