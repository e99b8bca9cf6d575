from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input

from minigpt.errors import UserError
from minigpt.jobs import CommandReader
from minigpt.planning.fit import Fitting, Trial
from minigpt.planning.halving import RECORD, Candidate, Measure, Record, recommend
from minigpt.planning.labels import POINTER
from minigpt.presets import load_preset
from minigpt.tasks import StartedTask, TaskProcess
from minigpt.text.storage import write_file
from minigpt.workspace import Workspace
from tests.tui.corpus_app import dialog, press, screen, settled, until
from tui.sweeps import job
from tui.sweeps.fit import FitScreen
from tui.sweeps.job import take_over
from tui.sweeps.sweep import SweepScreen, curves
from tui.widgets.figure import Figure

OWN = "# mine\n[training]\nmuon_learning_rate = 0.02  # as usual\nlearning_rate = 0.01\nbatch_size = 2\n"
RATES = (0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16)


def driven(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Have a test run in an event loop of its own."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


class SweepsApp(App[None]):
    """As much of the app as the screens ask for."""

    CSS = "ModalScreen { background: transparent; } .dialog, .dialog-text, .dialog-buttons { height: auto; }"

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self.workspace = workspace
        self.answers: list[Any] = []


@asynccontextmanager
async def opened(
    workspace: Workspace, shown: Screen[Any], size: tuple[int, int] = (80, 24)
) -> AsyncIterator[Pilot[None]]:
    app = SweepsApp(workspace)
    async with app.run_test(size=size) as pilot:
        app.animation_level = "none"
        app.push_screen(shown, app.answers.append)
        # The line of progress comes with the first look.
        await until(pilot, lambda: len(lines := screen(pilot).splitlines()) > 1 and bool(lines[1].strip("│ ")))
        await settled(pilot)
        yield pilot


def answers(pilot: Pilot[None]) -> list[Any]:
    """Return what screens were dismissed with."""
    assert isinstance(pilot.app, SweepsApp)
    return pilot.app.answers


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path)
    found.require_writable()
    found.configs.mkdir()
    (found.configs / "mine.toml").write_text(OWN)
    return found


def candidate(rate: float, step: int, state: str, loss: float | None = None) -> Candidate:
    """A rate that learns the better, the nearer it is to 0.02."""
    far = abs(math.log2(rate / 0.02))
    curve = [(number, 1 + far / 8 + 3 * math.exp(-number / 20)) for number in range(1, step + 1)]
    blocks = [(100, (loss or 0.0) + number / 100) for number in range(32)]
    settings = {"training.muon_learning_rate": rate, "training.learning_rate": rate / 2}
    measures = [] if loss is None else [Measure(step, loss, blocks)]
    return Candidate(rate, settings, state, step, curve, measures)


def finished() -> Record:
    fates = {0.01: (100, "in", 1.2), 0.02: (100, "in", 1.1), 0.04: (50, "out", 1.5)}
    found = [candidate(rate, *fates.get(rate, (25, "out", 2.0))) for rate in RATES]
    record = Record("mine", "tale", "training.muon_learning_rate", 0.02, [25, 50, 100], 0.2, 64, 3200, found, 3)
    record.recommendation = recommend(record)
    return record


def write_sweep(workspace: Workspace, record: Record, task: Path) -> None:
    directory = workspace.data / ".sweeps" / "0123abcd"
    directory.mkdir(parents=True, exist_ok=True)
    write_file(directory / RECORD, msgspec.json.encode(record))
    write_file(task / POINTER, b"0123abcd")


def begin(workspace: Workspace, action: str, number: int = 1) -> TaskProcess:
    return TaskProcess(workspace.task_directory(f"{action}-mine-20250101-00000{number}"), f"{action} mine")


def done_sweep(workspace: Workspace) -> Record:
    record = finished()
    with begin(workspace, "sweep") as task:
        write_sweep(workspace, record, task.directory)
    return record


