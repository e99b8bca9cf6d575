"""The runs that are drawn behind the one that is watched: choosing them, and reading their curves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tui.compare.choose import ChooseRuns
from tui.compare.ghosts import MOST_GHOSTS, Ghost, load_ghosts
from tui.corpora.children import in_thread

if TYPE_CHECKING:
    from tui.panes.pane import Pane


class Backdrop:
    """Remembers the chosen runs as long as the app runs, and hands their ghosts to `then`."""

    def __init__(self, pane: Pane, then: Callable[[list[Ghost]], None]) -> None:
        self._pane, self._then = pane, then
        self._runs: list[str] = []

    def choose(self, watched: str) -> None:
        """Let the person choose among all runs but the one that is watched."""
        question = ChooseRuns("other runs' loss behind this one's", self._runs, watched, MOST_GHOSTS)
        self._pane.app.push_screen(question, self._load)

    def _load(self, runs: list[str] | None) -> None:
        if runs is not None:
            self._runs = runs
            work = partial(load_ghosts, self._pane.minigpt.workspace, runs)
            in_thread(self._pane, work, self._then, partial(self._pane.minigpt.tell, "Not drawn"), "ghosts")
