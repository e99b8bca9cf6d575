"""Starting a trainer: detached, told when it has begun, and why when it has not."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from minigpt.errors import JobFailed, UserError
from minigpt.events import EVENTS
from minigpt.jobs import LOG, RunLock, is_running
from minigpt.runs import summarise
from minigpt.start import Started, running_runs, start, start_new
from minigpt.workspace import Workspace

# Far more than is needed: it only ends what hangs.
PATIENCE_SECONDS = 60
SETTINGS = {
    "corpus.validation_fraction": 0.1,
    "corpus.test_fraction": 0.0,
    "tokenizer.kind": "char",
    "model.d_model": 16,
    "model.n_layers": 1,
    "model.n_heads": 1,
    "model.max_seq_len": 16,
    "training.batch_size": 4,
    "training.max_steps": 5000,
    "training.threads": 1,
    "generation.max_new_tokens": 5,
}


def flags(**changes: object) -> list[str]:
    values = {**SETTINGS, **{key.replace("__", "."): value for key, value in changes.items()}}
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def until(condition: Callable[[], object]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def outcome(started: Started) -> bool:
    until(lambda: started.outcome() is not None)
    return bool(started.outcome())


@dataclass
class Story:
    """What was seen of a run that had to wait for another and then trained."""

    started: Started
    while_waiting: bool | None
    state_while_waiting: str
    outcome: bool
    session: int
    running: list[str]
    state: str
    after_stop: str
    log: str


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Start a run after another, let the other end, see the run train, and stop it."""
    from minigpt.text.sources import add_path
    from tests.conftest import tale

    root = tmp_path_factory.mktemp("started")
    (root / "tale.txt").write_text(tale())
    workspace = Workspace(root)
    workspace.require_writable()
    add_path(workspace, root / "tale.txt")
    other = workspace.checkpoints / "other"
    other.mkdir(parents=True)
    with RunLock(other):
        started = start_new(workspace, "tiny", "tale", [*flags(), "--after", "other"])
        until(lambda: "Waiting" in (started.directory / LOG).read_text())
        while_waiting = started.outcome()
        waiting = summarise(started.directory).state
    try:
        until(lambda: summarise(started.directory).started)
        begun = outcome(started)
        session = os.getsid(started.pid)
        running = running_runs(workspace)
        state = summarise(started.directory).state
        psutil.Process(started.pid).terminate()
        until(lambda: not is_running(started.directory))
        log = (started.directory / LOG).read_text()
        after_stop = summarise(started.directory).state
        yield Story(started, while_waiting, waiting, begun, session, running, state, after_stop, log)
    finally:
        if psutil.pid_exists(started.pid):
            psutil.Process(started.pid).kill()


def test_a_run_gets_a_name_of_its_preset_and_corpus(story: Story) -> None:
    assert story.started.directory.name == "tiny-tale-1"


def test_a_run_after_another_waits_for_its_end(story: Story) -> None:
    assert story.while_waiting is True
    assert story.state_while_waiting == "waiting"


def test_once_it_trains_it_is_told_to_have_begun(story: Story) -> None:
    assert story.outcome is True
    assert story.running == ["tiny-tale-1"]
    assert story.state in ("starting", "compiling", "training", "evaluating", "saving")


def test_it_is_free_of_our_terminal(story: Story) -> None:
    assert story.session == story.started.pid != os.getsid(0)


def test_asked_to_end_it_saves_everything(story: Story) -> None:
    assert story.after_stop == "interrupted", story.log


# Runs that do not start


def test_a_bad_setting_is_named_and_nothing_is_left_behind(workspace: Workspace) -> None:
    started = start_new(workspace, "tiny", "tale", flags(training__batch_size=0))
    with pytest.raises(JobFailed) as failure:
        outcome(started)
    told = str(failure.value)
    assert told.startswith("The run tiny-tale-1 did not start: ") and "training.batch_size" in told
    assert "\n" not in told
    assert list(workspace.checkpoints.glob("*-1")) == []


def test_a_run_after_none_that_exists_fails(workspace: Workspace) -> None:
    with pytest.raises(JobFailed, match="no run 'nobody'"):
        outcome(start_new(workspace, "tiny", "tale", [*flags(), "--after", "nobody"]))


def test_a_run_cannot_be_started_where_its_name_leads_out_of_the_workspace(workspace: Workspace) -> None:
    with pytest.raises(UserError):
        start(workspace, "../elsewhere", [])


# What the files of a process tell: a process that has ended, and one that lives


