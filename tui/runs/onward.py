"""Where a run leads: to a conversation, on from where it stopped, or to a new run with its weights."""

from __future__ import annotations

from collections.abc import Container
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.errors import printable
from minigpt.runs import CONFIG, LIVE_STATES, RunSummary, best_checkpoint
from tui.corpora.children import in_thread
from tui.panes.run_facts import RunFiles, Saved
from tui.widgets.dialogs import Choice

if TYPE_CHECKING:
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

    def resume(self, run: RunSummary, saved: Saved | None, files: RunFiles, taken: Container[str]) -> None:
        """Go on with a run; of an earlier checkpoint than its furthest, offer a fork."""
        app, name = self.pane.minigpt, printable(run.run, single_line=True)
        if saved is not None and saved.file.step < files.files[0].file.step:
            self._offer_fork(run, saved, files.files[0], taken)
        elif run.state in LIVE_STATES:
            app.watch_run(run.run)
        elif run.state == "finished":
            app.tell(
                "This run is finished",
                f"It has done all its {run.step:,} steps. f begins a new run from it. To give this one more, ask for "
                f"more passes over the text: minigpt train --resume {name} --epochs N",
            )
        elif run.state in ("imported", "empty"):
            app.tell("There is nothing to go on with", f"{name} has never trained here.")
        else:
            app.resume_run(run.run)

    def _offer_fork(self, run: RunSummary, saved: Saved, furthest: Saved, taken: Container[str]) -> None:
        name, last = (printable(each.file.name, single_line=True) for each in (saved, furthest))
        text = (
            f"A run goes on from the furthest of its checkpoints, and {name} (step {saved.file.step:,}) is behind "
            f"{last} (step {furthest.file.step:,}). A fork begins a new run with its weights, and with settings of "
            "yours. To repeat what came after it as it was: minigpt train --resume FILE, in a new run too."
        )
        question = Choice("An earlier checkpoint", text, [("fork", "Fork it", "primary"), ("no", "Cancel", "default")])
        forked = partial(self.fork, run, saved, taken)
        self.pane.app.push_screen(question, lambda answer: forked() if answer == "fork" else None)

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
