"""What a preset comes to: figures that follow what is typed, the file, five steps on this machine, and fitting."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from minigpt.errors import UserError
from minigpt.jobs import COMMANDS, EVENTS
from minigpt.presets import load_preset, read_file
from minigpt.tasks import TaskProcess
from minigpt.workspace import Workspace
from tests.tui.presets_pane.pane import (
    OUTLOOK,
    SMALL,
    dialog,
    form_of,
    own,
    pane_of,
    press,
    screen,
    settled,
    type_value,
)
from tests.tui.scene import until
from tui.presets.draft import Draft
from tui.presets.figures import Prospects, rows_of


@pytest.mark.parametrize("width", [20, 44, 76])
def test_figures_say_all_there_is(width: int) -> None:
    rows = list(rows_of(Prospects("tale", OUTLOOK, unusual=("x is high",)), width))  # type: ignore[arg-type]
    text = " ".join(" ".join(row.text for row in rows).split())
    for figure in ("tale", "1,000,000", "250k 25%", "6.2M FLOPs", "100 MB of 50 MB free", "84 MB", "2.5M tokens"):
        assert figure in text
    for figure in (
        "600 steps = 1.5 epochs",
        "2 min 5 s",
        "12 MB a checkpoint",
        "up to 60 MB of 9 GB free",
        "x is high",
    ):
        assert figure in text
    assert "This does not fit" in text.replace("  ", " ")
    assert "positions" not in text
    assert all(len(row.text) <= width for row in rows if row.key == "memory" and "!" in row.text)


@pytest.mark.asyncio
async def test_the_figures_follow_what_is_typed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def worked_out(workspace: Workspace, draft: Draft, corpus: str) -> Prospects:
        return Prospects(f"{corpus} {draft.value('model.d_model')}")

    monkeypatch.setattr("tui.presets.form.prospects_of", worked_out)
    async with form_of(workspace, "first") as pilot:
        assert "sample 128" in screen(pilot)
        await type_value(pilot, "model.d_model", "96")
        await pilot.pause(0.02)
        await settled(pilot)
        assert "sample 96" in screen(pilot)


@pytest.mark.asyncio
async def test_on_a_small_screen_the_figures_are_a_key_away(workspace: Workspace) -> None:
    async with form_of(workspace, "first", SMALL) as pilot:
        titles = ["─ first  (built in", "─ what it comes to", "─ the file", "─ first  (built in"]
        for title in titles:
            assert [shown for shown in titles[:3] if shown in screen(pilot)] == [title]
            await press(pilot, "v")
        await press(pilot, "escape", "escape")
        assert pane_of(pilot).browser.listing.has_focus


@pytest.mark.asyncio
async def test_the_file_is_shown_as_it_would_be_saved(workspace: Workspace) -> None:
    async with form_of(workspace, "second", (120, 50)) as pilot:
        await type_value(pilot, "model.d_model", "64", "enter")
        await pilot.pause(0.02)
        await settled(pilot)
        assert "d_model = 64  # twice as wide" in screen(pilot)
        assert load_preset("second", workspace).model.d_model == 256, "nothing is saved yet"


# -- five steps


Launched = list[tuple[list[str], Path]]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], Path]]:
    """The tasks that were started, each with its directory: the test does their work."""
    tasks: list[tuple[list[str], Path]] = []

    def launch(arguments: list[str], directory: Path, log: str = "") -> int:
        tasks.append((arguments, directory))
        return os.getpid()

    monkeypatch.setattr("minigpt.tasks.launch", launch)
    monkeypatch.setattr("tui.corpora.tasks.is_alive", lambda _: not (tasks[-1][1] / EVENTS).exists())
    monkeypatch.setattr("tui.presets.probing.LOOK_SECONDS", 0.2)
    monkeypatch.setattr("tui.presets.form.prospects_of", lambda *_: Prospects("sample", OUTLOOK))
    return tasks


@pytest.mark.asyncio
async def test_five_steps_are_made_by_a_task_that_goes_on_without_the_app(
    workspace: Workspace, launched: Launched
) -> None:
    async with form_of(workspace, "mine", (120, 50)) as pilot:
        await type_value(pilot, "model.d_model", "96", "enter", "p")
        await until(pilot, lambda: "starting …  p stops it" in screen(pilot))
    ((arguments, directory),) = launched
    asked = ["presets", "check", "mine", "--corpus", "sample", "--probe", "--set", "model.d_model=96"]
    assert arguments[3:11] == asked and "--task" in arguments
    with TaskProcess(directory, "try five steps of mine") as task:
        task.report("trying five steps")
        async with form_of(workspace, "mine", (120, 50)) as pilot:
            await until(pilot, lambda: "trying five steps …  p stops it" in screen(pilot))
            pane_of(pilot).action_probe()
            await until(pilot, (directory / COMMANDS).is_file)
            assert len(launched) == 1, "the second time it is stopped"
    async with form_of(workspace, "mine", (120, 50)) as pilot:
        await until(pilot, lambda: "200 ms a step" in screen(pilot))


@pytest.mark.asyncio
async def test_five_steps_that_come_to_nothing_say_why(workspace: Workspace, launched: Launched) -> None:
    async with form_of(workspace, "mine", (120, 50)) as pilot:
        await press(pilot, "p")
        with suppress(UserError), TaskProcess(launched[0][1], "try five steps of mine"):
            raise UserError("The text is too short.")
        await until(pilot, lambda: "It could not be measured: mine: The text is too short." in dialog(pilot))
        await press(pilot, "enter")
        assert "✗ not measured: The text is too short." in screen(pilot)
    async with form_of(workspace, "mine") as pilot:
        assert not dialog(pilot), "it is said once"


@pytest.mark.asyncio
async def test_fitting_is_done_with_what_is_saved(workspace: Workspace) -> None:
    async with form_of(workspace, "mine") as pilot:
        await type_value(pilot, "training.learning_rate", "0.01", "enter", "f")
        assert "Save the changes first?" in dialog(pilot)
        await press(pilot, "1")
        assert read_file(own(workspace)).training.learning_rate == 0.01
        assert type(pilot.app.screen).__name__ == "FitScreen"
        await press(pilot, "escape")
        assert pane_of(pilot).editing
