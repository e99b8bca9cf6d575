"""Where a person writes: Enter sends, Ctrl+J starts a line, the arrow up at the top brings back what was sent."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea


class Composer(TextArea):
    """A text field that grows with its text; `sent` is what the arrow up brings back, the latest last."""

    explain = (
        "Write here and press Enter to send. Ctrl+J starts a new line, the arrow up brings back what you sent "
        "before, Esc leaves the field so that letters work as keys."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "ctrl+j,shift+enter", "new_line", "New line", show=False, id="composer.new_line", tooltip="Start a new line"
        ),
    ]
    DEFAULT_CSS = """
    Composer {
        height: auto;
        min-height: 3;
        max-height: 8;
        padding: 0 1;
        border: round $panel-lighten-2;
        background: $background;
        scrollbar-size-vertical: 1;
        &:focus { border: round $border; background-tint: $foreground 0%; }
        & .text-area--placeholder { color: $foreground-muted; }
    }
    """

    class Sent(Message):
        """Somebody pressed Enter."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Scrolled(Message):
        """Somebody wants to read further up (-1) or down (1)."""

        def __init__(self, direction: int) -> None:
            super().__init__()
            self.direction = direction

    def __init__(self, text: str = "", **arguments: object) -> None:
        super().__init__(text, soft_wrap=True, highlight_cursor_line=False, **arguments)  # type: ignore[arg-type]
        # F6 belongs to the app.
        for key in ("f6", "f7"):
            self._bindings.key_to_bindings.pop(key, None)
        self.sent: list[str] = []
        self._recalled = 0  # counted from the end; 0 is what is being written
        self._draft = ""

    def on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.post_message(self.Sent(self.text))

    def take(self, text: str) -> None:
        """Put a text here, the cursor behind it."""
        self._recalled = 0
        self._replace(text)

    def action_new_line(self) -> None:
        self.insert("\n")

    def action_cursor_up(self, select: bool = False) -> None:
        if select or not self.cursor_at_first_line:
            super().action_cursor_up(select)
        else:
            self._recall(1)

    def action_cursor_down(self, select: bool = False) -> None:
        if select or not self.cursor_at_last_line:
            super().action_cursor_down(select)
        else:
            self._recall(-1)

    def action_cursor_page_up(self) -> None:
        self.post_message(self.Scrolled(-1))

    def action_cursor_page_down(self) -> None:
        self.post_message(self.Scrolled(1))

    def _recall(self, further: int) -> None:
        wanted = min(max(0, self._recalled + further), len(self.sent))
        if wanted == self._recalled:
            return
        if self._recalled == 0:
            self._draft = self.text
        self._recalled = wanted
        self._replace(self.sent[-wanted] if wanted else self._draft)

    def _replace(self, text: str) -> None:
        self.load_text(text)
        self.move_cursor(self.document.end)
