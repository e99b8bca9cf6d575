"""A fork begins with the weights of a checkpoint and goes its own way; what it kept and what retention keeps."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch

from minigpt import start
from minigpt.cli.main import main
from minigpt.config import Config
from minigpt.errors import UserError
from minigpt.jobs import EVENTS, EventReader, RunLock, send_command
from minigpt.model.checkpoint import STEP, load, save
from minigpt.presets import to_toml, with_values
from minigpt.runs import CONFIG, checkpoints_of, fork_name, summarise
from minigpt.training import checkpointer
from minigpt.training.forking import Origin
from minigpt.training.resuming import checkpoint_to_fork
from minigpt.training.session import Session
from minigpt.training.state import remove_old_checkpoints
from minigpt.workspace import Workspace
from tests.conftest import small_config, tale


def quiet(message: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with two texts and a run of 12 steps, `parent`."""
    from minigpt.text.sources import add_path

    found = Workspace(tmp_path_factory.mktemp("forks"))
    found.require_writable()
    for name, text in (("tale", tale()), ("other", tale(300).replace("cat", "dog"))):
        (found.root / f"{name}.txt").write_text(text)
        add_path(found, found.root / f"{name}.txt")
    config = small_config(training__save_every=4, training__eval_every=4, training__keep_last=9)
    assert Session.new(found, config, preset="mine", run="parent", say=quiet).train() == 0
    yield found


def fork(workspace: Workspace, target: str, run: str | None = None, **changes: object) -> Session:
    origin = Origin.open(checkpoint_to_fork(workspace, target))
    values = {name.replace("__", "."): value for name, value in changes.items()}
    config = with_values(origin.checkpoint.config, values, "test")
    return Session.new(workspace, config, run=run, origin=origin, say=quiet)


def started(session: Session) -> dict[str, object]:
    with EventReader(session.directory / EVENTS) as reader:
        return next(event for event in reader.poll() if event["type"] == "start")


def test_a_fork_begins_with_the_weights_and_nothing_else(workspace: Workspace) -> None:
    session = fork(workspace, "parent:checkpoint_step_8.pt", training__learning_rate=1e-4, training__max_steps=3)
    origin = load(workspace.run_directory("parent") / "checkpoint_step_8.pt")
    assert all(torch.equal(session.model.state_dict()[name], weight) for name, weight in origin.weights.items())
    assert (session.progress.step, session.progress.last_step) == (0, 3)
    assert session.directory.name == fork_name(workspace, "parent")
    assert session.train() == 0
    summary = summarise(session.directory)
    assert summary.forked_from == {"run": "parent", "checkpoint": "checkpoint_step_8.pt", "step": 8}
    assert (summary.state, summary.step, started(session)["planned_steps"]) == ("finished", 3, 3)
    config = load(session.directory / "final_model.pt").config
    assert config.training.learning_rate == 1e-4
    assert config.tokenizer == origin.config.tokenizer


def test_a_fork_that_only_gets_worse_keeps_its_beginning_as_the_best(workspace: Workspace) -> None:
    session = fork(workspace, "parent", training__learning_rate=0.5, training__optimizer="adamw", training__max_steps=4)
    assert session.train() == 0
    origin = load(checkpoint_to_fork(workspace, "parent"))
    best = load(session.directory / "best_model.pt")
    assert best.step == 0
    assert all(torch.equal(best.weights[name], weight) for name, weight in origin.weights.items())
    assert not torch.equal(
        load(session.directory / "final_model.pt").weights["head.weight"], best.weights["head.weight"]
    )


def test_a_fork_learns_from_another_text_by_its_own_tokenizer(workspace: Workspace) -> None:
    session = fork(workspace, "parent", corpus__name="other", training__max_steps=2, model__dropout=0.2)
    origin = load(checkpoint_to_fork(workspace, "parent"))
    assert session.text.tokenizer.to_json() == origin.tokenizer
    assert (session.model.config.dropout, session.config.corpus.name) == (0.2, "other")
    assert session.train() == 0