@pytest.fixture(scope="module")
def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def append(directory: Path, *events: dict[str, Any]) -> None:
    directory.mkdir(exist_ok=True)
    with (directory / EVENTS).open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def test_an_earlier_session_is_not_taken_for_this_one(tmp_path: Path, ended_pid: int) -> None:
    append(tmp_path, {"type": "start", "time": 900.0}, {"type": "step", "time": 950.0, "step": 1})
    alive = Started(tmp_path, os.getpid(), since=1000.0)
    assert alive.outcome() is None
    with pytest.raises(JobFailed):
        dataclasses.replace(alive, pid=ended_pid).outcome()


def test_a_fast_run_has_begun_though_its_start_is_far_behind(tmp_path: Path, ended_pid: int) -> None:
    steps = [{"type": "step", "time": 1001.0, "step": number, "loss": 2.0} for number in range(3000)]
    append(tmp_path, {"type": "start", "time": 1000.5}, *steps)
    assert Started(tmp_path, ended_pid, since=1000.0).outcome() is True


def test_times_that_are_none_are_passed_over(tmp_path: Path) -> None:
    append(tmp_path, {"type": "start", "time": "noon"}, {"type": "start"}, {"type": "start", "time": None})
    assert Started(tmp_path, os.getpid(), since=1000.0).outcome() is None


def test_of_an_earlier_session_not_a_word_is_repeated(tmp_path: Path, ended_pid: int) -> None:
    (tmp_path / LOG).write_text("12:00:00  step 100: validation loss 2.0\n")
    append(tmp_path, {"type": "start", "time": 900.0})
    killed = Started(tmp_path, ended_pid, since=1000.0, log_before=(tmp_path / LOG).stat().st_size)
    with pytest.raises(JobFailed, match="left no message"):
        killed.outcome()


def test_of_an_accident_the_cause_is_told(tmp_path: Path, ended_pid: int) -> None:
    (tmp_path / LOG).write_text(
        "Traceback (most recent call last):\n  File x, line 1\n    y()\n"
        "RuntimeError: CUDA error \x1b[31m\nFor debugging consider\n"
    )
    with pytest.raises(JobFailed) as failure:
        Started(tmp_path, ended_pid, since=1000.0).outcome()
    assert str(failure.value).endswith("did not start: RuntimeError: CUDA error \\x1b[31m")


def test_of_several_mistakes_all_are_told(tmp_path: Path, ended_pid: int) -> None:
    (tmp_path / LOG).write_text(f"{tmp_path.name}\n2 settings cannot be used:\n  - one\n  - two\n")
    with pytest.raises(JobFailed, match="did not start") as failure:
        Started(tmp_path, ended_pid, since=1000.0).outcome()
    assert str(failure.value).endswith(": 2 settings cannot be used:\n  - one\n  - two")


def test_a_directory_with_more_than_the_log_stays(tmp_path: Path, ended_pid: int) -> None:
    directory = tmp_path / "run"
    append(directory, {"type": "start", "time": 900.0})
    (directory / LOG).write_text("no room\n")
    with pytest.raises(JobFailed, match="no room"):
        Started(directory, ended_pid, since=1000.0).outcome()
    assert (directory / EVENTS).exists()


def test_a_directory_that_is_gone_is_a_failed_start(tmp_path: Path, ended_pid: int) -> None:
    with pytest.raises(JobFailed, match="left no message"):
        Started(tmp_path / "gone", ended_pid, since=1000.0).outcome()


def test_events_that_cannot_be_read_tell_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / EVENTS).mkdir()
    assert Started(tmp_path, os.getpid(), since=1000.0).outcome() is None


# Which runs are at work


def test_the_runs_at_work_are_those_with_a_lock_the_latest_first(workspace: Workspace) -> None:
    assert running_runs(workspace) == []
    for name in ("one", "two", "idle", ".hidden"):
        append(workspace.checkpoints / name, {"type": "start", "time": 900.0})
    os.utime(workspace.checkpoints / "one" / EVENTS, (3000, 3000))
    os.utime(workspace.checkpoints / "two" / EVENTS, (2000, 2000))
    (workspace.checkpoints / "silent").mkdir()
    locks = [RunLock(workspace.checkpoints / name) for name in ("one", "two", "silent", ".hidden")]
    try:
        assert all(lock.acquire() for lock in locks)
        assert running_runs(workspace) == ["one", "two", "silent"]
    finally:
        for lock in locks:
            lock.release()


def test_a_workspace_without_runs_has_none_at_work(tmp_path: Path) -> None:
    assert running_runs(Workspace(tmp_path)) == []
