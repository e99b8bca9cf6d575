from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from minigpt.jobs import EVENTS, LOG, EventReader, send_command
from minigpt.model.checkpoint import load
from minigpt.training.session import Session
from minigpt.workspace import Workspace
from tests.conftest import small_config, tale_workspace

Event = dict[str, Any]


def quiet(message: str) -> None:
    """Say nothing."""


def train(
    workspace: Workspace, listener: Callable[[Event], None] | None = None, **changes: object
) -> tuple[Session, int, list[Event]]:
    """Train a small run; return its session, exit code and events."""
    session = Session.new(workspace, small_config(**changes), say=quiet)
    code = session.train((listener,) if listener else ())
    with EventReader(session.directory / EVENTS) as reader:
        return session, code, reader.poll(1 << 24)


def of_type(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["type"] == kind]


@pytest.mark.parametrize("optimizer", ["muon", pytest.param("adamw", marks=pytest.mark.slow)])
def test_accumulation_changes_nothing(workspace: Workspace, optimizer: str) -> None:
    whole = {"training__batch_size": 8, "training__optimizer": optimizer}
    parts = {"training__batch_size": 4, "training__gradient_accumulation_steps": 2, "training__optimizer": optimizer}
    small = {"training__batch_size": 8, "training__micro_batch_size": 3, "training__optimizer": optimizer}
    losses = [[event["loss"] for event in of_type(train(workspace, **c)[2], "step")] for c in (whole, parts, small)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] == pytest.approx(losses[0], rel=1e-4)


