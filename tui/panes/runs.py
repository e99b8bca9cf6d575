"""The Runs pane: every run of the workspace, how it stands, and what can be done with it."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.timer import Timer
from textual.worker import Worker, WorkerState

from minigpt.errors import UserError, printable
from minigpt.narration import size
from minigpt.runs import LIVE_STATES, RunCache, RunSummary, best_checkpoint, delete_run
from minigpt.workspace import Workspace
from tui.panes.pane import Pane
from tui.panes.run_facts import RunFiles, facts_of, files_of, look_for_files, row_of
from tui.widgets.browser import Browser
from tui.widgets.dialogs import confirm
from tui.widgets.listing import Column, Listing

HELP = """\
A **run** is one training with all that belongs to it: settings, history, checkpoints.

- **Enter** or **w** shows the run in the Train pane; one that is at work goes on whether you watch or not.
- **c** talks to its best checkpoint. **r** goes on with a run that was stopped or broke off.
- **d** deletes it with all its files, after asking.
"""
COLUMNS = (
    Column("run", flexible=True, widest=48),
    Column("state"),
    Column("step", right=True, widest=21),
    Column("best loss", right=True, widest=9),
    Column("parameters", right=True, rank=3),
    Column("corpus", widest=20, rank=2),
    Column("age", right=True, rank=1),
)
EXPLAIN = (
    "All runs, the newest first. The best loss is the lowest one on text kept aside: lower is better, but only runs on "
    "the same text with the same tokenizer compare.",
    "How the run stands, its checkpoints (each is a whole model in one file), and the last things worth a notice.",
)
EMPTY = "There are no runs yet. Go to Train (key 1) and press s: the preset and the text are chosen already."
REFRESH_SECONDS = 3.0


class RunsPane(Pane):
    """A table of runs that follows those at work while it is shown."""

    TITLE = "Runs"
    HELP = HELP
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,w", "watch", "Watch", id="runs.watch", tooltip="Show this run in the Train pane"),
        Binding("c", "chat", "Chat", id="runs.chat", tooltip="Talk to the run's best checkpoint"),
        Binding("r", "resume", "Resume", id="runs.resume", tooltip="Go on with a run that was stopped or broke off"),
        Binding("d", "delete", "Delete", id="runs.delete", tooltip="Delete the run and all its files, after asking"),
    ]

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.runs: dict[str, RunSummary] = {}
        self.files = RunFiles("")
        self.browser = Browser(COLUMNS, "runs", "Looking …", EXPLAIN)
        self._cache: RunCache | None = None
        self._front = False
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        yield self.browser

    def shown(self) -> None:
        self._front = True
        self.browser.listing.focus()
        self._load()

    def hidden(self) -> None:
        self._front = False

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        group, result = event.worker.group, event.worker.result
        if event.state is WorkerState.ERROR:
            self.browser.note(f"not read: {event.worker.error}")
        elif event.state is WorkerState.SUCCESS:
            if group == "runs":
                self._take(result or [])
            elif group == "files" and result is not None:
                self._take_files(result)
            elif group == "chat":
                self._chat_with(result)
            elif group == "delete":
                self._deleted(result)
        if group == "runs" and event.state in (WorkerState.SUCCESS, WorkerState.ERROR):
            self._look_again()

    # -- what is shown

    def _load(self) -> None:
        self._cache = self._cache or RunCache(self.minigpt.workspace)
        self.in_thread(self._cache.list_runs, "runs")

    def _look_again(self) -> None:
        """Ask again in a while, once: a slow disk is not asked while it still answers."""
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(REFRESH_SECONDS, self._refresh)

    def _refresh(self) -> None:
        if self._front:
            self._load()

    def _take(self, summaries: list[RunSummary]) -> None:
        first = not self.runs
        self.runs = {summary.run: summary for summary in summaries}
        listing = self.browser.listing
        listing.empty = EMPTY
        now = time.time()
        listing.set_rows(row_of(summary, now) for summary in summaries)
        if first and self.minigpt.state.run:
            listing.move_to(self.minigpt.state.run)
        self.browser.note(f"{len(summaries)} runs" if len(summaries) > 1 else "")
        if not summaries:
            listing.refresh()
        self._show_details()
        self._look_for_files()

    def _look_for_files(self) -> None:
        if (summary := self._current) is not None:
            self.in_thread(partial(look_for_files, self._directory(summary.run), summary), "files")

    def _take_files(self, files: RunFiles) -> None:
        self.files = files
        self._show_details()

    def _show_details(self, top: bool = False) -> None:
        summary = self._current
        if summary is None:
            self.browser.show_details(Content(""), Content(""), top)
            return
        now = time.time()
        known = self.files if self.files.run == summary.run else RunFiles(summary.run)
        self.browser.show_details(facts_of(summary, now), files_of(known, summary, now), top)

    @property
    def _current(self) -> RunSummary | None:
        return self.runs.get(self.browser.listing.key or "")

    def _directory(self, run: str) -> Path:
        # Not Workspace.run_directory: a folder may have a name that no new run could get.
        return self.minigpt.workspace.checkpoints / run

    def on_listing_highlighted(self, event: Listing.Highlighted) -> None:
        self._show_details(top=True)
        self._look_for_files()

    def on_listing_chosen(self, event: Listing.Chosen) -> None:
        self.action_watch()

    # -- what can be done

    def action_watch(self) -> None:
        if (summary := self._current) is not None:
            self.minigpt.watch_run(summary.run)

    def action_resume(self) -> None:
        summary = self._current
        if summary is None:
            return
        run = printable(summary.run, single_line=True)
        if summary.state in LIVE_STATES:
            self.minigpt.watch_run(summary.run)
        elif summary.state == "finished":
            self.minigpt.tell(
                "This run is finished",
                f"It has done all its {summary.step:,} steps. To give it more, ask for more passes over the text: "
                f"minigpt train --resume {run} --epochs N",
            )
        elif summary.state in ("imported", "empty"):
            self.minigpt.tell("There is nothing to go on with", f"{run} has never trained here.")
        else:
            self.minigpt.resume_run(summary.run)

    def action_chat(self) -> None:
        if (summary := self._current) is not None:
            self.in_thread(partial(best_checkpoint, self._directory(summary.run)), "chat")

    def _chat_with(self, checkpoint: Path | None) -> None:
        if checkpoint is None:
            self.minigpt.tell(
                "No checkpoint yet",
                "This run has saved no model to talk to. One at work saves its first within thirty seconds or a tenth "
                "of the run.",
            )
        else:
            self.minigpt.chat_with(checkpoint)

    def action_delete(self) -> None:
        summary = self._current
        if summary is None:
            return
        run = printable(summary.run, single_line=True)
        if summary.state in LIVE_STATES:
            self.minigpt.tell(
                "This run is at work", f"{run} is {summary.state}. Stop it first (in the Train pane), then delete it."
            )
            return
        files = self.files.files if self.files.run == summary.run else ()
        told = f"its {len(files)} checkpoints ({size(sum(file.bytes for file in files))}), " if files else ""
        question = f"{run}: {told}its history and its settings are removed for good. Nothing brings them back."
        dialog = confirm("Delete this run?", question, yes="Delete", no="Keep")
        self.app.push_screen(dialog, partial(self._delete, summary.run))

    def _delete(self, run: str, answer: str | None) -> None:
        if answer == "yes":
            self.browser.note("deleting …")
            self.in_thread(partial(deleted, self.minigpt.workspace, run), "delete")

    def _deleted(self, problem: str | None) -> None:
        self.browser.note("")
        if problem:
            self.minigpt.tell("The run was not deleted", problem)
        self._load()


def deleted(workspace: Workspace, run: str) -> str | None:
    """Delete a run; return in words what stood in the way."""
    try:
        delete_run(workspace.checkpoints / run)
    except UserError as error:
        return str(error)
    return None
