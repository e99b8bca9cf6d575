"""Keys of the Train pane that ask the trainer for something, and how its answers are told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from minigpt.jobs import COMMANDS
from tests.tui.scene import HARMLESS, HOSTILE, Scene, app_of, dialog, on_screen, press, replaced_by_folder, until
from tests.tui.train_pane.pane import RUN, shows

pytestmark = pytest.mark.asyncio
COMMANDS_OF_KEYS = [
    ("space", "pause", {}),
    ("k", "checkpoint", {}),
    ("e", "evaluate", {}),
    ("g", "sample", {}),
    ("minus", "set", {"lr_scale": 0.8}),
    ("plus", "set", {"lr_scale": 1.0}),
]


async def test_a_key_asks_the_trainer_and_its_answer_stands_in_the_log(training: Scene) -> None:
    async with on_screen(training) as pilot:
        for step, (key, command, arguments) in enumerate(COMMANDS_OF_KEYS, 300):
            await press(pilot, key)
            sent = training.commands(RUN)[-1]
            assert (sent["command"], sent["args"], sent["by"]) == (command, arguments, "app")
            await until(pilot, lambda asked=f"asked for: {command}": shows(pilot, asked))
            told = {"type": "command", "id": sent["id"], "command": command, "args": arguments, "done": True}
            training.tell(RUN, {**told, "step": step})
            await until(pilot, lambda answer=f"» {command} at step {step}: done": shows(pilot, answer))
        assert len(training.commands(RUN)) == len(COMMANDS_OF_KEYS)


@pytest.mark.slow
async def test_keys_in_quick_succession_are_all_sent_in_order(training: Scene) -> None:
    async with on_screen(training) as pilot:
        await pilot.press("k", "e", "g", "minus", "space")
        await until(pilot, lambda: len(training.commands(RUN)) == 5)
        asked = [command["command"] for command in training.commands(RUN)]
        assert asked == ["checkpoint", "evaluate", "sample", "set", "pause"]


async def test_the_rate_is_scaled_from_what_was_asked_for_last(training: Scene) -> None:
    async with on_screen(training) as pilot:
        await press(pilot, "minus", "minus", "plus")
        scales = [command["args"]["lr_scale"] for command in training.commands(RUN)]
        assert scales == [0.8, 0.64, 0.8]


async def test_a_paused_run_goes_on_by_the_same_key(training: Scene) -> None:
    training.tell(RUN, {"type": "phase", "phase": "paused", "changed": True})
    async with on_screen(training) as pilot:
        assert shows(pilot, "‖ paused")
        await press(pilot, "space")
        assert [command["command"] for command in training.commands(RUN)] == ["resume"]


async def test_stop_asks_first(training: Scene) -> None:
    async with on_screen(training) as pilot:
        await press(pilot, "x")
        assert dialog(pilot).startswith("Stop this run?")
        await press(pilot, "escape", "x", "right", "enter")
        assert training.commands(RUN) == []
        await press(pilot, "x", "enter")
        assert [command["command"] for command in training.commands(RUN)] == ["stop"]


async def test_who_stops_a_run_that_cannot_save_learns_what_is_lost(training: Scene) -> None:
    refused = {"type": "notice", "severity": "error", "code": "save-failed", "message": "No room."}
    training.tell(RUN, refused, {"type": "phase", "phase": "paused", "changed": True})
    async with on_screen(training) as pilot:
        await press(pilot, "x")
        assert "is lost" in dialog(pilot)
        await press(pilot, "enter")
        assert training.commands(RUN) == []


async def test_what_was_refused_is_said(training: Scene) -> None:
    async with on_screen(training) as pilot:
        told = {"type": "command", "id": "1", "command": "set", "step": 300, "done": False, "why": f"no {HOSTILE}"}
        training.tell(RUN, told)
        await until(pilot, lambda: shows(pilot, f"set at step 300: not done: no {HARMLESS[:10]}"))


async def test_a_command_that_cannot_be_written_is_told(training: Scene) -> None:
    async with on_screen(training) as pilot:
        with replaced_by_folder(training.directory(RUN) / COMMANDS):
            await press(pilot, "k")
            await until(pilot, lambda: dialog(pilot).startswith("Not sent: Cannot send 'checkpoint'"))


@pytest.mark.parametrize(
    ("answer", "more"),
    [
        ("1", ["--after", RUN]),
        pytest.param("2", [], marks=pytest.mark.slow),
        pytest.param("3", None, marks=pytest.mark.slow),
    ],
    ids=range(3),
)
async def test_a_second_run_goes_after_the_first_or_beside_it_or_not(
    training: Scene, answer: str, more: list[str] | None
) -> None:
    async with on_screen(training) as pilot:
        await press(pilot, "n", "s", "escape", "s")
        assert f"{RUN} is at work" in dialog(pilot)
        assert training.launched == [], "Esc is no"
        await press(pilot, answer)
        started = [arguments[8:-3] for arguments in training.launched]
        assert started == ([] if more is None else [["--run", "tiny-sample-2", *more]])


@pytest.mark.slow
async def test_resuming_beside_a_run_at_work_asks_too(training: Scene) -> None:
    training.run("old-1", steps=30, ended=3)
    async with on_screen(training) as pilot:
        app_of(pilot).resume_run("old-1")
        await until(pilot, lambda: f"{RUN} is at work" in dialog(pilot))
        await press(pilot, "1")
        assert [arguments[4:-3] for arguments in training.launched] == [["--resume", "old-1", "--after", RUN]]


async def test_a_run_on_its_way_is_ended_without_a_command(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    trainers = []

    def launch(arguments: list[str], directory: Path) -> int:
        directory.mkdir(parents=True)
        trainers.append(subprocess.Popen(["sleep", "60"]))
        return trainers[0].pid

    monkeypatch.setattr("minigpt.start.launch", launch)
    async with on_screen(scene) as pilot:
        await pilot.press("s")
        await until(pilot, lambda: shows(pilot, "○ starting"))
        app_of(pilot).start_run()
        await until(pilot, lambda: "about to begin" in dialog(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: not dialog(pilot))
        await pilot.press("x")
        await until(pilot, lambda: trainers[0].poll() is not None)
        await until(pilot, lambda: "was stopped before it began" in dialog(pilot))
        assert not scene.commands(RUN)


async def test_nothing_is_sent_to_a_run_that_is_over(scene: Scene) -> None:
    scene.run(RUN, steps=600, ended=0)
    async with on_screen(scene, run=RUN) as pilot:
        await press(pilot, "space", "k", "e", "g", "minus", "plus", "x", "r")
        assert (scene.commands(RUN), scene.launched) == ([], [])
        assert len(pilot.app.screen_stack) == 1