def test_a_longer_context_fits_rotary_positions_and_no_learned_ones(workspace: Workspace) -> None:
    assert fork(workspace, "parent", model__max_seq_len=24).model.config.max_seq_len == 24
    origin = Origin.open(checkpoint_to_fork(workspace, "parent"))
    learned = msgspec.structs.replace(origin.checkpoint.model_config, position="learned")
    config = with_values(origin.checkpoint.config, {"model.max_seq_len": 24, "model.position": "learned"}, "test")
    with pytest.raises(UserError, match=r"model\.max_seq_len"):
        Origin(origin.path, replace(origin.checkpoint, model_config=learned)).require_fitting(config)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model__d_model": 64}, "model.d_model"),
        ({"model__n_layers": 3}, "model.n_layers"),
        ({"model__family": "llama"}, "model.family"),
        ({"tokenizer__vocab_size": 999}, "tokenizer.vocab_size"),
        ({"tokenizer__kind": "bpe"}, "tokenizer.kind"),
    ],
)
def test_what_the_weights_fix_is_refused_by_name(workspace: Workspace, change: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named.replace(".", r"\.")) as told:
        fork(workspace, "parent", None, **change)
    assert "model.dropout" in str(told.value), "what may change is said too"


def test_a_fork_of_a_fork_names_its_own_origin(workspace: Workspace) -> None:
    first = fork(workspace, "parent", run="child", training__max_steps=2)
    first.train()
    second = fork(workspace, "child:final", training__max_steps=2)
    assert second.directory.name == "child-fork-1"
    second.train()
    assert summarise(second.directory).forked_from == {"run": "child", "checkpoint": "final_model.pt", "step": 2}
    resumed = Session.resume(workspace, second.directory.name, steps=4, say=quiet)
    assert resumed.train() == 0
    assert summarise(second.directory).forked_from == {"run": "child", "checkpoint": "final_model.pt", "step": 2}


def test_an_imported_model_is_forked_too(workspace: Workspace) -> None:
    directory = workspace.run_directory("imported")
    directory.mkdir()
    trained = load(checkpoint_to_fork(workspace, "parent"))
    config = Config(model=trained.config.model, tokenizer=trained.config.tokenizer)
    save(directory / "best_model.pt", replace(trained, training={}, step=0, metrics={}, config=config))
    (directory / CONFIG).write_text(to_toml(config))
    assert summarise(directory).state == "imported"
    session = fork(
        workspace, "imported", corpus__name="tale", training__max_steps=2, training__batch_size=4, training__threads=1
    )
    assert session.train() == 0


def test_a_checkpoint_copied_away_is_forked_by_its_file(workspace: Workspace, tmp_path: Path) -> None:
    copy = tmp_path / "mine.pt"
    shutil.copy(checkpoint_to_fork(workspace, "parent"), copy)
    session = fork(workspace, str(copy), training__max_steps=1)
    assert session.directory.name == "mine-fork-1"


def test_nothing_to_fork_is_said_in_a_sentence(workspace: Workspace) -> None:
    (workspace.checkpoints / "hollow").mkdir()
    for target, told in (
        ("nobody", "no run 'nobody'"),
        ("parent:77", "no checkpoint '77'"),
        ("hollow", "no checkpoint"),
    ):
        with pytest.raises(UserError, match=told):
            checkpoint_to_fork(workspace, target)


