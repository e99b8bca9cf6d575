"""The Runs pane: finding a run among many, its checkpoints, and what is done with them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.screen import Screen
from textual.strip import Strip
from textual.widgets import Input, TextArea

from minigpt.config import Config
from minigpt.errors import UserError
from minigpt.presets import load_preset, to_toml
from minigpt.runs import BEST
from minigpt.workspace import Workspace
from tests.tui.scene import HOSTILE, NOW, Scene, app_of, dialog, on_screen, press, screen, settled, until
from tui.panes.runs import RunsPane
from tui.runs.assignments import judge
from tui.runs.forking import ForkForm
from tui.runs.replaying import Difference, Verdict, in_words, replay
from tui.runs.roster import row_of
from tui.runs.table import RunTable
from tui.state import UIState, save_state

RUN, OTHER, THIRD = "tiny-sample-1", "words-novels-1", "small-sample-1"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Three runs that have ended, the newest first: stopped at step 300, finished, and broken off at step 150."""
    with Scene(tmp_path) as found:
        for hours, (name, steps, ended, told) in enumerate(
            (
                (RUN, 300, 3, {}),
                (OTHER, 600, 0, {"preset": "words", "corpus": "novels", "parameters": 2_000_000}),
                (THIRD, 150, None, {"preset": "small", "parameters": 6_300_000}),
            )
        ):
            found.now = NOW - hours * 3700
            directory = found.run(name, steps=steps, ended=ended, **told)
            (directory / "config.toml").write_text(to_toml(load_preset("tiny", found.workspace)))
            found.checkpoint(name)
        found.now = NOW
        save(found, 100)
        save(found, 300)
        yield found


def save(scene: Scene, step: int) -> None:
    """Have a checkpoint of the first run at a step."""
    name = f"checkpoint_step_{step}.pt"
    scene.tell(RUN, {"type": "checkpoint", "path": name, "step": step, "kind": "step"})
    scene.checkpoint(RUN, name, bytes=1000 * step)


