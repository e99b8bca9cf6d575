"""How a person comes to a run when the app is opened: the one asked for, the one at work, the one of the last time."""

from __future__ import annotations

from minigpt.runs import find_run
from minigpt.start import running_runs
from minigpt.workspace import Workspace
from tui.state import UIState


def run_to_show(workspace: Workspace, asked: str | None, state: UIState) -> str | None:
    """Return the run asked for, else the one at work, else the one that was at work when the app was last here.

    Raises UserError where there is no run of the name that was asked for.
    """
    if asked:
        return find_run(workspace, asked).name
    running = running_runs(workspace)
    remembered = state.run if state.attached else None
    found = remembered if remembered in running or not running else running[0]
    return found if found and (workspace.checkpoints / found).is_dir() else None
