"""What the tasks of a preset are called, so that those who look for one find it."""

from __future__ import annotations

import re

# Where the outcome of a sweep can be read: the file of this name in its task's directory holds the name of a folder.
POINTER = "sweep"
_LONGEST = 40


def task_label(action: str, preset: str) -> str:
    """Return the beginning of the names of tasks that do something (fit, sweep) for a preset."""
    return f"{action}-" + re.sub(r"[^A-Za-z0-9._-]", "_", preset)[:_LONGEST]


def is_task_of(name: str, action: str, preset: str) -> bool:
    """Return whether a task's name is one of those, with its date and time."""
    return re.fullmatch(re.escape(task_label(action, preset)) + r"-\d{8}-\d{6}(-\d+)?", name) is not None
