"""Which model the Chat pane talks to: finds it, opens it where training leaves room, notices a newer checkpoint."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.content import Content
from textual.worker import Worker

from minigpt.errors import UserError, printable
from tui.chat import conversations
from tui.chat.conversations import COMPLETION
from tui.chat.models import ModelChoice, choice_of, default_model, newer_checkpoint, starters
from tui.chat.session import place_beside

if TYPE_CHECKING:
    from tui.panes.chat import ChatPane

NO_MODEL = (
    "There is no model to talk to yet. Press F2, then s, to train one: its first checkpoint comes within half a "
    "minute, and this pane finds it by itself."
)
LOOKING = "Looking for a model to talk to ..."
_ANSWERS = "{model} learned from conversations: write something and press Enter."
_CONTINUES = "{model} goes on with what you write: type the beginning of a text and press Enter."
_OFFER = " Or begin with one of these (arrow up, a click, or Esc and its letter):"


class ChatOpening:
    """Has the pane's session open its model, and the pane say so. `newer` is a later checkpoint of the same run."""

    def __init__(self, pane: ChatPane) -> None:
        self.pane, self.session = pane, pane.session
        self.newer: Path | None = None
        self._asked_for: Path | None = None
        self._begun = self._looked = False
        self._looking: Worker[Any] | None = None

    def begin(self) -> None:
        """Take up what was left, and open a model."""
        self.pane.run_worker(self._begin(), group="chat-open", name="chat-begin", exclusive=True)

    def talk_to(self, path: Path) -> None:
        """Talk to the model in a checkpoint file, in a conversation of its own."""
        self._asked_for = path.absolute()
        if self._begun:
            self.pane.run_worker(self._take_asked_for(), group="chat-open", name="chat-talk-to", exclusive=True)

    async def _begin(self) -> None:
        workspace, remembered = self.session.workspace, self.pane.minigpt.state.conversation
        saved = await asyncio.to_thread(conversations.load, workspace, remembered) if remembered else None
        if saved is not None:
            await self.pane.show_conversation(saved)
        else:
            await self.show_empty()
        self._begun = True
        if self._asked_for is not None:
            await self._take_asked_for()
        elif self.session.choice is None:
            await self._find_model()
        else:
            await self.open()

    async def _take_asked_for(self) -> None:
        path, self._asked_for = self._asked_for, None
        if path is None:
            return
        if self.session.conversation.turns and self.session.conversation.model != str(path):
            await self.pane.action_new()
        await self.take(choice_of(path))

    async def _find_model(self) -> None:
        choice = await asyncio.to_thread(default_model, self.session.workspace)
        self._looked = True
        if choice is not None and self.session.choice is None:
            await self.take(choice)
        elif not self.session.conversation.turns:
            await self.show_empty()

    async def take(self, choice: ModelChoice) -> None:
        """Talk to this model from now on."""
        await self.pane.answering.end()
        self.session.choose(choice)
        self.newer = None
        await self.open()

    async def open(self) -> None:
        """Open the chosen model where it is not open yet; tell when that fails."""
        place = place_beside(self.pane.minigpt.training_device)
        if self.session.opened is None:
            self.pane.transcript.border_title = Content(printable(f"opening {self.session.label} ..."))
        try:
            await self.session.ready(place)
        except UserError as error:
            if not self.pane.leaving:
                self.pane.minigpt.tell("The model was not opened", str(error))
        self.show_name()
        if not self.session.conversation.turns:
            await self.show_empty()

    def show_name(self) -> None:
        """Name the model on the screen, its step, and where it computes."""
        session, opened = self.session, self.session.opened
        choice = session.choice
        title = "no model yet" if choice is None else f"{session.label} · {choice.kind}"
        place = place_beside(self.pane.minigpt.training_device)
        where = f"on {opened.device}" + (f" ({place.why})" if place.why else "") if opened else ""
        hint = ("newer checkpoint: u loads it", "bold $text-warning") if self.newer else ""
        self.pane.transcript.border_title = Content(printable(title, single_line=True))
        self.pane.transcript.border_subtitle = Content.assemble(where, " · " if where and hint else "", hint)
        self.pane.form.mode = session.mode
        self.pane.refresh_bindings()

    async def show_empty(self) -> None:
        """Say what can be done in a conversation without messages."""
        session, opened, panel = self.session, self.session.opened, self.pane.starters
        panel.display = True
        if session.choice is None:
            await panel.show(NO_MODEL if self._looked else LOOKING, [])
            return
        corpus = opened.corpus if opened else ""
        prompts = await asyncio.to_thread(starters, session.workspace, corpus, session.mode) if corpus else []
        if session.conversation.turns:
            return
        text = (_CONTINUES if session.mode == COMPLETION else _ANSWERS).format(model=session.label)
        await panel.show(text + (_OFFER if prompts else ""), prompts)
        self.pane.offer_history()

    def watch(self) -> None:
        """Make room for training, and look for a checkpoint that is newer than the one in use. Asked often."""
        opened = self.session.opened
        if self.pane.generating or not self._begun:
            return
        on_cpu = place_beside(self.pane.minigpt.training_device).device == "cpu"
        if opened is not None and opened.device != "cpu" and on_cpu:
            self.pane.run_worker(self.pane.process.close(), group="chat-close", name="chat-close")
        elif self.pane.in_front and (self._looking is None or self._looking.is_finished):
            self._looking = self.pane.run_worker(self._look(), group="chat-look", name="chat-look")

    async def _look(self) -> None:
        session = self.session
        if session.choice is None:
            await self._find_model()
        elif session.opened is not None:
            path, training = session.choice.path, self.pane.minigpt.training_run == session.choice.run
            newer = await asyncio.to_thread(newer_checkpoint, path, session.opened_stamp, training)
            if newer != self.newer and session.choice.path == path:
                self.newer = newer
                self.show_name()
