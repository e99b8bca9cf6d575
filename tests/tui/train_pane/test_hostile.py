"""The Train pane and what it cannot trust: names, texts and events, files that are spoilt, folders that vanish."""

from __future__ import annotations

import math
import os
import shutil
from typing import Any

import pytest

from minigpt.jobs import EVENTS, LOCK
from tests.tui.scene import (
    HARMLESS,
    HOSTILE,
    Scene,
    app_of,
    dialog,
    on_screen,
    press,
    replaced_by_folder,
    screen,
    step_event,
    until,
)
from tests.tui.train_pane.pane import RUN, shows

pytestmark = pytest.mark.asyncio


@pytest.mark.slow
async def test_a_run_of_many_losses_that_are_none_is_shown(training: Scene) -> None:
    training.tell(RUN, *(step_event(step, training.now, loss=None, grad_norm=None) for step in range(301, 320)))
    training.tell(RUN, {"type": "eval", "split": "validation", "step": 319, "loss": None, "perplexity": None})
    async with on_screen(training) as pilot:
        for _ in range(7):
            await press(pilot, "c")
        assert shows(pilot, "step 319/600")


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
