"""The Train pane: choose and start, then watch and steer."""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import ContentSwitcher

from minigpt.errors import UserError, printable
from minigpt.narration import duration, number
from minigpt.summary import LIVE_STATES, RunSummary
from tui.figures import LOG_FILTERS
from tui.panes.pane import Pane
from tui.panes.ready import Ready
from tui.state import UIState
from tui.view import AXES, CHARTS, SMOOTHINGS, VIEWS, View
from tui.widgets.dialogs import Choice

if TYPE_CHECKING:
    from minigpt.history import RunHistory
    from tui.compare.ghosts import Ghost
    from tui.panes.board import Board
    from tui.panes.cure import Notice
    from tui.watch import Watcher

TICK_SECONDS = 0.5
EAGER_SECONDS, EAGER_TICKS = 0.1, 20
REMEMBER_EVERY_TICKS = 20
LR_STEP = 0.8
WHAT_NEXT = "Done: 4 talks to the model, n chooses what to train next, s trains again."
GONE = "The trainer is gone without a word (killed?). r goes on from the last checkpoint."
Choosable = TypeVar("Choosable", str, float)


class TrainPane(Pane):
    """Shows what will be trained until something is, then the run."""

    TITLE = "Train"
    HELP = """\
**Train** shows one run: the curves of loss and perplexity, its figures, what the model says by now, and a log.

The trainer is a process of its own. Quit, close the window, lose the link: it goes on, and this pane finds it again.

| key | what it does |
|---|---|
| s | start training the chosen preset on the chosen corpus |
| space | pause, and go on |
| x | stop after this step and save everything; r goes on from there later |
| k | write a checkpoint now |
| e, g | evaluate now; have the model say something now |
| - + | lower or raise the learning rate |
| a | do what the latest notice advises, where that is an action |
| o | other runs, their loss drawn dim behind this one's |
| c | the next chart: perplexity, learning rate, gradient norm, tokens/s, memory |
| l, t, z, m | logarithmic axis; steps, tokens or time; zoom to the end; smoothing |
| left, right | with a chart in focus: read its values |
| v | at small sizes: log, sample, evaluations or device below |
| f | filter the log |
| y | copy what has the focus (works over SSH where the terminal allows it) |
| n | back to the choice of preset and corpus |
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start", "Start", id="train.start", tooltip="Train the chosen preset on the chosen corpus"),
        Binding("space", "pause", "Pause", key_display="spc", id="train.pause", tooltip="Pause, and go on"),
        Binding("x", "stop", "Stop", id="train.stop", tooltip="Stop after this step, and save everything"),
        Binding("r", "resume", "Resume", id="train.resume", tooltip="Go on with this run where it stopped"),
        Binding("a", "cure", "Cure", id="train.cure", tooltip="Do what the latest notice advises"),
        Binding("c", "chart", "Chart", id="train.chart", tooltip="Show the next chart"),
        Binding("k", "send('checkpoint')", "Save", show=False, id="train.checkpoint", tooltip="Write a checkpoint now"),
        Binding("e", "send('evaluate')", "Evaluate", show=False, id="train.evaluate", tooltip="Evaluate now"),
        Binding("g", "send('sample')", "Sample", show=False, id="train.sample", tooltip="Have the model write now"),
        Binding("minus", "scale(-1)", "Slower", show=False, id="train.slower", tooltip="Lower the rate"),
        Binding("plus,equals_sign", "scale(1)", "Faster", show=False, id="train.faster", tooltip="Raise the rate"),
        Binding("o", "ghosts", "Others", show=False, id="train.others", tooltip="Other runs' loss behind this one's"),
        Binding("l", "log_axis", "Log axis", show=False, id="train.log", tooltip="Logarithmic loss axis on or off"),
        Binding("t", "axis", "Axis", show=False, id="train.axis", tooltip="Plot by steps, tokens or time"),
        Binding("z", "recent", "Zoom", show=False, id="train.zoom", tooltip="Show the last fifth only, or all"),
        Binding("m", "smoothing", "Smoothing", show=False, id="train.smoothing", tooltip="More or less smoothing"),
        Binding("v", "view", "View", show=False, id="train.view", tooltip="Log, sample, evaluations or device below"),
        Binding("f", "filter", "Filter", show=False, id="train.filter", tooltip="Filter the log"),
        Binding("y", "copy", "Copy", show=False, id="train.copy", tooltip="Copy what has the focus"),
        Binding("n", "new", "New", show=False, id="train.new", tooltip="Choose what to train next"),
    ]
    DEFAULT_CSS = """
    TrainPane ContentSwitcher { height: 1fr; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.watcher: Watcher | None = None
        self._board: Board | None = None
        self._seen = -1
        self._told_state: str | None = None
        self._told_trouble: str | None = None
        self._account_due = False
        self._asked_scale: tuple[float, float] | None = None  # what the trainer had told, what was asked for
        self._outbox: deque[tuple[Watcher, str, dict[str, Any]]] = deque()
        self._sending = threading.Lock()
        self._ticks = 0
        self._logged = -1
        self._remember_in = REMEMBER_EVERY_TICKS
        self.ghosts: list[str] = []  # the runs that are drawn behind, as long as the app runs
        self._curable: Notice | None = None
        self._cured: set[tuple[object, object]] = set()  # time and message of the notices whose cure was carried out
        self._autopsy_due = False

    def compose(self) -> ComposeResult:
        with ContentSwitcher(initial="ready"):
            yield Ready(id="ready")

    def on_mount(self) -> None:
        self.set_interval(TICK_SECONDS, self.tick)

    def shown(self) -> None:
        self._seen = -1
        self.tick()
        self.focus_main()

    def on_resize(self) -> None:
        # What had no room before has been left out so far.
        self._seen = -1
        if self._board is not None:
            self._board.hurry()

    def focus_main(self) -> None:
        """Put the focus where the next key is likeliest meant."""
        shown = self.query_one(Ready) if self.query_one(ContentSwitcher).current == "ready" else self.board
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

    def refresh_choice(self) -> None:
        """Show the chosen preset and corpus."""
        self.query_one(Ready).refresh_choice()

    def follow(self, watcher: Watcher, account: bool = False) -> None:
        """Show a run; with `account`, say what happened since it was last looked at."""
        if self.watcher is not None:
            self.watcher.close()
        self.watcher, self._seen, self._account_due = watcher, -1, account
        self._told_state = self._told_trouble = self._asked_scale = self._curable = None
        self._autopsy_due = False
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
        self.call_after_refresh(self.shown)
        self.set_interval(EAGER_SECONDS, self._tick_if_new, repeat=EAGER_TICKS)

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
            self._follow_state(watcher)
            self._look_for_cure(watcher)
            self.minigpt.show_status(watcher.history, watcher.starting)
            on_screen = self.display and self.size and self.minigpt.screen_stack[-1:] == [self.screen]
            if on_screen and self._board is not None and self._board.is_mounted:
                fresh = self._seen != watcher.version
                self._seen = watcher.version
                self._board.show(watcher.history, self.view, self.ui, fresh, self._curable)
                if self.app.focused is None:
                    # What had it is hidden now: without a focus no key of this pane would work.
                    self.focus_main()
            self._note_seen(watcher)
        finally:
            watcher.lock.release()

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

    def _follow_state(self, watcher: Watcher) -> None:
        if watcher.trouble and watcher.trouble != self._told_trouble:
            self._told_trouble = watcher.trouble
            watcher.history.note(watcher.trouble)
            self.minigpt.tell("The run has not started", f"{watcher.trouble}\n\nn goes back to the choice.")
        if self._account_due and not watcher.loading:
            self._account_due = False
            self._give_account(watcher.history)
        state = self.state
        if state != self._told_state:
            if self._told_state == "crashed" or state == "crashed":
                self._seen = -1
            if state == "finished" and self._told_state in LIVE_STATES:
                watcher.history.note(WHAT_NEXT)
            if state == "crashed":
                if self._told_state is not None:
                    watcher.history.note(GONE)
                self._autopsy_due = True
            self._told_state = state
            device = watcher.history.summary.device
            if state in LIVE_STATES and device and self.minigpt.training_device is None:
                self.minigpt.training_run, self.minigpt.training_device = watcher.directory.name, device.split(" ")[0]
            if self.ui.attached != (state in LIVE_STATES):
                self.ui.attached = state in LIVE_STATES
                self.minigpt.remember()
            self.refresh_bindings()
        if self._autopsy_due and not watcher.loading:
            self._autopsy_due = False
            self.in_thread(partial(_find_out, watcher, watcher.history.summary), "post mortem")

    def _look_for_cure(self, watcher: Watcher) -> None:
        """Know which notice the cure key is for; the footer has it only while there is one."""
        from tui.panes.cure import curable

        found = curable(watcher.history.summary, obeys=watcher.running and self.state in LIVE_STATES)
        if found is not None and _identity(found) in self._cured:
            found = None
        if found != self._curable:
            self._curable, self._seen = found, -1
            self.refresh_bindings()

    def _give_account(self, history: RunHistory) -> None:
        """Say what happened while nobody looked."""
        summary = history.summary
        since = self.ui.seen_steps.get(summary.run)
        if since is None:
            return
        words = [f"{_count(summary.step - since, 'step')} since you last looked ({since:,} to {summary.step:,})"]
        if summary.step < since:
            words = [f"at step {summary.step:,}, back from {since:,}: it went on from a checkpoint"]
        if summary.best_val_loss is not None:
            words.append(f"best validation loss {number(summary.best_val_loss)} at step {summary.best_step or 0:,}")
        since_then = self.ui.seen_time
        later = [notice for notice in summary.notices if _is_warning(notice) and notice.get("time", 0) > since_then]
        words.append(_count(len(later), "warning"))
        if summary.ended is not None and summary.started is not None:
            resumed = " since it resumed" if summary.resumed_from else ""
            words.append(f"{summary.state} after {duration(summary.ended - summary.started)}{resumed}")
        history.note(words[0])
        history.note("; ".join(words[1:]))
        self._seen = -1
        self.minigpt.notify("; ".join(words), title=summary.run, timeout=8, markup=False)

    def _note_seen(self, watcher: Watcher) -> None:
        summary = watcher.history.summary
        if watcher.loading or self.ui.seen_steps.get(summary.run) == summary.step:
            return
        self.ui.seen_steps[summary.run] = summary.step
        self.ui.seen_time = summary.last_event_time or 0.0
        self._remember_in -= 1
        if self._remember_in <= 0:
            self._remember_in = REMEMBER_EVERY_TICKS
            self.minigpt.remember()

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        live = self.state in LIVE_STATES
        if action in ("pause", "send", "scale"):
            # Commands are obeyed from the lock on, not before.
            return live and self.watcher is not None and self.watcher.running
        if action == "cure":
            return self._curable is not None
        if action == "stop":
            return live
        if action == "start":
            return not live or self.query_one(ContentSwitcher).current == "ready"
        if action == "resume":
            return self.state in ("interrupted", "crashed", "failed")
        if action in ("chart", "log_axis", "axis", "recent", "smoothing", "view", "filter", "new", "ghosts"):
            return self.watcher is not None
        return True

    def action_start(self) -> None:
        self.minigpt.start_run()

    def action_resume(self) -> None:
        if self.watcher is not None:
            self.minigpt.resume_run(self.watcher.directory.name)

    def action_new(self) -> None:
        self.query_one(ContentSwitcher).current = "ready"
        self.query_one(Ready).focus_main()

    def action_pause(self) -> None:
        self.action_send("resume" if self.state == "paused" else "pause")

    def action_stop(self) -> None:
        watcher = self.watcher
        if watcher is not None and watcher.starting:
            watcher.cancel()
            return
        question = Choice(
            "Stop this run?",
            "It finishes the step it is in and saves everything. r goes on from there, today or next month.",
            [("stop", "Stop and save", "primary"), ("no", "Go on training", "default")],
        )
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
        from minigpt.notices import cure_of

        notice, watcher = self._curable, self.watcher
        cure = cure_of(notice) if notice is not None else None
        if notice is None or cure is None or watcher is None:
            return
        if "settings" in cure:
            self.in_thread(partial(self._find_weights, watcher.directory, notice), "cure")
        elif cure["command"] == "stop":
            self.action_stop()
        else:
            self._cured.add(_identity(notice))
            self.action_send(str(cure["command"]), dict(cure["args"]))

    def _find_weights(self, directory: Path, notice: Notice) -> None:
        """In a thread: look whether there are weights to begin with, then ask."""
        from minigpt.runs import best_checkpoint

        self.app.call_later(self._offer_run, directory, notice, best_checkpoint(directory))

    def _offer_run(self, directory: Path, notice: Notice, checkpoint: Path | None) -> None:
        from minigpt.notices import cure_of
        from tui.panes.cure import CureTrainers, start_cured, told

        cure = cure_of(notice)
        if cure is None:
            return
        begin = [("fork", "From its best weights", "primary")] if checkpoint is not None else []
        answers = [*begin, ("new", "From the start", "default"), ("no", "Not now", "default")]
        question = Choice(
            "Start a run with this changed?",
            f"{told(cure)} This run cannot take that on while it trains: a new one begins with it, and this one stays "
            "as it is.",
            [(name, f"{number} {label}", variant) for number, (name, label, variant) in enumerate(answers, 1)],
        )

        def answered(answer: str | None) -> None:
            if answer in ("fork", "new"):
                self._cured.add(_identity(notice))
                name = checkpoint.name if answer == "fork" and checkpoint is not None else None
                launch = partial(start_cured, self.minigpt.workspace, directory, name, cure)
                CureTrainers(self.minigpt, launch).begin()

        self.app.push_screen(question, answered)

    def action_ghosts(self) -> None:
        """Choose the runs whose loss is drawn behind this one's."""
        from tui.compare.choose import ChooseRuns
        from tui.compare.ghosts import MOST_GHOSTS

        if self.watcher is not None:
            current = self.watcher.directory.name
            self.app.push_screen(
                ChooseRuns("other runs' loss behind this one's", self.ghosts, current, MOST_GHOSTS), self._haunt
            )

    def _haunt(self, runs: list[str] | None) -> None:
        from tui.compare.ghosts import load_ghosts
        from tui.corpora.children import in_thread

        if runs is not None:
            self.ghosts = runs
            work = partial(load_ghosts, self.minigpt.workspace, runs)
            in_thread(self, work, self._take_ghosts, partial(self.minigpt.tell, "Not drawn"), "ghosts")

    def _take_ghosts(self, ghosts: list[Ghost]) -> None:
        if self._board is not None:
            self._board.ghosts = ghosts
            self._changed()

    def action_send(self, command: str, arguments: dict[str, Any] | None = None) -> None:
        """Ask the trainer for something; its answer comes in the log."""
        watcher = self.watcher
        if watcher is None:
            return
        self._outbox.append((watcher, command, dict(arguments or {})))
        # Not exclusive: a key pressed soon after must not cancel what was asked before.
        self.run_worker(self._send, name="send command", group="send command", thread=True, exit_on_error=False)

    def _send(self) -> None:
        """Send what waits, in the order it was asked for."""
        from minigpt.jobs import send_command

        with self._sending:
            while self._outbox:
                watcher, command, arguments = self._outbox.popleft()
                try:
                    send_command(watcher.directory, command, dict(arguments), by="app")
                except UserError as error:
                    self.minigpt.tell_from_thread("Not sent", str(error))
                    continue
                asked = " ".join([command, *(f"{name} {_told(value)}" for name, value in arguments.items())])
                with watcher.lock:
                    watcher.history.note(f"asked for: {asked}")
                watcher.version += 1

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


def _count(number: int, name: str) -> str:
    return f"{number or 'no':,} {name}{'' if number == 1 else 's'}" if number else f"no {name}s"


def _told(value: object) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else printable(str(value), single_line=True)


def _identity(notice: Notice) -> tuple[object, object]:
    return notice.get("time"), notice.get("message")


def _find_out(watcher: Watcher, summary: RunSummary) -> None:
    """In a thread: add to the log what most probably ended a crashed run."""
    from minigpt.post_mortem import why

    reason = why(watcher.directory, summary)
    if reason is not None:
        with watcher.lock:
            watcher.history.note(reason)
        watcher.version += 1


def _is_warning(notice: dict[str, Any]) -> bool:
    return notice.get("severity") in ("warning", "error")


def _next(choices: tuple[Choosable, ...], now: Choosable) -> Choosable:
    return choices[(choices.index(now) + 1) % len(choices)] if now in choices else choices[0]
