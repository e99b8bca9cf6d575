"""What an empty chat says: what can be done here, and a few prompts to begin with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from minigpt.errors import printable

LETTERS = "abc"


class Starter(Static, can_focus=True):
    """One prompt: a click or Enter sends it."""

    ALLOW_SELECT = False
    explain = "A way to begin, taken from the text that the model learned from. Enter or a click sends it."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "send", "Send", show=False, id="starter.send", tooltip="Send this prompt")
    ]
    DEFAULT_CSS = """
    Starter {
        height: auto;
        &:hover { background: $boost; }
        &:focus { background: $block-cursor-background; color: $block-cursor-foreground; }
    }
    """

    class Chosen(Message):
        """Somebody wants to send it."""

        def __init__(self, prompt: str) -> None:
            super().__init__()
            self.prompt = prompt

    def __init__(self, letter: str, prompt: str) -> None:
        mark = Content.styled(f" {letter} ", "bold $text-accent")
        super().__init__(Content.assemble(mark, " ", printable(prompt, single_line=True)))
        self.prompt = prompt

    def action_send(self) -> None:
        self.post_message(self.Chosen(self.prompt))

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.action_send()


class Starters(Vertical):
    """A sentence, and the prompts below it."""

    DEFAULT_CSS = """
    Starters { height: auto; & .intro { height: auto; margin-bottom: 1; color: $foreground-muted; } }
    """

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[str] = []

    def compose(self) -> ComposeResult:
        yield Static("", classes="intro", markup=False)

    async def show(self, intro: str, prompts: Sequence[str]) -> None:
        """Replace what is offered."""
        self.prompts = list(prompts)
        self.query_one(".intro", Static).update(Content(printable(intro)))
        await self.query(Starter).remove()
        await self.mount_all(Starter(letter, prompt) for letter, prompt in zip(LETTERS, self.prompts, strict=False))
