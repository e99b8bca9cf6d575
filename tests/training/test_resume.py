"""Interrupted anywhere and resumed, a run is the run that was never stopped, bit for bit."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from minigpt.errors import UserError
from minigpt.jobs import EVENTS, EventReader
from minigpt.model.checkpoint import load
from minigpt.runs import summarise
from minigpt.training.session import Session
from minigpt.workspace import Workspace
from tests.conftest import small_config


def quiet(message: str) -> None:
    """Say nothing."""


def losses(directory: Path) -> dict[int, float]:
    """Return the loss of each step, as a reader of the events sees it: a resumption discards what it repeats."""
    found: dict[int, float] = {}
    with EventReader(directory / EVENTS) as reader:
        for event in reader.poll(1 << 24):
            if event["type"] == "start" and event["resumed_from"] is not None:
                found = {step: loss for step, loss in found.items() if step <= event["resumed_from"]}
            if event["type"] == "step":
                found[event["step"]] = event["loss"]
    return found


def wait_for_end(directory: Path) -> int | None:
    """Return the exit code of a run in a process of its own."""
    deadline = time.monotonic() + 60
    while summarise(directory).ended is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return summarise(directory).exit_code


def train(workspace: Workspace, run: str, **changes: object) -> Session:
    session = Session.new(workspace, small_config(**changes), run=run, say=quiet)
    assert session.train() == 0
    return session


def interrupt_at(workspace: Workspace, run: str, step: int, **changes: object) -> None:
    session = Session.new(workspace, small_config(**changes), run=run, say=quiet)

    def stop(event: dict[str, object]) -> None:
        if event["type"] == "step" and event["step"] == step:
            signal.raise_signal(signal.SIGTERM)

    assert session.train((stop,)) == 3


# About ten steps an epoch: these lie at its start, before and after its end, and within the third.
@pytest.mark.parametrize(
    "step",
    [
        1,
        pytest.param(9, marks=pytest.mark.slow),
        pytest.param(10, marks=pytest.mark.slow),
        pytest.param(20, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("optimizer", ["muon", pytest.param("adamw", marks=pytest.mark.slow)])
def test_interrupted_at_any_step(workspace: Workspace, step: int, optimizer: str) -> None:
    changes = {"training__max_steps": 24, "model__dropout": 0.1, "training__optimizer": optimizer}
    whole = train(workspace, "whole", **changes)
    interrupt_at(workspace, "parted", step, **changes)
    resumed = Session.resume(workspace, "parted", say=quiet)
    assert resumed.resumed is not None
    assert resumed.resumed.step == step
    assert resumed.train() == 0
    assert losses(resumed.directory) == losses(whole.directory)
    ours, theirs = (load(directory / "final_model.pt") for directory in (resumed.directory, whole.directory))
    assert all(torch.equal(ours.weights[name], theirs.weights[name]) for name in theirs.weights)


def test_asked_to_end_as_soon_as_it_is_known_it_saves_everything(workspace: Workspace) -> None:
    session = Session.new(workspace, small_config(), run="early", say=quiet)

    def stop(event: dict[str, object]) -> None:
        if event["type"] == "start":
            signal.raise_signal(signal.SIGTERM)

    assert session.train((stop,)) == 3
    assert load(session.directory / "interrupted_checkpoint.pt").step == 0


def steered_run(workspace: Workspace, **wishes: object) -> Session:
    """Train 12 steps, something being set after the sixth, and keep every checkpoint."""
    from minigpt.jobs import send_command

    config = small_config(training__save_every=2, training__keep_last=100)
    session = Session.new(workspace, config, run="steered", say=quiet)

    def steer(event: dict[str, object]) -> None:
        if event["type"] == "step" and event["step"] == 6:
            send_command(session.directory, "set", wishes)

    assert session.train((steer,)) == 0
    return session


def forget_what_follows(directory: Path, step: int) -> None:
    """Leave a run as if it had been killed some steps after the checkpoint of `step`."""
    for path in directory.glob("*.pt"):
        if load(path).step > step:
            path.unlink()


def test_a_second_life_replays_what_was_set_in_the_first(workspace: Workspace) -> None:
    session = steered_run(workspace, lr_scale=0.25)
    first = losses(session.directory)
    forget_what_follows(session.directory, 4)
    again = Session.resume(workspace, "steered", say=quiet)
    assert again.resumed is not None
    assert (again.resumed.step, again.train()) == (4, 0)
    assert losses(session.directory) == first
    unsteered = train(workspace, "unsteered")
    assert losses(unsteered.directory) != first, "what was set had no effect"


@pytest.mark.slow
def test_a_new_end_outweighs_one_that_was_set_before(workspace: Workspace) -> None:
    session = steered_run(workspace, max_steps=9)
    forget_what_follows(session.directory, 4)
    assert Session.resume(workspace, "steered", steps=15, say=quiet).train() == 0
    assert max(losses(session.directory)) == 15


def test_going_on_from_an_older_checkpoint_leaves_the_run_as_it_is(workspace: Workspace) -> None:
    session = steered_run(workspace, lr_scale=1)
    before = {path.name: path.stat().st_mtime_ns for path in session.directory.iterdir()}
    said: list[str] = []
    older = Session.resume(workspace, str(session.directory / "checkpoint_step_4.pt"), say=said.append)
    assert older.train() == 0
    assert older.directory != session.directory
    assert {path.name: path.stat().st_mtime_ns for path in session.directory.iterdir()} == before
    assert any(older.directory.name in line for line in said)
    assert losses(older.directory)[12] == losses(session.directory)[12]


@pytest.mark.slow
def test_an_older_checkpoint_goes_on_in_the_background_as_the_run_it_names(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from minigpt.cli.main import main

    session = steered_run(workspace, lr_scale=1)
    command = ["train", "--resume", str(session.directory / "checkpoint_step_4.pt"), "--detach"]
    monkeypatch.setattr(sys, "argv", ["minigpt", *command, "--workspace", str(workspace.root)])
    assert main() == 0
    directory = workspace.run_directory(capsys.readouterr().out.strip())
    assert directory != session.directory
    assert wait_for_end(directory) == 0
    assert losses(directory)[12] == losses(session.directory)[12]


@pytest.mark.slow
def test_without_validation_the_best_model_is_the_last(workspace: Workspace) -> None:
    train(workspace, "all", corpus__validation_fraction=0)
    session = Session.resume(workspace, "all", steps=20, say=quiet)
    assert session.train() == 0
    assert load(session.directory / "best_model.pt").step == 20


def test_resuming_a_finished_run_says_how_to_lengthen_it(workspace: Workspace) -> None:
    train(workspace, "done")
    with pytest.raises(UserError, match="--epochs"):
        Session.resume(workspace, "done", say=quiet)


@pytest.mark.slow
def test_more_of_a_finished_run_climbs_again(workspace: Workspace) -> None:
    train(workspace, "done")
    said: list[str] = []
    session = Session.resume(workspace, "done", steps=20, say=said.append)
    assert session.train() == 0
    assert max(losses(session.directory)) == 20
    assert any("climbs again" in line for line in said)


def test_a_changed_corpus_is_refused(workspace: Workspace) -> None:
    interrupt_at(workspace, "run", 3)
    document = next((workspace.data / "tale" / "documents").iterdir())
    document.write_text(document.read_text() + "And more.\n")
    manifest = workspace.data / "tale" / "corpus.toml"
    text = manifest.read_text()
    digest = next(line for line in text.splitlines() if line.startswith("content_hash"))
    manifest.write_text(text.replace(digest, 'content_hash = "0"'))
    with pytest.raises(UserError, match="has changed"):
        Session.resume(workspace, "run", say=quiet)


def test_a_running_run_is_not_resumed(workspace: Workspace) -> None:
    from minigpt.jobs import RunLock

    interrupt_at(workspace, "run", 3)
    with RunLock(workspace.run_directory("run")), pytest.raises(UserError, match="training right now"):
        Session.resume(workspace, "run", say=quiet)


def test_a_checkpoint_copied_away_goes_on_in_a_run_of_its_own(workspace: Workspace, tmp_path: Path) -> None:
    interrupt_at(workspace, "run", 3)
    copy = tmp_path / "elsewhere.pt"
    copy.write_bytes((workspace.run_directory("run") / "interrupted_checkpoint.pt").read_bytes())
    session = Session.resume(workspace, str(copy), say=quiet)
    assert session.train() == 0
    assert session.directory.parent == workspace.checkpoints
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere.pt", "workspace"]


@pytest.mark.slow
def test_a_run_goes_on_in_less_memory_with_the_same_result(workspace: Workspace) -> None:
    from minigpt.cli.main import main

    whole = train(workspace, "whole")
    interrupt_at(workspace, "parted", 4)
    command = ["train", "--resume", "parted", "--micro-batch-size", "1", "--gradient-checkpointing", "--quiet"]
    assert main([*command, "--workspace", str(workspace.root)]) == 0
    directory = workspace.run_directory("parted")
    settings = load(directory / "final_model.pt").config.training
    assert (settings.micro_batch_size, settings.gradient_checkpointing) == (1, True)
    assert losses(directory) == pytest.approx(losses(whole.directory), rel=1e-3)


def test_odd_events_do_not_keep_a_run_from_going_on(workspace: Workspace) -> None:
    interrupt_at(workspace, "run", 3)
    odd = (
        '{"type": "notice", "code": "plateau", "step": null}',
        '{"type": "eval", "split": "validation", "loss": 2.0, "step": null}',
        '{"type": "eval", "split": "validation", "loss": "low", "step": 2}',
        '{"type": "eval", "split": "validation", "loss": 2.0, "blocks": [7], "step": 2}',
        '{"type": "step", "step": 2, "loss": "low", "grad_norm": []}',
        '{"type": "command", "command": "set", "args": {"lr_scale": 0.5}, "done": true, "step": null}',
        '{"type": "command", "command": "set", "args": 5, "done": true, "step": 2}',
        '{"type": "start", "resumed_from": "3"}',
    )
    with (workspace.run_directory("run") / EVENTS).open("a") as file:
        file.write("".join(f"{line}\n" for line in odd))
    assert Session.resume(workspace, "run", say=quiet).train() == 0
