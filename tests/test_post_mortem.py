"""A trainer that was killed cannot say so: its last readings can."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from minigpt.event_writer import EventWriter
from minigpt.events import EVENTS
from minigpt.jobs import RunLock
from minigpt.post_mortem import why
from minigpt.runs import summarise

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
        ([], "too soon to have told how much memory was left"),
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


def never_began(directory: Path, config: bool) -> Path:
    """Make what a process leaves that is killed before its first event."""
    directory.mkdir(parents=True)
    with RunLock(directory):
        pass
    if config:
        (directory / "config.toml").write_text("")
    return directory


@pytest.mark.parametrize(
    ("config", "advice"), [(True, "minigpt train --config {}/config.toml"), (False, "start it again as before")]
)
def test_a_run_that_never_began_says_how_to_start_it(tmp_path: Path, config: bool, advice: str) -> None:
    directory = never_began(tmp_path / "checkpoints" / "early", config)
    told = why(directory, summarise(directory))
    assert told is not None
    assert f"Process {os.getpid()}" in told
    assert advice.format(directory) in told


def test_a_restart_of_the_machine_explains_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = never_began(tmp_path / "checkpoints" / "early", config=True)
    monkeypatch.setattr("psutil.boot_time", lambda: time.time() + 60)
    assert "switched off or restarted" in str(why(directory, summarise(directory)))


def test_where_nobody_was_nothing_is_told(tmp_path: Path) -> None:
    directory = tmp_path / "checkpoints" / "bare"
    directory.mkdir(parents=True)
    assert why(directory, summarise(directory)) is None
    (directory / "run.lock").write_text('{"pid": "many"}')
    assert why(directory, summarise(directory)) is None


def test_who_is_at_work_has_not_vanished(tmp_path: Path) -> None:
    directory = never_began(tmp_path / "checkpoints" / "early", config=True)
    with RunLock(directory):
        assert why(directory, summarise(directory)) is None
