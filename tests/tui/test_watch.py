"""Following a run from a thread: a dead run is told from a quiet one, and no file stops the watcher."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minigpt import history as history_module
from minigpt.events import EVENTS
from minigpt.jobs import LOCK, LOG, RunLock
from minigpt.start import Started
from tui import watch as watch_module
from tui.watch import Watcher

# Far more than is needed: it only ends what hangs.
PATIENCE_SECONDS = 20
Event = dict[str, Any]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(watch_module, "LOCK_POLL_SECONDS", 0.0)


@pytest.fixture
def watchers() -> Iterator[list[Watcher]]:
    begun: list[Watcher] = []
    yield begun
    for watcher in begun:
        watcher.close()
        watcher._thread.join(PATIENCE_SECONDS)
        assert not watcher._thread.is_alive()


@pytest.fixture
def watched(watchers: list[Watcher]) -> Callable[..., Watcher]:
    """Return what begins to watch a run, and stops at the end of the test."""

    def begin(directory: Path, started: Started | None = None) -> Watcher:
        watcher = Watcher(directory, started)
        watchers.append(watcher)
        watcher.begin()
        return watcher

    return begin


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


def rounds(watcher: Watcher, count: int = 3) -> None:
    """Wait until the watcher has looked a few times more."""
    looks = 0
    original = watcher._ask_lock

    def ask() -> None:
        nonlocal looks
        original()
        looks += 1

    watcher._ask_lock = ask  # type: ignore[method-assign]
    until(lambda: looks > count)


def state(watcher: Watcher) -> str:
    with watcher.lock:
        return watcher.history.summary.state


def write(directory: Path, *events: Event) -> Path:
    directory.mkdir(exist_ok=True)
    lines = [json.dumps({"time": 1000.0, **event}, separators=(",", ":")).encode() + b"\n" for event in events]
    with (directory / EVENTS).open("ab") as file:
        file.write(b"".join(lines))
    return directory


START: Event = {"type": "start", "planned_steps": 1000, "parameters": 42}
TRAINING: Event = {"type": "phase", "phase": "training", "changed": True}


def step(number: int) -> Event:
    return {"type": "step", "step": number, "time": 1000.0 + number, "loss": 2.0}


# Alive or dead


def test_a_quiet_run_that_holds_its_lock_is_at_work(tmp_path: Path, watched: Callable[..., Watcher]) -> None:
    write(tmp_path, START, TRAINING, step(1))
    with RunLock(tmp_path):
        watcher = watched(tmp_path)
        until(lambda: not watcher.loading)
        rounds(watcher)
        assert (watcher.running, state(watcher)) == (True, "training")


def test_a_run_that_dies_without_a_word_has_crashed(tmp_path: Path, watched: Callable[..., Watcher]) -> None:
    write(tmp_path, START, TRAINING, step(1))
    with RunLock(tmp_path):
        watcher = watched(tmp_path)
        until(lambda: not watcher.loading)
        before = watcher.version
    until(lambda: state(watcher) == "crashed")
    assert watcher.version > before and not watcher.running


def test_whoever_sees_the_newest_version_sees_the_crash(tmp_path: Path, watched: Callable[..., Watcher]) -> None:
    write(tmp_path, START, TRAINING, step(1))
    with RunLock(tmp_path):
        watcher = watched(tmp_path)
        until(lambda: not watcher.loading)
    until(lambda: state(watcher) == "crashed")
    settled = watcher.version
    rounds(watcher)
    assert (watcher.version, state(watcher)) == (settled, "crashed")


def test_a_run_that_says_its_end_and_lets_go_never_seems_to_have_crashed(
    tmp_path: Path, watched: Callable[..., Watcher]
) -> None:
    seen = set()
    for _ in range(10):
        write(tmp_path, START, TRAINING, step(1))
        with RunLock(tmp_path):
            watcher = watched(tmp_path)
            until(lambda watcher=watcher: not watcher.loading)
            write(tmp_path, {"type": "end", "exit_code": 0})
        while (now := state(watcher)) != "finished":
            seen.add(now)
        watcher.close()
        (tmp_path / EVENTS).unlink()
    assert seen <= {"training"}


def test_a_run_that_goes_on_is_at_work_again(tmp_path: Path, watched: Callable[..., Watcher]) -> None:
    write(tmp_path, START, TRAINING, step(1), step(2), {"type": "end", "exit_code": 3})
    watcher = watched(tmp_path)
    until(lambda: state(watcher) == "interrupted")
    with RunLock(tmp_path):
        write(tmp_path, {**START, "resumed_from": 1}, TRAINING)
        until(lambda: state(watcher) == "training")
        assert watcher.history.summary.step == 1


def test_steps_come_as_they_are_written(tmp_path: Path, watched: Callable[..., Watcher]) -> None:
    with RunLock(write(tmp_path, START, TRAINING)):
        watcher = watched(tmp_path)
        for number in range(1, 6):
            before = watcher.version
            write(tmp_path, step(number))
            until(lambda number=number: watcher.history.summary.step == number)
            until(lambda before=before: watcher.version > before)


def test_nothing_new_is_no_new_version(tmp_path: Path, watched: Callable[..., Watcher]) -> None:
    with RunLock(write(tmp_path, START, TRAINING, step(1))):
        watcher = watched(tmp_path)
        until(lambda: not watcher.loading)
        rounds(watcher)
        before = watcher.version
        rounds(watcher)
        assert watcher.version == before


# A run on its way


def test_a_run_on_its_way_is_starting_until_it_trains(tmp_path: Path, watched: Callable[..., Watcher]) -> None:
    write(tmp_path, {**START, "time": 900.0}, step(1), {"type": "end", "exit_code": 3, "time": 950.0})
    watcher = watched(tmp_path, Started(tmp_path, os.getpid(), since=2000.0))
    rounds(watcher)
    assert watcher.starting and state(watcher) == "interrupted"
    with RunLock(tmp_path):
        write(tmp_path, {**START, "time": 2001.0, "resumed_from": 1}, TRAINING)
        # The lock is looked at before the events are read.
        until(lambda: not watcher.starting and state(watcher) == "training")
        assert watcher.trouble is None


def test_a_run_that_does_not_start_says_why(tmp_path: Path, watched: Callable[..., Watcher]) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / LOG).write_text("no such corpus\n")
    watcher = watched(directory, Started(directory, 2**22 + 1, since=1000.0))
    until(lambda: not watcher.starting)
    assert watcher.trouble == "The run run did not start: no such corpus"
    assert not directory.exists()


# Files that misbehave


def test_a_file_that_vanishes_and_comes_back(tmp_path: Path, watched: Callable[..., Watcher]) -> None:
    with RunLock(write(tmp_path, START, TRAINING, *map(step, range(1, 50)))):
        watcher = watched(tmp_path)
        until(lambda: watcher.history.summary.step == 49)
        (tmp_path / EVENTS).unlink()
        until(lambda: watcher.history.summary.step == 0)
        write(tmp_path, START, TRAINING, step(1))
        until(lambda: watcher.history.summary.step == 1)
        assert watcher.trouble is None


def test_a_file_that_became_a_directory_is_told_and_forgotten_once_it_is_a_file(
    tmp_path: Path, watched: Callable[..., Watcher]
) -> None:
    watcher = watched(write(tmp_path, START, step(1)))
    until(lambda: not watcher.loading)
    (tmp_path / EVENTS).unlink()
    (tmp_path / EVENTS).mkdir()
    until(lambda: watcher.trouble is not None)
    assert tmp_path.name in str(watcher.trouble) and "Errno" not in str(watcher.trouble)
    (tmp_path / EVENTS).rmdir()
    write(tmp_path, START, step(7))
    until(lambda: watcher.trouble is None and watcher.history.summary.step == 7)


def test_a_run_that_was_never_readable_stops_loading(tmp_path: Path, watched: Callable[..., Watcher]) -> None:
    (tmp_path / EVENTS).mkdir()
    watcher = watched(tmp_path)
    until(lambda: not watcher.loading)
    assert watcher.trouble is not None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path, watched: Callable[..., Watcher]) -> None:
    write(tmp_path, START, step(1))
    (tmp_path / EVENTS).chmod(0)
    watcher = watched(tmp_path)
    until(lambda: watcher.trouble is not None)
    (tmp_path / EVENTS).chmod(0o644)
    until(lambda: watcher.history.summary.step == 1)


def test_a_refused_read_is_told_and_tried_again(
    tmp_path: Path, watched: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = threading.Event()
    original = history_module.RunHistory.read

    def read(history: history_module.RunHistory) -> bool:
        if not refused.is_set():
            raise PermissionError(13, "Permission denied")
        return original(history)

    monkeypatch.setattr(history_module.RunHistory, "read", read)
    watcher = watched(write(tmp_path, START, step(1)))
    until(lambda: "Permission denied" in str(watcher.trouble))
    refused.set()
    until(lambda: watcher.history.summary.step == 1 and watcher.trouble is None)


def test_a_directory_that_vanishes_whole(tmp_path: Path, watched: Callable[..., Watcher]) -> None:
    directory = write(tmp_path / "run", START, TRAINING, step(1))
    (directory / LOCK).touch()
    watcher = watched(directory)
    until(lambda: state(watcher) == "crashed")
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    until(lambda: watcher.history.summary.step == 0)
    directory.write_text("a file now")
    rounds(watcher)
    assert watcher._thread.is_alive()


def test_a_lock_that_cannot_be_opened_is_nobody_s(tmp_path: Path, watched: Callable[..., Watcher]) -> None:
    write(tmp_path, START, TRAINING)
    (tmp_path / LOCK).symlink_to(LOCK)
    watcher = watched(tmp_path)
    until(lambda: state(watcher) == "crashed")
    assert watcher._thread.is_alive()


# A long history


def test_of_a_long_history_something_is_shown_before_all_of_it_is_read(
    tmp_path: Path, watched: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "PREVIEW_ABOVE_BYTES", 1000)
    monkeypatch.setattr(history_module, "PREVIEW_LINES", 50)
    write(tmp_path, START, TRAINING, *map(step, range(1, 3001)))
    may_read = threading.Event()
    original = history_module.RunHistory.read

    def read(history: history_module.RunHistory) -> bool:
        may_read.wait(PATIENCE_SECONDS)
        return original(history)

    monkeypatch.setattr(history_module.RunHistory, "read", read)
    watcher = watched(tmp_path)
    until(lambda: watcher.version > 0 and watcher.history.summary.step == 3000)
    assert watcher.loading and len(watcher.history.curves) < 1000
    # Nobody works on it: what a glimpse tells is settled by the lock too.
    assert state(watcher) == "crashed"
    may_read.set()
    until(lambda: not watcher.loading)
    assert len(watcher.history.curves) == 3000


def test_a_closed_watcher_reads_no_more(tmp_path: Path) -> None:
    watcher = Watcher(write(tmp_path, START))
    watcher.begin()
    until(lambda: not watcher.loading)
    watcher.close()
    watcher._thread.join(PATIENCE_SECONDS)
    write(tmp_path, step(1))
    assert watcher.history.summary.step == 0 and not watcher._thread.is_alive()
