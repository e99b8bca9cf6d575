"""Questions and messages that stand before everything else until they are answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from minigpt.errors import one_line, printable

if TYPE_CHECKING:
    from textual.widgets import Input


class Choice(ModalScreen[str | None]):
    """Ask one question; gives the id of the answer, or None for Escape.

    `answers` are (id, label, variant); the first has the focus. A digit chooses too.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", id="dialog.cancel", tooltip="Close without choosing"),
        Binding("left,up", "app.focus_previous", "Previous", show=False, id="dialog.previous", tooltip="Answer before"),
        Binding("right,down", "app.focus_next", "Next", show=False, id="dialog.next", tooltip="The next answer"),
    ]

    def __init__(self, title: str, text: str, answers: Sequence[tuple[str, str, str]]) -> None:
        super().__init__()
        # What others wrote is in many of them.
        self.title_text, self.text, self.answers = one_line(title), printable(text), answers

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = Content(self.title_text)
            with VerticalScroll(classes="dialog-text"):
                yield Static(Content(self.text))
            with Horizontal(classes="dialog-buttons"):
                for name, label, variant in self.answers:
                    yield Button(Content(one_line(label)), id=name, variant=variant, compact=True)  # type: ignore[arg-type]

    def on_mount(self) -> None:
        # A dialog that is closed in the moment it opens has none any more.
        for button in list(self.query(Button))[:1]:
            button.focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.dismiss(event.button.id)

    def key_1(self, event: Key) -> None:
        self._choose(0, event)

    def key_2(self, event: Key) -> None:
        self._choose(1, event)

    def key_3(self, event: Key) -> None:
        self._choose(2, event)

    def _choose(self, index: int, event: Key) -> None:
        # It would open a pane, once there is no dialog any more.
        event.stop()
        if index < len(self.answers):
            self.dismiss(self.answers[index][0])


def confirm(title: str, text: str, yes: str, no: str = "Cancel") -> Choice:
    """Return a dialog that gives "yes" or something else; the harmless answer has the focus."""
    return Choice(title, text, [("no", no, "default"), ("yes", yes, "error")])


def message(title: str, text: str) -> Choice:
    """Return a dialog that only says something: what happened, and what to do next."""
    return Choice(title, text, [("ok", "OK", "primary")])


class Ask(ModalScreen[str | None]):
    """Ask for one line of text; gives None for Escape."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", id="ask.cancel", tooltip="Close without changing anything")
    ]

    def __init__(self, title: str, text: str, value: str = "") -> None:
        super().__init__()
        self.title_text, self.text, self.value = one_line(title), printable(text), value

    def compose(self) -> ComposeResult:
        from textual.widgets import Input

        with Vertical(classes="dialog") as box:
            box.border_title = Content(self.title_text)
            yield Static(Content(self.text), classes="dialog-text")
            yield Input(self.value, compact=True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(event.value)
