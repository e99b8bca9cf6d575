"""The Presets pane alone on a screen: its list or its form, what is typed there, and what it shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

from textual.app import App, ComposeResult
from textual.pilot import Pilot

from minigpt.workspace import Workspace
from tui.panes.presets import PresetsPane
from tui.presets.draft import Draft
from tui.state import UIState
from tui.widgets.dialogs import Choice, message

SMALL, MIDDLE = (80, 24), (120, 40)
OUTLOOK = SimpleNamespace(
    parameters=1_000_000,
    parts=(("token embedding", 250_000), ("positions", 0), ("MLP", 750_000)),
    flops_per_token=6_200_000,
    memory=SimpleNamespace(
        weights=4e6,
        gradients=4e6,
        optimizer=8e6,
        activations=84e6,
        workspace=3e6,
        overhead=7e6,
        total=100e6,
        available=50e6,
    ),
    tokens_per_parameter=2.5,
    train_tokens_exact=True,
    seconds_per_step=0.2,
    memory_measured=None,
    micro_batch_size=16,
    device="CPU",
    train_tokens=2_500_000,
    steps=600,
    epochs=1.5,
    tokens=3_750_000,
    seconds=125.0,
    checkpoint_bytes=12e6,
    disk_needed=60e6,
    disk_free=9e9,
    warnings=(SimpleNamespace(code="memory", message="This does not fit: 100 MB are needed and 50 MB are free."),),
)


class Harness(App[None]):
    """As much of the app as the pane asks for."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-normal"), (160, "-wide")]  # noqa: RUF012 - as in App
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]  # noqa: RUF012
    CSS = "Pane { height: 1fr; } .dialog { width: 64; height: auto; } .dialog-text { height: auto; }"

    def __init__(self, workspace: Workspace, preset: str) -> None:
        super().__init__()
        self.workspace, self.state = workspace, UIState(preset=preset)
        self.pane = PresetsPane(id="presets")

    def compose(self) -> ComposeResult:
        yield self.pane

    def on_mount(self) -> None:
        self.pane.shown()

    def choose_preset(self, name: str) -> None:
        self.state.preset = name

    def remember(self) -> None:
        self.remembered = True

    def tell(self, title: str, text: str) -> None:
        self.push_screen(message(title, text))


@asynccontextmanager
async def list_of(workspace: Workspace, preset: str, size: tuple[int, int] = MIDDLE) -> AsyncIterator[Pilot[None]]:
    """Run the pane with the cursor on a preset."""
    async with Harness(workspace, preset).run_test(size=size) as pilot:
        await settled(pilot)
        yield pilot


@asynccontextmanager
async def form_of(workspace: Workspace, preset: str, size: tuple[int, int] = MIDDLE) -> AsyncIterator[Pilot[None]]:
    """Run the pane with a preset in the form."""
    async with list_of(workspace, preset, size) as pilot:
        await press(pilot, "e")
        yield pilot


async def settled(pilot: Pilot[None]) -> None:
    """Wait until threads are done and what they found is shown."""
    await pilot.pause()
    while any(not worker.is_finished for worker in pilot.app.workers):
        await pilot.pause(0.005)
    await pilot.pause()


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Press keys in quick succession, and wait until all that they caused is shown."""
    await pilot.press(*keys)
    await settled(pilot)


def screen(pilot: Pilot[None]) -> str:
    """Return the text on the screen."""
    return "\n".join(strip.text for strip in pilot.app.screen._compositor.render_strips())


def dialog(pilot: Pilot[None]) -> str:
    """Return the title and the text of the question or message that stands before everything else."""
    top = pilot.app.screen
    return f"{top.title_text}: {top.text}" if isinstance(top, Choice) else ""


def pane_of(pilot: Pilot[None]) -> PresetsPane:
    assert isinstance(pilot.app, Harness)
    return pilot.app.pane


def draft_of(pilot: Pilot[None]) -> Draft:
    """Return what the form has open."""
    draft = pane_of(pilot).form.draft
    assert draft is not None
    return draft


async def type_value(pilot: Pilot[None], key: str, text: str, *then: str) -> None:
    """Type a setting's value in the form, letter by letter."""
    pane_of(pilot).form.fields.go_to(key)
    await press(pilot, "enter", *("full_stop" if letter == "." else letter for letter in text), *then)


def line_of(pilot: Pilot[None], name: str) -> str:
    """Return the first line of the screen with this word in it."""
    return next(line for line in screen(pilot).splitlines() if f" {name} " in line)


def own(workspace: Workspace, name: str = "mine") -> Path:
    """Return the file of a preset of one's own."""
    return workspace.configs / f"{name}.toml"
