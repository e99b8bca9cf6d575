"""The Train pane comes back to a run: what happened since, and what happens to it elsewhere."""

from __future__ import annotations

import shutil

import pytest

from minigpt.runs import rename_run
from tests.tui.scene import Scene, app_of, on_screen, press, screen, step_event, until
from tests.tui.train_pane.pane import RUN, shows
from tui.panes.pane import in_view
from tui.panes.train import TrainPane

pytestmark = pytest.mark.asyncio


async def test_it_finds_the_run_at_work_and_tells_what_happened_since(training: Scene) -> None:
    async with on_screen(training) as pilot:
        assert shows(pilot, RUN, "● training", "step 300/600")
        await pilot.press("q")
    training.now += 60
    training.tell(RUN, *(step_event(step, training.now) for step in range(301, 421)))
    told = {"split": "validation", "step": 400, "loss": 1.25, "perplexity": 3.49, "tokens": 1, "best": True}
    training.tell(RUN, {"type": "eval", **told})
    training.tell(RUN, {"type": "notice", "severity": "warning", "code": "x", "message": "The loss rose."})
    async with on_screen(training, (200, 60)) as pilot:
        assert shows(pilot, "120 steps since you last looked (300 to 420)")
        assert shows(pilot, "best validation loss 1.250 at step 400; 1 warning")


async def test_another_run_of_its_name_is_not_taken_for_it(training: Scene) -> None:
    async with on_screen(training) as pilot:
        await pilot.press("q")
    training.die(RUN)
    shutil.rmtree(training.directory(RUN))
    training.now += 600
    training.run(RUN, steps=50)
    training.work(RUN)
    async with on_screen(training, (200, 60)) as pilot:
        assert shows(pilot, "● training", "step 50/600")
        assert "back from" not in screen(pilot)
        assert "since you last looked" not in screen(pilot)


async def test_a_run_that_ended_meanwhile_is_shown_with_its_end(training: Scene) -> None:
    async with on_screen(training) as pilot:
        await pilot.press("q")
    training.now += 60
    training.tell(RUN, step_event(301, training.now), {"type": "end", "reason": "all steps done", "exit_code": 0})
    training.die(RUN)
    async with on_screen(training, (200, 60)) as pilot:
        assert shows(pilot, "✓ finished", "1 step since you last looked", "finished after 2 min 1 s")
    async with on_screen(training) as pilot:
        assert shows(pilot, "Start training"), "told once, it is over"


async def test_a_dead_trainer_is_told_as_crashed_and_r_goes_on(training: Scene) -> None:
    async with on_screen(training) as pilot:
        training.die(RUN)
        await until(pilot, lambda: shows(pilot, "✗ crashed", "The trainer is gone without a word"))
        await press(pilot, "r")
        assert [arguments[4:6] for arguments in training.launched] == [["--resume", RUN]]
        await until(pilot, lambda: shows(pilot, "○ starting"))


async def test_a_quiet_trainer_is_told_as_silent(training: Scene) -> None:
    async with on_screen(training) as pilot:
        assert not shows(pilot, "silent")
        training.now += 89
        await until(pilot, lambda: shows(pilot, "● training silent for 1 min 30 s"))
        training.tell(RUN, {"type": "phase", "phase": "training", "last_progress": training.now})
        await until(pilot, lambda: not shows(pilot, "silent"))
        # A heart that beats while no step comes is told too.
        last = training.now
        training.now += 600
        training.tell(RUN, {"type": "phase", "phase": "training", "last_progress": last})
        await until(pilot, lambda: shows(pilot, "● training no step for 10 min"))


async def test_a_run_that_is_resumed_elsewhere_goes_back_to_its_step(training: Scene) -> None:
    async with on_screen(training) as pilot:
        training.tell(RUN, {"type": "start", "planned_steps": 600, "resumed_from": 250, "parameters": 1})
        training.tell(RUN, step_event(251, training.now))
        await until(pilot, lambda: shows(pilot, "251/600", "resume after step 250"))


async def test_a_run_started_elsewhere_is_found_while_there_is_none_to_see(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.panes.train.LOOK_SECONDS", 0.02)
    async with on_screen(scene) as pilot:
        await until(pilot, lambda: shows(pilot, "ready to train"))
        scene.run(RUN)
        scene.work(RUN)
        await until(pilot, lambda: shows(pilot, "300/600"))
        pane = app_of(pilot).query_one(TrainPane)
        await until(pilot, lambda: in_view(pilot.app.focused))
        await press(pilot, "n")
        await pilot.pause(0.1)
        assert pane.choosing, "one that was left for the choice is not opened again"
        await until(pilot, lambda: shows(pilot, f"Last run: {RUN}"))


async def test_a_run_that_is_renamed_is_watched_under_its_new_name(scene: Scene) -> None:
    scene.run(RUN, ended=3)
    async with on_screen(scene, run=RUN) as pilot:
        await until(pilot, lambda: shows(pilot, "300/600"))
        rename_run(scene.directory(RUN), "baseline")
        app = app_of(pilot)
        app.run_renamed(RUN, "baseline")
        await until(pilot, lambda: shows(pilot, "baseline"))
        assert (app.state.run, app.state.seen_steps) == ("baseline", {"baseline": 300})
