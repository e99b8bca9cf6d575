"""The app: five panes, the keys that every one of them shares, and what they need of one another.

What the first frame does not need is imported where it is used.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, Screen
from textual.theme import Theme
from textual.widgets import ContentSwitcher

from minigpt.errors import UserError, printable
from minigpt.workspace import Workspace
from tui.crash import told_of_crash
from tui.figures import STRONG, status_facts
from tui.frame import HIGH_CONTRAST, MainScreen, Palette, handle_signals
from tui.learn.guide import Guide
from tui.panes.pane import Pane
from tui.panes.train import TrainPane
from tui.rooms import KEYS, PANES, make_pane
from tui.state import PersonalSettings, load_state, save_state
from tui.trainers import Trainers
from tui.widgets.dialogs import message
from tui.widgets.keyline import KeyLine
from tui.widgets.rows import Part
from tui.widgets.topline import StatusLine, TabLine

if TYPE_CHECKING:
    from minigpt.history import RunHistory
    from tui.watch import Watcher

CLOCK_SECONDS = 1.0
LOOK_SECONDS = 5.0
RETRY_SECONDS = 0.05


class MiniGPTApp(App[None]):
    """Train, steer, inspect and talk to a GPT of your own."""

    TITLE = "minigpt"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-normal"), (160, "-wide")]  # noqa: RUF012 - as in App
    BINDINGS: ClassVar[list[BindingType]] = [*KEYS]

    def __init__(
        self,
        workspace: Workspace,
        settings: PersonalSettings | None = None,
        run: str | None = None,
        train: str | None = None,
    ) -> None:
        super().__init__()
        self.workspace = workspace
        self.settings = settings or PersonalSettings()
        self.state = load_state(workspace)
        self.training_run: str | None = None
        self.training_device: str | None = None
        self.failure: str | None = None  # why the app had to end, for the person
        self._run_asked, self._train_asked = run, train
        self._status: list[list[Part]] = []
        self.trainers = Trainers(self)
        self.guide = Guide(self)
        self._pane = ""

    # Setting up

    def get_default_screen(self) -> Screen[None]:
        return MainScreen(id="_default")

    def compose(self) -> ComposeResult:
        yield StatusLine(id="status")
        yield TabLine(PANES, id="tabs")
        with ContentSwitcher(id="panes", initial="train"):
            yield TrainPane(id="train")
        yield KeyLine()

    def on_mount(self) -> None:
        self.animation_level = "none"
        self.register_theme(HIGH_CONTRAST)
        theme = self.state.theme or self.settings.theme
        if theme in self.available_themes:
            self.theme = theme
        self.theme_changed_signal.subscribe(self, self._theme_chosen)
        if self.settings.keys:
            self.set_keymap(self.settings.keys)
        self.set_interval(CLOCK_SECONDS, self._tell_time)
        self.set_interval(LOOK_SECONDS, self.trainers.look)
        handle_signals(self.exit)
        self._pane = "train"
        self.query_one(TabLine).choose("train")
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self._show_clock()
        self.trainers.look()
        if self.state.pane in dict(PANES) and self.state.pane != "train" and not (self._run_asked or self._train_asked):
            self.open_pane(self.state.pane)
        self.query_one(TrainPane).focus_main() if self._pane == "train" else None
        if self._train_asked:
            self.choose_preset(self._train_asked)
            self.start_run()
        else:
            self.run_worker(self._find_run_to_show, name="attach", group="attach", thread=True, exclusive=True)

    def _find_run_to_show(self) -> None:
        from tui.arrival import run_to_show

        try:
            found = run_to_show(self.workspace, self._run_asked, self.state)
        except UserError as error:
            self.tell_from_thread("No such run", str(error))
            return
        if found:
            self.call_later(self.watch_run, found, True)

    # Panes

    def open_pane(self, name: str) -> None:
        """Bring a pane to the front; it is made when it is first asked for."""
        switcher = self.query_one("#panes", ContentSwitcher)
        if name == self._pane:
            return
        before = self.pane(self._pane)
        if before is not None:
            before.hidden()
        self._pane = name
        if self.pane(name) is None:
            switcher.mount(make_pane(name))
        switcher.current = name
        self.query_one(TabLine).choose(name)
        self.state.pane = name
        self.remember()
        self.call_after_refresh(self._shown, name)

    def _shown(self, name: str) -> None:
        # The app may have been left since.
        pane = self.pane(name) if self.screen_stack else None
        if pane is not None and name == self._pane:
            pane.shown()
            # What it focuses is focused later: so is looked, whether it has focused anything.
            self.call_later(self._focus_something, name)

    def _focus_something(self, name: str) -> None:
        pane = self.pane(name) if self.screen_stack else None
        if pane is None or name != self._pane or (self.focused and pane in self.focused.ancestors_with_self):
            return
        self.screen.set_focus(None)
        first = next((widget for widget in pane.query("*") if widget.focusable), None)
        if first is not None:
            first.focus()
        else:
            # Its parts are not there yet: without a focus its keys would not work.
            self.set_timer(RETRY_SECONDS, partial(self._shown, name))

    def pane(self, name: str) -> Pane | None:
        """Return a pane if it has been made."""
        return next(iter(self.query_one("#panes").query_children(f"#{name}").results(Pane)), None)

    def action_open_pane(self, name: str) -> None:
        self.open_pane(name)

    def on_tab_line_chosen(self, event: TabLine.Chosen) -> None:
        self.open_pane(event.name)

    def action_leave_field(self) -> None:
        pane = self.pane(self._pane)
        if pane is not None:
            pane.shown()

    # What panes ask for

    def choose_preset(self, name: str) -> None:
        self.state.preset = name
        self.remember()
        self.query_one(TrainPane).refresh_choice()

    def choose_corpus(self, name: str) -> None:
        self.state.corpus = name
        self.remember()
        self.query_one(TrainPane).refresh_choice()

    def start_run(self) -> None:
        """Start the chosen preset on the chosen corpus; asks where another run is at work."""
        self.trainers.begin()

    def resume_run(self, run: str) -> None:
        """Go on with a run; one that is at work is only watched, and asks where another one is."""
        self.trainers.begin(run)

    def watch_run(self, run: str, account: bool = False) -> None:
        """Show a run in the Train pane; with `account`, say what happened since it was last looked at."""
        from tui.watch import Watcher

        try:
            directory = self.workspace.run_directory(run)
        except UserError as error:
            self.tell("No such run", str(error))
            return
        self.show_run(Watcher(directory), account)

    def run_renamed(self, run: str, name: str) -> None:
        """Take over a run's new name."""
        if run in self.state.seen_steps:
            self.state.seen_steps[name] = self.state.seen_steps.pop(run)
        if self.state.run == run:
            self.state.run = name
        pane = self.query_one(TrainPane)
        if pane.watcher is not None and pane.watcher.directory.name == run:
            from tui.watch import Watcher

            pane.follow(Watcher(self.workspace.run_directory(name)))
        self.remember()

    def show_run(self, watcher: Watcher, account: bool) -> None:
        if not account:
            self.open_pane("train")
        self.query_one(TrainPane).follow(watcher, account)

    def chat_with(self, path: Path) -> None:
        """Talk to the model in a checkpoint file."""
        self.open_pane("chat")

        def talk() -> None:
            pane = self.pane("chat")
            if pane is not None:
                pane.talk_to(path)  # type: ignore[attr-defined]

        self.call_after_refresh(talk)

    def remember(self) -> None:
        """Save the state, off the event loop."""
        save = partial(save_state, self.workspace, self.state)
        self.run_worker(save, name="remember", group="remember", thread=True, exclusive=True)

    def tell(self, title: str, text: str) -> None:
        """Show a message that waits to be read."""
        self.push_screen(message(title, printable(text)))

    def tell_from_thread(self, title: str, text: str) -> None:
        self.call_later(self.tell, title, text)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Offer every key's action by name in the command palette."""
        yield from super().get_system_commands(screen)
        # The palette has the focus: the keys that are meant are those of the pane below it.
        for node in (self.pane(self._pane), self):
            for binding in [] if node is None else node.BINDINGS:
                assert node is not None and isinstance(binding, Binding)
                if node.check_action(binding.action.partition("(")[0], ()):
                    run = partial(self.run_action, binding.action, node)
                    yield SystemCommand(f"{binding.description} ({binding.key})", binding.tooltip, run)

    def action_command_palette(self) -> None:
        # One that is open below a dialog must not be opened again.
        if not any(isinstance(screen, ModalScreen) for screen in self.screen_stack):
            self.push_screen(Palette(id="--command-palette"))

    # The lines above

    def show_status(self, history: RunHistory, starting: bool, disk_full: bool = False) -> None:
        """Show a run's state in the top line."""
        self._status = status_facts(history, starting, disk_full)
        if self._pane == "train":
            self._show_clock()

    def _tell_time(self) -> None:
        # The Train pane does it together with what else moves: one repaint instead of two.
        if self._pane != "train" or not self._status:
            self._show_clock()

    def _show_clock(self) -> None:
        # The clock may strike while the app ends, when the line is gone.
        for line in self.query(StatusLine):
            line.tell([[("minigpt", STRONG)], *self._status], time.strftime("%H:%M"))

    def on_resize(self) -> None:
        self.call_after_refresh(self._show_clock)
        self.call_after_refresh(lambda: self.query_one(TabLine).choose(self._pane))

    # Help

    def action_explain(self) -> None:
        """Explain what has the focus, in a sentence for a beginner; Enter then opens the whole topic."""
        self.guide.explain()

    def action_help(self) -> None:
        """Tell what this pane is for and its keys, and lead to all topics."""
        self.guide.help(self.pane(self._pane))

    def read_topic(self, name: str) -> None:
        """Open a topic of `minigpt.learn`, with the figures of the run that the Train pane shows."""
        self.guide.read(name)

    def _theme_chosen(self, theme: Theme) -> None:
        if self.state.theme != theme.name:
            self.state.theme = theme.name
            self.remember()

    # Leaving

    async def action_quit(self) -> None:
        """Leave, after asking about what is not saved."""
        panes = [pane for name, _ in PANES if (pane := self.pane(name)) is not None]
        # One of the keys works in front of a question too, such as this one: then what is not saved is kept.
        if len(self.screen_stack) > 1 or not any(pane.asks_to_leave(self._leave_soon) for pane in panes):
            await self._leave()

    def _leave_soon(self) -> None:
        self.call_later(self._leave)

    async def _leave(self) -> None:
        save_state(self.workspace, self.state)
        chat = self.pane("chat")
        if chat is not None:
            await chat.leave()  # type: ignore[attr-defined]
        self.exit()

    def _handle_exception(self, error: Exception) -> None:
        """Write what went wrong to a file instead of the terminal, and leave."""
        self.failure = told_of_crash(self.workspace, error)
        self._return_code = 1
        self._exception = self._exception or error
        self._exception_event.set()
        self.exit(return_code=1)
