from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minigpt.errors import JobFailed, UserError
from minigpt.events import EventReader
from minigpt.jobs import send_command
from minigpt.tasks import Cancelled, TaskProcess, list_tasks, new_task_directory, task_state
from minigpt.workspace import Workspace


def events(directory: Path) -> list[dict]:
    with EventReader(directory / "events.jsonl") as reader:
        return reader.poll()


def test_a_task_tells_how_it_goes_and_how_it_ended(tmp_path: Path) -> None:
    heard: list[dict] = []
    with TaskProcess(tmp_path / "task", "count", heard.append) as task:
        assert task_state(tmp_path / "task").state == "running"
        task.report("counting", 3, 10, "sheep")
        task.notice("One sheep was black.")
        state = task_state(tmp_path / "task")
        assert (state.phase, state.done, state.total, state.unit) == ("counting", 3, 10, "sheep")
        task.result = {"sheep": 10}
    state = task_state(tmp_path / "task")
    assert (state.title, state.state, state.notices) == ("count", "done", ("One sheep was black.",))
    assert state.result and state.result["sheep"] == 10
    assert (
        [event["type"] for event in heard]
        == ["start", "phase", "notice", "end"]
        == [event["type"] for event in events(tmp_path / "task")]
    )


@pytest.mark.parametrize(("error", "exit_code"), [(UserError("No text there."), 2), (JobFailed("The disk."), 1)])
def test_a_failure_is_told_in_its_own_words(tmp_path: Path, error: Exception, exit_code: int) -> None:
    with pytest.raises(type(error)), TaskProcess(tmp_path, "add"):
        raise error
    state = task_state(tmp_path)
    assert (state.state, state.message, state.error) == ("failed", str(error), type(error).__name__)
    assert events(tmp_path)[-1]["exit_code"] == exit_code


def test_the_command_stop_ends_it_at_the_next_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.tasks.REPORT_SECONDS", 0)
    with pytest.raises(Cancelled), TaskProcess(tmp_path, "add") as task:
        task.report("reading", 1)
        send_command(tmp_path, "pause")
        send_command(tmp_path, "stop")
        task.report("reading", 2)
    assert task_state(tmp_path).state == "cancelled"
    answers = {event["command"]: event["done"] for event in events(tmp_path) if event["type"] == "command"}
    assert answers == {"pause": False, "stop": True}


def test_a_signal_ends_it_and_the_old_handler_comes_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Cancelled), TaskProcess(tmp_path, "add") as task:
        os.kill(os.getpid(), signal.SIGTERM)
        task.report("reading")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_killed_task_is_lost_and_says_so(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from minigpt.tasks import TaskProcess\n"
        "with TaskProcess(Path(sys.argv[1]), 'add'): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    state = task_state(tmp_path)
    assert state.state == "lost"
    assert "Start it again" in state.message


def test_silence_is_broken_by_repeating_the_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.tasks.HEARTBEAT_SECONDS", 0.02)
    with TaskProcess(tmp_path, "add") as task:
        task.report("a long step", 1)
        deadline = time.monotonic() + 20
        while len(events(tmp_path)) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
    repeated = [event for event in events(tmp_path) if event["type"] == "phase"]
    assert len(repeated) >= 3
    assert {event["last_progress"] for event in repeated} == {repeated[0]["last_progress"]}


def test_two_processes_cannot_work_in_one_directory(tmp_path: Path) -> None:
    with TaskProcess(tmp_path, "add"), pytest.raises(UserError, match="already at work"):
        TaskProcess(tmp_path, "add").__enter__()


def test_tasks_are_listed_and_old_ones_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.tasks._KEPT_TASKS", 3)
    workspace = Workspace(tmp_path)
    names = [new_task_directory(workspace, f"add-{number}").name for number in range(6)]
    assert len(set(names)) == 6
    assert len(list_tasks(workspace)) == 4
