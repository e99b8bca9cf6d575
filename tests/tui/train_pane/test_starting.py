"""The Train pane before there is a run: the choice, the start, and a trainer that cannot."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from textual.widgets import Button

from tests.tui.scene import HARMLESS, HOSTILE, NOW, Scene, dialog, on_screen, press, until
from tests.tui.train_pane.pane import RUN, shows

pytestmark = pytest.mark.asyncio


async def test_it_opens_with_tiny_and_the_sample_chosen_and_start_in_focus(scene: Scene) -> None:
    async with on_screen(scene, (80, 24)) as pilot:
        assert shows(pilot, "preset   tiny", "corpus   sample", "Start training", "s or Enter starts")
        assert pilot.app.focused is pilot.app.query_one("#start", Button)


@pytest.mark.parametrize("key", ["s", pytest.param("enter", marks=pytest.mark.slow)])
async def test_one_key_starts_a_trainer_and_shows_it(scene: Scene, key: str) -> None:
    async with on_screen(scene) as pilot:
        await press(pilot, key)
        (arguments,) = scene.launched
        assert arguments[2:] == [
            *("minigpt.cli.main", "train", "--preset", "tiny", "--corpus", "sample", "--run", RUN),
            *("--quiet", "--workspace", str(scene.workspace.root)),
        ]
        await until(pilot, lambda: shows(pilot, RUN, "starting"))
        scene.work(RUN)
        scene.run(RUN, steps=3, time=NOW)
        await until(pilot, lambda: shows(pilot, "● training", "step 3/600"))


async def test_a_trainer_that_cannot_start_says_why(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(arguments: list[str], directory: Path) -> int:
        directory.mkdir()
        (directory / "training.log").write_text(f"There is no corpus {HOSTILE}: add it.\n")
        process = subprocess.Popen(["true"])
        process.wait()
        return process.pid

    monkeypatch.setattr("minigpt.start.launch", launch)
    async with on_screen(scene) as pilot:
        await pilot.press("s")
        await until(pilot, lambda: "The run has not started: " in dialog(pilot))
        assert f"There is no corpus {HARMLESS}: add it." in dialog(pilot)
        await press(pilot, "enter", "n")
        assert shows(pilot, "Start training")
        assert not scene.directory(RUN).exists()


async def test_a_choice_that_cannot_be_had_is_told_before_it_is_started(scene: Scene) -> None:
    app = scene.app()
    app.state.preset = HOSTILE
    async with on_screen(scene, app=app) as pilot:
        assert shows(pilot, HARMLESS)
        assert not shows(pilot, "s or Enter starts")


async def test_the_choice_tells_of_the_last_run(scene: Scene) -> None:
    scene.run(RUN, ended=0, steps=600)
    async with on_screen(scene) as pilot:
        assert shows(pilot, f"Last run: {RUN}, finished at step 600, best validation loss", "1.339.")