def test_the_command_forks_with_changed_settings(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--workspace", str(workspace.root)]
    asked = ["train", "--fork", "parent:4", "--run", "told", "--steps", "2", "--lr", "0.0005", "--json", *there]
    assert main(asked) == 0
    told = next(event for event in map(json.loads, capsys.readouterr().out.splitlines()) if event["type"] == "start")
    assert told["forked_from"] == {"run": "parent", "checkpoint": "checkpoint_step_4.pt", "step": 4}
    assert (told["preset"], told["planned_steps"]) == ("mine", 2)
    assert "learning_rate = 0.0005" in (workspace.run_directory("told") / CONFIG).read_text()
    assert main(["train", "--fork", "parent", "--resume", "parent", *there]) == 2
    assert main(["train", "--fork", "parent", "--d-model", "64", *there]) == 2
    assert "model.d_model" in capsys.readouterr().err


def test_the_app_forks_by_the_same_command(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def launch(arguments: list[str], directory: Path) -> int:
        asked.append(arguments)
        return os.getpid()

    monkeypatch.setattr(start, "launch", launch)
    began = start.start_forked(workspace, "parent", "final_model.pt", ["--steps", "2"])
    named = start.start_forked(workspace, "parent", "final_model.pt", ["--run", "by-name"])
    assert (began.directory.name, named.directory.name) == (fork_name(workspace, "parent"), "by-name")
    command = asked[0][asked[0].index("train") :]
    assert main(command) == 0
    summary = summarise(began.directory)
    assert (summary.state, summary.forked_from and summary.forked_from["checkpoint"]) == ("finished", "final_model.pt")


# Retention


def test_some_checkpoints_stay_for_good(tmp_path: Path) -> None:
    names = [STEP.format(step) for step in (5, 10, 15, 20, 25, 30)]
    others = ["best_model.pt", "final_model.pt", "interrupted_checkpoint.pt", "checkpoint_epoch_10.pt"]
    for name in [*names, *others, "checkpoint_epoch_1.pt", "checkpoint_step_mine.pt"]:
        (tmp_path / name).touch()
    remove_old_checkpoints(tmp_path, keep_last=1, keep_every=10)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {STEP.format(step) for step in (10, 20, 30)} | {*others, "checkpoint_step_mine.pt"}
    remove_old_checkpoints(tmp_path, keep_last=2)
    assert {path.name for path in tmp_path.iterdir()} == left - {STEP.format(10)}


def test_what_is_to_stay_for_good_is_saved(workspace: Workspace) -> None:
    config = small_config(training__save_every=10_000, training__keep_every=5, training__keep_last=1)
    session = Session.new(workspace, config, say=quiet)
    assert session.train() == 0
    assert {path.name for path in session.directory.glob("checkpoint_step_*")} == {STEP.format(5), STEP.format(10)}


def test_a_name_with_digits_that_are_no_number_is_left_alone(tmp_path: Path) -> None:
    odd = tmp_path / "checkpoint_step_²3.pt"
    odd.touch()
    remove_old_checkpoints(tmp_path, keep_last=1)
    assert [(found.name, found.kind) for found in checkpoints_of(tmp_path)] == [(odd.name, "other")]


# In the queue


@pytest.mark.parametrize(("target", "begun_with"), [("live:8", "checkpoint_step_8.pt"), ("live", "best_model.pt")])
def test_a_fork_that_waits_begins_with_what_was_there_when_it_was_asked_for(
    workspace: Workspace, target: str, begun_with: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigpt.training.turns.LOOK_SECONDS", 0.01)
    live = workspace.run_directory("live")
    shutil.copytree(workspace.run_directory("parent"), live, dirs_exist_ok=True)
    step = load(live / begun_with).step
    name = fork_name(workspace, "live")
    directory = workspace.run_directory(name)
    lock = RunLock(live)
    assert lock.acquire()

    def lose_all_and_end() -> None:
        deadline = time.monotonic() + 30
        while summarise(directory).state != "waiting" and time.monotonic() < deadline:
            time.sleep(0.01)
        while not list(directory.glob(".*.link")) and time.monotonic() < deadline:
            time.sleep(0.01)
        for path in live.glob("*.pt"):
            path.unlink()
        lock.release()

    other = threading.Thread(target=lose_all_and_end)
    other.start()
    asked = ["train", "--fork", target, "--after", "live", "--steps", "1", "--quiet"]
    code = main([*asked, "--workspace", str(workspace.root)])
    other.join()
    assert code == 0
    assert summarise(directory).forked_from == {"run": "live", "checkpoint": begun_with, "step": step}
    assert not list(directory.glob(".*.link"))


def test_the_first_trained_weights_are_saved_early_though_those_of_the_origin_were(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointer, "FIRST_SAVE_SECONDS", -1)
    session = fork(workspace, "parent", training__save_every=None, training__max_steps=30)

    def stop(event: dict[str, object]) -> None:
        if event["type"] == "step" and event["step"] == 2:
            send_command(session.directory, "stop", {})

    session.train((stop,))
    assert (session.directory / STEP.format(1)).exists()