@driven
async def test_a_sweep_that_was_done_is_shown_with_its_worth(workspace: Workspace) -> None:
    done_sweep(workspace)
    async with opened(workspace, SweepScreen("mine", "tale")) as pilot:
        seen = screen(pilot)
        assert "Sweep of the learning rate: mine on tale" in seen
        assert "✓ done" in seen
        assert "muon_learning_rate" in seen
        assert "●   0.02   100    1.1000  best" in seen
        assert "which the preset has already" in seen
        await until(pilot, lambda: "u Use it" in screen(pilot))


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 24)])
@driven
async def test_curves_and_table_share_the_screen(workspace: Workspace, size: tuple[int, int]) -> None:
    done_sweep(workspace)
    async with opened(workspace, SweepScreen("mine", "tale"), size) as pilot:
        lines = screen(pilot).splitlines()
        assert sum(any("⠀" <= letter <= "⣿" for letter in line) for line in lines) >= 3
        assert any("loss" in line and "rate" in line for line in lines)
        assert any("0.0025" in line and "out" in line for line in lines)


@driven
async def test_the_rate_under_the_cursor_is_the_whole_line(workspace: Workspace) -> None:
    done_sweep(workspace)
    async with opened(workspace, SweepScreen("mine", "tale")) as pilot:
        assert "━━ 0.0025" in screen(pilot)
        await press(pilot, "down", "down")
        assert "━━ 0.01 " in screen(pilot)


@driven
async def test_using_it_hands_the_settings_to_the_opener(workspace: Workspace) -> None:
    done_sweep(workspace)
    taken: list[dict[str, Any]] = []
    async with opened(workspace, SweepScreen("mine", "tale", taken.append)) as pilot:
        await press(pilot, "u")
        expected = {"training.muon_learning_rate": 0.02, "training.learning_rate": 0.01}
        assert taken == answers(pilot) == [expected]
    assert (workspace.configs / "mine.toml").read_text() == OWN


