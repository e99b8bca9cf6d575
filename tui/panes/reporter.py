"""What is told of a watched run beside its events: why it has not started, what happened unseen, how it ended."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from minigpt.narration import duration, number
from minigpt.summary import LIVE_STATES, RunSummary

if TYPE_CHECKING:
    from minigpt.history import RunHistory
    from tui.panes.train import TrainPane
    from tui.watch import Watcher

REMEMBER_EVERY_TICKS = 20
WHAT_NEXT = "Done: 4 talks to the model, n chooses what to train next, s trains again."
GONE = "The trainer is gone without a word (killed?). r goes on from the last checkpoint."


class Reporter:
    """Reports each thing once, for the Train pane; who asks it holds the watcher's lock."""

    def __init__(self, pane: TrainPane) -> None:
        self._pane = pane
        self._told_state: str | None = None
        self._told_trouble: str | None = None
        self._account_due = False
        self._autopsy_due = False
        self._remember_in = REMEMBER_EVERY_TICKS

    def begin(self, account: bool) -> None:
        """Another run is watched from now on; with `account`, say what happened since it was last looked at."""
        self._told_state = self._told_trouble = None
        self._account_due, self._autopsy_due = account, False

    def report(self, watcher: Watcher) -> None:
        """Tell what is new about the run as a whole."""
        if watcher.trouble and watcher.trouble != self._told_trouble:
            self._told_trouble = watcher.trouble
            watcher.history.note(watcher.trouble)
            self._pane.minigpt.tell("The run has not started", f"{watcher.trouble}\n\nn goes back to the choice.")
        if self._account_due and not watcher.loading:
            self._account_due = False
            self._give_account(watcher.history)
        state = self._pane.state
        if state != self._told_state:
            self._report_state(watcher, state)
        if self._autopsy_due and not watcher.loading:
            self._autopsy_due = False
            self._pane.in_thread(partial(_find_out, watcher, watcher.history.summary), "post mortem")

    def note_seen(self, watcher: Watcher) -> None:
        """Remember up to where the person has seen the run."""
        ui, summary = self._pane.ui, watcher.history.summary
        if watcher.loading or ui.seen_steps.get(summary.run) == summary.step:
            return
        ui.seen_steps[summary.run] = summary.step
        ui.seen_time = summary.last_event_time or 0.0
        self._remember_in -= 1
        if self._remember_in <= 0:
            self._remember_in = REMEMBER_EVERY_TICKS
            self._pane.minigpt.remember()

    def _report_state(self, watcher: Watcher, state: str) -> None:
        app, ui, live = self._pane.minigpt, self._pane.ui, state in LIVE_STATES
        if self._told_state == "crashed" or state == "crashed":
            self._pane.show_anew()
        if state == "finished" and self._told_state in LIVE_STATES:
            watcher.history.note(WHAT_NEXT)
        if state == "crashed":
            if self._told_state is not None:
                watcher.history.note(GONE)
            self._autopsy_due = True
        self._told_state = state
        device = watcher.history.summary.device
        if live and device and app.training_device is None:
            app.training_run, app.training_device = watcher.directory.name, device.split(" ")[0]
        if ui.attached != live:
            ui.attached = live
            app.remember()
        self._pane.refresh_bindings()

    def _give_account(self, history: RunHistory) -> None:
        """Say what happened while nobody looked."""
        ui, summary = self._pane.ui, history.summary
        since = ui.seen_steps.get(summary.run)
        if since is None:
            return
        if since and summary.resumed_from is None and (summary.started or 0) > ui.seen_time:
            return  # it began after that: what was seen under its name was another run
        words = [f"{_count(summary.step - since, 'step')} since you last looked ({since:,} to {summary.step:,})"]
        if summary.step < since:
            words = [f"at step {summary.step:,}, back from {since:,}: it went on from a checkpoint"]
        if summary.best_val_loss is not None:
            words.append(f"best validation loss {number(summary.best_val_loss)} at step {summary.best_step or 0:,}")
        since_then = ui.seen_time
        later = [notice for notice in summary.notices if _is_warning(notice) and notice.get("time", 0) > since_then]
        words.append(_count(len(later), "warning"))
        if summary.ended is not None and summary.started is not None:
            resumed = " since it resumed" if summary.resumed_from else ""
            words.append(f"{summary.state} after {duration(summary.ended - summary.started)}{resumed}")
        history.note(words[0])
        history.note("; ".join(words[1:]))
        self._pane.show_anew()
        self._pane.minigpt.notify("; ".join(words), title=summary.run, timeout=8, markup=False)


def _find_out(watcher: Watcher, summary: RunSummary) -> None:
    """In a thread: add to the log what most probably ended a crashed run."""
    from minigpt.post_mortem import why

    reason = why(watcher.directory, summary)
    if reason is not None:
        with watcher.lock:
            watcher.history.note(reason)
        watcher.version += 1


def _count(number: int, name: str) -> str:
    return f"{number or 'no':,} {name}{'' if number == 1 else 's'}" if number else f"no {name}s"


def _is_warning(notice: dict[str, Any]) -> bool:
    return notice.get("severity") in ("warning", "error")
