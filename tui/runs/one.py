"""One run of the list: its facts, its latest notices, its checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content

from minigpt.runs import BEST, FINAL, RunSummary
from tui.corpora.children import in_thread
from tui.panes.run_facts import RunFiles, Saved, facts_of, look_for_files, notices_of
from tui.runs.checkpoints import CheckpointTable
from tui.widgets.browser import Details

EXPLAIN = "How the run stands, what can be done with it, and the last things worth a notice."


class OneRun(Container):
    """Shows a run by its summary at once, and by its files when they have been looked for in a thread."""

    def __init__(self, directory: Callable[[str], Path], failed: Callable[[str], None]) -> None:
        super().__init__(classes="one")
        self._directory, self._failed = directory, failed
        self._run: RunSummary | None = None
        self._found = RunFiles("")
        self.details = Details(EXPLAIN)
        self.details.border_title = "details"
        self.checkpoints = CheckpointTable()

    def compose(self) -> ComposeResult:
        yield self.details
        yield self.checkpoints

    def show(self, run: RunSummary | None, top: bool = False) -> None:
        """Show a run, from the `top` of its facts if that is wanted."""
        self._run = run
        now = time.time()
        if run is None:
            self.details.show(Content(""), Content(""))
            self.checkpoints.take(RunFiles(""), now)
            return
        self.details.show(facts_of(run, self._files, now), notices_of(run))
        self.checkpoints.take(self._files, now)
        if top:
            self.details.scroll_home(animate=False)

    def look_for_files(self) -> None:
        """Look in a thread for the files of the run that is shown, then show them."""
        if self._run is not None:
            work = partial(look_for_files, self._directory(self._run.run), self._run)
            in_thread(self, work, self._take_files, self._failed, "files")

    def _take_files(self, files: RunFiles) -> None:
        self._found = files
        self.show(self._run)

    @property
    def _files(self) -> RunFiles:
        """What is known of the files of the run that is shown."""
        run = "" if self._run is None else self._run.run
        return self._found if self._found.run == run else RunFiles(run)

    @property
    def best(self) -> Saved | None:
        """The run's best checkpoint, as far as its files are known."""
        by_name = {saved.file.name: saved for saved in self._files.files}
        return next((by_name[name] for name in (BEST, FINAL, *by_name) if name in by_name), None)
