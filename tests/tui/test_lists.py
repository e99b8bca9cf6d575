"""The three choosing panes: what they list, what their keys do, and what they survive."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.content import Content
from textual.pilot import Pilot
from textual.widgets import Button

from minigpt.jobs import EVENTS, RunLock
from minigpt.presets import preset_paths
from minigpt.text.corpora import resolve
from minigpt.text.prepare import prepare
from minigpt.workspace import Workspace
from tests.conftest import tale
from tui.panes import runs as runs_module
from tui.panes.corpus import CorpusPane
from tui.panes.pane import Pane
from tui.panes.presets import PresetsPane
from tui.panes.runs import RunsPane
from tui.state import UIState
from tui.widgets.browser import Browser
from tui.widgets.listing import Cell, Column, Listing, Row

HOSTILE = "[red]evil[x] \x1b[31m\u202erun"
HARMLESS = r"[red]evil[x] \x1b[31m\u202erun"
SIZES = [(80, 24), (200, 60), (20, 5)]


class Harness(App[None]):
    """As much of the app as a pane asks for; what it is asked for is recorded in `asked`."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-normal"), (160, "-wide")]  # noqa: RUF012 - as in App
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]  # noqa: RUF012
    CSS = "Pane { height: 1fr; }"

    def __init__(self, pane: Pane, workspace: Workspace) -> None:
        super().__init__()
        self.workspace, self.state, self.pane = workspace, UIState(), pane
        self.asked: list[tuple[Any, ...]] = []

    def compose(self) -> ComposeResult:
        yield self.pane

    def on_mount(self) -> None:
        self.pane.shown()

    def choose_preset(self, name: str) -> None:
        self.state.preset = name
        self.asked.append(("preset", name))

    def choose_corpus(self, name: str) -> None:
        self.state.corpus = name
        self.asked.append(("corpus", name))

    def watch_run(self, run: str) -> None:
        self.asked.append(("watch", run))

    def resume_run(self, run: str) -> None:
        self.asked.append(("resume", run))

    def chat_with(self, path: Path) -> None:
        self.asked.append(("chat", path))

    def tell(self, title: str, text: str) -> None:
        self.asked.append(("tell", title, text))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path)
    found.require_writable()
    found.configs.mkdir()
    return found


@asynccontextmanager
async def on_screen(pane: Pane, workspace: Workspace, size: tuple[int, int] = (120, 40)) -> AsyncIterator[Pilot[None]]:
    async with Harness(pane, workspace).run_test(size=size) as pilot:
        await settled(pilot)
        yield pilot


async def settled(pilot: Pilot[None]) -> None:
    await pilot.pause()
    while any(not worker.is_finished for worker in pilot.app.workers):
        await pilot.pause(0.01)
    await pilot.pause()


