"""A choosing pane alone on a screen, what it lists and what it asks of the app; and runs to be listed."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from textual.app import App, ComposeResult
from textual.pilot import Pilot

from minigpt.jobs import EVENTS
from minigpt.workspace import Workspace
from tui.panes.pane import Pane
from tui.state import UIState
from tui.widgets.listing import Listing

HOSTILE = "[red]evil[x] \x1b[31m\u202erun"
HARMLESS = r"[red]evil[x] \x1b[31m\u202erun"
END = {"type": "end", "exit_code": 0, "reason": "all steps done"}


class Harness(App[None]):
    """As much of the app as a pane asks for; what it is asked for is recorded in `asked`."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-normal"), (160, "-wide")]  # noqa: RUF012 - as in App
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]  # noqa: RUF012
    CSS = "Pane { height: 1fr; }"

    def __init__(self, pane: Pane, workspace: Workspace) -> None:
        super().__init__()
        self.workspace, self.state, self.pane = workspace, UIState(), pane
        self.asked: list[tuple[Any, ...]] = []

    def compose(self) -> ComposeResult:
        yield self.pane

    def on_mount(self) -> None:
        self.pane.shown()

    def choose_preset(self, name: str) -> None:
        self.state.preset = name
        self.asked.append(("preset", name))

    def choose_corpus(self, name: str) -> None:
        self.state.corpus = name
        self.asked.append(("corpus", name))

    def watch_run(self, run: str) -> None:
        self.asked.append(("watch", run))

    def resume_run(self, run: str) -> None:
        self.asked.append(("resume", run))

    def chat_with(self, path: Path) -> None:
        self.asked.append(("chat", path))

    def tell(self, title: str, text: str) -> None:
        self.asked.append(("tell", title, text))


@asynccontextmanager
async def on_screen(pane: Pane, workspace: Workspace, size: tuple[int, int] = (120, 40)) -> AsyncIterator[Pilot[None]]:
    """Run a pane alone until it shows what there is."""
    async with Harness(pane, workspace).run_test(size=size) as pilot:
        await settled(pilot)
        yield pilot


async def settled(pilot: Pilot[None]) -> None:
    """Wait until threads are done and what they found is shown."""
    await pilot.pause()
    while any(not worker.is_finished for worker in pilot.app.workers):
        await pilot.pause(0.01)
    await pilot.pause()


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Press keys one by one, each when what the one before caused has been shown."""
    for key in keys:
        await pilot.press(key)
        await settled(pilot)


async def put_cursor(pilot: Pilot[None], key: str) -> None:
    """Put the cursor on a row."""
    pilot.app.query_one(Listing).move_to(key)
    await settled(pilot)


def shown(pilot: Pilot[None]) -> str:
    """Return the text on the screen."""
    return "\n".join(strip.text for strip in pilot.app.screen._compositor.render_strips())


def listed(pilot: Pilot[None]) -> list[str]:
    """Return the keys of all rows, in their order."""
    return [row.key for row in pilot.app.query_one(Listing).rows]


def line_of(pilot: Pilot[None], key: str) -> str:
    """Return the line of a row as it is drawn."""
    listing = pilot.app.query_one(Listing)
    return listing.render_line(listed(pilot).index(key) + 1 - listing.scroll_offset.y).text


def asked(pilot: Pilot[None]) -> list[tuple[Any, ...]]:
    """Return what the pane has asked of the app."""
    assert isinstance(pilot.app, Harness)
    return pilot.app.asked


def make_run(
    workspace: Workspace, name: str, *events: dict[str, Any], checkpoints: tuple[str, ...] = (), start: float = 1000.0
) -> Path:
    """Make a run that told these events and left files in the place of checkpoints."""
    directory = workspace.checkpoints / name
    directory.mkdir(parents=True, exist_ok=True)
    told = {"parameters": 1_115_520, "corpus": "sample", "preset": "tiny", "planned_steps": 600}
    add_events(directory, {"type": "start", "time": start, **told}, *({"time": start + 1, **event} for event in events))
    for file in checkpoints:
        (directory / file).write_bytes(bytes(2000))
    return directory


def add_events(directory: Path, *events: dict[str, Any]) -> None:
    """Have a run tell more."""
    with (directory / EVENTS).open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def step(number: int) -> dict[str, Any]:
    """Return the event of a step made now."""
    return {"type": "step", "step": number, "loss": 2.0, "time": time.time()}
