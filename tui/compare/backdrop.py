"""The runs that are drawn behind the one that is watched: choosing them, and reading their curves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual.timer import Timer

from minigpt.events import EVENTS
from tui.compare.choose import ChooseRuns
from tui.compare.ghosts import MOST_GHOSTS, Ghost, load_ghosts
from tui.corpora.children import in_thread

if TYPE_CHECKING:
    from minigpt.workspace import Workspace
    from tui.panes.pane import Pane

# How often curves of runs that grow are read again.
REFRESH_SECONDS = 15.0
Stamps = list[tuple[int, float]]


class Backdrop:
    """Remembers the chosen runs as long as the app runs, and hands their ghosts to `then`, anew as they grow."""

    def __init__(self, pane: Pane, then: Callable[[list[Ghost]], None]) -> None:
        self._pane, self._then = pane, then
        self._runs: list[str] = []
        self._stamps: Stamps = []
        self._timer: Timer | None = None

    def choose(self, watched: str) -> None:
        """Let the person choose among all runs but the one that is watched."""
        question = ChooseRuns("other runs' loss behind this one's", self._runs, watched, MOST_GHOSTS)
        self._pane.app.push_screen(question, self._chosen)

    def _chosen(self, runs: list[str] | None) -> None:
        if runs is not None:
            self._runs, self._stamps = runs, []
            self._load()
            self._timer = self._timer or self._pane.set_interval(REFRESH_SECONDS, self._refresh)

    def _refresh(self) -> None:
        if self._runs and self._pane.display:
            self._load()

    def _load(self) -> None:
        work = partial(_look, self._pane.minigpt.workspace, self._runs, self._stamps)
        in_thread(self._pane, work, self._take, partial(self._pane.minigpt.tell, "Not drawn"), "ghosts")

    def _take(self, found: tuple[list[Ghost], Stamps] | None) -> None:
        if found is not None:
            ghosts, self._stamps = found
            self._then(ghosts)


def _look(workspace: Workspace, runs: list[str], before: Stamps) -> tuple[list[Ghost], Stamps] | None:
    """Return the ghosts and how far the runs had come, or None where they have come no further than `before`."""
    stamps = [_stamp(workspace.checkpoints / run / EVENTS) for run in runs]
    return None if runs and stamps == before else (load_ghosts(workspace, runs), stamps)


def _stamp(path: Path) -> tuple[int, float]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0.0
    return found.st_size, found.st_mtime