class Alone(App[None]):
    """As much of the app as the pane asks for, and no more to draw; what it is asked for is in `asked`."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-normal"), (160, "-wide")]  # noqa: RUF012 - as in App
    CSS = "RunsPane { height: 1fr; }"

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self.workspace, self.state, self.pane = workspace, UIState(), RunsPane()
        self.asked: list[tuple[str, ...]] = []

    def compose(self) -> ComposeResult:
        yield self.pane

    def on_mount(self) -> None:
        self.pane.shown()

    def watch_run(self, run: str) -> None:
        self.asked.append(("watch", run))

    def resume_run(self, run: str) -> None:
        self.asked.append(("resume", run))

    def chat_with(self, path: Path) -> None:
        self.asked.append(("chat", path.name))

    def tell(self, title: str, text: str) -> None:
        self.asked.append(("tell", title, text))

    def run_renamed(self, run: str, name: str) -> None:
        self.asked.append(("renamed", run, name))

    def remember(self) -> None:
        self.asked.append(("remember",))


@asynccontextmanager
async def alone(scene: Scene, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Pilot[None]]:
    app = Alone(scene.workspace)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: bool(app.pane.runs))
        await calm(pilot)
        yield pilot


def asked(pilot: Pilot[None]) -> list[tuple[str, ...]]:
    assert isinstance(pilot.app, Alone)
    return pilot.app.asked


def pane_of(pilot: Pilot[None]) -> RunsPane:
    return pilot.app.query_one(RunsPane)


async def calm(pilot: Pilot[None]) -> None:
    """Wait until no thread is at work, nor what it told on its way to the screen."""
    still = 0
    while still < 2:
        await pilot.pause()
        still = still + 1 if all(worker.is_finished for worker in pilot.app.workers) else 0


async def push(pilot: Pilot[None], *keys: str) -> None:
    """Press keys one by one, each when what the one before caused has been shown."""
    for key in keys:
        await pilot.press(key)
        await calm(pilot)


async def opened(pilot: Pilot[None]) -> RunsPane:
    """Go to the pane in the whole app."""
    await press(pilot, "5")
    await until(pilot, lambda: bool(pilot.app.query(RunsPane)) and bool(pane_of(pilot).runs))
    await settled(pilot)
    return pane_of(pilot)


def listed(pane: RunsPane) -> list[str]:
    return [row.key for row in pane.listing.rows]


def titles(pane: RunsPane) -> str:
    return pane.listing.render_line(0).text


def foot(pane: RunsPane) -> str:
    return str(pane.listing.border_subtitle)


async def write(pilot: Pilot[None], text: str) -> None:
    """Put a text into the field that has the focus, in place of what is there."""
    field = pilot.app.focused
    if isinstance(field, TextArea):
        field.text = text
    else:
        assert isinstance(field, Input)
        field.value = text
    await calm(pilot)


# -- finding


@pytest.mark.asyncio
async def test_columns_come_with_the_room(scene: Scene) -> None:
    async with alone(scene) as pilot:
        pane = pane_of(pilot)
        assert titles(pane).split() == ["run", "state", "params", "step", "best", "loss", "disk", "age", "▲"]
        await pilot.resize_terminal(200, 60)
        await until(pilot, lambda: "preset" in titles(pane))
        assert "corpus" in titles(pane) and "time" in titles(pane)
        assert "note" not in titles(pane)


@pytest.mark.asyncio
async def test_runs_are_put_in_order_by_any_column_and_the_title_says_which_way(scene: Scene) -> None:
    async with alone(scene) as pilot:
        pane = pane_of(pilot)
        assert listed(pane) == [RUN, OTHER, THIRD]
        orders = {}
        for _ in range(10):
            await push(pilot, "s")
            assert pane.listing.key == RUN
            orders[pane.listing.sorted_by] = (listed(pane), titles(pane))
        assert orders["name"][0] == [THIRD, RUN, OTHER]
        assert orders["size"][0] == [THIRD, OTHER, RUN]
        assert "params ▼" in orders["size"][1]
        assert orders["step"][0] == [OTHER, RUN, THIRD]
        # Also where there was no room for the column before.
        assert "corpus ▲" in orders["corpus"][1] and "time ▼" in orders["time"][1]
        assert orders["started"][0] == [RUN, OTHER, THIRD]
        await push(pilot, "S")
        assert listed(pane) == [THIRD, OTHER, RUN]
        assert "age ▼" in titles(pane)
        state = pilot.app.state  # type: ignore[attr-defined]
        assert (state.runs_order, state.runs_falling) == ("started", True) and ("remember",) in asked(pilot)


@pytest.mark.asyncio
async def test_the_order_is_what_it_was_in_the_last_session(scene: Scene) -> None:
    save_state(scene.workspace, UIState(runs_order="size", runs_falling=False))
    async with on_screen(scene, (80, 24)) as pilot:
        pane = await opened(pilot)
        assert listed(pane) == [RUN, OTHER, THIRD]
        assert "params ▲" in titles(pane)


@pytest.mark.asyncio
async def test_words_let_only_some_runs_through(scene: Scene) -> None:
    async with alone(scene) as pilot:
        pane = pane_of(pilot)
        await push(pilot, "slash", *"SAMPLE")
        assert listed(pane) == [RUN, THIRD]
        await push(pilot, "space", *"crash")
        assert listed(pane) == [THIRD]
        await push(pilot, "enter")
        assert "1 of 3 with “SAMPLE crash”" in foot(pane)
        assert pilot.app.focused is pane.listing
        await push(pilot, "slash", *"xyz")
        assert "No run has these words" in screen(pilot)
        await push(pilot, "escape")
        assert listed(pane) == [RUN, OTHER, THIRD]
        assert pilot.app.focused is pane.listing


@pytest.mark.asyncio
async def test_marked_runs_are_compared(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[list[str]] = []

    def compare(runs: list[str]) -> Screen[None]:
        compared.append(runs)
        return Screen()

    monkeypatch.setattr("tui.compare.screen.CompareScreen", compare)
    async with alone(scene) as pilot:
        pane = pane_of(pilot)
        await push(pilot, "m")
        assert "Mark two or more" in asked(pilot)[0][2]
        await push(pilot, "space", "m")  # one that is marked, and the one under the cursor
        pilot.app.pop_screen()
        await push(pilot, "down", "space")
        assert "2 marked" in foot(pane)
        assert pane.listing.render_line(1).text.startswith(" ● tiny")
        await push(pilot, "m")
        assert compared == [[RUN, OTHER], [RUN, THIRD]]
        pilot.app.pop_screen()
        await push(pilot, "u")
        assert pane.listing.marks == set()


@pytest.mark.every_frame
@pytest.mark.asyncio
async def test_of_hundreds_of_runs_only_the_line_that_changed_is_drawn(scene: Scene) -> None:
    async with alone(scene) as pilot:
        pane = pane_of(pilot)
        some = pane.runs[RUN]
        drawn: list[int] = []
        table, render = pane.listing, pane.listing.render_line

        def note(y: int) -> Strip:
            drawn.append(y)
            return render(y)

        runs = [type(some)(f"run-{n:03}", step=n, started=NOW - n) for n in range(400)]
        lines = {run.run: row_of(run, NOW) for run in runs}
        table.take(runs, lines)
        await pilot.pause()
        table.render_line = note  # type: ignore[method-assign]
        table.take(runs, dict(lines))
        await pilot.pause()
        assert drawn == []
        runs[2].step = 7
        table.take(runs, {**lines, "run-002": row_of(runs[2], NOW)})
        await pilot.pause()
        assert drawn == [3]


# -- names, notes, deletion


@pytest.mark.asyncio
async def test_a_run_gets_another_name_and_stays_the_one_that_is_meant(scene: Scene) -> None:
    async with alone(scene) as pilot:
        pane = pane_of(pilot)
        await push(pilot, "down", "e")
        await write(pilot, RUN)
        await push(pilot, "enter")
        assert "There is a run tiny-sample-1 already" in asked(pilot)[0][2]
        await push(pilot, "e")
        await write(pilot, "baseline")
        await push(pilot, "enter")
        await until(pilot, lambda: pane.listing.key == "baseline")
        assert (scene.directory("baseline") / BEST).is_file() and not scene.directory(OTHER).exists()
        assert asked(pilot)[1:] == [("renamed", OTHER, "baseline")]


@pytest.mark.asyncio
async def test_a_note_is_kept_shown_and_found(scene: Scene) -> None:
    async with alone(scene, (200, 60)) as pilot:
        pane = pane_of(pilot)
        await push(pilot, "n")
        await write(pilot, f"half the rate {HOSTILE}")
        await push(pilot, "enter")
        await until(pilot, lambda: pane.runs[RUN].note.startswith("half the rate"))
        assert "note" in titles(pane)
        await push(pilot, "slash", *"half")
        assert listed(pane) == [RUN]
        await push(pilot, "escape", "n")
        await write(pilot, "")
        await push(pilot, "enter")
        await until(pilot, lambda: not pane.runs[RUN].note)


@pytest.mark.asyncio
async def test_all_that_are_marked_go_together_when_that_is_said(scene: Scene) -> None:
    async with alone(scene) as pilot:
        pane = pane_of(pilot)
        await push(pilot, "space", "space", "d")
        assert "are marked" not in dialog(pilot)  # the cursor is on one that is not
        await push(pilot, "escape", "up", "d")
        assert f"{OTHER}, {RUN}" in dialog(pilot)
        await push(pilot, "3")
        await until(pilot, lambda: listed(pane) == [THIRD])
        assert not scene.directory(RUN).exists() and not scene.directory(OTHER).exists()


# -- checkpoints


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
@pytest.mark.asyncio
async def test_the_checkpoints_of_a_run_are_a_list_to_talk_from(scene: Scene, size: tuple[int, int]) -> None:
    async with alone(scene, size) as pilot:
        pane = pane_of(pilot)
        await push(pilot, "right")
        assert [row.key for row in pane.checkpoints.rows] == ["checkpoint_step_300.pt", BEST, "checkpoint_step_100.pt"]
        first = pane.checkpoints.render_line(1).text.split()
        assert first[1:6] == ["checkpoint_step_300.pt", "300", "1.667", "300", "kB"]
        assert "checkpoint_step_100.pt" in screen(pilot)
        await push(pilot, "end", "c", "enter", "d")  # none of them is deleted by a key
        assert asked(pilot) == [("chat", "checkpoint_step_100.pt")] * 2
        assert not dialog(pilot)
        await push(pilot, "left")
        assert pilot.app.focused is pane.listing
        assert "stopped" in screen(pilot)


@pytest.mark.asyncio
async def test_r_goes_on_from_the_furthest_or_in_a_new_run_from_another(scene: Scene) -> None:
    async with on_screen(scene, (80, 24)) as pilot:
        await opened(pilot)
        await press(pilot, "right", "end", "r")
        await until(pilot, lambda: "Go on from here?" in dialog(pilot))
        assert "checkpoint_step_100.pt (step 100) is behind" in dialog(pilot)
        assert f"A new run, {RUN}-1, goes on from it" in dialog(pilot)
        await press(pilot, "escape")
        assert scene.launched == []
        await press(pilot, "r")
        await until(pilot, lambda: bool(dialog(pilot)))
        await press(pilot, "1")
        (arguments,) = scene.launched
        file = scene.directory(RUN) / "checkpoint_step_100.pt"
        assert arguments[4:8] == ["--resume", str(file), "--run", f"{RUN}-1"]
        assert app_of(pilot).state.run == f"{RUN}-1"
    async with alone(scene) as pilot:
        pane_of(pilot).listing.move_to(RUN)
        await push(pilot, "right", "home", "r")
        assert asked(pilot) == [("resume", RUN)]


@pytest.mark.asyncio
async def test_from_an_earlier_checkpoint_of_a_run_at_work_nobody_goes_on(scene: Scene) -> None:
    scene.tell(RUN, {"type": "phase", "phase": "training", "changed": True})
    scene.work(RUN)
    async with alone(scene) as pilot:
        await push(pilot, "right", "end", "r")
        ((_, title, text),) = asked(pilot)
        assert title == "This run is at work" and "Stop it first" in text
        await push(pilot, "home", "r")
        assert asked(pilot)[1:] == [("watch", RUN)]


@pytest.mark.asyncio
async def test_a_fork_starts_with_the_settings_that_were_written(scene: Scene) -> None:
    async with on_screen(scene) as pilot:
        await opened(pilot)
        await press(pilot, "f")
        await write(pilot, "lr = 0.001\nmodel.n_layers = 9")
        assert "training.learning_rate = 0.001, was 0.01" in screen(pilot)
        assert "belongs to the weights" in screen(pilot)
        await press(pilot, "ctrl+s")
        assert isinstance(pilot.app.screen, ForkForm) and scene.launched == []
        await write(pilot, "lr = 0.001")
        await press(pilot, "ctrl+s")
        (arguments,) = scene.launched
        wanted = ["--fork", f"{RUN}:{BEST}", "--run", f"{RUN}-fork-1", "--set", "training.learning_rate=0.001"]
        assert arguments[4:10] == wanted
        assert app_of(pilot).state.run == f"{RUN}-fork-1"


@pytest.mark.asyncio
async def test_a_fork_waits_for_its_turn_where_that_is_chosen(scene: Scene) -> None:
    scene.run("busy-1")
    scene.work("busy-1")
    async with on_screen(scene) as pilot:
        pane = await opened(pilot)
        pane.listing.move_to(RUN)
        await settled(pilot)
        await press(pilot, "f", "ctrl+s")
        assert "busy-1 is at work on this machine" in dialog(pilot)
        await press(pilot, "1")
        assert scene.launched[0][-5:-3] == ["--after", "busy-1"]


@pytest.mark.asyncio
async def test_a_fork_begins_with_what_the_last_notice_advises(scene: Scene) -> None:
    cure = {"label": "a third of the rate", "settings": {"training.learning_rate": 0.0033}}
    scene.tell(RUN, {"type": "notice", "severity": "error", "code": "diverged", "message": "Too high.", "cure": cure})
    async with alone(scene) as pilot:
        await push(pilot, "f")
        assert pilot.app.screen.query_one(TextArea).text == "# a third of the rate\ntraining.learning_rate=0.0033"
        pilot.app.screen.query_one(Input).value = RUN
        await push(pilot, "ctrl+s")
        assert "There is a run tiny-sample-1 already" in screen(pilot)
        assert scene.launched == []


# -- replaying


@pytest.mark.asyncio
async def test_a_replay_is_told_when_it_is_done_and_can_be_stopped(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed, done = [], threading.Event()

    def answer(workspace: Workspace, run: str, checkpoint: str | None) -> Verdict:
        replayed.append((run, checkpoint))
        done.wait(20)
        return Verdict("checkpoint_step_100.pt", from_step=100, steps=20, reproduced=True)

    monkeypatch.setattr("tui.panes.runs.replay", answer)
    async with alone(scene) as pilot:
        pane = pane_of(pilot)
        await pilot.press("v")
        await until(pilot, lambda: f"replaying {RUN}" in foot(pane))
        await pilot.press("v")
        await until(pilot, lambda: "the replay was stopped" in foot(pane))
        done.set()
        await calm(pilot)
        assert asked(pilot) == []
        await push(pilot, "right", "end", "v")
        ((_, title, text),) = asked(pilot)
        assert title == "Reproduced bit for bit"
        assert "Steps 101 to 120 of tiny-sample-1 were trained again from checkpoint_step_100.pt." in text
        assert replayed == [(RUN, None), (RUN, "checkpoint_step_100.pt")]


def test_a_verdict_says_what_differs_and_what_it_means() -> None:
    other = Difference(103, 1.5, 1.5000001)
    found = Verdict("best_model.pt", 100, 20, False, [], 18, other, 1e-7)
    title, text = in_words("one", found)
    assert title == "Not reproduced"
    assert "18 of the 20 losses came out otherwise, by up to 1e-07. The first is that of step 103" in text
    found.changes = ["threads: 4, were 2"]
    title, text = in_words("one", found)
    assert title == "Not comparable bit for bit"
    assert "threads: 4, were 2" in text


def test_why_nothing_can_be_replayed_is_told_in_the_childs_own_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no run 'nothing'"):
        replay(Workspace(tmp_path), "nothing")


# -- settings as they are written


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("# a remark\n\n  lr = 1e-3  # and another", {"training.learning_rate": "1e-3"}),
        ("--max-epochs=3\ncorpus=novels", {"training.max_epochs": "3", "corpus.name": "novels"}),
        ("model.dropout='0.2'", {"model.dropout": "0.2"}),
    ],
)
def test_settings_are_known_by_key_name_and_flag(text: str, values: dict[str, str]) -> None:
    judgement = judge(Config(), text)
    assert judgement.values == values
    assert judgement.problems == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("dropuot = 0.1", "There is no setting 'dropuot'. Did you mean 'dropout'?"),
        ("learning", "There is training.learning_rate, training.muon_learning_rate."),
        ("dropout = 3", "model.dropout = 3 is not allowed: it must be a number from 0 to 0.9"),
        ("d_model = 64", "model.d_model belongs to the weights"),
        ("vocab_size = 500", "tokenizer.vocab_size belongs to the weights"),
        ("learning_rate", "training.learning_rate has no value yet"),
        ("validation_fraction=0.5\ntest_fraction=0.5", "leave nothing to learn from"),
    ],
)
def test_what_is_wrong_with_a_setting_is_said(text: str, problem: str) -> None:
    assert any(problem in told for told in judge(Config(), text).problems), judge(Config(), text).problems


def test_an_unusual_setting_is_taken_with_a_word() -> None:
    judgement = judge(Config(), "learning_rate = 5")
    assert judgement.problems == ()
    assert "above the usual" in judgement.warnings[0]


def test_the_table_needs_no_runs() -> None:
    table = RunTable("Nothing.", "")
    table.take([], {})
    table.sort_next()
    table.filter("x")
    assert table.rows == []
