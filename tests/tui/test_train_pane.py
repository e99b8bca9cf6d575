"""The Train pane: start, watch, steer, and what it makes of trainers that die and files that vanish."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Button

from minigpt.jobs import COMMANDS, EVENTS, LOCK
from minigpt.runs import rename_run
from tests.tui.scene import (
    HARMLESS,
    HOSTILE,
    NOW,
    READINGS,
    Scene,
    app_of,
    dialog,
    on_screen,
    press,
    replaced_by_folder,
    screen,
    settled,
    step_event,
    until,
)
from tui.panes.pane import in_view
from tui.panes.train import TrainPane
from tui.widgets.chart import Chart
from tui.widgets.rows import Rows

pytestmark = pytest.mark.asyncio
RUN = "tiny-sample-1"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with Scene(tmp_path) as found:
        yield found


@pytest.fixture
def training(scene: Scene) -> Scene:
    """A scene with a run at work."""
    scene.run(RUN)
    scene.work(RUN)
    return scene


def shows(pilot: Pilot[None], *texts: str) -> bool:
    told = screen(pilot)
    return all(text in told for text in texts)


async def focus(pilot: Pilot[None], selector: str) -> None:
    pilot.app.query_one(selector).focus()
    await settled(pilot)


# -- to begin


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


# -- to steer


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


# -- to be advised


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


LADDER = {"uniform": 6.93, "unigram": 5.2, "bigram": 3.4}


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (3.0, "past bigram 29.96"),
        (4.0, "past unigram 181.3"),
        (6.0, "past uniform 1,022"),
        (7.0, "still at chance"),
    ],
)
async def test_the_ladder_stands_beside_loss_and_perplexity(scene: Scene, loss: float, words: str) -> None:
    scene.run(RUN, steps=40, ladder=LADDER)
    scene.tell(RUN, {"type": "eval", "split": "validation", "step": 40, "loss": loss, "perplexity": math.exp(loss)})
    async with on_screen(scene, (120, 40), run=RUN) as pilot:
        assert shows(pilot, words, "ladder bigram 3.40 unigram 5.20 ln V 6.93")


# -- to come back


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


# -- to look


def chart(pilot: Pilot[None]) -> Chart:
    return pilot.app.query_one("#chart-1", Chart)


@pytest.mark.slow
@pytest.mark.parametrize(("key", "text"), [("z", " 260 "), ("m", "train 1.234")])
async def test_what_of_the_curve_is_shown_is_remembered(training: Scene, key: str, text: str) -> None:
    async with on_screen(training) as pilot:
        assert text not in screen(pilot)
        await press(pilot, key)
        await until(pilot, lambda: text in screen(pilot))
        await pilot.press("q")
    async with on_screen(training) as pilot:
        await until(pilot, lambda: text in screen(pilot))


async def test_how_it_is_looked_at_is_chosen_by_a_key_and_remembered(training: Scene) -> None:
    chosen = {"c": "╭─ learning rate", "t": "1M", "f": "╭─ log: warnings"}
    async with on_screen(training) as pilot:
        for key, text in chosen.items():
            assert text not in screen(pilot)
            await press(pilot, key)
            await until(pilot, lambda text=text: text in screen(pilot))
        await pilot.resize_terminal(80, 24)
        await press(pilot, "v")
        await until(pilot, lambda: "sample @ step 300" in screen(pilot))
        await pilot.press("q")
    async with on_screen(training, (80, 24)) as pilot:
        await until(pilot, lambda: "sample @ step 300" in screen(pilot))
        await pilot.resize_terminal(120, 40)
        await until(pilot, lambda: shows(pilot, *chosen.values()))
        await pilot.resize_terminal(40, 10)
        await until(pilot, lambda: shows(pilot, "mfu") and not shows(pilot, "learning rate"))
        assert pilot.app.focused is not None and in_view(pilot.app.focused), "too low for a chart: the figures alone"


async def test_the_loss_has_a_logarithmic_axis_by_a_key(training: Scene) -> None:
    async with on_screen(training) as pilot:
        before = screen(pilot)
        await press(pilot, "l")
        assert chart(pilot).log_scale
        assert screen(pilot) != before
    assert training.remembered.log_axis


@pytest.mark.slow
async def test_all_charts_come_round(training: Scene) -> None:
    async with on_screen(training, (80, 24)) as pilot:
        titles = [chart(pilot).title]
        for _ in range(5):
            await press(pilot, "c")
            titles.append(chart(pilot).title)
            assert "nothing to show" not in screen(pilot)
        assert titles == ["loss", "perplexity", "learning rate", "gradient norm", "tokens/s", "memory, GB"]
        await press(pilot, "c")
        assert chart(pilot).title == "loss"


async def test_what_stands_below_at_80x24_can_be_had_in_turn(scene: Scene) -> None:
    scene.run(RUN, steps=600, ended=0)
    async with on_screen(scene, (80, 24), run=RUN) as pilot:
        for text in ("The cat sees the dog.", "by heart?", "41 GB free of 64 GB", "end: all 600 steps done"):
            assert text not in screen(pilot)
            await press(pilot, "v")
            assert text in screen(pilot)


@pytest.mark.slow
async def test_a_larger_screen_shows_what_had_no_room(scene: Scene) -> None:
    scene.run(RUN, steps=600, ended=0)
    async with on_screen(scene, (200, 60), run=RUN) as pilot:
        await until(pilot, lambda: "^p palette" in screen(pilot))
        wide = screen(pilot)
        await pilot.resize_terminal(80, 24)
        await settled(pilot)
        await pilot.resize_terminal(200, 60)
        await settled(pilot)
        await until(pilot, lambda: screen(pilot) == wide)
    async with on_screen(scene, (80, 24), run=RUN) as pilot:
        await pilot.resize_terminal(200, 60)
        await settled(pilot)
        await until(pilot, lambda: screen(pilot) == wide)


async def test_the_cursor_reads_values(training: Scene) -> None:
    async with on_screen(training) as pilot:
        assert pilot.app.focused is chart(pilot)
        await press(pilot, "left", "left", "left")
        assert chart(pilot).cursor_x is not None
        assert shows(pilot, "step 2")


async def test_evaluations_have_a_verdict_in_words(scene: Scene) -> None:
    scene.run(RUN, steps=0)
    losses = [(0, 4.0, 4.1), (10, 3.0, 3.2), (20, 2.0, 3.5), (30, 2.5, 3.4), (40, 1.9, None)]
    for step, train, validation in losses:
        for split, loss in (("train", train), ("validation", validation)):
            if loss is not None and step:
                scene.tell(RUN, {"type": "eval", "split": split, "step": step, "loss": loss, "epoch": step / 10})
    scene.tell(RUN, {"type": "eval", "split": "validation", "step": 40, "loss": 1.0, "whole": True})
    async with on_screen(scene, (200, 60), run=RUN) as pilot:
        lines = [line.split("│")[-2].split() for line in screen(pilot).splitlines() if line.count("│") > 3]
        table = {line[0]: line[1:] for line in lines if line and line[0] in ("0", "10", "20", "30", "40")}
        assert table["0"][-2:] == ["the", "start"]
        assert table["10"] == ["1.00", "3.000", "3.200", "0.20", "best", "yet"]
        assert table["20"][-3:] == ["1.50", "by", "heart?"]
        assert table["30"][-3:] == ["0.90", "no", "better"]
        assert table["40"] == ["4.00", "1.900", "-", "-", "no", "validation", "text"]


@pytest.mark.slow
async def test_every_gpu_tells_what_it_can_and_nothing_else(training: Scene) -> None:
    first = {"index": 0, "ours": True, "utilisation": 88, "temperature": 64, "power": 251.3, "power_cap": 300}
    first |= {"memory_used": 20e9, "memory_total": 24e9, "memory_ours": 12e9, "memory_others": 8e9}
    first |= {"clock_sm": 1410, "clock_max": 1980, "throttle": ["thermal", HOSTILE]}
    second = {"index": 1, "ours": False, "utilisation": None, "memory_used": 1e9, "memory_total": 24e9}
    training.tell(RUN, {"type": "device", "gpus": [first, second], "host": {"disk_free": 1e9}})
    async with on_screen(training, (200, 60)) as pilot:
        told = screen(pilot)
        assert "88 %  64 °C  251/300 W" in told
        assert "20/24 GB  ours 12 GB  others 8 GB" in told
        assert "1410 of 1980 MHz  held back: thermal" in told
        assert "gpu0" in told
        assert "gpu1" not in told, "its utilisation is not told, so there is no such line"
        assert "1/24 GB" in told
        assert "disk   1 GB free" in told
        assert not any(label in told for label in ("│cpu", "│ram"))


@pytest.mark.slow
async def test_a_run_without_readings_says_so(scene: Scene) -> None:
    scene.run(RUN, steps=0)
    (scene.directory(RUN) / EVENTS).write_text("")
    scene.tell(RUN, {"type": "start", "planned_steps": 10})
    async with on_screen(scene, run=RUN) as pilot:
        assert shows(pilot, "readings come every 5 s")


@pytest.mark.slow
async def test_the_diary_goes_through_steps_and_openings(training: Scene) -> None:
    async with on_screen(training) as pilot:
        await focus(pilot, "#diary")
        await press(pilot, "left", "left")
        assert shows(pilot, "sample @ step 200 (5 of 7)")
        await press(pilot, "down", "home")
        assert shows(pilot, "sample @ step 0 (1 of 7)", "Who lives here? A child lives here.")
        training.tell(RUN, {"type": "sample", "step": 310, "prompt": "Who lives here?", "text": " New."})
        await until(pilot, lambda: shows(pilot, "(1 of 8)"))
        await press(pilot, "end")
        assert shows(pilot, "sample @ step 310", "Who lives here? New.")


async def test_the_log_is_filtered_and_a_line_is_read_whole(training: Scene) -> None:
    message = "The learning rate is high. " + "It may help to lower it. " * 8
    training.tell(RUN, {"type": "notice", "severity": "warning", "code": "x", "message": message})
    async with on_screen(training) as pilot:
        await press(pilot, "f")
        assert shows(pilot, "! warning: The learning rate")
        assert not shows(pilot, "saved best_model.pt")
        await focus(pilot, "#log")
        await press(pilot, "enter")
        assert dialog(pilot).endswith(f"warning: {message.strip()}")


@pytest.mark.slow
async def test_everything_in_focus_is_explained(training: Scene) -> None:
    async with on_screen(training, (200, 60)) as pilot:
        explained = set()
        for _ in range(12):
            await press(pilot, "question_mark")
            assert dialog(pilot).startswith("What is this?")
            assert "Move with Tab" not in dialog(pilot), pilot.app.screen_stack[0].focused
            explained.add(dialog(pilot))
            await press(pilot, "escape", "tab")
        assert len(explained) >= 8


@pytest.mark.slow
async def test_each_figure_has_its_own_explanation(training: Scene) -> None:
    async with on_screen(training) as pilot:
        await focus(pilot, "#run")
        expected = ["one small improvement", "one pass over", "How long the rest", "How surprised", "kept aside"]
        for text in expected:
            await press(pilot, "question_mark")
            assert text in dialog(pilot)
            await press(pilot, "escape", "down")


async def test_the_explanation_of_a_chart_follows_the_chart(training: Scene) -> None:
    async with on_screen(training) as pilot:
        await press(pilot, "c", "c", "c", "question_mark")
        assert "Gradient norm by step" in dialog(pilot)


async def test_y_copies_what_has_the_focus(training: Scene) -> None:
    async with on_screen(training) as pilot:
        await press(pilot, "y")
        assert "step" in pilot.app.clipboard
        assert "300/600" in pilot.app.clipboard
        await focus(pilot, "#diary")
        await press(pilot, "y")
        assert pilot.app.clipboard.startswith("The cat sees the dog.")
        await focus(pilot, "#log")
        await press(pilot, "y")
        assert pilot.app.clipboard.endswith("saved best_model.pt at step 300")


async def test_n_goes_back_to_the_choice_and_training_goes_on(training: Scene) -> None:
    async with on_screen(training) as pilot:
        await press(pilot, "n")
        assert shows(pilot, "Start training", "● training")
        training.tell(RUN, step_event(301, training.now))
        await until(pilot, lambda: shows(pilot, "step 301/600"))
        assert training.commands(RUN) == []


@pytest.mark.slow
async def test_a_run_of_many_losses_that_are_none_is_shown(training: Scene) -> None:
    training.tell(RUN, *(step_event(step, training.now, loss=None, grad_norm=None) for step in range(301, 320)))
    training.tell(RUN, {"type": "eval", "split": "validation", "step": 319, "loss": None, "perplexity": None})
    async with on_screen(training) as pilot:
        for _ in range(7):
            await press(pilot, "c")
        assert shows(pilot, "step 319/600")


# -- what is hostile


async def test_names_and_texts_from_files_are_shown_as_they_are(training: Scene) -> None:
    bad = HOSTILE + "[/red][@click=app.quit]x[/]"
    training.tell(RUN, {"type": "start", "planned_steps": 600, "device": bad, "preset": bad, "peak_source": bad})
    training.tell(RUN, *(step_event(step, training.now) for step in range(1, 9)))
    training.tell(RUN, {"type": "sample", "step": 8, "prompt": bad, "text": bad})
    training.tell(RUN, {"type": "notice", "severity": bad, "code": bad, "message": bad})
    training.tell(RUN, {"type": "checkpoint", "path": bad, "step": 8, "kind": bad})
    async with on_screen(training, (200, 60)) as pilot:
        told = screen(pilot)
        for place in ("sample @ step 8", "saved ", "of measured", "mfu"):
            assert place in told or place == "of measured"
        assert told.count(HARMLESS) >= 5
        assert "\x1b" not in told
        assert "\u202e" not in told


async def test_a_folder_with_a_hostile_name_is_no_trouble(scene: Scene) -> None:
    name = HOSTILE.replace("/", "")
    scene.run(name)
    scene.work(name)
    async with on_screen(scene) as pilot:
        await until(pilot, lambda: "cannot be the name of a run" in dialog(pilot))
        assert "\x1b" not in dialog(pilot)
        await press(pilot, "escape")
        assert shows(pilot, "Start training")


@pytest.mark.slow
async def test_events_that_no_trainer_writes_do_no_harm(training: Scene) -> None:
    odd: list[Any] = [None, "x", -1, 2**70, 1e308, [], {}, [[1]], {"a": 1}, True]
    for value in odd:
        for kind in ("start", "step", "device", "eval", "sample", "checkpoint", "phase", "notice", "command", "end"):
            fields = ("step", "loss", "host", "gpus", "split", "prompt", "text", "path", "phase", "message", "args")
            event = {
                "type": kind,
                **dict.fromkeys((*fields, "planned_steps", "resumed_from", "memory", "epoch"), value),
            }
            with (training.directory(RUN) / EVENTS).open("a") as file:
                file.write(str(event).replace("'", '"').replace("None", "null").replace("True", "true") + "\n")
    async with on_screen(training, (200, 60)) as pilot:
        await press(pilot, *"ctcctcctcvvvlzm")
        assert math.isfinite(len(screen(pilot)))


SPOILT = [
    "garbage",
    *(pytest.param(way, marks=pytest.mark.slow) for way in ("removed", "replaced", "emptied", "folder", "lockless")),
]


@pytest.mark.parametrize("what", SPOILT)
async def test_a_run_that_is_spoilt_while_it_is_watched_does_no_harm(training: Scene, what: str) -> None:
    directory = training.directory(RUN)
    async with on_screen(training) as pilot:
        if what == "removed":
            shutil.rmtree(directory)
        elif what == "replaced":
            shutil.rmtree(directory)
            directory.write_text("")
        elif what == "emptied":
            os.truncate(directory / EVENTS, 0)
        elif what == "garbage":
            (directory / EVENTS).write_bytes(os.urandom(300_000))
        elif what == "folder":
            (directory / EVENTS).unlink()
            (directory / EVENTS).mkdir()
        else:
            (directory / LOCK).unlink()
        await pilot.pause(0.1)
        await press(pilot, *"kegcltzmvf", "minus", "space", "escape", "question_mark", "escape", "x", "enter", "escape")
        await press(pilot, "r", "escape", "n", "5", "1")


async def test_a_run_that_comes_back_is_shown_again(training: Scene) -> None:
    events = training.directory(RUN) / EVENTS
    async with on_screen(training) as pilot:
        with replaced_by_folder(events):
            await until(pilot, lambda: shows(pilot, "cannot be read"))
        training.tell(RUN, step_event(301, training.now))
        await press(pilot, "escape")
        await until(pilot, lambda: shows(pilot, "step 301/600"))


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
async def test_files_that_may_not_be_read_do_no_harm(training: Scene) -> None:
    async with on_screen(training) as pilot:
        for path in (training.directory(RUN), training.workspace.checkpoints):
            path.chmod(0)
            await press(pilot, *"kegn", "s", "escape", "5", "1")
            path.chmod(0o755)


@pytest.mark.slow
async def test_a_workspace_that_vanishes_does_no_harm(training: Scene) -> None:
    async with on_screen(training) as pilot:
        shutil.rmtree(training.workspace.root)
        training.workspace.root.write_text("")
        await press(pilot, *"kcn", "s", "escape", *"2345", "f2", "s", "escape")
        assert app_of(pilot).is_running


async def test_readings_of_the_scene_are_like_those_of_a_trainer() -> None:
    from minigpt.readings import readings

    told = readings("cpu")
    assert set(told["host"]) - {"cpu_temperature", "cpu_percent"} <= set(READINGS["host"])  # type: ignore[arg-type]


# -- what happens elsewhere


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
