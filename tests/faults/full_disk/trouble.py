"""Trouble with a run's disk or folder, from a step on until the run has given notice of it; and what it then tells."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from minigpt.model.checkpoint import load
from minigpt.training.session import Session
from minigpt.workspace import Workspace
from tests.conftest import small_config
from tests.faults.mounts import fill

Event = dict[str, Any]
# Saves at 4 and 8 and at the end; what lies between is in no checkpoint.
SETTINGS = {"training__save_every": 4, "training__eval_every": 1000, "training__max_steps": 12}
# Enough for what a run tells, too little for a checkpoint.
LITTLE = 64 << 10


def made(workspace: Workspace, **changes: object) -> Session:
    """Make the run `night` of twelve steps; `changes` are settings keyed section__name."""
    return Session.new(workspace, small_config(**{**SETTINGS, **changes}), run="night", say=lambda _: None)


class Trouble:
    """Makes trouble at a step, and ends it a while after the run has given notice of it."""

    def __init__(self, session: Session, step: int | None, trouble: Callable[[], Any], at_event: int = 0) -> None:
        self.session, self.step, self.at_event, self.trouble = session, step, at_event, trouble
        self.resources = ExitStack()
        self.seen: list[Event] = []
        self.looks = True
        self.found: list[str] = []  # the run's files while it waited
        self.ending: threading.Timer | None = None

    def __enter__(self) -> Trouble:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.ending is not None:
            self.ending.join()
        self.resources.close()

    def __call__(self, event: Event) -> None:
        self.seen.append(as_read(event))
        if (event["type"] == "step" and event["step"] == self.step) or len(self.seen) == self.at_event:
            self.resources.enter_context(self.trouble())
        if event.get("code") in ("save-failed", "events-unwritten") and self.ending is None:
            self.ending = threading.Timer(0.15, self.end)
            self.ending.start()

    def end(self) -> None:
        if self.looks:
            self.found = sorted(path.name for path in self.session.directory.iterdir())
        self.resources.close()


@contextmanager
def full(disk: Path, leave: int = 0) -> Iterator[None]:
    """Have a disk with no more than `leave` bytes free."""
    ballast = fill(disk, leave)
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def no_permission(directory: Path) -> Iterator[None]:
    """Have a folder that we may neither write nor read: root becomes nobody for that, others take their own right."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        directory.chmod(0)
        try:
            yield
        finally:
            directory.chmod(0o755)


@contextmanager
def moved(directory: Path) -> Iterator[None]:
    """Have a folder elsewhere than it was."""
    directory.rename(directory.with_name("elsewhere"))
    try:
        yield
    finally:
        directory.with_name("elsewhere").rename(directory)


def as_read(event: Event) -> Event:
    """Return an event as it comes out of a file."""
    return msgspec.json.decode(msgspec.json.encode(event))


def codes(events: list[Event]) -> list[str]:
    """Return the codes of the notices among events, in their order."""
    return [event["code"] for event in events if event["type"] == "notice"]


def whole_checkpoints(directory: Path) -> dict[str, int]:
    """Return the step in each file that has the name of a checkpoint; fails where one cannot be loaded."""
    return {path.name: load(path).step for path in directory.glob("*.pt")}
