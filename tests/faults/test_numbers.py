"""Numbers gone bad, on purpose: the run goes back to a good checkpoint by itself, and can be resumed and repeated."""

from __future__ import annotations

import io
import math
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from minigpt.cli.progress import Live
from minigpt.digest import digest
from minigpt.errors import UserError
from minigpt.history import RunHistory
from minigpt.jobs import send_command
from minigpt.model.checkpoint import load
from minigpt.runs import checkpoints_of, resume_checkpoint, summarise
from minigpt.training.course import Course
from minigpt.training.ended import GoneBad
from minigpt.training.metrics import StepMetrics
from minigpt.training.rollback import Rollback
from minigpt.training.session import Session
from minigpt.training.spikes import SPIKE_STEPS
from minigpt.training.trainer import Trainer
from minigpt.training.verify import verify
from minigpt.workspace import Workspace
from tests.conftest import small_config, tale_workspace
from tests.faults.harness import events_of, losses_of, notices_of

Event = dict[str, Any]
Listener = Callable[[Event], None]

# About eleven steps an epoch. Dropout, so that random numbers count.
SETTINGS = {
    "training__max_steps": 22,
    "training__save_every": 4,
    "training__keep_last": 99,
    "training__eval_every": 99,
    "model__dropout": 0.1,
    "model__n_layers": 1,
}
BAD = (13, 14, 15)


def quiet(message: str) -> None:
    """Say nothing."""


def session_of(workspace: Workspace, run: str, **changes: object) -> Session:
    return Session.new(workspace, small_config(**{**SETTINGS, **changes}), run=run, say=quiet)


class Fault:
    """Says whether the step that is being made is to be spoiled, each the first `times` it is made."""

    def __init__(self, session: Session, patch: pytest.MonkeyPatch, steps: tuple[int, ...], times: int = 1) -> None:
        self.due = False
        left = dict.fromkeys(steps, times)
        gradients = Trainer.gradients

        def spoiled(trainer: Trainer, inputs: Tensor, targets: Tensor) -> Tensor:
            step = trainer.progress.step + 1
            self.due = trainer.progress is session.progress and left.get(step, 0) > 0
            left[step] = left.get(step, 0) - 1
            try:
                return gradients(trainer, inputs, targets)
            finally:
                self.due = False

        patch.setattr(Trainer, "gradients", spoiled)


