"""Where a run leads: to a conversation, on from where it stopped, or to a new run with its weights."""

from __future__ import annotations

from collections.abc import Container
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.errors import printable
from minigpt.runs import CONFIG, LIVE_STATES, RunSummary, best_checkpoint, new_run_name
from minigpt.workspace import Workspace
from tui.corpora.children import in_thread
from tui.panes.run_facts import RunFiles, Saved
from tui.widgets.dialogs import Choice

if TYPE_CHECKING:
    from minigpt.start import Started
    from tui.panes.pane import Pane


class Onward:
    """Does it, or says why it cannot be done. `saved` is the checkpoint that is meant, None the run as a whole."""

    def __init__(self, pane: Pane) -> None:
        self.pane = pane

    def directory(self, run: RunSummary) -> Path:
        return self.pane.minigpt.workspace.checkpoints / run.run

    def chat(self, run: RunSummary, saved: Saved | None) -> None:
        """Talk to a checkpoint, or to the run's best."""
        if saved is not None:
            self.pane.minigpt.chat_with(self.directory(run) / saved.file.name)
            return

        def talk(checkpoint: Path | None) -> None:
            if checkpoint is None:
                self._tell_of_no_checkpoint(run)
            else:
                self.pane.minigpt.chat_with(checkpoint)

        def failed(problem: str) -> None:
            self.pane.minigpt.tell("No checkpoint", problem)

        in_thread(self.pane, partial(best_checkpoint, self.directory(run)), talk, failed, "chat")

    def resume(self, run: RunSummary, saved: Saved | None, files: RunFiles) -> None:
        """Go on with a run; from an earlier checkpoint than its furthest, in a new run, after asking."""
        app, name = self.pane.minigpt, printable(run.run, single_line=True)
        earlier = saved is not None and saved.file.step < files.files[0].file.step
        if run.state in ("imported", "empty"):
            app.tell("There is nothing to go on with", f"{name} has never trained here.")
        elif saved is not None and earlier:
            self._go_back(run, saved, files.files[0])
        elif run.state in LIVE_STATES:
            app.watch_run(run.run)
        elif run.state == "finished":
            app.tell(
                "This run is finished",
                f"It has done all its {run.step:,} steps. f begins a new run from it. To give this one more, ask for "
                f"more passes over the text: minigpt train --resume {name} --epochs N",
            )
        else:
            app.resume_run(run.run)

    def _go_back(self, run: RunSummary, saved: Saved, furthest: Saved) -> None:
        """Go on from an earlier checkpoint: in a new run, for in its own it would overwrite what came after it."""
        app = self.pane.minigpt
        if run.state in LIVE_STATES:
            app.tell(
                "This run is at work",
                f"{printable(run.run, single_line=True)} is {run.state}. Stop it first (in the Train pane), then go on "
                "from an earlier checkpoint of it; f begins a new run from it now.",
            )
            return
        work = partial(new_run_name, app.workspace, run.run)
        ask = partial(self._ask_to_go_back, run, saved, furthest)
        in_thread(self.pane, work, ask, partial(app.tell, "Not started"), "resume")

    def _ask_to_go_back(self, run: RunSummary, saved: Saved, furthest: Saved, new: str) -> None:
        app, name = self.pane.minigpt, printable(run.run, single_line=True)
        file, last = (printable(each.file.name, single_line=True) for each in (saved, furthest))
        text = (
            f"{file} (step {saved.file.step:,}) is behind {last} (step {furthest.file.step:,}). A new run, {new}, goes "
            f"on from it with the same settings and in the same order of texts. {name} stays as it is, with all that "
            "came later. For other settings, fork it: f."
        )
        question = Choice("Go on from here?", text, [("go", "1 Go on", "primary"), ("no", "2 Cancel", "default")])
        start = partial(start_from, app.workspace, run.run, saved.file.name, new)
        app.push_screen(question, lambda answer: app.trainers.begin(start=start) if answer == "go" else None)

    def fork(self, run: RunSummary, saved: Saved | None, taken: Container[str]) -> None:
        """Ask for a new run that begins with the weights of a checkpoint; its name is to be none of those `taken`."""
        if saved is None:
            self._tell_of_no_checkpoint(run)
            return
        from tui.runs.forking import ForkForm, fork

        form = ForkForm(run, saved, self.directory(run), taken)
        self.pane.app.push_screen(form, partial(fork, self.pane.minigpt))

    def _tell_of_no_checkpoint(self, run: RunSummary) -> None:
        if run.state in LIVE_STATES:
            told = "This run has saved no model so far. Its first comes within thirty seconds or a tenth of the run."
        else:
            told = "This run ended before it saved a model. Its settings are there to begin anew with: "
            told += f"minigpt train --config checkpoints/{printable(run.run, single_line=True)}/{CONFIG}"
        self.pane.minigpt.tell("No checkpoint", told)


def start_from(workspace: Workspace, run: str, checkpoint: str, name: str, more: list[str]) -> Started:
    """Go on from a checkpoint of a run in a new one, with more arguments for its trainer; raises UserError, OSError."""
    from minigpt.start import start_resumed_from

    return start_resumed_from(workspace, run, checkpoint, name, more)
