"""What the Runs pane does to runs: names, notes, deletion, replays. Each is asked for, then done in a thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt.errors import UserError, printable
from minigpt.narration import size
from minigpt.runs import LIVE_STATES, RunSummary, delete_run, rename_run, set_note
from minigpt.workspace import Workspace
from tui.corpora.children import in_thread
from tui.runs.replaying import Verdict, in_words
from tui.widgets.dialogs import Ask, Choice

if TYPE_CHECKING:
    from tui.panes.pane import Pane


# Trains a part of a run again, from a checkpoint if one is named: for threads.
Replay = Callable[[Workspace, str, "str | None"], Verdict]


class RunDesk:
    """Asks the person and does it; `reload` is called with a run's name when the list has changed."""

    def __init__(
        self, pane: Pane, replay: Replay, reload: Callable[[str | None], None], say: Callable[[str], None]
    ) -> None:
        self.pane, self.replay, self.reload, self.say = pane, replay, reload, say
        self.verifying: str | None = None  # the run that is replayed now

    @property
    def doing(self) -> str:
        """What goes on now, in words; nothing where nothing does."""
        return f"replaying {self.verifying} … v stops it" if self.verifying else ""

    def directory(self, run: str) -> Path:
        # Not Workspace.run_directory: a folder may have a name that no new run could get.
        return self.pane.minigpt.workspace.checkpoints / run

    # Names and notes

    def rename(self, run: RunSummary) -> None:
        if self._is_at_work(run, "rename"):
            return
        question = "Its new name: letters, digits, '.', '_' and '-'. Its checkpoints and its history go with it."
        dialog = Ask("Rename this run", question, printable(run.run, single_line=True))
        self.pane.app.push_screen(dialog, partial(self._rename, run.run))

    def _rename(self, run: str, name: str | None) -> None:
        name = (name or "").strip()
        if name and name != run:
            work = partial(rename_run, self.directory(run), name)
            self._do(work, lambda _: self._renamed(run, name), "The run was not renamed", "rename")

    def _renamed(self, run: str, name: str) -> None:
        self.pane.minigpt.run_renamed(run, name)
        self.reload(name)

    def annotate(self, run: RunSummary) -> None:
        question = "A line to remember it by: what was tried, what came of it. Nothing takes the note away."
        self.pane.app.push_screen(Ask("Note", question, run.note), partial(self._annotate, run.run))

    def _annotate(self, run: str, text: str | None) -> None:
        if text is not None:
            work = partial(set_note, self.directory(run), text.strip())
            self._do(work, lambda _: self.reload(None), "The note was not kept", "note")

    # Deletion

    def delete(self, run: RunSummary, marked: Sequence[RunSummary]) -> None:
        """Ask whether a run goes; one that is marked may take the others that are marked with it."""
        others = [other for other in marked if other.run != run.run] if run in marked else []
        if self._is_at_work(run, "delete"):
            return
        told = f"{_called(run)}: its checkpoints, its history and its settings"
        told += f" ({size(run.disk_bytes)})" if run.disk_bytes else ""
        question = f"{told} are removed for good. Nothing brings them back."
        answers = [("no", "Keep", "default"), ("yes", "Delete", "error")]
        doomed = [run, *(other for other in others if other.state not in LIVE_STATES)]
        if len(doomed) > 1:
            total = size(sum(each.disk_bytes or 0 for each in doomed))
            question += f"\n\nOr all that are marked, {total}: {', '.join(map(_called, doomed))}."
            answers = [answers[0], ("yes", "This one", "error"), ("all", f"All {len(doomed)}", "error")]
        names = [each.run for each in doomed]
        self.pane.app.push_screen(Choice("Delete this run?", question, answers), partial(self._delete, names))

    def _delete(self, runs: list[str], answer: str | None) -> None:
        doomed = {"yes": runs[:1], "all": runs}.get(answer or "", [])
        if doomed:
            self.say("deleting …")
            work = partial(_delete_all, [self.directory(run) for run in doomed])
            self._do(work, lambda _: self.reload(None), "The run was not deleted", "delete")

    # Replaying

    def verify(self, run: RunSummary, checkpoint: str | None = None) -> None:
        """Have a part of a run trained again and compared with what it recorded; a second time, stop that."""
        if self.verifying is not None:
            self.pane.workers.cancel_group(self.pane, "verify")
            self.verifying = None
            self.say("the replay was stopped")
            return
        if self._is_at_work(run, "replay"):
            return
        self.verifying = run.run
        self.say("")
        work = partial(self.replay, self.pane.minigpt.workspace, run.run, checkpoint)
        in_thread(self.pane, work, partial(self._verified, run.run), self._not_verified, "verify")

    def _verified(self, run: str, verdict: Verdict) -> None:
        self._tell(*in_words(run, verdict))

    def _not_verified(self, problem: str) -> None:
        self._tell("Not replayed", problem)

    def _tell(self, title: str, text: str) -> None:
        self.verifying = None
        self.say("")
        self.pane.minigpt.tell(title, text)

    # Common to all

    def _is_at_work(self, run: RunSummary, what: str) -> bool:
        live = run.state in LIVE_STATES
        if live:
            text = f"{_called(run)} is {run.state}. Stop it first (in the Train pane), then {what} it."
            self.pane.minigpt.tell("This run is at work", text)
        return live

    def _do(self, work: Callable[[], Any], then: Callable[[Any], object], title: str, group: str) -> None:
        def failed(problem: str) -> None:
            self.pane.minigpt.tell(title, problem)
            self.reload(None)

        in_thread(self.pane, work, then, failed, group)


def _called(run: RunSummary) -> str:
    return printable(run.run, single_line=True)


def _delete_all(directories: Sequence[Path]) -> None:
    """Delete runs one by one; raises UserError with what stood in the way of those that stay."""
    problems = []
    for directory in directories:
        try:
            delete_run(directory)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