def spoil_forward(session: Session, fault: Fault) -> None:
    """Make a layer's output NaN."""

    def spoil(module: torch.nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        return output * math.nan if fault.due else None

    session.model.blocks[0].mlp.register_forward_hook(spoil)  # type: ignore[union-attr]


def spoil_backward(session: Session, fault: Fault) -> None:
    """Make a gradient infinite; the loss stays finite."""
    session.model.head.weight.register_hook(lambda gradient: gradient * math.inf if fault.due else gradient)


def rolled_back(workspace: Workspace, run: str, spoil: Callable[[Session, Fault], None], **changes: object) -> Path:
    """Return the directory of a run that was spoiled at the steps BAD and came to its end."""
    session = session_of(workspace, run, **changes)
    with pytest.MonkeyPatch.context() as patch:
        spoil(session, Fault(session, patch, BAD))
        assert session.train() == 0
    return session.directory


def starts_of(directory: Path) -> list[Event]:
    return [event for event in events_of(directory) if event["type"] == "start"]


def rollbacks_of(directory: Path) -> list[tuple[int, int, float]]:
    """Return where each rollback came from and went to, and the learning rate's scale after it."""
    found = [event for event in starts_of(directory) if event.get("rolled_back_from")]
    return [(event["rolled_back_from"], event["resumed_from"], event["lr_scale"]) for event in found]


def same_end(one: Path, other: Path) -> bool:
    """Whether two runs have the same losses and final weights, bit for bit."""
    ours, theirs = (load(directory / "final_model.pt").weights for directory in (one, other))
    return losses_of(one) == losses_of(other) and all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return tale_workspace(tmp_path_factory.mktemp("numbers"))


@pytest.fixture(scope="module")
def run(workspace: Workspace) -> Iterator[Path]:
    """The directory of a run that saved each step, went bad in steps 13 to 15, back to step 12, and on to its end."""
    yield rolled_back(workspace, "rolled", spoil_forward, training__save_every=1)


def test_three_bad_updates_take_the_run_back_and_it_comes_to_its_end(run: Path) -> None:
    assert rollbacks_of(run) == [(15, 12, 0.5)]
    told = events_of(run)
    (command,) = [event for event in told if event["type"] == "command"]
    assert {"command": "set", "args": {"lr_scale": 0.5}, "step": 12, "done": True, "by": "rollback"}.items() <= (
        command.items()
    )
    assert notices_of(run).count("non-finite") == 3
    (notice,) = [event for event in told if event.get("code") == "rolled-back"]
    assert all(words in notice["message"] for words in ("back to step 12", "lr_scale 0.5", "2 times more"))
    losses = losses_of(run)
    assert sorted(losses) == list(range(1, 23))
    assert all(loss is not None and math.isfinite(loss) for loss in losses.values())
    # The second time as the first, at half the rate.
    first, second = [event["learning_rate"] for event in told if event["type"] == "step" and event["step"] == 13]
    assert second == pytest.approx(first / 2)


def test_a_rolled_back_run_is_repeated_bit_for_bit(workspace: Workspace, run: Path) -> None:
    for before in ("checkpoint_step_8", "checkpoint_step_12", "checkpoint_step_14"):
        found = verify(workspace, run, before, 100, quiet)
        assert (found.reproduced, found.from_step + found.steps) == (True, 22)


@pytest.mark.parametrize("after", [12, pytest.param(14, marks=pytest.mark.slow)])
def test_a_rolled_back_run_is_resumed_bit_for_bit(workspace: Workspace, run: Path, after: int) -> None:
    copy = Path(shutil.copytree(run, workspace.run_directory(f"resumed-{after}")))
    for path in copy.glob("*.pt"):
        if load(path).step > after:
            path.unlink()
    assert Session.resume(workspace, copy.name, say=quiet).train() == 0
    assert same_end(copy, run)


def test_an_infinite_gradient_takes_it_back_too(workspace: Workspace) -> None:
    directory = rolled_back(workspace, "backward", spoil_backward)
    # The newest of before was saved at the end of an epoch.
    assert rollbacks_of(directory) == [(15, 12, 0.5)]
    assert verify(workspace, directory, "checkpoint_step_8", 100, quiet).reproduced


def test_what_a_person_has_set_meanwhile_is_set_again_but_for_the_rate(workspace: Workspace) -> None:
    session = session_of(workspace, "steered", training__save_every=10)

    def steer(event: Event) -> None:
        if event["type"] == "step" and event["step"] == 12 and not rollbacks_of(session.directory):
            send_command(session.directory, "set", {"lr_scale": 0.9, "patience": 7})

    with pytest.MonkeyPatch.context() as patch:
        spoil_forward(session, Fault(session, patch, BAD))
        assert session.train((steer,)) == 0
    assert rollbacks_of(session.directory) == [(15, 11, 0.45)]
    final = load(session.directory / "final_model.pt").training
    assert (final["progress"]["lr_scale"], final["limits"]["patience"]) == (0.45, 7)
    assert verify(workspace, session.directory, "checkpoint_step_10", 100, quiet).reproduced


def test_where_figures_come_late_as_from_an_accelerator_nothing_asked_is_lost(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = StepMetrics.add

    def add_only(metrics: StepMetrics, *figures: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(metrics, "drain", lambda: None)
            add(metrics, *figures)

    monkeypatch.setattr(StepMetrics, "add", add_only)
    session = session_of(workspace, "late", training__save_every=12)
    fault = Fault(session, monkeypatch, BAD)

    def ask(gradient: Tensor) -> Tensor:
        if fault.due and session.progress.step + 1 == BAD[-1]:
            send_command(session.directory, "evaluate")
        return gradient * math.inf if fault.due else gradient

    session.model.head.weight.register_hook(ask)
    assert session.train() == 0
    assert rollbacks_of(session.directory) == [(15, 12, 0.5)]
    told = [event for event in events_of(session.directory) if event.get("command") == "evaluate"]
    assert [(event["step"], event["done"]) for event in told] == [(12, True)]
    assert sorted(losses_of(session.directory)) == list(range(1, 23))


# Killed at each of the three writes


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(matches: Callable[[Event], bool]) -> Listener:
    return lambda event: die() if matches(event) else None


DEATHS: dict[str, Callable[[Event], bool]] = {
    "start event": lambda event: event["type"] == "start" and "rolled_back_from" in event,
    "command event": lambda event: event.get("by") == "rollback",
    "removal": lambda event: event.get("code") == "rolled-back",
}


@pytest.mark.parametrize("moment", [*DEATHS, pytest.param("half of the removal", marks=pytest.mark.slow)])
def test_killed_at_any_of_its_writes_it_resumes_as_if_it_had_not_been(
    workspace: Workspace, run: Path, moment: str
) -> None:
    session = session_of(workspace, moment.replace(" ", "-"), training__save_every=1)
    child = os.fork()
    if not child:  # from here on nothing returns
        patch = pytest.MonkeyPatch()
        spoil_forward(session, Fault(session, patch, BAD))
        if moment not in DEATHS:
            remove = Path.unlink

            def last(path: Path, missing_ok: bool = False) -> None:
                remove(path, missing_ok)
                if path.name.startswith("checkpoint_") and rollbacks_of(session.directory):
                    die()

            patch.setattr(Path, "unlink", last)
        try:
            session.train((die_at(DEATHS.get(moment, lambda event: False)),))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    resumed = Session.resume(workspace, session.directory.name, say=quiet)
    assert resumed.progress.step == 12
    assert resumed.train() == 0
    assert same_end(resumed.directory, run)
    assert not Course(resumed.directory).given_up
    assert verify(workspace, resumed.directory, "checkpoint_step_12", 100, quiet).reproduced


@pytest.mark.slow
def test_what_was_saved_on_the_way_that_is_given_up_goes(workspace: Workspace) -> None:
    session = session_of(workspace, "removed", training__save_every=1)
    left: list[str] = []

    def look(event: Event) -> None:
        if event.get("code") == "rolled-back":
            left.extend(path.name for path in session.directory.glob("checkpoint_step_*"))

    with pytest.MonkeyPatch.context() as patch:
        spoil_forward(session, Fault(session, patch, BAD))
        assert session.train((look,)) == 0
    assert sorted(left) == sorted(f"checkpoint_step_{step}.pt" for step in range(1, 13))


# How often


def test_it_goes_back_so_many_times_and_then_it_ends(workspace: Workspace) -> None:
    session = session_of(workspace, "again", training__max_rollbacks=2)
    with pytest.MonkeyPatch.context() as patch:
        spoil_forward(session, Fault(session, patch, BAD, times=3))
        assert session.train() == 1
        assert rollbacks_of(session.directory) == [(15, 12, 0.5), (15, 12, 0.25)]
        end = events_of(session.directory)[-1]
        (notice,) = [event for event in events_of(session.directory) if event.get("code") == "diverged"]
        assert (end["exit_code"], end["reason"]) == (1, "loss or gradient not finite")
        assert "2 times already" in notice["message"]
        assert notice["cure"]["settings"]["training.learning_rate"] == pytest.approx(0.01 / 8)
        assert all(weight.isfinite().all() for weight in load(session.directory / "best_model.pt").weights.values())
    # It counts over all sessions of a run.
    resumed = Session.resume(workspace, "again", say=quiet)
    with pytest.MonkeyPatch.context() as patch:
        spoil_forward(resumed, Fault(resumed, patch, (17, 18, 19)))
        assert resumed.train() == 1
    assert len(rollbacks_of(session.directory)) == 2


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"training__max_rollbacks": 0}, "max_rollbacks is 0"), ({"training__save_every": 99}, "no good checkpoint")],
)
def test_where_it_may_not_or_cannot_go_back_it_ends(workspace: Workspace, changes: dict[str, Any], why: str) -> None:
    session = session_of(workspace, why.replace(" ", "-"), training__batch_size=2, training__max_steps=16, **changes)
    with pytest.MonkeyPatch.context() as patch:
        spoil_forward(session, Fault(session, patch, BAD))
        assert session.train() == 1
    assert rollbacks_of(session.directory) == []
    assert next(event for event in events_of(session.directory) if event.get("code") == "diverged")["message"].count(
        why
    )


