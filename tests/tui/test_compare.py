"""The comparison on the screen, and other runs' loss behind the one that is watched."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from textual.pilot import Pilot

from minigpt.comparing.curves import RunCurve
from minigpt.jobs import EVENTS
from tests.tui.scene import (
    HARMLESS,
    HOSTILE,
    Scene,
    app_of,
    dialog,
    on_screen,
    press,
    screen,
    settled,
    step_event,
    until,
)
from tui.compare.ghosts import ghost_series, load_ghosts
from tui.compare.overlay import overlay
from tui.compare.screen import CompareScreen
from tui.panes.board import Board
from tui.widgets.chart import Chart

RUN, OTHER, THIRD = "tiny-sample-1", "tiny-sample-2", "words-1"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with Scene(tmp_path) as found:
        found.run(RUN, steps=300)
        found.run(OTHER, steps=600, ended=0)
        found.run(THIRD, steps=150, ended=3)
        yield found


def add_bits(scene: Scene, run: str) -> None:
    """Have the evaluations of a run tell bits per byte and blocks."""
    path = scene.directory(run) / EVENTS
    events = [json.loads(line) for line in path.read_text().splitlines()]
    for event in events:
        if event["type"] == "eval":
            blocks = [(512, event["loss"] + 0.1 * (-1) ** number) for number in range(32)]
            event |= {"bits_per_byte": event["loss"] / 2, "blocks": blocks}
    path.write_text("".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events))


@asynccontextmanager
async def compared(scene: Scene, size: tuple[int, int], *runs: str) -> AsyncIterator[Pilot[None]]:
    async with on_screen(scene, size) as pilot:
        app_of(pilot).push_screen(CompareScreen(runs))
        await settled(pilot)
        await until(pilot, lambda: dialog(pilot) != "" or "reading" not in chart(pilot).title)
        yield pilot


def chart(pilot: Pilot[None]) -> Chart:
    return pilot.app.screen.query_one(Chart)


# Comparing


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
async def test_curves_results_and_verdict_stand_on_one_screen(scene: Scene, size: tuple[int, int]) -> None:
    for run in (RUN, OTHER):
        add_bits(scene, run)
    async with compared(scene, size, RUN, OTHER) as pilot:
        told = screen(pilot)
        for words in ("validation loss by step", f"A {RUN}", f"B {OTHER}", "1.3392", "best loss", "differ by 0.0000"):
            assert words in told, words


@pytest.mark.asyncio
async def test_keys_change_axis_and_figure(scene: Scene) -> None:
    for run in (RUN, OTHER):
        add_bits(scene, run)
    async with compared(scene, (120, 40), RUN, OTHER) as pilot:
        titles = [chart(pilot).title]
        for key in ("t", "t", "t", "b", "b", "b"):
            await press(pilot, key)
            titles.append(chart(pilot).title)
        await press(pilot, "l")
        assert chart(pilot).log_scale
    expected = ["validation loss by step", "validation loss by tokens", "validation loss by time"]
    assert titles[:4] == [*expected, expected[0]]
    assert titles[4:] == ["bits per byte by step", "training loss by step", "validation loss by step"]


@pytest.mark.asyncio
async def test_escape_goes_back_and_y_copies_all(scene: Scene) -> None:
    async with compared(scene, (80, 24), RUN, OTHER, THIRD) as pilot:
        await press(pilot, "y")
        assert THIRD in pilot.app.clipboard
        assert "best val loss" in pilot.app.clipboard
        await press(pilot, "escape")
        assert len(pilot.app.screen_stack) == 1


@pytest.mark.asyncio
async def test_a_run_that_is_not_there_is_told(scene: Scene) -> None:
    async with compared(scene, (80, 24), RUN, "gone-1") as pilot:
        await until(pilot, lambda: "There is no run 'gone-1'" in dialog(pilot))


@pytest.mark.asyncio
async def test_what_has_the_focus_is_explained(scene: Scene) -> None:
    async with compared(scene, (120, 40), RUN, OTHER) as pilot:
        for _ in range(3):
            await press(pilot, "question_mark")
            assert dialog(pilot).startswith("What is this?")
            assert "Move with Tab" not in dialog(pilot)
            await press(pilot, "escape", "tab")


@pytest.mark.asyncio
async def test_hostile_names_are_shown_as_they_are(scene: Scene) -> None:
    name = HOSTILE.replace("/", "")
    scene.run(name, steps=100)
    async with compared(scene, (120, 40), RUN, name) as pilot:
        assert HARMLESS.replace("/", "")[:10] in screen(pilot)
        assert "\x1b" not in screen(pilot) and "\u202e" not in screen(pilot)


def curve(name: str, height: float) -> RunCurve:
    x = np.arange(1.0, 101)
    return RunCurve(name, x, height + 1 / x, x[9::10], height + 1 / x[9::10], np.full(10, np.nan))


def test_every_run_has_a_letter_where_no_other_has_its_own() -> None:
    series = overlay([curve("one", 1.0), curve("two", 1.0), curve("three", 1.0)], "validation")
    lines, letters = series[:3], series[3:]
    assert [line.name for line in lines] == ["A one", "B two", "C three"]
    assert [marks.mark for marks in letters] == ["A", "B", "C"]
    places = [place for marks in letters for place in marks.x.tolist()]
    assert len(set(places)) == len(places)
    assert all(10 <= place <= 100 for place in places)


def test_a_run_without_the_figure_has_no_line() -> None:
    (line, letters) = overlay([curve("one", 1.0)], "bits")
    assert (len(line.x), len(letters.x)) == (0, 0)


# Behind the watched run


@pytest.mark.asyncio
async def test_other_runs_are_chosen_and_drawn_behind_as_they_grow(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.compare.backdrop.REFRESH_SECONDS", 0.1)
    async with on_screen(scene, (120, 40), run=RUN) as pilot:
        assert f"a {OTHER}" not in screen(pilot)
        await press(pilot, "o")
        await until(pilot, lambda: OTHER in screen(pilot))
        assert f"  {RUN}" not in "\n".join(screen(pilot).splitlines()[5:-5])
        pilot.app.screen.listing.move_to(OTHER)  # type: ignore[attr-defined]
        await press(pilot, "space", "enter")
        await until(pilot, lambda: f"a {OTHER}" in screen(pilot))
        board = app_of(pilot).query_one(Board)
        scene.tell(OTHER, step_event(601, scene.now))
        await until(pilot, lambda: len(board.ghosts[0].loss) == 601)
        await press(pilot, "t")
        await until(pilot, lambda: f"a {OTHER}" in screen(pilot))


@pytest.mark.asyncio
async def test_other_runs_stay_until_they_are_taken_away(scene: Scene) -> None:
    async with on_screen(scene, (120, 40), run=RUN) as pilot:
        await press(pilot, "o")
        await until(pilot, lambda: OTHER in screen(pilot))
        pilot.app.screen.listing.move_to(OTHER)  # type: ignore[attr-defined]
        await press(pilot, "space", "enter")
        app_of(pilot).watch_run(THIRD)
        await until(pilot, lambda: f"a {OTHER}" in screen(pilot) and f"{THIRD} │" in screen(pilot))
        await press(pilot, "o")
        await until(pilot, lambda: "1 of at most" in screen(pilot))
        await press(pilot, "u", "enter")
        await until(pilot, lambda: f"a {OTHER}" not in screen(pilot))


@pytest.mark.parametrize("axis", ["step", "tokens", "time"])
def test_a_ghost_lies_where_its_steps_do(scene: Scene, axis: str) -> None:
    ghosts = load_ghosts(scene.workspace, [OTHER, "gone-1"])
    line, letters = ghost_series(ghosts, "loss", axis, 0.0)
    places = {"step": 1, "tokens": 2048, "time": 0.2}[axis]
    np.testing.assert_allclose(line.x, places * np.arange(1, 601), atol=1e-3)
    assert (line.role, letters.mark) == ("ghost", "a")
    assert ghost_series(ghosts, "perplexity", axis, 0.0)[0].y == pytest.approx(np.exp(line.y))
    assert ghost_series(ghosts, "lr", axis, 0.0) == []
