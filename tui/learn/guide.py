"""Who answers when the person asks: what has the focus, what a pane is for, what a topic says of the run shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from minigpt.errors import printable
from tui.frame import GENERAL_HELP
from tui.panes.pane import Pane
from tui.panes.train import TrainPane
from tui.state import settings_path
from tui.widgets.dialogs import Choice

if TYPE_CHECKING:
    from tui.app import MiniGPTApp
    from tui.watch import Watcher

EXPLAIN_TITLE = "What is this?"
NOTHING_TO_EXPLAIN = "Move with Tab to a figure or a chart, then ? explains it. F1 opens all of help."


class Guide:
    """Shows topics with the figures of the run in the Train pane; what the first frame does not need comes later."""

    def __init__(self, app: MiniGPTApp) -> None:
        self._app = app

    @property
    def _watcher(self) -> Watcher | None:
        return self._app.query_one(TrainPane).watcher

    @property
    def _notices(self) -> list[dict[str, Any]]:
        return [] if self._watcher is None else self._watcher.history.summary.notices

    def explain(self) -> None:
        """Explain what has the focus, in a sentence for a beginner; Enter then opens the whole topic."""
        from tui.learn.subject import subject_of

        subject = subject_of(self._app.focused, self._notices)
        if subject is None or subject.topic is None:
            self._app.tell(EXPLAIN_TITLE, subject.text if subject else NOTHING_TO_EXPLAIN)
            return
        answers = [("more", "Read more", "primary"), ("ok", "Close", "default")]
        read = partial(self._read_on, subject.topic)
        self._app.push_screen(Choice(EXPLAIN_TITLE, printable(subject.text), answers), read)

    def _read_on(self, name: str, answer: str | None) -> None:
        if answer == "more":
            self.read(name)

    def read(self, name: str) -> None:
        """Open a topic."""
        from tui.learn.reader import Page, TopicReader

        self._app.push_screen(TopicReader(Page(name), self._figures()))

    def help(self, pane: Pane | None) -> None:
        """Tell what a pane is for and its keys, and lead to all topics."""
        from tui.learn.reader import TopicReader, help_page
        from tui.learn.subject import subject_of

        if pane is None:
            return
        subject = subject_of(self._app.focused, self._notices)
        text = pane.HELP + GENERAL_HELP.format(settings=settings_path())
        page = help_page(pane.TITLE, text, subject.topic if subject else None)
        self._app.push_screen(TopicReader(page, self._figures()))

    def _figures(self) -> Callable[[], Mapping[str, str]]:
        """Return what reads, in a thread, the figures of the run."""
        watcher = self._watcher
        return dict if watcher is None else partial(figures_of, watcher)


def figures_of(watcher: Watcher) -> Mapping[str, str]:
    """Return a watched run's figures as words; reads its configuration file."""
    from minigpt.learn.values import config_of, run_values

    config = config_of(watcher.directory)
    with watcher.lock:
        return run_values(watcher.history, config)
