"""The Corpus pane alone on a screen: quicker than all of the app around it.

async with opened(workspace, children, "tale") as pilot:
    await press(pilot, "v")
    assert "documents" in screen(pilot)
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Button, Label

from minigpt.workspace import Workspace
from tests.tui.corpus_children import FakeChildren
from tests.tui.scene import paint
from tui.panes.corpus import CorpusPane
from tui.state import UIState
from tui.widgets.dialogs import Choice, message


class CorpusApp(App[None]):
    """As much of the app as the pane asks for."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-normal"), (160, "-wide")]  # noqa: RUF012 - as in App
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]  # noqa: RUF012
    CSS = "CorpusPane { height: 1fr; } .dialog { height: auto; } .dialog-text, .dialog-buttons { height: auto; }"

    def __init__(self, workspace: Workspace, children: FakeChildren, corpus: str) -> None:
        super().__init__()
        self.workspace, self.state = workspace, UIState(corpus=corpus)
        self.corpus_pane = CorpusPane(children=children)

    def compose(self) -> ComposeResult:
        yield self.corpus_pane
        yield Label("")

    def on_mount(self) -> None:
        self.animation_level = "none"
        self.corpus_pane.shown()

    def choose_corpus(self, name: str) -> None:
        self.state.corpus = name

    def tell(self, title: str, text: str) -> None:
        self.push_screen(message(title, text))


@asynccontextmanager
async def opened(
    workspace: Workspace, children: FakeChildren, corpus: str = "tale", size: tuple[int, int] = (120, 40)
) -> AsyncIterator[Pilot[None]]:
    """Run the pane with the cursor on the chosen corpus until it shows what there is."""
    async with CorpusApp(workspace, children, corpus).run_test(size=size) as pilot:
        await settled(pilot)
        yield pilot


def pane(pilot: Pilot[None]) -> CorpusPane:
    assert isinstance(pilot.app, CorpusApp)
    return pilot.app.corpus_pane


def screen(pilot: Pilot[None]) -> str:
    """Return the text on the screen."""
    return "\n".join(strip.text for strip in pilot.app.screen._compositor.render_strips())


def dialog(pilot: Pilot[None]) -> str:
    """Return the title and the text of the question or message that stands before everything else."""
    top = pilot.app.screen
    return f"{top.title_text}: {top.text}" if isinstance(top, Choice) else ""


async def answer(pilot: Pilot[None], name: str) -> None:
    pilot.app.screen.query_one(f"#{name}", Button).press()
    await settled(pilot)


async def settled(pilot: Pilot[None]) -> None:
    """Wait until threads are done and what they found is shown."""
    still = 0
    while still < 2 and pilot.app.is_running:
        await pilot.pause(0.005)
        still = 0 if any(not worker.is_finished for worker in pilot.app.workers) else still + 1
    paint(pilot.app)


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Press keys one by one, each when what the one before caused has been shown."""
    for key in keys:
        await pilot.press(key)
        await settled(pilot)


async def until(pilot: Pilot[None], happened: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something that a thread has a part in."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"it did not happen; the screen shows\n{screen(pilot)}"
        await pilot.pause(0.01)
    await pilot.pause()


def keys(pilot: Pilot[None]) -> list[str]:
    return [row.key for row in pane(pilot).listing.rows]


def line_of(pilot: Pilot[None], name: str) -> str:
    listing = pane(pilot).listing
    return listing.render_line(keys(pilot).index(name) + 1 - listing.scroll_offset.y).text