async def press(pilot: Pilot[None], *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settled(pilot)


async def put_cursor(pilot: Pilot[None], key: str) -> None:
    pilot.app.query_one(Listing).move_to(key)
    await settled(pilot)


def shown(pilot: Pilot[None]) -> str:
    """Return the text on the screen."""
    return "\n".join(strip.text for strip in pilot.app.screen._compositor.render_strips())


def listed(pilot: Pilot[None]) -> list[str]:
    return [row.key for row in pilot.app.query_one(Listing).rows]


def line_of(pilot: Pilot[None], key: str) -> str:
    listing = pilot.app.query_one(Listing)
    return listing.render_line(listed(pilot).index(key) + 1 - listing.scroll_offset.y).text


def asked(pilot: Pilot[None]) -> list[tuple[Any, ...]]:
    assert isinstance(pilot.app, Harness)
    return pilot.app.asked


# -- the list itself


class Painted(Listing):
    """Notes which lines are drawn."""

    lines: list[int] = []  # noqa: RUF012 - set anew by the test

    def render_line(self, y: int):
        self.lines.append(y)
        return super().render_line(y)


class ListApp(App[None]):
    def __init__(self, *columns: Column) -> None:
        super().__init__()
        self.listing = Painted(columns, "Nothing here.")
        self.chosen: list[str] = []

    def compose(self) -> ComposeResult:
        yield self.listing

    def on_listing_chosen(self, event: Listing.Chosen) -> None:
        self.chosen.append(event.key)


def rows(*keys: str, **cells: str) -> list[Row]:
    return [Row(key, (Cell(key), Cell(cells.get(key, "0")))) for key in keys]


NAMES = (Column("name", flexible=True), Column("figure", right=True))


@pytest.mark.every_frame
@pytest.mark.asyncio
async def test_only_a_row_that_changed_is_drawn_again() -> None:
    app = ListApp(*NAMES)
    async with app.run_test(size=(40, 12)) as pilot:
        app.listing.set_rows(rows("a", "b", "c"))
        await pilot.pause()
        app.listing.lines = []
        app.listing.set_rows(rows("a", "b", "c"))
        await pilot.pause()
        assert app.listing.lines == []
        app.listing.set_rows(rows("a", "b", "c", b="1"))
        await pilot.pause()
        assert app.listing.lines == [2]


@pytest.mark.asyncio
async def test_the_cursor_stays_on_its_row_when_others_come_and_go() -> None:
    app = ListApp(*NAMES)
    async with app.run_test(size=(40, 8)) as pilot:
        app.listing.set_rows(rows(*"abcdefghij"))
        app.listing.focus()
        await pilot.press("end", "up")
        app.listing.set_rows(rows(*"xyzabcdefghij"))
        await pilot.pause()
        assert app.listing.key == "i"
        assert any("i" in app.listing.render_line(y).text for y in range(1, 6))
        app.listing.set_rows(rows(*"abc"))
        assert app.listing.key == "c"
        app.listing.set_rows([])
        assert app.listing.key is None


@pytest.mark.asyncio
async def test_columns_leave_by_rank_and_every_line_fits() -> None:
    columns = (Column("name", flexible=True), Column("figure", rank=1), Column("remark", rank=2))
    app = ListApp(*columns)
    async with app.run_test(size=(60, 8)) as pilot:
        app.listing.set_rows([Row("k", (Cell("a long name with 漢字 in it"), Cell("12345678"), Cell("a remark")))])
        for width, titles in ((60, "name figure remark"), (34, "name figure"), (20, "name"), (8, "na")):
            await pilot.resize_terminal(width, 8)
            await pilot.pause()
            lines = [app.listing.render_line(y) for y in range(3)]
            assert {line.cell_length for line in lines} == {app.listing.scrollable_content_region.width}
            header = lines[0].text.split()
            assert all(word.startswith(start) for word, start in zip(header, titles.split(), strict=True))


@pytest.mark.asyncio
async def test_a_click_moves_the_cursor_and_a_second_one_chooses() -> None:
    app = ListApp(*NAMES)
    async with app.run_test(size=(40, 12)) as pilot:
        app.listing.set_rows(rows("a", "b", "c"))
        await pilot.pause()
        await pilot.click(Painted, offset=(5, 3))
        assert (app.listing.key, app.chosen) == ("b", [])
        await pilot.click(Painted, offset=(5, 4), times=2)
        assert (app.listing.key, app.chosen) == ("c", ["c"])


@pytest.mark.asyncio
async def test_details_that_did_not_change_are_left_alone() -> None:
    class Alone(App[None]):
        def compose(self) -> ComposeResult:
            yield Browser(NAMES, "Things", "None.")

    app = Alone()
    async with app.run_test() as pilot:
        browser = app.query_one(Browser)
        browser.show_details(Content("facts"), Content("more"))
        await pilot.pause()
        facts = browser.details.query_one(".facts")
        before = facts.visual  # type: ignore[attr-defined]
        browser.show_details(Content("facts"), Content("other"))
        assert facts.visual is before  # type: ignore[attr-defined]


# -- presets


@pytest.mark.asyncio
async def test_every_preset_is_listed_with_its_size(workspace: Workspace) -> None:
    async with on_screen(PresetsPane(), workspace) as pilot:
        assert set(listed(pilot)) == set(preset_paths(workspace))
        assert line_of(pilot, "tiny").split()[:3] == ["›●", "tiny", "1.12M"]
        assert "124M" in line_of(pilot, "gpt2-from-scratch")


@pytest.mark.asyncio
async def test_enter_chooses_a_preset_and_marks_it(workspace: Workspace) -> None:
    async with on_screen(PresetsPane(), workspace) as pilot:
        await put_cursor(pilot, "small")
        await press(pilot, "enter")
        assert asked(pilot) == [("preset", "small")]
        assert line_of(pilot, "small").startswith("›●")
        assert not line_of(pilot, "tiny").strip().startswith("●")
        assert "chosen for the next run" in shown(pilot)


@pytest.mark.asyncio
async def test_a_broken_preset_is_listed_with_its_errors_and_cannot_be_chosen(workspace: Workspace) -> None:
    (workspace.configs / "broken.toml").write_text("[model]\nd_modle = 3\n[training]\nmax_steps = 'x'\n")
    async with on_screen(PresetsPane(), workspace, (200, 60)) as pilot:
        await put_cursor(pilot, "broken")
        assert "cannot be used" in line_of(pilot, "broken")
        assert "Did you mean 'model.d_model'?" in shown(pilot)
        assert "training.max_steps" in shown(pilot)
        await press(pilot, "enter")
        ((kind, title, text),) = asked(pilot)
        assert (kind, title) == ("tell", "This preset cannot be used")
        assert "max_steps" in text


@pytest.mark.asyncio
async def test_ones_own_preset_is_marked_and_what_is_unusual_said(workspace: Workspace) -> None:
    (workspace.configs / "mine.toml").write_text("# Mine, [bold]mine[/]\n[training]\nlearning_rate = 5.0 # \u202e\n")
    async with on_screen(PresetsPane(), workspace, (200, 60)) as pilot:
        await put_cursor(pilot, "mine")
        assert line_of(pilot, "mine").split()[3] == "own"
        assert "Mine, [bold]mine[/]" in line_of(pilot, "mine")
        assert r"learning_rate = 5.0 # \u202e" in shown(pilot)
        assert "training.learning_rate = 5 is above the usual" in shown(pilot)


@pytest.mark.asyncio
async def test_presets_that_vanish_or_cannot_be_read_do_no_harm(workspace: Workspace) -> None:
    (workspace.configs / "folder.toml").mkdir()
    (workspace.configs / "bytes.toml").write_bytes(os.urandom(2000))
    (workspace.configs / "gone.toml").write_text("")
    pane = PresetsPane()
    async with on_screen(pane, workspace) as pilot:
        for name in ("folder", "bytes"):
            await put_cursor(pilot, name)
            assert "cannot be used" in line_of(pilot, name)
        shutil.rmtree(workspace.configs)
        await put_cursor(pilot, "gone")
        pane.shown()
        await settled(pilot)
        assert "gone" not in listed(pilot)


# -- corpora


@pytest.mark.asyncio
async def test_the_sample_is_there_before_it_is_made(workspace: Workspace) -> None:
    async with on_screen(CorpusPane(), workspace) as pilot:
        assert listed(pilot) == ["sample"]
        assert "built in, made on first use" in line_of(pilot, "sample")
        assert "This is the story about" in shown(pilot)
    assert list(workspace.data.iterdir()) == []


@pytest.mark.asyncio
async def test_a_corpus_shows_its_statistics_its_tokens_and_how_it_begins(workspace: Workspace) -> None:
    (workspace.root / "novel.txt").write_text(f"{HOSTILE}\n{tale()}")
    corpus = resolve(workspace, str(workspace.root / "novel.txt"))
    for kind in ("bpe", "char"):
        prepare(corpus, tokenizer_kind=kind, vocab_size=300, validation_fraction=0.1, test_fraction=0)
    async with on_screen(CorpusPane(), workspace, (200, 60)) as pilot:
        await put_cursor(pilot, "novel")
        text = shown(pilot)
        assert f"{corpus.manifest.characters:,} characters" in text
        assert "char, vocabulary" in text
        assert "bpe, vocabulary" in text
        assert HARMLESS in text


@pytest.mark.asyncio
async def test_conversations_are_shown_turn_by_turn(workspace: Workspace) -> None:
    turns = [{"role": "user", "content": "Hi [b]there"}, {"role": "assistant", "content": "Hello!"}]
    (workspace.root / "talk.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    resolve(workspace, str(workspace.root / "talk.jsonl"))
    async with on_screen(CorpusPane(), workspace) as pilot:
        await put_cursor(pilot, "talk")
        assert "conversations" in line_of(pilot, "talk")
        assert "user: Hi [b]there" in shown(pilot)
        assert "assistant: Hello!" in shown(pilot)


@pytest.mark.asyncio
async def test_a_damaged_corpus_is_listed_and_cannot_be_chosen(workspace: Workspace) -> None:
    (workspace.data / "bad").mkdir()
    (workspace.data / "bad" / "corpus.toml").write_bytes(os.urandom(500))
    async with on_screen(CorpusPane(), workspace) as pilot:
        await put_cursor(pilot, "bad")
        assert "cannot be used" in line_of(pilot, "bad")
        await press(pilot, "enter")
        assert [entry[1] for entry in asked(pilot)] == ["This corpus cannot be used"]


@pytest.mark.asyncio
async def test_corpora_that_vanish_do_no_harm(workspace: Workspace) -> None:
    for name in ("one", "two"):
        (workspace.root / f"{name}.txt").write_text(tale() + name)
        resolve(workspace, str(workspace.root / f"{name}.txt"))
    pane = CorpusPane()
    async with on_screen(pane, workspace) as pilot:
        shutil.rmtree(workspace.data)
        await put_cursor(pilot, "two")
        pane.shown()
        await settled(pilot)
        assert listed(pilot) == ["sample"]


@pytest.mark.asyncio
async def test_a_chosen_corpus_that_is_gone_says_so(workspace: Workspace) -> None:
    app = Harness(CorpusPane(), workspace)
    app.state.corpus = HOSTILE
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert HARMLESS in line_of(pilot, HOSTILE)
        assert "There is no corpus of that name" in shown(pilot)


# -- runs


def make_run(
    workspace: Workspace, name: str, *events: dict[str, Any], checkpoints: tuple[str, ...] = (), start: float = 1000.0
) -> Path:
    directory = workspace.checkpoints / name
    directory.mkdir(parents=True, exist_ok=True)
    told = {"parameters": 1_115_520, "corpus": "sample", "preset": "tiny", "planned_steps": 600}
    add_events(directory, {"type": "start", "time": start, **told}, *({"time": start + 1, **event} for event in events))
    for file in checkpoints:
        (directory / file).write_bytes(bytes(2000))
    return directory


def add_events(directory: Path, *events: dict[str, Any]) -> None:
    with (directory / EVENTS).open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def step(number: int) -> dict[str, Any]:
    return {"type": "step", "step": number, "loss": 2.0, "time": time.time()}


END = {"type": "end", "exit_code": 0, "reason": "all steps done"}
VALIDATION = {"type": "eval", "split": "validation", "step": 9, "loss": 0.6412}


@pytest.mark.asyncio
async def test_runs_are_listed_newest_first_with_their_state_in_sign_and_word(workspace: Workspace) -> None:
    make_run(workspace, "old", step(600), VALIDATION, END, start=1000.0)
    make_run(workspace, "new", step(30), start=2000.0)
    async with on_screen(RunsPane(), workspace) as pilot:
        assert listed(pilot) == ["new", "old"]
        told = line_of(pilot, "old").split()
        assert told[1:8] == ["✓", "finished", "tiny", "sample", "1.12M", "600/600", "0.641"]
        assert "✗ crashed" in line_of(pilot, "new")


@pytest.mark.asyncio
async def test_a_run_shows_its_checkpoints_and_notices(workspace: Workspace) -> None:
    saved = {"type": "checkpoint", "path": "/elsewhere/best_model.pt", "step": 9, "kind": "best_model"}
    notice = {"type": "notice", "severity": "warning", "message": HOSTILE}
    make_run(workspace, "one", VALIDATION, saved, notice, END, checkpoints=("best_model.pt",))
    async with on_screen(RunsPane(), workspace) as pilot:
        (line,) = [line for line in shown(pilot).splitlines() if "best_model.pt" in line]
        assert line.split("best_model.pt")[1].split()[:4] == ["9", "0.641", "2", "kB"]
        assert await until(pilot, lambda: f"warning: {HARMLESS}" in shown(pilot))
        assert "all steps done" in shown(pilot)


@pytest.mark.parametrize("key", ["enter", "w"])
@pytest.mark.asyncio
async def test_a_run_is_opened_in_the_train_pane(workspace: Workspace, key: str) -> None:
    make_run(workspace, HOSTILE, END)
    async with on_screen(RunsPane(), workspace) as pilot:
        assert HARMLESS in line_of(pilot, HOSTILE)
        await press(pilot, key)
        assert asked(pilot) == [("watch", HOSTILE)]


@pytest.mark.asyncio
async def test_c_talks_to_the_best_checkpoint(workspace: Workspace) -> None:
    directory = make_run(workspace, "one", END, checkpoints=("final_model.pt", "best_model.pt"))
    async with on_screen(RunsPane(), workspace) as pilot:
        await press(pilot, "c")
        assert asked(pilot) == [("chat", directory / "best_model.pt")]


@pytest.mark.asyncio
async def test_without_a_checkpoint_there_is_nothing_to_talk_to(workspace: Workspace) -> None:
    make_run(workspace, "one", END)
    async with on_screen(RunsPane(), workspace) as pilot:
        await press(pilot, "c")
        assert [entry[1] for entry in asked(pilot)] == ["No checkpoint"]


@pytest.mark.asyncio
async def test_r_resumes_what_broke_off_and_only_that(workspace: Workspace) -> None:
    make_run(workspace, "crashed", step(3), start=3000.0)
    make_run(workspace, "finished", step(600), END, start=2000.0)
    live = make_run(workspace, "live", step(3), start=1000.0)
    with RunLock(live):
        async with on_screen(RunsPane(), workspace) as pilot:
            for name in ("crashed", "finished", "live"):
                await put_cursor(pilot, name)
                await press(pilot, "r")
            assert [entry[:2] for entry in asked(pilot)] == [
                ("resume", "crashed"),
                ("tell", "This run is finished"),
                ("watch", "live"),
            ]


@pytest.mark.asyncio
async def test_a_run_is_deleted_after_a_yes_and_not_before(workspace: Workspace) -> None:
    directory = make_run(workspace, "one", END, checkpoints=("best_model.pt",))
    make_run(workspace, "two", END, start=500.0)
    async with on_screen(RunsPane(), workspace) as pilot:
        await press(pilot, "d", "escape")
        assert directory.exists()
        await press(pilot, "d")
        await pilot.click(pilot.app.screen.query_one("#yes", Button))
        await settled(pilot)
        assert not directory.exists()
        assert listed(pilot) == ["two"]
        assert asked(pilot) == []


@pytest.mark.asyncio
async def test_a_run_at_work_is_not_deleted(workspace: Workspace) -> None:
    directory = make_run(workspace, "live", step(3))
    with RunLock(directory):
        async with on_screen(RunsPane(), workspace) as pilot:
            await press(pilot, "d")
            assert [entry[1] for entry in asked(pilot)] == ["This run is at work"]
    assert directory.exists()


@pytest.mark.asyncio
async def test_a_run_that_began_while_the_question_stood_is_not_deleted(workspace: Workspace) -> None:
    directory = make_run(workspace, "one", step(3))
    async with on_screen(RunsPane(), workspace) as pilot:
        await press(pilot, "d")
        with RunLock(directory):
            await pilot.click(pilot.app.screen.query_one("#yes", Button))
            await settled(pilot)
        assert [entry[1] for entry in asked(pilot)] == ["The run was not deleted"]
    assert directory.exists()


async def until(pilot: Pilot[None], condition) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        await pilot.pause(0.02)
    return bool(condition())


@pytest.mark.asyncio
async def test_the_list_follows_what_happens_while_it_is_shown(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "REFRESH_SECONDS", 0.02)
    directory = make_run(workspace, "live", step(3))
    pane = RunsPane()
    with RunLock(directory):
        async with on_screen(pane, workspace) as pilot:
            add_events(directory, step(4))
            assert await until(pilot, lambda: "4/600" in line_of(pilot, "live"))
            assert await until(pilot, lambda: "4 of 600" in shown(pilot))
            shutil.rmtree(directory)
            assert await until(pilot, lambda: "There are no runs yet" in shown(pilot))


@pytest.mark.asyncio
async def test_a_hidden_list_asks_for_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "REFRESH_SECONDS", 0.02)
    make_run(workspace, "one", END)
    pane = RunsPane()
    async with on_screen(pane, workspace) as pilot:
        pane.hidden()
        await settled(pilot)
        await pilot.pause(0.1)
        make_run(workspace, "two", END)
        await pilot.pause(0.2)
        assert listed(pilot) == ["one"]
        pane.shown()
        assert await until(pilot, lambda: "two" in listed(pilot))


@pytest.mark.slow
@pytest.mark.asyncio
async def test_histories_full_of_rubbish_do_no_harm(workspace: Workspace) -> None:
    (workspace.checkpoints / "rubbish").mkdir()
    (workspace.checkpoints / "rubbish" / EVENTS).write_bytes(os.urandom(5000))
    (workspace.checkpoints / "folder" / EVENTS).mkdir(parents=True)
    odd = {"type": "eval", "split": "validation", "step": None, "loss": -1e18}
    notice = {"type": "notice", "severity": 3, "message": ["x"], "time": "soon"}
    saved = {"type": "checkpoint", "path": "a\0b", "step": 3, "kind": None}
    make_run(workspace, "odd", step(2**62), odd, notice, saved, {"type": "start", "time": 1e18}, checkpoints=("b.pt",))
    async with on_screen(RunsPane(), workspace) as pilot:
        assert set(listed(pilot)) == {"rubbish", "folder", "odd"}
        for name in listed(pilot):
            await put_cursor(pilot, name)
            await press(pilot, "r", "c", "escape")


# -- all three


@pytest.mark.slow
@pytest.mark.parametrize("make", [PresetsPane, CorpusPane, RunsPane])
@pytest.mark.asyncio
async def test_every_size_can_be_had(workspace: Workspace, make: type[Pane]) -> None:
    make_run(workspace, "one", step(3), END, checkpoints=("best_model.pt",))
    async with on_screen(make(), workspace) as pilot:
        for width, height in SIZES:
            await pilot.resize_terminal(width, height)
            await pilot.press("down", "tab", "end")
            await settled(pilot)
            assert all(len(line) <= width for line in shown(pilot).splitlines())


@pytest.mark.parametrize("make", [PresetsPane, CorpusPane, RunsPane])
@pytest.mark.asyncio
async def test_what_has_the_focus_can_be_explained(workspace: Workspace, make: type[Pane]) -> None:
    async with on_screen(make(), workspace) as pilot:
        for widget in pilot.app.query("*"):
            assert not widget.focusable or getattr(widget, "explain", "")


@pytest.mark.parametrize("make", [PresetsPane, CorpusPane, RunsPane])
def test_every_key_has_a_name_and_says_what_it_does(make: type[Pane]) -> None:
    bindings = [*make.BINDINGS, *Listing.BINDINGS]
    assert all(binding.id and binding.tooltip for binding in bindings)  # type: ignore[union-attr]


def test_the_panes_need_no_torch() -> None:
    script = "import sys; import tui.panes.presets, tui.panes.corpus, tui.panes.runs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
