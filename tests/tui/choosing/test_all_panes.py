"""What the three choosing panes have in common: sizes, explanations, keys, and no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from minigpt.workspace import Workspace
from tests.tui.choosing.pane import END, make_run, on_screen, settled, shown, step
from tui.panes.corpus import CorpusPane
from tui.panes.pane import Pane
from tui.panes.presets import PresetsPane
from tui.panes.runs import RunsPane
from tui.widgets.listing import Listing

SIZES = [(80, 24), (200, 60), (20, 5)]


@pytest.mark.slow
@pytest.mark.parametrize("make", [PresetsPane, CorpusPane, RunsPane])
@pytest.mark.asyncio
async def test_every_size_can_be_had(workspace: Workspace, make: type[Pane]) -> None:
    make_run(workspace, "one", step(3), END, checkpoints=("best_model.pt",))
    async with on_screen(make(), workspace) as pilot:
        for width, height in SIZES:
            await pilot.resize_terminal(width, height)
            await pilot.press("down", "tab", "end")
            await settled(pilot)
            assert all(len(line) <= width for line in shown(pilot).splitlines())


@pytest.mark.parametrize("make", [PresetsPane, CorpusPane, RunsPane])
@pytest.mark.asyncio
async def test_what_has_the_focus_can_be_explained(workspace: Workspace, make: type[Pane]) -> None:
    async with on_screen(make(), workspace) as pilot:
        for widget in pilot.app.query("*"):
            assert not widget.focusable or getattr(widget, "explain", "")


@pytest.mark.parametrize("make", [PresetsPane, CorpusPane, RunsPane])
def test_every_key_has_a_name_and_says_what_it_does(make: type[Pane]) -> None:
    bindings = [*make.BINDINGS, *Listing.BINDINGS]
    assert all(binding.id and binding.tooltip for binding in bindings)  # type: ignore[union-attr]


def test_the_panes_need_no_torch() -> None:
    script = "import sys; import tui.panes.presets, tui.panes.corpus, tui.panes.runs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
