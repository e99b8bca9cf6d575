"""One question and its answer: sent, shown as it comes, stopped, kept."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from textual.worker import Worker, WorkerCancelled, WorkerFailed

from minigpt.errors import UserError
from tui.chat.conversations import COMPLETION, Turn
from tui.chat.opening import NO_MODEL
from tui.chat.session import place_beside
from tui.widgets.transcript import Entry

if TYPE_CHECKING:
    from tui.panes.chat import ChatPane

PAINT_SECONDS = 0.1


class ChatAnswering:
    """Has the pane's session answer, and the transcript show it, some ten times a second."""

    def __init__(self, pane: ChatPane) -> None:
        self.pane, self.session = pane, pane.session
        self.under_way = False
        self._entry: Entry | None = None
        self._pending = ""
        self._worker: Worker[Any] | None = None
        self._painter = pane.set_interval(PAINT_SECONDS, self._paint, pause=True)

    async def ask(self, text: str) -> bool:
        """Send what a person wrote; return whether that was possible."""
        if self.under_way or not text.strip() or not self._take_settings():
            return False
        if self.session.choice is None:
            self.pane.minigpt.tell("No model yet", NO_MODEL)
            return False
        self.pane.starters.display = False
        for turn in self.session.ask(text, self.pane.form.mode):
            await self.pane.transcript.add(entry_of(turn, self.session.label))
        self._start()
        return True

    async def ask_again(self) -> None:
        """Have the last answer given anew."""
        if self.under_way or not self._take_settings():
            return
        again = self.session.ask_again()
        if again is not None:
            turn, there = again
            await self.pane.transcript.drop(int(there))
            await self.pane.transcript.add(entry_of(turn, self.session.label))
            self._start()

    async def stop(self) -> None:
        """Let the answer end where it is."""
        if self.session.opened is not None:
            await self.pane.process.stop()
        else:
            await self.end()

    async def end(self) -> None:
        """Give up on the answer at once, keeping what came of it."""
        if self._worker is not None and not self._worker.is_finished:
            self._worker.cancel()
            with suppress(WorkerCancelled, WorkerFailed):
                await self._worker.wait()

    async def save(self) -> None:
        """Keep the conversation as it stands."""
        state, one = self.pane.minigpt.state, self.session.conversation
        if one.turns and state.conversation != one.id and not self.pane.leaving:
            self.pane.remember_conversation(one.id)
        try:
            await self.session.save()
        except UserError as error:
            if not self.pane.leaving:
                self.pane.notify(str(error), severity="warning", markup=False)

    def _take_settings(self) -> bool:
        """Have the conversation keep the settings; where one is wrong, show which."""
        form = self.pane.form
        try:
            self.session.conversation.settings = form.values()
        except ValueError as error:
            form.add_class("-open")
            form.show_problem(str(error))
            return False
        return True

    def _start(self) -> None:
        self.under_way = True
        self._entry = self.pane.transcript.last
        self.pane.offer_history()
        self.pane.show_state()
        self._painter.resume()
        self._worker = self.pane.run_worker(self._answer(), group="chat-answer", name="chat-answer", exclusive=True)

    async def _answer(self) -> None:
        conversation, entry = self.session.conversation, self._entry
        turn = conversation.turns[-1]
        if self.session.replaced is None:
            await self.save()
        try:
            await self.session.ready(place_beside(self.pane.minigpt.training_device))
            self.pane.opening.show_name()
            turn.model = self.session.label
            if entry is not None:
                entry.set_label(label_of(turn))
            async with aclosing(self.session.answer(turn, conversation.settings)) as pieces:
                async for piece in pieces:
                    self._pending += piece
        except UserError as error:
            turn.note = f"no more came: {error}"
            if not self.pane.leaving:
                self.pane.minigpt.tell("The answer broke off", str(error))
        except asyncio.CancelledError:
            turn.note = "stopped by you"
            raise
        finally:
            self._finish(turn)
            restored = self.session.settle(turn)
        if restored:
            await self.pane.transcript.drop(1)
            await self.pane.transcript.add(entry_of(conversation.turns[-1], self.session.label))
        await self.save()

    def _finish(self, turn: Turn) -> None:
        self._paint()
        if self._entry is not None:
            self._entry.set_note(turn.note)
        self.under_way, self._entry = False, None
        self._painter.pause()
        self.pane.show_state()

    def _paint(self) -> None:
        """Show what came since the last time."""
        piece, self._pending = self._pending, ""
        if piece and self._entry is not None:
            self._entry.append(piece)


def entry_of(turn: Turn, model: str) -> Entry:
    """Return how a turn looks; `model` names who answers where the turn does not say."""
    if turn.role == "user":
        return Entry("you", "you", text=turn.content)
    return Entry(label_of(turn, model), "model", turn.prompt, turn.content, turn.note)


def label_of(turn: Turn, model: str = "") -> str:
    """Return whose words a turn holds."""
    name = turn.model or model or "model"
    return f"your words, then {name}" if turn.role == COMPLETION else name
