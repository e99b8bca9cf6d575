"""Trainers as the app deals with them: start one, ask where another is at work, know what trains on this machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from minigpt.errors import UserError
from tui.widgets.dialogs import Choice

if TYPE_CHECKING:
    from minigpt.start import Started
    from tui.app import MiniGPTApp

    Start = Callable[[list[str]], Started]


class Trainers:
    """Starts trainers off the event loop; what the first frame does not need is imported where it is used."""

    def __init__(self, app: MiniGPTApp) -> None:
        self.app = app
        self._started: Started | None = None  # the one that was started last

    def begin(self, run: str | None = None, start: Start | None = None) -> None:
        """Start a new run of what is chosen, go on with `run`, or begin one in another way.

        `start` is called in a thread with more arguments for the trainer; it may raise UserError or OSError.
        """
        self._in_thread(lambda: self._ask_and_start(run, start or partial(self._start_usual, run)), "start")

    def look(self) -> None:
        """Learn anew what trains."""
        self._in_thread(self._look_for_training, "look")

    def _in_thread(self, work: Callable[[], None], group: str) -> None:
        # What cannot be looked up now is looked up again soon: no reason to leave.
        fatal = group != "look"
        self.app.run_worker(work, name=group, group=group, thread=True, exclusive=True, exit_on_error=fatal)

    def _ask_and_start(self, run: str | None, start: Start) -> None:
        """Start a run, or watch `run` where it is at work; asks where another one is."""
        from minigpt.start import running_runs

        running = running_runs(self.app.workspace)
        started = self._started
        if started is not None and started.alive and started.directory.name not in running:
            text = f"{started.directory.name} is about to begin. Wait until it trains, or stop it, then try again."
            self.app.tell_from_thread("A run is just starting", text)
            return
        if run in running:
            self.app.call_later(self.app.watch_run, run)
            return
        if not running:
            self._launch([], start)
            return
        question = Choice(
            "A run is training",
            f"{running[0]} is at work on this machine. Beside it, both are slower and need memory for two; "
            "after it, the new one waits until that one has ended.",
            [("after", "1 After it", "primary"), ("beside", "2 Beside it", "default"), ("no", "3 Not now", "default")],
        )
        self.app.call_later(self.app.push_screen, question, lambda answer: self._answered(answer, running[0], start))

    def _answered(self, answer: str | None, running: str, start: Start) -> None:
        arguments = {"after": ["--after", running], "beside": []}.get(answer or "")
        if arguments is not None:
            self._in_thread(lambda: self._launch(arguments, start), "start")

    def _start_usual(self, run: str | None, arguments: list[str]) -> Started:
        from minigpt.start import start_new, start_resumed

        state = self.app.state
        if run is None:
            return start_new(self.app.workspace, state.preset, state.corpus, arguments)
        return start_resumed(self.app.workspace, run, arguments)

    def _launch(self, arguments: list[str], start: Start) -> None:
        from tui.watch import Watcher

        try:
            self._started = start(arguments)
        except (UserError, OSError) as error:
            self.app.tell_from_thread("Not started", str(error))
            return
        self.app.call_later(self.app.show_run, Watcher(self._started.directory, self._started), False)

    def _look_for_training(self) -> None:
        """Learn what trains on this machine, watched or not: the chat leaves it the room it needs."""
        from minigpt.start import running_runs, training_device

        running = running_runs(self.app.workspace)
        self.app.training_run = running[0] if running else None
        devices = [training_device(self.app.workspace.checkpoints / run) for run in running]
        # A GPU that trains matters more than a processor that does.
        self.app.training_device = next(
            (kind for kind in devices if kind not in (None, "cpu")), devices[0] if devices else None
        )
