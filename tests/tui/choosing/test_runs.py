"""The list of runs: what it says of each, what its keys do, and what it survives."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable

import pytest
from textual.pilot import Pilot
from textual.widgets import Button

from minigpt.jobs import EVENTS, RunLock
from minigpt.workspace import Workspace
from tests.tui.choosing.pane import (
    END,
    HARMLESS,
    HOSTILE,
    add_events,
    asked,
    line_of,
    listed,
    make_run,
    on_screen,
    press,
    put_cursor,
    settled,
    shown,
    step,
)
from tui.panes import runs as runs_module
from tui.panes.runs import RunsPane

VALIDATION = {"type": "eval", "split": "validation", "step": 9, "loss": 0.6412}


async def until(pilot: Pilot[None], condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        await pilot.pause(0.02)
    return bool(condition())


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
