"""The list of presets: what it says of each, and what it survives."""

from __future__ import annotations

import os
import shutil

import pytest

from minigpt.presets import preset_paths
from minigpt.workspace import Workspace
from tests.tui.choosing.pane import asked, line_of, listed, on_screen, press, put_cursor, settled, shown
from tui.panes.presets import PresetsPane


@pytest.mark.asyncio
async def test_every_preset_is_listed_with_its_size(workspace: Workspace) -> None:
    async with on_screen(PresetsPane(), workspace) as pilot:
        assert set(listed(pilot)) == set(preset_paths(workspace))
        assert line_of(pilot, "tiny").split()[:3] == ["›●", "tiny", "1.12M"]
        assert "124M" in line_of(pilot, "gpt2-from-scratch")


@pytest.mark.asyncio
async def test_enter_chooses_a_preset_and_marks_it(workspace: Workspace) -> None:
    async with on_screen(PresetsPane(), workspace) as pilot:
        await put_cursor(pilot, "small")
        await press(pilot, "enter")
        assert asked(pilot) == [("preset", "small")]
        assert line_of(pilot, "small").startswith("›●")
        assert not line_of(pilot, "tiny").strip().startswith("●")
        assert "chosen for the next run" in shown(pilot)


@pytest.mark.asyncio
async def test_a_broken_preset_is_listed_with_its_errors_and_cannot_be_chosen(workspace: Workspace) -> None:
    (workspace.configs / "broken.toml").write_text("[model]\nd_modle = 3\n[training]\nmax_steps = 'x'\n")
    async with on_screen(PresetsPane(), workspace, (200, 60)) as pilot:
        await put_cursor(pilot, "broken")
        assert "cannot be used" in line_of(pilot, "broken")
        assert "Did you mean 'model.d_model'?" in shown(pilot)
        assert "training.max_steps" in shown(pilot)
        await press(pilot, "enter")
        ((kind, title, text),) = asked(pilot)
        assert (kind, title) == ("tell", "This preset cannot be used")
        assert "max_steps" in text


@pytest.mark.asyncio
async def test_ones_own_preset_is_marked_and_what_is_unusual_said(workspace: Workspace) -> None:
    (workspace.configs / "mine.toml").write_text("# Mine, [bold]mine[/]\n[training]\nlearning_rate = 5.0 # \u202e\n")
    async with on_screen(PresetsPane(), workspace, (200, 60)) as pilot:
        await put_cursor(pilot, "mine")
        assert line_of(pilot, "mine").split()[3] == "own"
        assert "Mine, [bold]mine[/]" in line_of(pilot, "mine")
        assert r"learning_rate = 5.0 # \u202e" in shown(pilot)
        assert "training.learning_rate = 5 is above the usual" in shown(pilot)


@pytest.mark.asyncio
async def test_presets_that_vanish_or_cannot_be_read_do_no_harm(workspace: Workspace) -> None:
    (workspace.configs / "folder.toml").mkdir()
    (workspace.configs / "bytes.toml").write_bytes(os.urandom(2000))
    (workspace.configs / "gone.toml").write_text("")
    pane = PresetsPane()
    async with on_screen(pane, workspace) as pilot:
        for name in ("folder", "bytes"):
            await put_cursor(pilot, name)
            assert "cannot be used" in line_of(pilot, name)
        shutil.rmtree(workspace.configs)
        await put_cursor(pilot, "gone")
        pane.shown()
        await settled(pilot)
        assert "gone" not in listed(pilot)
