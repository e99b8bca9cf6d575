"""A trainer that was killed cannot say so: its last readings can."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minigpt.events import EVENTS, EventWriter
from minigpt.post_mortem import why
from minigpt.runs import summarise
from minigpt.workspace import Workspace

ROOT = Path(__file__).parent.parent

GB = 1_000_000_000
PLENTY = {"memory_used": 4 * GB, "memory_total": 16 * GB, "disk_free": 50 * GB}


def crashed(directory: Path, *hosts: dict[str, Any], **end: Any) -> Path:
    """Make a run that broke off after these readings."""
    directory.mkdir(parents=True)
    (directory / "config.toml").write_text("")
    (directory / "checkpoint_step_5.pt").touch()
    writer = EventWriter(directory / EVENTS)
    writer.write("start", run=directory.name, planned_steps=100)
    writer.write("step", step=7, loss=3.0)
    for host in hosts:
        writer.write("device", rank=0, host=host)
    if end:
        writer.write("end", **end)
    writer.close()
    return directory


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ([PLENTY, {**PLENTY, "memory_used": 15.5 * GB}], "signal 9"),
        ([{**PLENTY, "memory_used": 8 * GB}, {**PLENTY, "memory_used": 13 * GB}], "signal 9"),
        ([PLENTY, {**PLENTY, "disk_free": 0}], "disk was full"),
        ([PLENTY, PLENTY], "memory was not short"),
        ([], "memory was not short"),
    ],
)
def test_what_ended_a_run_is_read_from_its_last_readings(
    tmp_path: Path, hosts: list[dict[str, Any]], said: str
) -> None:
    directory = crashed(tmp_path / "checkpoints" / "lost", *hosts)
    told = why(directory, summarise(directory))
    assert told is not None
    assert said in told
    assert "after step 7" in told
    assert "--resume lost" in told


def test_a_run_that_said_how_it_ended_has_no_riddle(tmp_path: Path) -> None:
    directory = crashed(tmp_path / "checkpoints" / "done", {**PLENTY, "memory_used": 16 * GB}, exit_code=0)
    assert why(directory, summarise(directory)) is None


def test_times_and_sizes_beyond_all_bounds_are_passed_over(tmp_path: Path) -> None:
    directory = crashed(tmp_path / "checkpoints" / "odd", PLENTY)
    with (directory / EVENTS).open("a") as file:
        file.write('{"type": "step", "step": 8, "time": 1e300}\n{"type": "step", "step": 8, "time": -5}\n')
        file.write('{"type": "device", "time": 1e9, "host": {"memory_used": 1, "memory_total": 1' + "0" * 400 + "}}\n")
    told = why(directory, summarise(directory))
    assert told is not None
    assert "memory was not short" in told


KILLED = """
import os, signal, sys
from pathlib import Path
from minigpt.training import recorder
from minigpt.training.session import Session
from minigpt.workspace import Workspace
from tests.conftest import small_config

recorder.READINGS_SECONDS = 0.02
real = recorder.readings
def nearly_full(kind, directory):
    figures = real(kind, directory)
    figures["host"]["memory_used"] = int(0.97 * figures["host"]["memory_total"])
    return figures
recorder.readings = nearly_full

begun = []
def die(event):
    begun.append(event["type"])
    if event["type"] == "device" and "step" in begun:
        os.kill(os.getpid(), signal.SIGKILL)

config = small_config(training__max_steps=100000)
session = Session.new(Workspace(Path(sys.argv[1])), config, run="killed", say=lambda told: None)
session.train((die,))
"""


@pytest.mark.slow
def test_a_trainer_killed_by_signal_9_with_memory_full_is_told_of(workspace: Workspace) -> None:
    finished = subprocess.run([sys.executable, "-c", KILLED, str(workspace.root)], cwd=ROOT, capture_output=True)
    assert finished.returncode == -signal.SIGKILL
    directory = workspace.run_directory("killed")
    assert "signal 9" in (why(directory, summarise(directory)) or "")
