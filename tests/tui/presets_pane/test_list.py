"""The list of presets: copied, deleted, compared, and chosen for the next run."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input

from minigpt.workspace import Workspace
from tests.tui.presets_pane.pane import dialog, form_of, line_of, list_of, own, pane_of, press, screen
from tests.tui.scene import Scene, app_of, on_screen, until
from tui.widgets.dialogs import Ask


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_copy_is_made_and_deleted_after_a_yes(workspace: Workspace) -> None:
    async with list_of(workspace, "second") as pilot:
        await press(pilot, "d")
        assert "comes with MiniGPT" in dialog(pilot)
        await press(pilot, "enter", "n", "enter", "escape")
        assert own(workspace, "second-2").is_file()
        assert pane_of(pilot).browser.listing.key == "second-2"
        await press(pilot, "d", "enter")
        assert own(workspace, "second-2").is_file(), "the harmless answer has the focus"
        await press(pilot, "d", "2")
        assert not own(workspace, "second-2").exists()


@pytest.mark.asyncio
async def test_a_name_that_is_taken_is_asked_for_again(workspace: Workspace) -> None:
    async with list_of(workspace, "second") as pilot:
        await press(pilot, "n", *"mine", "enter")
        assert isinstance(pilot.app.screen, Ask)
        assert "There is a preset mine already" in pilot.app.screen.text
        assert pilot.app.screen.query_one(Input).value == "mine"


@pytest.mark.asyncio
async def test_two_presets_are_compared(workspace: Workspace) -> None:
    async with list_of(workspace, "second") as pilot:
        await press(pilot, "c", "down", "enter")
        shown = screen(pilot)
        assert "3 settings differ" in shown
        assert line_of(pilot, "model.d_model").split()[2:4] == ["256", "128"]
        await press(pilot, "escape")
        assert pane_of(pilot).browser.listing.has_focus


@pytest.mark.asyncio
async def test_a_broken_preset_cannot_be_opened(workspace: Workspace) -> None:
    async with form_of(workspace, "broken") as pilot:
        assert "Did you mean 'model.d_model'?" in dialog(pilot)
        assert not pane_of(pilot).editing


@pytest.mark.asyncio
async def test_a_preset_without_an_end_can_be_chosen_for_the_next_run(tmp_path: Path) -> None:
    with Scene(tmp_path) as scene:
        scene.use_presets()
        async with on_screen(scene) as pilot:
            app_of(pilot).choose_preset("mine")
            await until(pilot, lambda: "4 layers of 128, context 256." in screen(pilot))
