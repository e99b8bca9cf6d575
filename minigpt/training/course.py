"""The course of a run as its events tell it: which checkpoints lie on it, which were given up, how often it went back.

A `start` event with `rolled_back_from` is a resumption within the process: the run went back from there to its
`resumed_from`, and on with the `lr_scale` that the event tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minigpt.events import outline


class Course:
    """What a run's events tell of its checkpoints: the step of each file by its name."""

    def __init__(self, directory: Path) -> None:
        self.saved: dict[str, int] = {}
        self.given_up: dict[str, int] = {}  # of a branch that the run has gone back behind
        self.rollbacks = 0
        for event in outline(directory):
            if event.get("type") == "checkpoint":
                self._take_checkpoint(event)
            elif event.get("type") == "start":
                self._take_start(event)

    def _take_checkpoint(self, event: Mapping[str, Any]) -> None:
        path, step = event.get("path"), event.get("step")
        if isinstance(path, str) and isinstance(step, int):
            # By name: the run may have been moved since, and no event points outside its directory.
            name = Path(path).name
            self.saved[name] = step
            self.given_up.pop(name, None)

    def _take_start(self, event: Mapping[str, Any]) -> None:
        resumed = event.get("resumed_from")
        last = resumed if isinstance(resumed, int) else -1
        beyond = {name: step for name, step in self.saved.items() if step > last}
        self.saved = {name: step for name, step in self.saved.items() if step <= last}
        if is_rollback(event):
            self.rollbacks += 1
            self.given_up |= beyond


def is_rollback(event: Mapping[str, Any]) -> bool:
    """Return whether a `start` event tells that the run went back to a checkpoint by itself."""
    return isinstance(event.get("rolled_back_from"), int)


def rollback_id(number: int) -> str:
    """Return the id of the `set` that belongs to a run's rollback of that number, counted from 1."""
    return f"rollback-{number}"
