"""The Chat pane: talk to a model, or have it go on with a text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.timer import Timer
from textual.widgets import TextArea

from tui.chat.answering import ChatAnswering, entry_of
from tui.chat.conversations import Conversation
from tui.chat.help import HELP
from tui.chat.lists import ChatLists
from tui.chat.models import choice_of
from tui.chat.opening import ChatOpening
from tui.chat.process import ChatProcess
from tui.chat.session import ChatSession
from tui.panes.pane import Pane
from tui.widgets.composer import Composer
from tui.widgets.generation_form import GenerationForm
from tui.widgets.starters import LETTERS, Starter, Starters
from tui.widgets.transcript import Transcript

WATCH_SECONDS = 3.0
DRAFT_SECONDS = 0.5
IDLE = "Ctrl+T settings"


class ChatPane(Pane):
    """The transcript, the field below it, the settings beside it."""

    TITLE = "Chat"
    HELP: ClassVar[str] = HELP
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", id="chat.stop", tooltip="End the answer where it is"),
        Binding("escape", "leave", "Leave the field", show=False, id="chat.leave", tooltip="Letters are keys again"),
        Binding("r,ctrl+r", "regenerate", "Again", id="chat.again", tooltip="Have the last answer given anew"),
        Binding("n,ctrl+n", "new", "New", id="chat.new", tooltip="Begin a new conversation; this one is kept"),
        Binding("o,ctrl+o", "conversations", "Open", id="chat.open", tooltip="Open or delete a saved conversation"),
        Binding("m,ctrl+g", "models", "Model", id="chat.model", tooltip="Choose the model to talk to"),
        Binding("e,ctrl+l", "edit", "Edit", show=False, id="chat.edit", tooltip="Change your last message"),
        Binding("y,ctrl+s", "copy", "Copy", show=False, id="chat.copy", tooltip="Copy the last answer"),
        Binding("u,f7", "reload", "Reload", show=False, id="chat.reload", tooltip="Load the run's newer checkpoint"),
        Binding("s,ctrl+t", "settings", "Settings", show=False, id="chat.settings", tooltip="Go to the settings"),
        Binding("i,enter", "write", "Write", show=False, id="chat.write", tooltip="Go to the field and write"),
        *(
            Binding(letter, f"starter({index})", show=False, id=f"chat.starter_{letter}", tooltip="Send this prompt")
            for index, letter in enumerate(LETTERS)
        ),
    ]
    # The classes that tell the size are on the screen, above this widget.
    SCOPED_CSS = False
    DEFAULT_CSS = """
    ChatPane { layout: horizontal; }
    ChatPane #talk { width: 1fr; min-width: 12; }
    ChatPane Transcript {
        height: 1fr; border: round $panel-lighten-2;
        border-title-color: $foreground-muted; border-subtitle-color: $foreground-muted;
    }
    ChatPane Transcript:focus { border: round $border; }
    ChatPane Composer { border-title-color: $foreground-muted; border-subtitle-color: $foreground-muted; }
    ChatPane GenerationForm { width: 40; height: 1fr; }
    .-narrow ChatPane GenerationForm { display: none; max-width: 70%; }
    .-narrow ChatPane GenerationForm.-open { display: block; }
    .-low ChatPane Transcript { border: none; }
    .-low ChatPane Composer { border: none; min-height: 1; max-height: 3; }
    """

    def __init__(self, command: Sequence[str] | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.process = ChatProcess(command)
        self.in_front = self.leaving = self._built = False
        self._asked_for: Path | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="talk"):
            with Transcript():
                yield Starters()
            yield Composer(id="message", placeholder="Write here; Enter sends")
        yield GenerationForm()

    def on_mount(self) -> None:
        self.session = ChatSession(self.minigpt.workspace, self.process)
        self.transcript, self.composer = self.query_one(Transcript), self.query_one(Composer)
        self.lists = ChatLists(self)
        self.form, self.starters = self.query_one(GenerationForm), self.query_one(Starters)
        self.composer.border_title, self.composer.border_subtitle = "message", IDLE
        self.composer.take(self.minigpt.state.chat_draft)
        self._draft: Timer | None = None
        self.answering, self.opening = ChatAnswering(self), ChatOpening(self)
        self.set_interval(WATCH_SECONDS, self.opening.watch)
        self._built = True
        if self._asked_for is not None:
            self.opening.talk_to(self._asked_for)
        self.opening.begin()
        if self.in_front:
            self.composer.focus()

    async def on_unmount(self) -> None:
        await self.leave()

    def shown(self) -> None:
        self.in_front = True
        if self._built:
            self.composer.focus()
            self.opening.watch()

    def hidden(self) -> None:
        self.in_front = False

    @property
    def generating(self) -> bool:
        """Whether an answer is under way."""
        return self.answering.under_way

    # For the app

    def talk_to(self, path: Path) -> None:
        """Talk to the model in a checkpoint file."""
        self._asked_for = path
        if self._built:
            self.opening.talk_to(path)

    async def leave(self) -> None:
        """End the process with the model, keeping what it said; called when the app ends."""
        self.leaving = True
        if self._built:
            await self.answering.end()
            await self.answering.save()
        await self.process.close()

    # What is on the screen

    @on(Composer.Sent)
    async def _send(self, event: Composer.Sent) -> None:
        event.stop()
        # Emptied first: what is typed while the answer is being prepared stays.
        self.composer.take("")
        if not await self.answering.ask(event.text):
            self.composer.take(event.text + self.composer.text)

    @on(Starter.Chosen)
    async def _send_starter(self, event: Starter.Chosen) -> None:
        event.stop()
        if await self.answering.ask(event.prompt):
            self.composer.focus()

    def show_state(self) -> None:
        """Say whether an answer is under way; keys follow from that."""
        self.composer.border_subtitle = "answering · Esc stops" if self.generating else IDLE
        self.refresh_bindings()

    def offer_history(self) -> None:
        """Have the arrow up bring back what was said or, in an empty conversation, what may be said."""
        turns = self.session.conversation.turns
        said = [turn.prompt or turn.content for turn in turns if turn.role != "assistant"]
        self.composer.sent = said or self.starters.prompts[::-1]

    async def show_conversation(self, conversation: Conversation) -> None:
        """Show a saved conversation, to go on with it."""
        await self.answering.end()
        await self.answering.save()
        if not self.session.go_on_with(conversation):
            self.notify("The model of this conversation is gone: the chosen one goes on with it.", markup=False)
        self.form.set_values(conversation.settings)
        self.form.mode = self.session.mode
        self.starters.display = not conversation.turns
        await self.transcript.show([entry_of(turn, turn.model) for turn in conversation.turns])
        self.offer_history()
        self.remember_conversation(conversation.id)
        self.refresh_bindings()

    async def take_conversation(self, conversation: Conversation) -> None:
        """Show a saved conversation and open its model."""
        await self.show_conversation(conversation)
        await self.opening.open()

    def remember_conversation(self, conversation: str | None) -> None:
        """Have the next session of the app go on with this one."""
        self.minigpt.state.conversation = conversation
        self.minigpt.remember()

    @on(TextArea.Changed)
    def _keep_draft(self, event: TextArea.Changed) -> None:
        event.stop()
        self.minigpt.state.chat_draft = self.composer.text
        if self._draft is not None:
            self._draft.stop()
        self._draft = self.set_timer(DRAFT_SECONDS, self.minigpt.remember)

    @on(GenerationForm.Changed)
    async def _take_mode(self, event: GenerationForm.Changed) -> None:
        event.stop()
        if self.form.mode != self.session.mode:
            self.session.conversation.mode = self.form.mode
            if not self.session.conversation.turns:
                await self.opening.show_empty()

    @on(Composer.Scrolled)
    def _scroll(self, event: Composer.Scrolled) -> None:
        event.stop()
        self.transcript.scroll_page_up() if event.direction < 0 else self.transcript.scroll_page_down()

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self._built:
            # A child may have the focus, and pass on its keys, before the pane itself stands.
            return False
        turns = bool(self.session.conversation.turns)
        if action == "stop":
            return self.generating
        if action in ("regenerate", "edit"):
            return turns and not self.generating
        if action == "copy":
            return turns
        if action == "reload":
            return self.opening.newer is not None and not self.generating
        if action == "starter":
            return not turns and int(str(parameters[0])) < len(self.starters.prompts)
        return True

    async def action_stop(self) -> None:
        await self.answering.stop()

    def action_leave(self) -> None:
        if self.form.has_focus_within:
            self.form.remove_class("-open")
            self.composer.focus()
        else:
            self.transcript.focus()

    def action_write(self) -> None:
        self.composer.focus()

    async def action_starter(self, index: int) -> None:
        await self.answering.ask(self.starters.prompts[index])

    async def action_regenerate(self) -> None:
        await self.answering.ask_again()

    async def action_edit(self) -> None:
        taken = self.session.take_back()
        if taken is not None:
            text, count = taken
            await self.transcript.drop(count)
            self.composer.take(text)
            self.composer.focus()
            self.offer_history()
            if not self.session.conversation.turns:
                await self.opening.show_empty()
            self.refresh_bindings()

    async def action_new(self) -> None:
        await self.answering.end()
        await self.answering.save()
        self.session.start_anew()
        self.remember_conversation(None)
        await self.transcript.show([])
        await self.opening.show_empty()
        self.refresh_bindings()
        self.composer.focus()

    def action_conversations(self) -> None:
        self.lists.choose_conversation()

    def action_models(self) -> None:
        self.lists.choose_model()

    async def action_reload(self) -> None:
        if self.opening.newer is not None:
            await self.opening.take(choice_of(self.opening.newer))

    def action_copy(self) -> None:
        turns = [turn for turn in self.session.conversation.turns if turn.role != "user"]
        if turns:
            self.app.copy_to_clipboard(turns[-1].prompt + turns[-1].content)
            self.notify("The last answer is in the clipboard.", timeout=2, markup=False)

    def action_settings(self) -> None:
        if self.form.has_focus_within:
            self.action_leave()
        else:
            self.form.add_class("-open")
            self.call_after_refresh(self.form.focus_first)
