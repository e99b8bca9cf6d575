"""Adding, preparing, stopping, removing: what the Corpus pane has others do, and how they fared.

desk = Desk(pane, children, moved=pane.show_rows, changed=pane.reload)
desk.start("add", "novels", ["corpus", "add", "novels", "/home/me/novels"])
desk.works["novels"].doing                      # "adding 42%"
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from textual.timer import Timer

from minigpt.errors import UserError, printable
from minigpt.jobs import send_command
from minigpt.tasks import StartedTask, start_task
from tui.corpora.children import Children, in_thread
from tui.corpora.tasks import TaskBoard, Work
from tui.state import app_folder
from tui.widgets.dialogs import Choice

if TYPE_CHECKING:
    from tui.panes.pane import Pane

POLL_SECONDS, HIDDEN_SECONDS = 0.5, 2.0
_OLD_SECONDS = 3600.0
_WHAT = {"add": "The text was not added", "prepare": "No tokens were made"}


class Removed(NamedTuple):
    """A corpus out of sight, and what brings it back."""

    name: str
    restore: str
    chosen: bool


class Desk:
    """Starts tasks for a pane and follows all there are; nothing it does holds the event loop."""

    def __init__(
        self, pane: Pane, children: Children, moved: Callable[[], None], changed: Callable[[str | None], None]
    ) -> None:
        """`moved` is called when tasks stand otherwise, `changed` when corpora may, with the one that is new."""
        self.pane, self.children, self.moved, self.changed = pane, children, moved, changed
        self.works: dict[str, Work] = {}  # those at work, by corpus
        self.removed: list[Removed] = []
        self.front = False
        self._board: TaskBoard | None = None
        self._timer: Timer | None = None
        self._arguments: dict[str, tuple[str, str, list[str]]] = {}  # by task: how to try again
        self._scratch: dict[str, Path] = {}
        self._at_work: set[str] = set()
        self._telling = False

    # Tasks

    def look(self) -> None:
        """Learn how all tasks stand; goes on by itself as long as one is at work."""
        in_thread(self.pane, self._look, self._take, self._not_read, "tasks")

    def start(self, action: str, corpus: str, arguments: list[str], scratch: Path | None = None) -> None:
        """Start a task; `scratch` is a file that goes when it has ended."""

        def work() -> StartedTask:
            try:
                task = start_task(self.pane.minigpt.workspace, f"{action}-{corpus}", arguments)
            except ValueError as error:  # a NUL, or half of a character
                raise UserError(f"The system takes no such words ({error}): write them anew.") from error
            self._board_here().started(task)
            return task

        def begun(task: StartedTask) -> None:
            self._arguments[task.directory.name] = (action, corpus, arguments)
            if scratch is not None:
                self._scratch[task.directory.name] = scratch
            self.look()

        in_thread(self.pane, work, begun, partial(self.pane.minigpt.tell, _WHAT[action]), f"start-{action}-{corpus}")

    def stop(self, work: Work) -> None:
        """Ask a task to end."""
        directory = self.pane.minigpt.workspace.tasks / work.name
        ask = partial(send_command, directory, "stop", by="app")
        in_thread(self.pane, ask, lambda _: self.look(), partial(self.pane.minigpt.tell, "Not stopped"), "stop")

    def _board_here(self) -> TaskBoard:
        self._board = self._board or TaskBoard(self.pane.minigpt.workspace)
        return self._board

    def _look(self) -> list[Work]:
        # Other panes have tasks of their own.
        works = [work for work in self._board_here().look() if work.action in _WHAT]
        if all(work.state.ended for work in works):
            self._forget_old_scratch()
        return works

    def _take(self, works: list[Work]) -> None:
        at_work = [work for work in works if not work.state.ended]
        self.works = {work.corpus: work for work in at_work}
        ended = [work for work in works if work.state.ended and work.name in self._at_work]
        self._at_work = {work.name for work in at_work}
        self.moved()
        if ended:
            added = (work.corpus for work in ended if work.state.state == "done" and work.action == "add")
            self.changed(next(added, None))
        for work in ended:
            if work.state.state == "done":
                self._rejoice(work)
        for work in works:
            if work.state.ended and work.owed:
                self._settle(work)
        self._look_again(bool(at_work))

    def _not_read(self, problem: str) -> None:
        self._look_again(bool(self.works))

    def _look_again(self, busy: bool) -> None:
        if self._timer is not None:
            self._timer.stop()
        if busy:
            self._timer = self.pane.set_timer(POLL_SECONDS if self.front else HIDDEN_SECONDS, self.look)

    def _rejoice(self, work: Work) -> None:
        done = {"add": "is added", "prepare": "is cut into tokens"}.get(work.action, "is done")
        self.pane.notify(printable(f"{work.corpus} {done}."), markup=False)

    def _settle(self, work: Work) -> None:
        """Tell how a task ended that the app started: once, and an error when the person is here."""
        failed = work.state.state not in ("done", "cancelled")
        if failed and (self._telling or not self.front or len(self.pane.app.screen_stack) > 1):
            return
        if scratch := self._scratch.pop(work.name, None):
            # One that failed is to be tried again from the same file.
            if failed:
                self._scratch[work.name] = scratch
            else:
                in_thread(self.pane, partial(scratch.unlink, missing_ok=True), _nothing, _nothing, f"tidy {work.name}")
        in_thread(self.pane, partial(self._board_here().told, work.name), _nothing, _nothing, f"told {work.name}")
        if failed:
            self._telling = True
            self.pane.app.push_screen(self._trouble(work), partial(self._answered, work))

    def _trouble(self, work: Work) -> Choice:
        title = _WHAT[work.action]
        if work.state.error == "CredentialsMissing":
            title = "An account is needed"
        answers = [("ok", "OK", "primary")]
        if work.name in self._arguments:
            answers = [("ok", "1 OK", "primary"), ("again", "2 Try again", "default")]
        text = work.state.message or "It ended without a word: start it again."
        return Choice(title, printable(f"{work.corpus}: {text}"), answers)

    def _answered(self, work: Work, answer: str | None) -> None:
        self._telling = False
        if answer == "again":
            self.start(*self._arguments[work.name], self._scratch.pop(work.name, None))
        else:
            self.look()  # another one may wait to be told

    # Text on its way into a corpus

    @property
    def scratch_folder(self) -> Path:
        """Where pasted and fetched text lies until it is in a corpus."""
        return app_folder(self.pane.minigpt.workspace) / "incoming"

    def _forget_old_scratch(self) -> None:
        """Remove what a session left that ended before its text was added."""
        with suppress(OSError):
            for path in self.scratch_folder.iterdir():
                if time.time() - path.stat().st_mtime > _OLD_SECONDS and path not in tuple(self._scratch.values()):
                    path.unlink(missing_ok=True)

    # Removal

    def remove(self, corpus: str, chosen: bool) -> None:
        """Put a corpus out of sight; `undo` brings it back."""

        def work() -> Removed:
            answer = self._ask(["corpus", "remove", corpus, "--yes", "--json"])
            if not isinstance(answer, dict) or "restore" not in answer:
                raise UserError("minigpt did not say how to bring it back: look for it with `minigpt corpus list`.")
            return Removed(corpus, str(answer["restore"]), chosen)

        in_thread(
            self.pane, work, self._take_removed, partial(self.pane.minigpt.tell, "The corpus was not removed"), "remove"
        )

    def _take_removed(self, removed: Removed) -> None:
        self.removed.append(removed)
        if removed.chosen:
            self.pane.minigpt.choose_corpus("sample")
        self.changed(None)

    def undo(self) -> None:
        """Bring back the corpus that was removed last."""
        if not self.removed:
            return
        removed = self.removed.pop()
        work = partial(self._ask, ["corpus", "restore", removed.restore, "--json"])
        in_thread(
            self.pane, work, partial(self._take_restored, removed), partial(self._not_restored, removed), "restore"
        )

    def _take_restored(self, removed: Removed, answer: object) -> None:
        if removed.chosen:
            self.pane.minigpt.choose_corpus(removed.name)
        self.pane.notify(f"{removed.name} is back.", markup=False)
        self.changed(removed.name)

    def _not_restored(self, removed: Removed, problem: str) -> None:
        self.removed.append(removed)
        self.pane.minigpt.tell("The corpus was not brought back", problem)

    def _ask(self, arguments: Sequence[str]) -> object:
        return self.children.ask(self.pane.minigpt.workspace, arguments)

    def leave(self) -> None:
        """Delete for good what was removed: by a process that outlives the app."""
        for removed in self.removed:
            self.children.leave_behind(self.pane.minigpt.workspace, ["corpus", "purge", removed.restore])
        self.removed.clear()


def _nothing(_: object) -> None:
    """There is nobody to tell."""