def test_a_checkpoint_with_weights_of_no_use_is_passed_over(workspace: Workspace) -> None:
    session = session_of(workspace, "overflown", training__max_steps=16)

    def spoil(event: Event) -> None:
        # Finite, and saved with the next checkpoint, but too large to compute with.
        if event["type"] == "step" and event["step"] == 10 and not rollbacks_of(session.directory):
            with torch.no_grad():
                session.model.head.weight.fill_(3e38)

    assert session.train((spoil,)) == 0
    assert rollbacks_of(session.directory) == [(13, 8, 0.5)]


# Spikes

# What is usual is known from step 51 on.
LONG = {"training__max_steps": 85, "training__save_every": 20, "training__schedule": "constant"}


def test_a_rate_raised_beyond_reason_takes_the_run_back(workspace: Workspace) -> None:
    session = session_of(workspace, "raised", **LONG)

    def raise_rate(event: Event) -> None:
        if event["type"] == "step" and event["step"] == 51 and not rollbacks_of(session.directory):
            send_command(session.directory, "set", {"lr_scale": 100.0})

    assert session.train((raise_rate,)) == 0
    ((seen, back, scale),) = rollbacks_of(session.directory)
    assert 51 + SPIKE_STEPS <= seen < 75
    assert (back, scale) == (41, 0.5)
    assert max(loss for step, loss in losses_of(session.directory).items() if step > back and loss is not None) < 2
    # What was advised on the way must not be done now: it would set the rate to half of the hundredfold.
    since = [event["time"] for event in starts_of(session.directory)][-1]
    assert not [event for event in events_of(session.directory) if "cure" in event and event["time"] > since]
    assert verify(workspace, session.directory, "checkpoint_step_40", 100, quiet).reproduced


