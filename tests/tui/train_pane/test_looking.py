"""What the Train pane shows of a run: curves, figures, diary and log, and the keys that choose among them."""

from __future__ import annotations

import math

import pytest
from textual.pilot import Pilot

from minigpt.jobs import EVENTS
from tests.tui.scene import HOSTILE, READINGS, Scene, dialog, on_screen, press, screen, settled, step_event, until
from tests.tui.train_pane.pane import RUN, focus, shows
from tui.panes.pane import in_view
from tui.widgets.chart import Chart

pytestmark = pytest.mark.asyncio


def chart(pilot: Pilot[None]) -> Chart:
    return pilot.app.query_one("#chart-1", Chart)


# -- curves


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


async def test_the_cursor_reads_values(training: Scene) -> None:
    async with on_screen(training) as pilot:
        assert pilot.app.focused is chart(pilot)
        await press(pilot, "left", "left", "left")
        assert chart(pilot).cursor_x is not None
        assert shows(pilot, "step 2")


async def test_the_explanation_of_a_chart_follows_the_chart(training: Scene) -> None:
    async with on_screen(training) as pilot:
        await press(pilot, "c", "c", "c", "question_mark")
        assert "Gradient norm by step" in dialog(pilot)


# -- figures and texts


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


async def test_readings_of_the_scene_are_like_those_of_a_trainer() -> None:
    from minigpt.readings import readings

    told = readings("cpu")
    assert set(told["host"]) - {"cpu_temperature", "cpu_percent"} <= set(READINGS["host"])  # type: ignore[call-overload]


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
