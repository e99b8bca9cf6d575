"""A conversation, the model that answers it, and the process with the model in it. Knows no widgets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

from minigpt.errors import UserError
from minigpt.inference.protocol import Done, Opened
from minigpt.workspace import Workspace
from tui.chat import conversations
from tui.chat.conversations import COMPLETION, CONVERSATION, Conversation, Turn, title_of
from tui.chat.models import ModelChoice, choice_of, stamp
from tui.chat.process import ChatProcess

_REASONS = {
    "length": "as long as the setting allows",
    "end": "ended by itself",
    "stop": "met a text to stop at",
    "stopped": "stopped by you",
}


class Place(NamedTuple):
    """Where the model computes, so that training keeps what it needs; `why` says so."""

    device: str = "auto"
    threads: int | None = None
    why: str = ""


def place_beside(training_device: str | None) -> Place:
    """Return the place for a chat beside a trainer on that device, if any."""
    if training_device is None:
        return Place()
    if training_device == "cpu":
        return Place("auto", 1, "one thread: the CPU trains")
    return Place("cpu", None, "the GPU trains")


def note_of(done: Done | None) -> str:
    """Return the figures of an answer in words."""
    if done is None:
        return ""
    parts = [f"{done.tokens:,} tokens", f"{done.tokens_per_s:,.0f} tokens/s", _REASONS.get(done.finish_reason, "")]
    if done.forgotten:
        parts.append(f"the oldest {done.forgotten} messages no longer fit what it can read")
    return " · ".join(part for part in parts if part)


class ChatSession:
    """What the Chat pane shows."""

    def __init__(self, workspace: Workspace, process: ChatProcess) -> None:
        self.workspace, self.process = workspace, process
        self.conversation = Conversation.new()
        self.choice: ModelChoice | None = None
        self._kept = b""
        self.replaced: Turn | None = None  # the answer that is being given anew
        self.opened_stamp: tuple[int, int] | None = None
        self._opened_for: tuple[Path, Place] | None = None
        self._opening = asyncio.Lock()
        self._saving = asyncio.Lock()

    @property
    def opened(self) -> Opened | None:
        """What the process said of the chosen model; None while that is not open."""
        mine = self.choice is not None and self._opened_for is not None and self._opened_for[0] == self.choice.path
        return self.process.opened if mine and self.process.alive else None

    @property
    def label(self) -> str:
        """The chosen model in a few words."""
        if self.choice is None:
            return ""
        step = self.opened.step if self.opened else self.choice.step
        return self.choice.run + (f", step {step:,}" if step is not None else "")

    @property
    def mode(self) -> str:
        """What was chosen, else what the model was trained for."""
        if self.conversation.mode in (CONVERSATION, COMPLETION):
            return str(self.conversation.mode)
        return COMPLETION if self.opened is not None and not self.opened.conversations else CONVERSATION

    def choose(self, choice: ModelChoice) -> None:
        """Talk to this model from now on."""
        self.choice, self._opened_for = choice, None
        self.conversation.model = str(choice.path)

    async def ready(self, place: Place) -> Opened:
        """Open the chosen model in its place, if it is not; raises UserError."""
        async with self._opening:
            choice = self.choice
            if choice is None:
                raise UserError("There is no model to talk to yet: train one first, in the Train pane.")
            opened = self.opened
            if opened is not None and self._opened_for == (choice.path, place):
                return opened
            if opened is not None and opened.device != "cpu" and place.device == "cpu":
                await self.process.close()  # or a part of the GPU's memory would stay taken
            self._opened_for = None
            self.opened_stamp = await asyncio.to_thread(stamp, choice.path)
            opened = await self.process.open(choice.path, place.device, place.threads)
            self._opened_for = (choice.path, place)
            self.conversation.model = str(choice.path)
            return opened

    def ask(self, text: str, mode: str) -> list[Turn]:
        """Add what a person said and the answer that is to come; return both."""
        if not self.conversation.turns:
            self.conversation.title = title_of(text)
        turns = [Turn(COMPLETION, prompt=text)] if mode == COMPLETION else [Turn("user", text), Turn("assistant")]
        self.conversation.turns += turns
        return turns

    def ask_again(self) -> tuple[Turn, bool] | None:
        """Empty the last answer so that it can be given anew; return it, and whether it was there before."""
        turns = self.conversation.turns
        if not turns:
            return None
        if turns[-1].role == "user":
            turns.append(Turn("assistant"))
            return turns[-1], False
        self.replaced = turns[-1]
        turns[-1] = Turn(turns[-1].role, prompt=turns[-1].prompt)
        return turns[-1], True

    def settle(self, turn: Turn) -> bool:
        """Where nothing came to replace the last answer, put it back; return whether that was so."""
        replaced, self.replaced = self.replaced, None
        if replaced is None or turn.content or self.conversation.turns[-1:] != [turn]:
            return False
        self.conversation.turns[-1] = replaced
        return True

    def take_back(self) -> tuple[str, int] | None:
        """Drop the last message and what follows it; return its text, and how many turns were dropped."""
        turns = self.conversation.turns
        index = next((i for i in reversed(range(len(turns))) if turns[i].role != "assistant"), None)
        if index is None:
            return None
        text, count = turns[index].prompt or turns[index].content, len(turns) - index
        del turns[index:]
        return text, count

    async def answer(self, turn: Turn, settings: Mapping[str, Any]) -> AsyncGenerator[str, None]:
        """Yield the answer piece by piece, keeping it in its turn; raises UserError."""
        process = self.process
        if turn.role == COMPLETION:
            pieces = process.complete(turn.prompt, settings)
        else:
            pieces = process.reply(self.conversation.messages(), settings)
        async with aclosing(pieces):
            async for piece in pieces:
                turn.content += piece
                yield piece
        turn.note = note_of(process.last)

    def start_anew(self) -> None:
        """Begin another conversation with the same model in the same mode."""
        before, self.conversation = self.conversation, Conversation.new()
        self.conversation.model, self.conversation.mode = before.model, before.mode

    def go_on_with(self, conversation: Conversation) -> bool:
        """Take up a saved conversation and its model; return whether that model is still there."""
        self.conversation = conversation
        self._kept = conversations.told(conversation)
        path = Path(conversation.model)
        if not conversation.model or not path.is_file():
            return not conversation.model
        if self.choice is None or self.choice.path != path:
            self.choose(choice_of(path))
        return True

    async def save(self) -> None:
        """Keep the conversation as it is now; raises UserError when that is not possible."""
        async with self._saving:
            one, told = self.conversation, conversations.told(self.conversation)
            # What was only looked at must not overwrite what another window has added since.
            if one.turns and told != self._kept:
                await asyncio.to_thread(conversations.save, self.workspace, one.id, conversations.encode(one))
                self._kept = told

    async def delete(self, name: str) -> None:
        """Remove a saved conversation; raises UserError."""
        async with self._saving:
            await asyncio.to_thread(conversations.delete, self.workspace, name)
