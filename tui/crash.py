"""What is left of an accident in the app: a file with the details, and a sentence for the person."""

from __future__ import annotations

import traceback

from minigpt.workspace import Workspace
from tui.state import app_folder

CRASH_LOG = "app-error.txt"


def told_of_crash(workspace: Workspace, error: Exception) -> str:
    """Write what went wrong to a file of the workspace, and return what to tell the person."""
    path = app_folder(workspace) / CRASH_LOG
    details = "".join(traceback.format_exception(error))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(details)
        where = f" The details are in {path}; please report them."
    except OSError:
        where = ""
    return f"This is a mistake in MiniGPT, not yours: {type(error).__name__}.{where} Training is not touched."