@driven
async def test_a_sweep_at_work_is_followed_and_stopped(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "POLL_SECONDS", 0.1)
    record = finished()
    record.recommendation = None
    record.candidates[2].state = "training"
    with begin(workspace, "sweep") as task:
        task.report("round 3 of 3: 2 rates to step 100", 120, 400, "steps")
        write_sweep(workspace, record, task.directory)
        async with opened(workspace, SweepScreen("mine", "tale")) as pilot:
            await until(pilot, lambda: "at work" in screen(pilot))
            assert "round 3 of 3: 2 rates to step 100  120 of 400" in screen(pilot)
            await until(pilot, lambda: "x Stop" in screen(pilot))
            assert "s Start" not in screen(pilot) and "u Use it" not in screen(pilot)
            commands = CommandReader(task.directory)
            await pilot.press("x")
            sent: list[str] = []

            def received() -> bool:
                sent.extend(one.command for one in commands.poll())
                return bool(sent)

            await until(pilot, received)
            assert sent == ["stop"]
            await press(pilot, "escape")
            assert answers(pilot) == [None]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would have been started."""
    commands: list[list[str]] = []

    def start(workspace: Workspace, label: str, arguments: list[str]) -> StartedTask:
        commands.append([label, *arguments])
        return StartedTask(workspace.tasks / label, 0)

    monkeypatch.setattr(job, "start_task", start)
    return commands


@driven
async def test_the_usual_rates_stand_in_the_field_and_others_can(
    workspace: Workspace, launched: list[list[str]]
) -> None:
    async with opened(workspace, SweepScreen("mine", "tale")) as pilot:
        rates, steps = (pilot.app.screen.query_one(f"#{name}", Input) for name in ("rates", "steps"))
        assert rates.value == "0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16"
        rates.value, steps.value = "0.01 0.02", "80"
        await press(pilot, "s")
        assert launched == [
            ["sweep-mine", "presets", "sweep", "mine", "--corpus", "tale", "--rates=0.01,0.02", "--steps=80"]
        ]


@driven
async def test_steps_that_are_no_number_are_refused_in_words(workspace: Workspace, launched: list[list[str]]) -> None:
    async with opened(workspace, SweepScreen("mine", "tale")) as pilot:
        pilot.app.screen.query_one("#steps", Input).value = "many"
        await press(pilot, "s")
        assert "'many' is not a whole number" in dialog(pilot)
        assert launched == []


@driven
async def test_a_failure_is_told_in_its_own_words(workspace: Workspace) -> None:
    with pytest.raises(UserError), begin(workspace, "sweep"):
        raise UserError("The text is too short: add some.")
    async with opened(workspace, SweepScreen("mine", "tale")) as pilot:
        assert "! The text is too short: add some." in screen(pilot)
        await until(pilot, lambda: "s Start" in screen(pilot))


@driven
async def test_the_newest_task_counts_and_those_of_other_presets_do_not(workspace: Workspace) -> None:
    with begin(workspace, "fit", 1) as task:
        task.result = msgspec.to_builtins(fitting(4))
    with begin(workspace, "fit", 2) as task:
        task.result = msgspec.to_builtins(fitting(8))
    with TaskProcess(workspace.task_directory("fit-mine-2-20260101-000000"), "fit mine-2"):
        pass
    async with opened(workspace, FitScreen("mine")) as pilot:
        assert "micro_batch_size = 8" in screen(pilot)


def fitting(windows: int) -> Fitting:
    changes = {"training.batch_size": windows, "training.gradient_accumulation_steps": 2}
    changes["training.micro_batch_size"] = windows
    trials = [Trial(1, True, 10**8, 500.0), Trial(windows, True, 3 * 10**8, 4000.0), Trial(2 * windows, False)]
    return Fitting("mine", "", "cpu", 2 * windows, 10**9, windows, changes, trials, f"{windows} pass at once.")


@driven
async def test_what_fits_is_shown_and_written_into_ones_own_preset(workspace: Workspace) -> None:
    with begin(workspace, "fit") as task:
        task.result = msgspec.to_builtins(fitting(8))
    async with opened(workspace, FitScreen("mine")) as pilot:
        seen = screen(pilot)
        assert "16 windows at once: does not fit" in seen
        assert "8 pass at once." in seen
        await press(pilot, "u")
        assert answers(pilot) == [fitting(8).changes]
    text = (workspace.configs / "mine.toml").read_text()
    assert "batch_size = 8" in text and "# as usual" in text


@driven
async def test_trials_are_seen_as_they_come(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "POLL_SECONDS", 0.1)
    with begin(workspace, "fit") as task:
        async with opened(workspace, FitScreen("mine")) as pilot:
            task.report("trying 2 windows at once")
            task.notice("1 window at once: 100 MB at the peak")
            await until(pilot, lambda: "100 MB" in screen(pilot) and "trying 2 windows" in screen(pilot))


def test_a_built_in_stays_as_it_is_and_a_copy_is_changed(workspace: Workspace) -> None:
    path = take_over(workspace, "tiny", {"training.batch_size": 3})
    assert path.parent == workspace.configs
    assert load_preset(path.stem, workspace).training.batch_size == 3
    assert load_preset("tiny", workspace).training.batch_size != 3


def test_curves_that_rise_do_not_flatten_the_others() -> None:
    wild = Candidate(5.0, {}, "out", 3, [(1, 4.0), (2, 400.0), (3, 9000.0)])
    series = curves([candidate(0.02, 50, "in"), wild], None)
    assert max(np.nanmax(one.y) for one in series) < 5


def test_lines_differ_without_colour() -> None:
    found = curves([candidate(rate, 25, "in") for rate in RATES], "0.02")
    assert found[0].name == "0.02"
    figure = Figure()
    figure.series = tuple(found)
    figure.prepare()
    patterns = [pattern for part, kind, pattern in figure._kinds(60, 12) if part.role == "line"]
    assert len(patterns) == len(set(patterns)) == 4