class SpoiledText:
    """Has the windows of some steps spoiled, each the first `times` it is read."""

    def __init__(
        self, patch: pytest.MonkeyPatch, steps: range, spoil: Callable[[Tensor, Tensor], object], times: int
    ) -> None:
        left, batch_at = dict.fromkeys(steps, times), Trainer.batch_at

        def spoiled(trainer: Trainer, position: int) -> tuple[Tensor, Tensor]:
            inputs, targets = batch_at(trainer, position)
            step = position // trainer.plan.windows_per_step + 1
            left[step] = left.get(step, 0) - 1
            if left[step] >= 0:
                spoil(inputs, targets)
            return inputs, targets

        patch.setattr(Trainer, "batch_at", spoiled)


def test_weights_that_a_bad_stretch_of_text_has_spoiled_are_given_up(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As from a disk that gives wrong bytes for a while. The steps after it are good text, and show the damage.
    stretch = range(52, 52 + SPIKE_STEPS - 1)
    SpoiledText(monkeypatch, stretch, lambda inputs, targets: targets.add_(1).fmod_(25), times=1)
    session = session_of(workspace, "text", **LONG)
    assert session.train() == 0
    assert rollbacks_of(session.directory) == [(61, 41, 0.5)]
    assert verify(workspace, session.directory, "checkpoint_step_40", 100, quiet).reproduced


def test_a_spike_that_the_text_explains_is_let_pass(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    can_mend, noise = Rollback.can_mend, torch.Generator().manual_seed(1)

    def ask(rollback: Rollback, trouble: GoneBad) -> bool:
        asked.append(can_mend(rollback, trouble))
        return asked[-1]

    def scramble(inputs: Tensor, targets: Tensor) -> None:
        inputs.random_(0, 20, generator=noise)
        targets.random_(0, 20, generator=noise)

    monkeypatch.setattr(Rollback, "can_mend", ask)
    SpoiledText(monkeypatch, range(52, 66), scramble, times=99)
    session = session_of(workspace, "noise", **LONG)
    assert session.train() == 0
    assert (asked, rollbacks_of(session.directory)) == ([False], [])


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_no_healthy_run_is_taken_for_a_bad_one(
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    rng: random.Random,
    tell_figure: Callable[[str, object], None],
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Rollback, "can_mend", lambda rollback, trouble: asked.append(trouble.words))
    runs, steps = 40, 300
    for number in range(runs):
        optimizer, rate = rng.choice([("muon", 0.02), ("adamw", 0.003)])
        factor = rng.choice([0.3, 1, 3, 10])
        session = session_of(
            workspace,
            f"healthy-{number}",
            training__max_steps=steps,
            training__save_every=100,
            training__eval_every=100,
            training__optimizer=optimizer,
            training__learning_rate=rate * factor / (2 if optimizer == "muon" else 1),
            training__muon_learning_rate=rate * factor,
            training__schedule=rng.choice(["wsd", "linear", "cosine", "constant"]),
            training__batch_size=rng.choice([1, 2, 4, 8]),
            training__warmup_steps=rng.choice([0, 2, 20]),
            training__seed=rng.randrange(1000),
            model__dropout=rng.choice([0.0, 0.1, 0.3]),
        )
        assert session.train() == 0
    tell_figure("healthy runs of 300 steps that a spike was seen in", f"{len(asked)} of {runs}")
    assert not asked


# What its readers say of it


def test_readers_discard_what_was_given_up(run: Path) -> None:
    summary, history, digested = summarise(run), RunHistory(run), digest(run)
    while history.read():
        pass
    assert (summary.state, summary.step, summary.resumed_from, summary.exit_code) == ("finished", 22, 12, 0)
    steps = list(range(1, 23))
    assert history.curves["step"].tolist() == digested.curves.step.tolist() == steps
    losses = list(losses_of(run).values())
    assert history.curves["loss"].tolist() == digested.curves.loss.tolist() == losses
    assert all(
        sorted(column.tolist()) == column.tolist() for column in (digested.curves.tokens, digested.curves.seconds)
    )
    assert [told for told in digested.steering if "lr_scale" in told["args"]] == [
        {"step": 12, "args": {"lr_scale": 0.5}}
    ]
    assert (history.lr_scale, history.pace.planned_steps, history.pace.seconds_left) == (0.5, 22, 0.0)
    assert any("back from step 15 to step 12" in line.text for line in history.log)
    assert {saved.step for saved in checkpoints_of(run) if saved.kind == "step"} == set(steps)
    assert resume_checkpoint(run) == run / "best_model.pt"


def test_the_display_of_the_command_line_goes_back_too(run: Path) -> None:
    screen = io.StringIO()
    display = Live(Console(file=screen, width=120, force_terminal=True))
    for event in events_of(run):
        display.show(event)
        if event.get("code") == "rolled-back":
            display._refresh()
            assert display.task is not None
            assert "step 12/22" in display.progress.tasks[0].fields["figures"]
    display.close()
    assert "back from step 15 to step 12" in screen.getvalue()


def test_a_checkpoint_of_the_branch_that_was_given_up_is_not_repeated(workspace: Workspace, run: Path) -> None:
    copy = Path(shutil.copytree(run, workspace.run_directory("branch")))
    # As if killed before the removal, and never gone on with since.
    lines = (copy / "events.jsonl").read_bytes().splitlines(keepends=True)
    number = next(number for number, line in enumerate(lines) if b'"rolled_back_from"' in line)
    later = [line for line in lines[number:] if b'"type":"checkpoint"' not in line]
    (copy / "events.jsonl").write_bytes(b"".join(lines[:number] + later))
    assert set(Course(copy).given_up) == {"checkpoint_step_13.pt", "checkpoint_step_14.pt"}
    with pytest.raises(UserError, match="no recorded steps that follow"):
        verify(workspace, copy, "checkpoint_step_13", 5, quiet)
