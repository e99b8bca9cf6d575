"""The Train pane: choose and start, then watch and steer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import ContentSwitcher

from minigpt.errors import printable
from minigpt.refusals import cannot_write, consequence
from minigpt.summary import LIVE_STATES
from tui.figures import LOG_FILTERS
from tui.outbox import Outbox
from tui.panes.cure import Cures
from tui.panes.pane import Pane, in_view
from tui.panes.ready import Ready
from tui.panes.reporter import Reporter
from tui.panes.train_keys import HELP, KEYS, OF_A_RUN, TO_TRAINERS
from tui.state import UIState
from tui.view import AXES, CHARTS, SMOOTHINGS, VIEWS, View
from tui.widgets.dialogs import Choice

if TYPE_CHECKING:
    from tui.compare.backdrop import Backdrop
    from tui.compare.ghosts import Ghost
    from tui.panes.board import Board
    from tui.watch import Watcher

TICK_SECONDS = 0.5
# How often is looked for a run that was started in a shell, while there is none on the screen.
LOOK_SECONDS = 3.0
EAGER_SECONDS, EAGER_TICKS = 0.1, 20
LR_STEP = 0.8
Choosable = TypeVar("Choosable", str, float)


class TrainPane(Pane):
    """Shows what will be trained until something is, then the run."""

    TITLE = "Train"
    HELP = HELP
    BINDINGS: ClassVar[list[BindingType]] = [*KEYS]
    DEFAULT_CSS = """
    TrainPane ContentSwitcher { height: 1fr; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.watcher: Watcher | None = None
        self._board: Board | None = None
        self._seen = -1
        self._asked_scale: tuple[float, float] | None = None  # what the trainer had told, what was asked for
        self._ticks = 0
        self._logged = -1
        self._outbox = Outbox(self)
        self._reporter = Reporter(self)
        self._cures = Cures(self)
        self._backdrop: Backdrop | None = None
        self._known: set[str] | None = set()  # the runs at work when last looked; None: not looked yet

    def compose(self) -> ComposeResult:
        with ContentSwitcher(initial="ready"):
            yield Ready(id="ready")

    def on_mount(self) -> None:
        self.set_interval(TICK_SECONDS, self.tick)
        self.set_interval(LOOK_SECONDS, self._look_for_runs)

    def shown(self) -> None:
        self._seen = -1
        if self.choosing:
            self.query_one(Ready).look_again()
        self.tick()
        self.focus_main()

    def on_resize(self) -> None:
        # What had no room before has been left out so far.
        self._seen = -1
        if self._board is not None:
            self._board.hurry()

    def focus_main(self) -> None:
        """Put the focus where the next key is likeliest meant."""
        shown = self.query_one(Ready) if self.choosing else self.board
        if shown is not None and shown.is_mounted:
            shown.focus_main()

    def on_unmount(self) -> None:
        if self.watcher is not None:
            self.watcher.close()

    @property
    def board(self) -> Board | None:
        """What shows a run, once there is one to show: charts and numbers take their time to import."""
        return self._board

    @property
    def ui(self) -> UIState:
        return self.minigpt.state

    @property
    def state(self) -> str:
        """The watched run's state."""
        if self.watcher is None:
            return "none"
        return "starting" if self.watcher.starting else self.watcher.history.summary.state

    @property
    def in_front(self) -> bool:
        """Whether the pane is what is on the screen: no other one, and no dialog."""
        return self.display and self.minigpt.screen_stack[-1:] == [self.screen]

    @property
    def choosing(self) -> bool:
        """Whether the choice of what to train is shown, in place of a run."""
        return bool(self.query_one(ContentSwitcher).current == "ready")

    def refresh_choice(self) -> None:
        """Show the chosen preset and corpus."""
        self.query_one(Ready).refresh_choice()

    def follow(self, watcher: Watcher, account: bool = False) -> None:
        """Show a run; with `account`, say what happened since it was last looked at."""
        if self.watcher is not None:
            self.watcher.close()
        self.watcher, self._seen, self._asked_scale = watcher, -1, None
        self._reporter.begin(account)
        self._cures.forget()
        watcher.begin()
        switcher = self.query_one(ContentSwitcher)
        if self._board is None:
            from tui.panes.board import Board

            self._board = Board(id="board")
            switcher.mount(self._board)
        self._board.forget()
        switcher.current = "board"
        self.ui.run = watcher.directory.name
        self.minigpt.remember()
        if self.display:
            self.call_after_refresh(self.shown)
        self.set_interval(EAGER_SECONDS, self._tick_if_new, repeat=EAGER_TICKS)

    # Runs that others start

    def _look_for_runs(self) -> None:
        """Find a run that was started elsewhere, while there is none on the screen."""
        if self.choosing and self.in_front:
            self.in_thread(self._find_runs, "find runs")

    def _find_runs(self) -> None:
        from minigpt.start import running_runs

        self.app.call_later(self._take_runs, running_runs(self.minigpt.workspace))

    def _take_runs(self, running: list[str]) -> None:
        known, self._known = self._known, set(running)
        new = [run for run in running if known is not None and run not in known]
        # The person may have gone on meanwhile.
        if new and self.choosing and self.in_front:
            self.minigpt.watch_run(new[0], account=True)
            self.app.notify(f"{printable(new[0], single_line=True)} was started elsewhere.", markup=False)

    # What moves

    def tick(self) -> None:
        """Show what is new; a pane that is not on screen only takes note."""
        watcher = self.watcher
        self._ticks += 1
        if watcher is None:
            return
        # Steps alone are shown every other time: the processor is the trainer's. Whatever else happens, at once.
        if self._ticks % 2 and self._seen >= 0 and self._logged == watcher.history.logged:
            return
        self._logged = watcher.history.logged
        # The reader has it for milliseconds; the next tick comes soon.
        if not watcher.lock.acquire(blocking=False):
            return
        try:
            self._reporter.report(watcher)
            if self._cures.look(watcher.history.summary, obeys=watcher.running and self.state in LIVE_STATES):
                self.show_anew()
                # The footer has the key only while there is a cure.
                self.refresh_bindings()
            self.minigpt.show_status(watcher.history, watcher.starting, watcher.disk_full)
            if self.in_front and self.size and self._board is not None and self._board.is_mounted:
                fresh = self._seen != watcher.version
                self._seen = watcher.version
                self._board.show(watcher.history, self.view, self.ui, fresh, self._cures.notice)
                if not in_view(self.app.focused):
                    # What had it is hidden now: without a focus no key of this pane would work.
                    self.focus_main()
            self._reporter.note_seen(watcher)
        finally:
            watcher.lock.release()

    def show_anew(self) -> None:
        """Have everything shown again, whether its data are new or not."""
        self._seen = -1

    def _tick_if_new(self) -> None:
        """What a run that was just opened has to show is shown as soon as it is there."""
        if self.watcher is not None and self._seen != self.watcher.version:
            self._seen = -1
            self.tick()

    @property
    def view(self) -> View:
        ui = self.ui
        axis = ui.x_axis if ui.x_axis in AXES else "step"
        return View(axis, ui.recent, ui.smoothing)

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        live = self.state in LIVE_STATES
        if action in TO_TRAINERS:
            # Commands are obeyed from the lock on, not before.
            return live and self.watcher is not None and self.watcher.running
        if action == "cure":
            return self._cures.notice is not None
        if action == "stop":
            return live
        if action == "start":
            return not live or self.choosing
        if action == "resume":
            return self.state in ("interrupted", "crashed", "failed")
        if action in OF_A_RUN:
            return self.watcher is not None
        return True

    def action_start(self) -> None:
        self.minigpt.start_run()

    def action_resume(self) -> None:
        if self.watcher is not None:
            self.minigpt.resume_run(self.watcher.directory.name)

    def action_new(self) -> None:
        self.query_one(ContentSwitcher).current = "ready"
        # What runs now was not started elsewhere while this was looked at.
        self._known = None
        self.query_one(Ready).look_again()
        self.query_one(Ready).focus_main()
        self._look_for_runs()

    def action_pause(self) -> None:
        self.action_send("resume" if self.state == "paused" else "pause")

    def action_stop(self) -> None:
        watcher = self.watcher
        if watcher is not None and watcher.starting:
            watcher.cancel()
            return
        text = "It finishes the step it is in and saves everything. r goes on from there, today or next month."
        answers = [("stop", "Stop and save", "primary"), ("no", "Go on training", "default")]
        if watcher is not None and (watcher.disk_full or cannot_write(watcher.history.summary)):
            text = consequence(watcher.history.summary)
            answers = [("no", "Let it wait", "primary"), ("stop", "Stop anyway", "default")]
        question = Choice("Stop this run?", text, answers)
        self.app.push_screen(question, lambda answer: self.action_send("stop") if answer == "stop" else None)

    def action_scale(self, direction: int) -> None:
        if self.watcher is not None:
            told = self.watcher.history.lr_scale
            # What was asked for last counts, until the trainer has answered.
            scale = self._asked_scale[1] if self._asked_scale and self._asked_scale[0] == told else told
            scale = float(f"{scale * LR_STEP**-direction:.4g}")
            self._asked_scale = (told, scale)
            self.action_send("set", {"lr_scale": scale})

    def action_cure(self) -> None:
        """Do what the latest notice advises: send the command, or offer to start a run with other settings."""
        if self.watcher is not None:
            self._cures.carry_out(self.watcher.directory)

    def action_ghosts(self) -> None:
        """Choose the runs whose loss is drawn behind this one's."""
        from tui.compare.backdrop import Backdrop

        if self.watcher is not None:
            self._backdrop = self._backdrop or Backdrop(self, self._take_ghosts)
            self._backdrop.choose(self.watcher.directory.name)

    def _take_ghosts(self, ghosts: list[Ghost]) -> None:
        if self._board is not None:
            self._board.ghosts = ghosts
            self._changed()

    def action_send(self, command: str, arguments: dict[str, Any] | None = None) -> None:
        """Ask the trainer for something; its answer comes in the log."""
        if self.watcher is not None:
            self._outbox.send(self.watcher, command, arguments or {})

    def action_chart(self) -> None:
        position = CHARTS.index(self.ui.chart) if self.ui.chart in CHARTS else 0
        self._changed(chart=CHARTS[(position + 1) % len(CHARTS)])

    def action_log_axis(self) -> None:
        self._changed(log_axis=not self.ui.log_axis)

    def action_axis(self) -> None:
        self._changed(x_axis=_next(AXES, self.ui.x_axis))

    def action_recent(self) -> None:
        self._changed(recent=not self.ui.recent)

    def action_smoothing(self) -> None:
        self._changed(smoothing=_next(SMOOTHINGS, self.ui.smoothing))

    def action_view(self) -> None:
        self._changed(below=_next(VIEWS, self.ui.below))

    def action_filter(self) -> None:
        self._changed(log_filter=_next(tuple(LOG_FILTERS), self.ui.log_filter), below="log")

    def action_copy(self) -> None:
        text = self._board.text_in_focus() if self._board is not None else ""
        if text:
            self.app.copy_to_clipboard(text)
            self.app.notify("Copied, where the terminal allows it.", timeout=2)

    def _changed(self, **changes: object) -> None:
        for name, value in changes.items():
            setattr(self.ui, name, value)
        self.minigpt.remember()
        self._seen = -1
        if self._board is not None:
            self._board.hurry()
        self.tick()


def _next(choices: tuple[Choosable, ...], now: Choosable) -> Choosable:
    return choices[(choices.index(now) + 1) % len(choices)] if now in choices else choices[0]
