"""The two lists of the Chat pane: models to talk to, and conversations to go on with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from textual.content import Content

from minigpt.errors import UserError, printable
from tui.chat import conversations
from tui.chat.conversations import Conversation
from tui.chat.models import ModelChoice, list_models
from tui.widgets.dialogs import Ask, confirm
from tui.widgets.pick import Pick

if TYPE_CHECKING:
    from tui.panes.chat import ChatPane

_NAME_WIDTH = 26


class ChatLists:
    """Shows a list, and has the pane do what was chosen in it."""

    def __init__(self, pane: ChatPane) -> None:
        self.pane = pane

    def choose_model(self) -> None:
        """Offer every checkpoint of every run."""
        self._work(self._list_models())

    async def _list_models(self) -> None:
        app = self.pane.minigpt
        models = await asyncio.to_thread(list_models, app.workspace, app.training_run)
        empty = "There are no models yet: train one in the Train pane."

        def chosen(answer: tuple[str, int] | None) -> None:
            if answer is not None:
                self._work(self.pane.opening.take(models[answer[1]]), "chat-open")

        app.push_screen(Pick("Talk to which model?", [model_row(model) for model in models], empty), chosen)

    def choose_conversation(self) -> None:
        """Offer the saved conversations, to open, rename or delete."""
        self._work(self._list_conversations())

    async def _list_conversations(self) -> None:
        app = self.pane.minigpt
        saved = await asyncio.to_thread(conversations.list_conversations, app.workspace)

        def chosen(answer: tuple[str, int] | None) -> None:
            if answer is not None:
                what, one = answer[0], saved[answer[1]]
                {"open": self._open, "delete": self._ask_to_delete, "rename": self._ask_for_title}[what](one)

        rows, empty = [conversation_row(one) for one in saved], "No conversation is saved yet."
        app.push_screen(Pick("Saved conversations", rows, empty, changeable=True), chosen)

    def _open(self, one: Conversation) -> None:
        if one.id != self.pane.session.conversation.id:
            self._work(self.pane.take_conversation(one), "chat-open")

    def _ask_to_delete(self, one: Conversation) -> None:
        text = f'"{_title(one)}" with its {len(one.turns)} messages is removed for good.'
        dialog = confirm("Delete this conversation?", text, "Delete")
        self.pane.app.push_screen(dialog, lambda answer: self._work(self._delete(one, answer == "yes")))

    async def _delete(self, one: Conversation, agreed: bool) -> None:
        if agreed:
            if one.id == self.pane.session.conversation.id:
                await self.pane.action_new()
            await self._try(self.pane.session.delete(one.id))
        await self._list_conversations()

    def _ask_for_title(self, one: Conversation) -> None:
        dialog = Ask("Another name", "What this conversation is called:", one.title)
        self.pane.app.push_screen(dialog, lambda title: self._work(self._rename(one, title)))

    async def _rename(self, one: Conversation, title: str | None) -> None:
        if title:
            current = self.pane.session.conversation
            if one.id == current.id:
                current.title = conversations.title_of(title)
            await self._try(asyncio.to_thread(conversations.rename, self.pane.minigpt.workspace, one.id, title))
        await self._list_conversations()

    async def _try(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except UserError as error:
            self.pane.minigpt.tell("That did not work", str(error))

    def _work(self, work: Coroutine[Any, Any, Any], group: str = "chat-lists") -> None:
        self.pane.run_worker(work, group=group, name=group, exclusive=True)


def _title(one: Conversation) -> str:
    return printable(one.title or "without a name", single_line=True)


def conversation_row(one: Conversation) -> Content:
    """Return a conversation as a line: when, how long, and its first words."""
    when = time.strftime("%d %b %H:%M", time.localtime(one.updated))
    return Content(f"{when} {len(one.turns):>4}  {_title(one)}")


def model_row(model: ModelChoice) -> Content:
    """Return a checkpoint as a line: its run, which one it is, how far it came."""
    name = printable(model.run, single_line=True)
    name = name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 1] + "…"
    kind = "newest, in training now" if model.training else printable(model.kind, single_line=True)
    facts = [kind]
    if model.step is not None and not model.kind.endswith(f"step {model.step}"):
        facts.append(f"step {model.step:,}")
    if model.loss is not None:
        facts.append(f"loss {model.loss:.3f}")
    return Content(f"{name:<{_NAME_WIDTH}} {' · '.join(facts)}")
