"""The Train pane's advice: the key that carries out the cure of a notice, and what ended a crashed run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tui.scene import READINGS, Scene, dialog, on_screen, press, until
from tests.tui.train_pane.pane import RUN, shows
from tui.widgets.rows import Rows

pytestmark = pytest.mark.asyncio


def advice(cure: dict[str, Any], message: str = "The loss rises.") -> dict[str, Any]:
    return {"type": "notice", "severity": "warning", "code": "diverging", "message": message, "cure": cure}


SLOWER = {"label": "halve the learning rate", "command": "set", "args": {"lr_scale": 0.5}}
DROPOUT = {"label": "use dropout", "settings": {"model.dropout": 0.2, "training.max_epochs": None}}


@pytest.mark.parametrize("size", [(80, 24), pytest.param((120, 40), marks=pytest.mark.slow)], ids=["80x24", "120x40"])
async def test_a_notice_with_a_cure_has_a_key_that_does_it(training: Scene, size: tuple[int, int]) -> None:
    async with on_screen(training, size) as pilot:
        assert not shows(pilot, "a Cure")
        training.tell(RUN, advice(SLOWER))
        await until(pilot, lambda: shows(pilot, "a Cure", "[a: halve the learning rate] warning: The"))
        await press(pilot, "a")
        assert "The loss rises." in dialog(pilot)
        assert "Halve the learning rate: lr_scale = 0.5." in dialog(pilot)
        assert training.commands(RUN) == [], "it asks first"
        await press(pilot, "1")
        (sent,) = training.commands(RUN)
        assert (sent["command"], sent["args"]) == ("set", {"lr_scale": 0.5})
        await until(pilot, lambda: not shows(pilot, "a Cure"))
        await press(pilot, "a")
        assert len(training.commands(RUN)) == 1


async def test_the_latest_advice_counts(training: Scene) -> None:
    training.tell(RUN, advice(SLOWER), advice({**SLOWER, "args": {"lr_scale": 0.25}}, "It rises on."))
    async with on_screen(training) as pilot:
        await until(pilot, lambda: shows(pilot, "a Cure"))
        await press(pilot, "a", "1")
        assert [command["args"] for command in training.commands(RUN)] == [{"lr_scale": 0.25}]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["over", "resumed"])
async def test_what_nobody_can_obey_any_more_is_no_cure(scene: Scene, when: str) -> None:
    scene.run(RUN, steps=600, ended=0 if when == "over" else None)
    scene.tell(RUN, advice(SLOWER))
    if when == "resumed":
        scene.now += 10
        scene.work(RUN)
        scene.tell(RUN, {"type": "start", "planned_steps": 700, "resumed_from": 600})
        scene.tell(RUN, {"type": "phase", "phase": "training", "changed": True})
    async with on_screen(scene, run=RUN) as pilot:
        await press(pilot, "a")
        assert not shows(pilot, "a Cure")
        assert scene.commands(RUN) == []


@pytest.mark.parametrize(("key", "begins"), [("1", "--fork"), ("2", "--config")])
async def test_a_cure_by_settings_offers_a_new_run(scene: Scene, key: str, begins: str) -> None:
    scene.run(RUN, steps=600, ended=0)
    scene.checkpoint(RUN)
    scene.tell(RUN, advice(DROPOUT))
    async with on_screen(scene, run=RUN) as pilot:
        await until(pilot, lambda: shows(pilot, "a Cure"))
        await press(pilot, "a")
        await until(pilot, lambda: "Start a run with this changed?" in dialog(pilot))
        assert "Use dropout: model.dropout = 0.2, training.max_epochs = auto." in dialog(pilot)
        assert "The loss rises." in dialog(pilot)
        assert shows(pilot, "1 From best weights", "2 From scratch", "3 Not now")
        await press(pilot, "3")
        assert scene.launched == []
        await press(pilot, "a")
        await until(pilot, lambda: "Start a run with this changed?" in dialog(pilot))
        await press(pilot, key)
        await until(pilot, lambda: bool(scene.launched))
        (arguments,) = scene.launched
        origin = {"--fork": f"{RUN}:best_model.pt", "--config": str(scene.directory(RUN) / "config.toml")}[begins]
        assert arguments[arguments.index(begins) + 1] == origin
        changed = [arguments[place + 1] for place, word in enumerate(arguments) if word == "--set"]
        assert changed == ["model.dropout=0.2", "training.max_epochs=auto"]
        await until(pilot, lambda: shows(pilot, "○ starting"))


@pytest.mark.parametrize("checkpoint", [True, False])
async def test_a_lack_of_memory_is_cured_in_the_very_run_where_it_can_go_on(scene: Scene, checkpoint: bool) -> None:
    scene.run(RUN, steps=5, ended=1)
    if checkpoint:
        scene.checkpoint(RUN, "interrupted_checkpoint.pt")
    less = {"label": "a micro-batch of 4, in a new run", "settings": {"training.micro_batch_size": 4}}
    scene.tell(RUN, {**advice(less, "The memory was not enough."), "code": "out-of-memory", "severity": "error"})
    async with on_screen(scene, (80, 24), run=RUN) as pilot:
        await until(pilot, lambda: shows(pilot, "a Cure"))
        await press(pilot, "a")
        await until(pilot, lambda: "A micro-batch of 4: training.micro_batch_size = 4." in dialog(pilot))
        assert ("Go on in less memory?" in dialog(pilot)) == checkpoint
        await press(pilot, "1")
        (arguments,) = scene.launched
        assert arguments[4:8] == ["--resume", RUN, "--set", "training.micro_batch_size=4"] or not checkpoint
        assert ("--resume" in arguments) == checkpoint


@pytest.mark.slow
async def test_without_weights_a_cure_starts_anew(scene: Scene) -> None:
    scene.run(RUN, steps=5, ended=1)
    scene.tell(RUN, advice(DROPOUT))
    async with on_screen(scene, run=RUN) as pilot:
        await until(pilot, lambda: shows(pilot, "a Cure"))
        await press(pilot, "a")
        await until(pilot, lambda: "Start a run with this changed?" in dialog(pilot))
        await press(pilot, "1")
        await until(pilot, lambda: bool(scene.launched))
        assert "--config" in scene.launched[0]


async def test_the_log_says_what_most_probably_ended_a_crashed_run(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigpt.post_mortem.psutil.boot_time", lambda: 0.0)
    scene.run(RUN, steps=120)
    full = {**READINGS["host"], "memory_used": 7.9e9}  # type: ignore[dict-item]
    scene.tell(RUN, {"type": "device", **READINGS, "host": full})

    async with on_screen(scene, run=RUN) as pilot:

        def told() -> str:
            return "\n".join(row.text for row in pilot.app.query_one("#log", Rows).rows)

        await until(pilot, lambda: "7.9 GB of the 8 GB of memory" in told())
