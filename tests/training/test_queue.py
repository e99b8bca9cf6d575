"""Runs queued behind others: seen, stopped, and started one after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minigpt.cli.main import main
from minigpt.errors import UserError
from minigpt.jobs import EVENTS, LOCK, EventReader, EventWriter, RunLock, is_running, send_command
from minigpt.presets import read_file
from minigpt.runs import list_runs, newest_run, summarise
from minigpt.start import running_runs
from minigpt.training.session import Session
from minigpt.training.turns import Turn, Withdrawn
from minigpt.workspace import Workspace
from tests.conftest import run_minigpt, small_config

PATIENCE_SECONDS = 30


def quiet(message: str) -> None:
    """Say nothing."""


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


class Queued:
    """A run in the queue, waiting in a thread; its turn comes when `begun`."""

    def __init__(self, workspace: Workspace, name: str, after: str) -> None:
        self.directory = workspace.run_directory(name)
        self.begun, self.withdrawn, self.done = threading.Event(), threading.Event(), threading.Event()
        self.turn = Turn(workspace, self.directory, workspace.run_directory(after), small_config())
        self._joined = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()
        assert self._joined.wait(PATIENCE_SECONDS)

    def _live(self) -> None:
        try:
            with self.turn:
                self._joined.set()
                self.turn.wait()
                self.turn.hand_over()
                self.begun.set()
                self.done.wait(PATIENCE_SECONDS)
        except Withdrawn:
            self.withdrawn.set()

    def finish(self) -> None:
        self.done.set()
        self._thread.join(PATIENCE_SECONDS)

    def stop(self) -> None:
        send_command(self.directory, "stop")
        self._thread.join(PATIENCE_SECONDS)

    @property
    def state(self) -> str:
        return summarise(self.directory).state


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.training.turns.LOOK_SECONDS", 0.01)


@pytest.fixture
def first(workspace: Workspace) -> Iterator[RunLock]:
    """The lock of a run `first` that is at work."""
    directory = workspace.run_directory("first")
    directory.mkdir()
    with RunLock(directory) as lock:
        yield lock


@pytest.fixture
def queue(workspace: Workspace, first: RunLock) -> Iterator[Callable[..., Queued]]:
    """Puts runs into the queue, and ends them with the test."""
    joined: list[Queued] = []

    def join(name: str, after: str = "first") -> Queued:
        joined.append(Queued(workspace, name, after))
        return joined[-1]

    yield join
    first.release()
    for queued in joined:
        queued.done.set()
    for queued in joined:
        queued.finish()


def events(directory: Path, kind: str) -> list[dict[str, Any]]:
    with EventReader(directory / EVENTS) as reader:
        return [event for event in reader.poll(1 << 24) if event["type"] == kind]


# Waiting


def test_a_run_in_the_queue_is_seen_to_wait(workspace: Workspace, queue: Callable[..., Queued]) -> None:
    second = queue("second")
    summary = summarise(second.directory)
    assert is_running(second.directory)
    assert (summary.state, summary.queued_behind) == ("waiting", ("first",))
    until(lambda: summarise(second.directory).notices)
    assert "waits for the end of first" in summarise(second.directory).notices[0]["message"]
    assert [run.state for run in list_runs(workspace) if run.run == "second"] == ["waiting"]


def test_those_that_wait_are_the_last_of_those_at_work(workspace: Workspace, queue: Callable[..., Queued]) -> None:
    queue("second")
    assert running_runs(workspace) == ["first", "second"]


def test_its_turn_comes_when_the_other_has_ended(queue: Callable[..., Queued], first: RunLock) -> None:
    second = queue("second")
    assert not second.begun.wait(0.1)
    first.release()
    assert second.begun.wait(PATIENCE_SECONDS)
    assert second.state == "starting"


def test_behind_a_run_that_has_ended_there_is_no_waiting(queue: Callable[..., Queued], first: RunLock) -> None:
    first.release()
    second = queue("second")
    assert second.begun.wait(PATIENCE_SECONDS)
    assert second.turn.behind == []


def test_a_run_in_the_queue_is_not_the_newest_before_it_begins(
    workspace: Workspace, queue: Callable[..., Queued]
) -> None:
    trained = Session.new(workspace, small_config(training__max_steps=1), run="trained", say=quiet)
    assert trained.train() == 0
    queue("second")
    assert newest_run(workspace) == trained.directory


def test_killed_in_the_queue_it_has_crashed(workspace: Workspace) -> None:
    directory = workspace.run_directory("killed")
    directory.mkdir()
    EventWriter(directory / EVENTS).write("phase", phase="waiting", behind=["first"])
    assert summarise(directory).state == "crashed"


# One after the other


def test_two_behind_the_same_run_start_one_after_the_other(queue: Callable[..., Queued], first: RunLock) -> None:
    second, third = queue("second"), queue("third")
    assert sorted(third.turn.behind) == ["first", "second"]
    first.release()
    assert second.begun.wait(PATIENCE_SECONDS)
    assert not third.begun.wait(0.1)
    second.finish()
    assert third.begun.wait(PATIENCE_SECONDS)


def test_behind_one_that_waits_are_all_that_wait_for_it(queue: Callable[..., Queued]) -> None:
    queue("second")
    queue("third")
    assert sorted(queue("fourth", after="second").turn.behind) == ["first", "second", "third"]


def test_one_whose_predecessor_gives_up_goes_on_waiting(queue: Callable[..., Queued], first: RunLock) -> None:
    second = queue("second")
    third = queue("third", after="second")
    second.stop()
    assert not third.begun.wait(0.1)
    first.release()
    assert third.begun.wait(PATIENCE_SECONDS)


def test_one_that_has_begun_still_comes_before_those_behind_the_same_run(
    queue: Callable[..., Queued], first: RunLock
) -> None:
    second = queue("second")
    first.release()
    assert second.begun.wait(PATIENCE_SECONDS)
    assert queue("third").turn.behind == ["second"]


def test_who_queues_again_comes_last(queue: Callable[..., Queued], first: RunLock) -> None:
    second, third = queue("second"), queue("third")
    second.stop()
    (second.directory / "config.toml").unlink()
    again = queue("second")
    # As another process signs the lock.
    (second.directory / LOCK).write_bytes(b"another")
    assert sorted(again.turn.behind) == ["first", "third"]
    first.release()
    assert third.begun.wait(PATIENCE_SECONDS)
    assert not again.begun.is_set()
    third.finish()
    assert again.begun.wait(PATIENCE_SECONDS)


# Stopping, and what comes to nothing


def test_stopped_in_the_queue_it_leaves_what_it_takes_to_start_it_anew(queue: Callable[..., Queued]) -> None:
    second = queue("second")
    second.stop()
    assert second.withdrawn.is_set()
    summary = summarise(second.directory)
    assert (summary.state, summary.exit_code) == ("interrupted", 3)
    assert "queue" in str(summary.reason)
    assert read_file(second.directory / "config.toml") == small_config()
    (answer,) = events(second.directory, "command")
    assert (answer["command"], answer["done"]) == ("stop", True)


def test_in_the_queue_nothing_but_a_stop_is_obeyed(queue: Callable[..., Queued]) -> None:
    second = queue("second")
    send_command(second.directory, "pause")
    until(lambda: events(second.directory, "command"))
    (answer,) = events(second.directory, "command")
    assert answer["done"] is False
    assert "can only be stopped" in answer["why"]
    assert second.state == "waiting"


def test_a_finished_run_that_was_to_get_more_stays_finished(workspace: Workspace, first: RunLock) -> None:
    done = Session.new(workspace, small_config(), run="done", say=quiet)
    assert done.train() == 0
    with pytest.raises(Withdrawn), Turn(workspace, done.directory, workspace.run_directory("first")) as turn:
        send_command(done.directory, "stop")
        turn.wait()
    assert summarise(done.directory).state == "finished"


def test_what_cannot_begin_when_its_turn_has_come_says_why(workspace: Workspace, first: RunLock) -> None:
    directory = workspace.run_directory("second")
    first.release()
    with pytest.raises(UserError), Turn(workspace, directory, workspace.run_directory("first")) as turn:
        turn.wait()
        raise UserError("The corpus is gone.")
    summary = summarise(directory)
    assert (summary.state, summary.exit_code) == ("failed", 2)
    assert "The corpus is gone." in summary.notices[-1]["message"]


def test_a_run_does_not_wait_for_itself(workspace: Workspace, first: RunLock) -> None:
    directory = workspace.run_directory("first")
    with pytest.raises(UserError, match="cannot wait for itself"), Turn(workspace, directory, directory):
        pass


def test_a_name_that_is_taken_is_refused_before_the_wait(workspace: Workspace, first: RunLock) -> None:
    directory = workspace.run_directory("second")
    directory.mkdir()
    (directory / "config.toml").write_text("")
    after = workspace.run_directory("first")
    with (
        pytest.raises(UserError, match="There is a run second already"),
        Turn(workspace, directory, after, small_config()),
    ):
        pass


def test_a_run_at_work_cannot_be_queued(workspace: Workspace, first: RunLock) -> None:
    other = workspace.run_directory("other")
    other.mkdir()
    with pytest.raises(UserError, match="Another process works on the run first"):
        Turn(workspace, workspace.run_directory("first"), other).__enter__()


# Training when the turn has come


def test_it_trains_under_the_lock_that_it_waited_with(workspace: Workspace, first: RunLock) -> None:
    first.release()
    directory = workspace.run_directory("second")
    with Turn(workspace, directory, workspace.run_directory("first"), small_config()) as turn:
        turn.wait()
        session = Session.new(workspace, small_config(), run="second", say=quiet)
        assert session.train(turn=turn) == 0
        assert not is_running(directory)
    assert summarise(directory).state == "finished"
    assert events(directory, "start")[0]["queued_behind"] == []


def test_a_stop_that_comes_while_it_gets_ready_is_obeyed(workspace: Workspace, first: RunLock) -> None:
    first.release()
    directory = workspace.run_directory("second")
    with Turn(workspace, directory, workspace.run_directory("first"), small_config()) as turn:
        turn.wait()
        session = Session.new(workspace, small_config(), run="second", say=quiet)
        send_command(directory, "stop")
        assert session.train(turn=turn) == 3
    assert summarise(directory).state == "interrupted"
    # Going on with it waits for a turn too.
    with Turn(workspace, directory, workspace.run_directory("first")) as turn:
        turn.wait()
        assert Session.resume(workspace, "second", say=quiet, turn=turn).train(turn=turn) == 0
    assert summarise(directory).state == "finished"


# The command line


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--dry-run"], "--after and --dry-run do not go together"),
        (["--resume", "elsewhere.pt"], "name it with --run NAME"),
        (["--corpus", "missing"], "missing"),
        (["--batch-size", "0"], "training.batch_size"),
    ],
)
def test_mistakes_are_told_before_the_wait(workspace: Workspace, first: RunLock, flags: list[str], said: str) -> None:
    done = run_minigpt("train", "--after", "first", *flags, workspace=workspace.root)
    assert done.returncode == 2
    assert said in done.stderr
    assert [path.name for path in workspace.checkpoints.iterdir() if path.is_dir()] == ["first"]


def test_an_earlier_checkpoint_waits_for_its_turn_in_a_new_run(workspace: Workspace, first: RunLock) -> None:
    first.release()
    done = Session.new(workspace, small_config(training__save_every=2, training__keep_last=9), run="done", say=quiet)
    assert done.train() == 0
    told = (done.directory / EVENTS).read_bytes()
    flags = ["--resume", str(done.directory / "checkpoint_step_2.pt"), "--run", "again", "--after", "first"]
    assert main(["train", *flags, "--quiet", "--workspace", str(workspace.root)]) == 0
    again = workspace.run_directory("again")
    assert summarise(again).state == "finished"
    assert events(again, "start")[0]["resumed_from"] == 2
    steps = [[event["loss"] for event in events(run, "step") if event["step"] > 2] for run in (done.directory, again)]
    assert steps[0] and steps[0] == steps[1]
    assert (done.directory / EVENTS).read_bytes() == told, "the run itself stays as it was"
    assert not list(again.glob(".*.link"))