def test_gradient_checkpointing_changes_memory_alone(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [event["loss"] for event in of_type(train(workspace)[2], "step")]
    used: list[object] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        used.append(args[0])
        return checkpoint(*args, **kwargs)

    monkeypatch.setattr("minigpt.model.gpt.checkpoint", counted)
    events = train(workspace, training__gradient_checkpointing=True)[2]
    assert [event["loss"] for event in of_type(events, "step")] == pytest.approx(plain, rel=1e-5)
    assert len(used) == 12 * 2


def test_events_tell_the_whole_story(workspace: Workspace) -> None:
    session, code, events = train(workspace)
    start, end = of_type(events, "start")[0], of_type(events, "end")[0]
    assert code == end["exit_code"] == 0
    assert start["planned_steps"] == 12
    assert start["planned_tokens"] == 12 * 4 * 16
    assert start["parameters"] == session.model.parameter_count()
    assert [event["step"] for event in of_type(events, "step")] == list(range(1, 13))
    fields = {"epoch", "tokens", "loss", "learning_rate", "muon_learning_rate", "grad_norm", "tokens_per_s", "mfu"}
    assert all(fields <= event.keys() for event in of_type(events, "step"))
    assert {event["split"] for event in of_type(events, "eval")} == {"train", "validation"}
    assert of_type(events, "eval")[0]["loss"] == pytest.approx(math.log(start["vocab_size"]), rel=1e-3)
    assert of_type(events, "sample")[0]["step"] == 0
    assert (session.directory / LOG).read_text().count("\n") > 10


def test_even_a_run_of_one_step_evaluates_and_saves(workspace: Workspace) -> None:
    session, code, events = train(workspace, training__max_steps=1)
    assert code == 0
    assert {"best_model.pt", "final_model.pt", "checkpoint_step_1.pt"} <= {p.name for p in session.directory.iterdir()}
    assert of_type(events, "eval")[-1]["step"] == 1


def test_only_the_newest_checkpoints_are_kept(workspace: Workspace) -> None:
    session, _, _ = train(workspace, training__save_every=2, training__max_steps=24, training__keep_last=2)
    steps = sorted(path.name for path in session.directory.glob("checkpoint_step_*"))
    assert steps == ["checkpoint_step_22.pt", "checkpoint_step_24.pt"]
    assert len(list(session.directory.glob("checkpoint_epoch_*"))) == 2


def test_the_best_checkpoint_has_the_lowest_validation_loss(workspace: Workspace) -> None:
    session, _, events = train(workspace, training__max_steps=40, training__muon_learning_rate=0.3)
    validation = [e for e in of_type(events, "eval") if e["split"] == "validation" and e["step"] and not e["whole"]]
    best = min(validation, key=lambda event: event["loss"])
    assert load(session.directory / "best_model.pt").step == best["step"]


def test_a_target_loss_ends_the_run(workspace: Workspace) -> None:
    _, code, events = train(workspace, training__max_steps=500, training__target_loss=2.5)
    assert code == 0
    assert of_type(events, "step")[-1]["step"] < 500
    assert "target" in of_type(events, "end")[0]["reason"]


def test_patience_ends_a_run_that_gets_no_better(workspace: Workspace) -> None:
    changes = {"training__learning_rate": 0, "training__muon_learning_rate": 0, "training__patience": 3}
    _, code, events = train(workspace, training__max_steps=100, training__eval_every=2, **changes)
    assert code == 0
    assert of_type(events, "step")[-1]["step"] < 20
    assert "no more progress" in of_type(events, "end")[0]["reason"]


def poison(session: Session, steps: set[int]) -> Callable[[Event], None]:
    """Return a listener that makes the loss of the given steps NaN, by a hook on the head's output."""

    def spoil(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
        return output * math.nan if module.training and session.progress.step + 1 in steps else None

    session.model.head.register_forward_hook(spoil)
    return lambda event: None


def test_a_bad_update_is_skipped_and_told(workspace: Workspace) -> None:
    session = Session.new(workspace, small_config(), say=quiet)
    poison(session, {5})
    assert session.train() == 0
    with EventReader(session.directory / EVENTS) as reader:
        events = reader.poll(1 << 24)
    notices = [event for event in of_type(events, "notice") if event["code"] == "non-finite"]
    assert [notice["message"].split(":")[0] for notice in notices] == ["Step 5"]
    assert [event["loss"] for event in of_type(events, "step")][4] is None
    assert all(torch.isfinite(p).all() for p in session.model.parameters())


def test_three_bad_updates_in_a_row_end_the_run_with_good_weights_saved(workspace: Workspace) -> None:
    session = Session.new(workspace, small_config(training__save_every=100), say=quiet)
    poison(session, {5, 6, 7})
    assert session.train() == 1
    with EventReader(session.directory / EVENTS) as reader:
        events = reader.poll(1 << 24)
    (notice,) = [event for event in of_type(events, "notice") if event["code"] == "diverged"]
    named = next(path for path in session.directory.glob("*.pt") if path.name in notice["message"])
    assert all(torch.isfinite(tensor).all() for tensor in load(named).weights.values())


NONSENSE: list[tuple[str, dict[str, object], str]] = [
    ("set", {"lr_scale": "high"}, "a number"),
    ("set", {"lr_scale": True}, "a number"),
    ("set", {"max_steps": 1}, "above"),
    ("set", {"n_layers": 3}, "cannot be changed"),
    ("set", {}, "nothing to set"),
    ("sample", {"prompt": 3}, "a text"),
    ("dance", {}, "no command"),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """What a run answers to commands that make no sense."""
    workspace = tale_workspace(tmp_path_factory.mktemp("nonsense"))
    session = Session.new(workspace, small_config(), say=quiet)

    def send() -> None:
        for command, args, _ in NONSENSE:
            send_command(session.directory, command, args)

    session.train((_at_step(3, send),))
    with EventReader(session.directory / EVENTS) as reader:
        return of_type(reader.poll(1 << 24), "command")


@pytest.mark.parametrize("number", range(len(NONSENSE)), ids=[str(args or command) for command, args, _ in NONSENSE])
def test_commands_that_make_no_sense_are_refused(answers: list[Event], number: int) -> None:
    assert not answers[number]["done"]
    assert NONSENSE[number][2] in answers[number]["why"]


def _at_step(step: int, action: Callable[[], object]) -> Callable[[Event], None]:
    def listener(event: Event) -> None:
        if event["type"] == "step" and event["step"] == step:
            action()

    return listener


def test_commands_are_obeyed_at_the_next_step(workspace: Workspace) -> None:
    session = Session.new(workspace, small_config(training__schedule="constant"), say=quiet)

    def steer() -> None:
        for command, args in (
            ("set", {"lr_scale": 0.5, "max_steps": 9}),
            ("checkpoint", {}),
            ("evaluate", {}),
            ("sample", {"prompt": "The dog"}),
            ("pause", {}),
            ("resume", {}),
        ):
            send_command(session.directory, command, args)

    assert session.train((_at_step(4, steer),)) == 0
    with EventReader(session.directory / EVENTS) as reader:
        events = reader.poll(1 << 24)
    answers = of_type(events, "command")
    assert [(answer["command"], answer["done"], answer["step"]) for answer in answers] == [
        (name, True, 4) for name in ("set", "checkpoint", "evaluate", "sample", "pause", "resume")
    ]
    rates = {event["step"]: event["learning_rate"] for event in of_type(events, "step")}
    assert max(rates) == 9
    assert rates[5] == pytest.approx(rates[4] / 2)
    assert any(event["prompt"] == "The dog" for event in of_type(events, "sample"))
    assert any(event["path"] == "checkpoint_step_4.pt" for event in of_type(events, "checkpoint"))


def test_a_watcher_that_fails_does_not_stop_the_training(workspace: Workspace) -> None:
    from minigpt.cli.progress import Careful, Display

    class Gone(Display):
        def show(self, event: Event) -> None:
            raise BrokenPipeError

    _, code, events = train(workspace, Careful(Gone()))
    assert code == 0
    assert len(of_type(events, "step")) == 12


def test_a_disk_that_refuses_a_checkpoint_is_told_and_the_run_goes_on(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minigpt.model import checkpoint as module

    real = module.torch.save
    attempts: list[object] = []

    def full_at_first(payload: object, file: Any) -> None:
        attempts.append(file)
        if len(attempts) == 2:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        real(payload, file)

    monkeypatch.setattr(module.torch, "save", full_at_first)
    session, code, events = train(workspace)
    assert code == 0
    (notice,) = [event for event in of_type(events, "notice") if event["code"] == "save-failed"]
    assert "No space left" in notice["message"]
    assert not [path for path in session.directory.iterdir() if path.name.startswith(".")]
    assert load(session.directory / "final_model.pt").step == 12
