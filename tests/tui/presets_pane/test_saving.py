"""Saving a preset: its comments stay, and neither a change nor what another program wrote is lost unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from minigpt.presets import load_preset, read_file
from minigpt.workspace import Workspace
from tests.tui.presets_pane.pane import (
    MIDDLE,
    SMALL,
    Harness,
    dialog,
    draft_of,
    form_of,
    own,
    pane_of,
    press,
    screen,
    settled,
    type_value,
)
from tests.tui.scene import Scene, app_of, on_screen, until
from tui.panes.presets import PresetsPane
from tui.presets.draft import Draft


@pytest.mark.asyncio
async def test_a_preset_of_ones_own_keeps_its_comments(workspace: Workspace) -> None:
    own(workspace).write_text("# My own.\n[training]\nlearning_rate = 0.5  # hot\n")
    async with form_of(workspace, "mine") as pilot:
        await type_value(pilot, "training.learning_rate", "0.01", "enter", "s")
        assert own(workspace).read_text() == "# My own.\n[training]\nlearning_rate = 0.01  # hot\n"
        await press(pilot, "escape")
        assert not pane_of(pilot).editing


@pytest.mark.asyncio
async def test_a_built_in_preset_becomes_a_copy(workspace: Workspace) -> None:
    async with form_of(workspace, "second") as pilot:
        await type_value(pilot, "model.n_layers", "2", "enter", "ctrl+s")
        await press(pilot, "enter")  # the name that is proposed
        assert own(workspace, "second-2").read_text().endswith("d_model = 256  # twice as wide\nn_layers = 2\n")
        assert load_preset("second", workspace).model.n_layers == 8
        assert draft_of(pilot).name == "second-2"
        await press(pilot, "escape")
        assert pane_of(pilot).browser.listing.key == "second-2"


@pytest.mark.asyncio
async def test_settings_that_contradict_each_other_are_not_saved(workspace: Workspace) -> None:
    before = own(workspace).read_text()
    async with form_of(workspace, "mine") as pilot:
        await type_value(pilot, "model.n_heads", "3", "enter")
        await pilot.pause(0.02)
        await settled(pilot)
        assert "does not divide" in screen(pilot)
        await press(pilot, "s")
        assert "does not divide model.d_model" in dialog(pilot)
    assert own(workspace).read_text() == before


@pytest.mark.asyncio
async def test_leaving_asks_about_changes(workspace: Workspace) -> None:
    async with form_of(workspace, "mine") as pilot:
        for answer, saved, editing in (("3", 0.5, True), ("2", 0.5, False), ("1", 0.01, False)):
            if not pane_of(pilot).editing:
                await press(pilot, "e")
            await type_value(pilot, "training.learning_rate", "0.01", "enter", "escape")
            assert "1 change, not saved" in dialog(pilot)
            await press(pilot, answer)
            assert pane_of(pilot).editing is editing
            assert read_file(own(workspace)).training.learning_rate == saved


@pytest.mark.slow
@pytest.mark.asyncio
async def test_what_goes_wrong_is_told(workspace: Workspace) -> None:
    async with form_of(workspace, "mine") as pilot:
        await type_value(pilot, "training.learning_rate", "0.01", "enter")
        own(workspace).write_text("[training\n")
        await press(pilot, "s", "1")
        assert "not valid TOML" in dialog(pilot)
        await press(pilot, "enter", "escape")
        assert "Save the changes?" in dialog(pilot), "nothing that was typed is lost"


@pytest.mark.slow
@pytest.mark.asyncio
async def test_quitting_asks_about_changes(workspace: Workspace) -> None:
    async with form_of(workspace, "mine") as pilot:
        left: list[bool] = []
        pane = pane_of(pilot)

        def leave() -> None:
            left.append(True)

        assert not pane.asks_to_leave(leave)
        await type_value(pilot, "training.learning_rate", "0.01", "enter")
        for answer, gone in (("3", False), ("1", True)):
            assert pane.asks_to_leave(leave)
            await settled(pilot)
            assert "1 change, not saved" in dialog(pilot)
            await press(pilot, answer)
            assert bool(left) is gone
        assert read_file(own(workspace)).training.learning_rate == 0.01
        assert pilot.app.state.preset_changes == {}  # type: ignore[attr-defined]
        await type_value(pilot, "training.learning_rate", "0.02", "enter")
        assert pane.asks_to_leave(leave)
        await press(pilot, "2")
        assert len(left) == 2 and read_file(own(workspace)).training.learning_rate == 0.01


@pytest.mark.asyncio
async def test_q_asks_before_changes_are_left_behind(tmp_path: Path) -> None:
    with Scene(tmp_path) as scene:
        scene.use_presets()
        async with on_screen(scene, SMALL) as pilot:
            app = app_of(pilot)
            app.open_pane("presets")
            await until(pilot, lambda: "mine" in screen(pilot))
            pane = app.query_one(PresetsPane)
            pane.open("mine", own(scene.workspace))
            await until(pilot, lambda: pane.form.draft is not None)
            pane.form.put("training.learning_rate", 0.01)
            app.open_pane("train")
            await pilot.press("q")
            await until(pilot, lambda: "1 change, not saved" in dialog(pilot))
            assert "3 Stay" in screen(pilot)
            await pilot.press("1")
            await until(pilot, lambda: not app.is_running)
        assert read_file(own(scene.workspace)).training.learning_rate == 0.01


@pytest.mark.asyncio
async def test_what_a_hang_up_left_unsaved_is_there_again(workspace: Workspace) -> None:
    async with form_of(workspace, "mine") as pilot:
        await type_value(pilot, "training.learning_rate", "0.01", "enter")
        state = pilot.app.state  # type: ignore[attr-defined]
        assert (state.preset_draft, state.preset_changes) == ("mine", {"training.learning_rate": "0.01"})
    harness = Harness(workspace, "mine")
    harness.state = state
    state.preset_changes["model.gone"] = "1"
    async with harness.run_test(size=MIDDLE) as pilot:
        await settled(pilot)
        assert draft_of(pilot).changes == {"training.learning_rate": 0.01}


@pytest.mark.asyncio
async def test_a_save_that_ends_late_leaves_another_preset_alone(workspace: Workspace) -> None:
    async with form_of(workspace, "mine") as pilot:
        saved = draft_of(pilot)
        other = Draft.read("first", workspace.configs.parent.parent / "presets" / "first.toml", workspace)
        other.put("model.d_model", 64)
        pane = pane_of(pilot)
        pane.show_form(other)
        assert not pane.form.take(Draft.read("mine", own(workspace), workspace), saved)
        assert pane.form.draft is other and other.changes == {"model.d_model": 64}


@pytest.mark.parametrize(("answer", "text"), [("1", "0.01  # cold"), ("3", "0.1  # cold")])
@pytest.mark.asyncio
async def test_what_another_program_wrote_is_not_saved_over_unasked(
    workspace: Workspace, answer: str, text: str
) -> None:
    async with form_of(workspace, "mine") as pilot:
        await type_value(pilot, "training.learning_rate", "0.01", "enter")
        own(workspace).write_text("[training]\nlearning_rate = 0.1  # cold\n")
        await press(pilot, "s")
        assert "changed by another program" in dialog(pilot)
        await press(pilot, answer)
        assert own(workspace).read_text() == f"[training]\nlearning_rate = {text}\n"
        assert bool(draft_of(pilot).changes) is (answer == "3")


@pytest.mark.asyncio
async def test_the_form_shows_what_another_program_wrote(workspace: Workspace) -> None:
    async with form_of(workspace, "mine") as pilot:
        own(workspace).write_text("[training]\nlearning_rate = 0.125\n")
        pane_of(pilot).read()
        await settled(pilot)
        assert draft_of(pilot).value("training.learning_rate") == 0.125
