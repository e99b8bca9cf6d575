"""Memory that is not enough: in a step, in an evaluation, in a sample, in an update; feigned, and in truth."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from minigpt.jobs import send_command
from minigpt.model.checkpoint import load
from minigpt.notices import latest_cure
from minigpt.training import out_of_memory
from minigpt.training import recorder as recorder_module
from minigpt.training.optimizer import Optimizer
from minigpt.training.out_of_memory import is_out_of_memory
from minigpt.training.session import Session
from minigpt.training.verify import verify
from minigpt.workspace import Workspace
from tests.conftest import small_config, tale_workspace
from tests.faults.harness import events_of, losses_of, notices_of

Event = dict[str, Any]
SHORT_FROM = 4  # the step after which memory is short
SETTINGS: dict[str, object] = {
    "training__batch_size": 8,
    "training__micro_batch_size": 8,
    "training__max_steps": 8,
    "training__save_every": 2,
    "training__keep_last": 100,
    "training__eval_every": 4,
    "training__sample_every": 100,
    "model__dropout": 0.1,
    "model__n_layers": 1,
}


@pytest.fixture(autouse=True)
def quick_collection(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare most tests the search for garbage in all that a test process has imported: it takes tenths of a second."""
    if "of_what_did_not_fit" not in request.node.name:
        monkeypatch.setattr(out_of_memory, "gc", SimpleNamespace(collect=lambda: 0))


def quiet(message: str) -> None:
    """Say nothing."""


def new(workspace: Workspace, run: str, **changes: object) -> Session:
    return Session.new(workspace, small_config(**{**SETTINGS, **changes}), run=run, say=quiet)


def lack_in_host(*anything: object) -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


def lack_in_device(*anything: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def starve(session: Session, fits: Callable[[int], bool], backward: bool = False) -> None:
    """Have the network lack memory, from a step on, in passes of so many windows as do not fit."""

    def hunger(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if not module.training or session.progress.step < SHORT_FROM or fits(len(output)):
            return
        if backward:
            output.register_hook(lack_in_device)
        else:
            lack_in_host()

    session.model.head.register_forward_hook(hunger)


def warnings_of(directory: Path) -> list[str]:
    return [code for code in notices_of(directory) if code not in ("duration", "finished")]


def sets_of(directory: Path) -> list[Event]:
    return [event for event in events_of(directory) if event["type"] == "command" and event["command"] == "set"]


def asking(session: Session, **wishes: object) -> Callable[[Event], None]:
    def listener(event: Event) -> None:
        if event["type"] == "step" and event["step"] == SHORT_FROM:
            send_command(session.directory, "set", wishes)

    return listener


# A step


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Path]:
    """A run that found room for two windows at once only, when it had made four steps."""
    workspace = tale_workspace(tmp_path_factory.mktemp("halved"))
    session = new(workspace, "halved")
    starve(session, lambda windows: windows <= 2)
    assert session.train() == 0
    return workspace, session.directory


def test_a_step_that_does_not_fit_is_made_again_in_smaller_parts(halved: tuple[Workspace, Path]) -> None:
    _, directory = halved
    assert [(event["step"], event["args"], event["done"], event["by"]) for event in sets_of(directory)] == [
        (SHORT_FROM, {"micro_batch_size": windows}, True, "trainer") for windows in (4, 2)
    ]
    assert warnings_of(directory) == ["micro-batch-halved", "micro-batch-halved"]
    assert sorted(losses_of(directory)) == list(range(1, 9))


def test_it_is_the_step_of_a_run_that_a_person_gave_that_micro_batch(halved: tuple[Workspace, Path]) -> None:
    workspace, directory = halved
    session = new(workspace, "asked")
    assert session.train((asking(session, micro_batch_size=2),)) == 0
    assert losses_of(session.directory) == losses_of(directory)
    whole = new(workspace, "whole")
    assert whole.train() == 0
    # Dropout draws other numbers for other parts.
    assert losses_of(whole.directory) != losses_of(directory), "the micro-batch had no effect"


def test_a_backward_pass_that_does_not_fit_begins_anew_with_no_gradient_left(halved: tuple[Workspace, Path]) -> None:
    workspace, directory = halved
    session = new(workspace, "backward")
    starve(session, lambda windows: windows <= 2, backward=True)
    assert session.train() == 0
    assert losses_of(session.directory) == losses_of(directory)


def test_the_curve_is_that_of_a_run_with_room_enough(workspace: Workspace) -> None:
    roomy, short = (new(workspace, run, model__dropout=0, training__max_steps=20) for run in ("roomy", "short"))
    starve(short, lambda windows: windows <= 3)
    assert (roomy.train(), short.train()) == (0, 0)
    assert short.config.training.batch_size == load(short.directory / "final_model.pt").config.training.batch_size
    assert losses_of(short.directory) == pytest.approx(losses_of(roomy.directory), rel=1e-4)


def test_what_was_halved_is_repeated_by_a_second_life_and_by_verify(halved: tuple[Workspace, Path]) -> None:
    workspace, directory = halved
    before = losses_of(directory)
    assert verify(workspace, directory, "checkpoint_step_2.pt", say=quiet).reproduced
    for path in directory.glob("*.pt"):
        if load(path).step > 2:
            path.unlink()
    again = Session.resume(workspace, "halved", say=quiet)
    assert again.resumed is not None
    assert (again.resumed.step, again.train()) == (2, 0)
    assert losses_of(directory) == before
    # And a third, from a checkpoint that knows of it.
    assert load(directory / "checkpoint_step_6.pt").training["plan"]["micro_batch_size"] == 2


def test_one_window_that_does_not_fit_has_its_activations_computed_anew(workspace: Workspace) -> None:
    session = new(workspace, "recomputed", training__micro_batch_size=2)
    starve(session, lambda windows: windows == 1 and session.model.gradient_checkpointing)
    assert session.train() == 0
    assert warnings_of(session.directory) == ["micro-batch-halved", "activations-recomputed"]
    assert [event["args"] for event in sets_of(session.directory)] == [
        {"micro_batch_size": 1},
        {"gradient_checkpointing": True},
    ]
    assert verify(workspace, session.directory, "checkpoint_step_2.pt", say=quiet).reproduced
    settings = load(session.directory / "checkpoint_step_6.pt").config.training
    assert (settings.micro_batch_size, settings.gradient_checkpointing) == (1, True)


def test_where_the_least_is_too_much_the_run_ends_saved_and_goes_on_when_there_is_room(workspace: Workspace) -> None:
    session = new(workspace, "ended", training__micro_batch_size=2, training__save_every=100)
    starve(session, lambda windows: False)
    assert session.train() == 1
    events = events_of(session.directory)
    assert warnings_of(session.directory)[-1] == "out-of-memory"
    assert latest_cure(events) == {"label": "a context of 8, in a new run", "settings": {"model.max_seq_len": 8}}
    assert load(session.directory / "interrupted_checkpoint.pt").step == SHORT_FROM
    again = Session.resume(workspace, "ended", say=quiet)
    assert (again.plan.micro_batch_size, again.config.training.gradient_checkpointing) == (1, True)
    assert again.train() == 0
    assert sorted(losses_of(session.directory)) == list(range(1, 9))


def test_an_update_that_was_begun_is_neither_made_again_nor_saved(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = new(workspace, "torn", training__save_every=3, training__eval_every=100)
    step = Optimizer.step

    def lacking(*arguments: Any, **named: Any) -> None:
        if session.progress.step == SHORT_FROM:
            lack_in_host()
        step(*arguments, **named)

    monkeypatch.setattr(Optimizer, "step", lacking)
    assert session.train() == 1
    assert sets_of(session.directory) == []
    (told,) = [event for event in events_of(session.directory) if event.get("code") == "out-of-memory"]
    assert "in the middle of an update" in told["message"]
    assert "--resume torn --micro-batch-size 4" in told["message"]
    assert max(load(path).step for path in session.directory.glob("*.pt")) == 3


def test_nothing_of_what_did_not_fit_is_kept_while_it_is_made_again(workspace: Workspace) -> None:
    session = new(workspace, "freed", training__max_steps=6)
    seen: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []

    def hunger(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if module.training and session.progress.step == SHORT_FROM:
            alive.append(sum(tensor() is not None for tensor in seen))
            seen.append(weakref.ref(output))
            if len(output) > 2:
                lack_in_host()

    session.model.head.register_forward_hook(hunger)
    gc.disable()
    try:
        assert session.train() == 0
    finally:
        gc.enable()
    assert alive[:3] == [0, 0, 0]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.70 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
    ],
    ids=lambda error: str(error)[:20],
)
def test_every_word_for_it_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError(str(error)))


# What people ask for


def test_what_a_person_wants_at_a_resumption_outweighs_what_was_halved_later_on(workspace: Workspace) -> None:
    session = new(workspace, "again")
    starve(session, lambda windows: windows <= 4)
    assert session.train() == 0
    for path in session.directory.glob("*.pt"):
        if load(path).step > 2:
            path.unlink()
    again = Session.resume(workspace, "again", memory={"micro_batch_size": 3}, say=quiet)
    assert again.train() == 0
    assert load(session.directory / "checkpoint_step_6.pt").training["plan"]["micro_batch_size"] == 3
    # Its start is on record, so that a repetition from before it takes the same.
    assert verify(workspace, session.directory, "checkpoint_step_2.pt", say=quiet).reproduced


def test_a_micro_batch_that_makes_no_sense_is_refused(workspace: Workspace) -> None:
    session = new(workspace, "refused")
    wishes: list[Event] = [{"micro_batch_size": wish} for wish in (0, 9, "many", None)]
    wishes.append({"gradient_checkpointing": 7})

    def ask(event: Event) -> None:
        if event["type"] == "step" and event["step"] == SHORT_FROM:
            for wish in wishes:
                send_command(session.directory, "set", wish)

    assert session.train((ask,)) == 0
    answers = sets_of(session.directory)
    assert [answer["done"] for answer in answers] == [False] * len(wishes)
    assert "at most 8" in answers[1]["why"]
    assert load(session.directory / "final_model.pt").training["plan"]["micro_batch_size"] == 8


def test_nearly_full_is_cured_by_half_of_what_the_run_takes_then(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = {"memory": 79.0, "memory_peak": 79.0, "memory_total": 80.0}
    session = new(workspace, "full", training__max_steps=100_000, training__save_every=100_000)
    answered: set[str] = set()
    monkeypatch.setattr(recorder_module, "READINGS_SECONDS", 0.01)
    monkeypatch.setattr(recorder_module, "readings", lambda *_: full if "command" in answered else {})

    def steer(event: Event) -> None:
        answered.add(event["type"])
        if event.get("code") == "memory-nearly-full":
            send_command(session.directory, "stop", {})
        asking(session, micro_batch_size=4)(event)

    session.train((steer,))
    (told,) = [event for event in events_of(session.directory) if event.get("code") == "memory-nearly-full"]
    assert (told["cure"]["command"], told["cure"]["args"]) == ("set", {"micro_batch_size": 2})


# Looking at the model


def starve_looks(session: Session, most: int) -> list[int]:
    """Have the network bear so many windows at once when it does not train; return how many were tried."""
    tried: list[int] = []

    def hunger(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if not module.training:
            tried.append(len(output))
            if len(output) > most:
                lack_in_host()

    session.model.head.register_forward_hook(hunger)
    return tried


def test_an_evaluation_has_a_batch_of_its_own_that_stays_halved(workspace: Workspace) -> None:
    roomy = new(workspace, "roomy")
    assert roomy.train() == 0
    short = new(workspace, "short")
    tried = starve_looks(short, 3)
    assert short.train() == 0
    first_that_fits = next(place for place, windows in enumerate(tried) if windows <= 3)
    assert max(tried[first_that_fits:]) <= 3
    roomy_told, told = (
        [event["loss"] for event in events_of(session.directory) if event["type"] == "eval"]
        for session in (roomy, short)
    )
    assert told == pytest.approx(roomy_told, rel=1e-5)
    assert losses_of(short.directory) == losses_of(roomy.directory)
    assert warnings_of(short.directory) == []


def test_neither_an_evaluation_nor_a_sample_ends_a_run(workspace: Workspace) -> None:
    roomy = new(workspace, "roomy")
    assert roomy.train() == 0
    blind = new(workspace, "blind", training__sample_every=5, training__patience=1)
    starve_looks(blind, 0)

    def ask(event: Event) -> None:
        if event["type"] == "step" and event["step"] == SHORT_FROM:
            send_command(blind.directory, "evaluate", {})

    assert blind.train((ask,)) == 0
    told = warnings_of(blind.directory)
    # At the start, at step 4, at the end, and once asked for; samples at the start, at 5 and at the end.
    assert (told.count("evaluation-skipped"), told.count("sample-skipped"), len(told)) == (4, 3, 7)
    (answer,) = [event for event in events_of(blind.directory) if event["type"] == "command"]
    assert (answer["done"], answer["why"]) == (False, "the memory was not enough; see the notice")
    assert losses_of(blind.directory) == losses_of(roomy.directory)
    assert {"best_model.pt", "final_model.pt"} <= {path.name for path in blind.directory.glob("*.pt")}


# In truth

STARVED = """
import resource, sys
from minigpt.training.session import Session
from minigpt.workspace import Workspace
from tests.conftest import small_config

session = Session.new(Workspace.find({root!r}), small_config(**{settings!r}), run={run!r})

def address_space() -> int:
    with open("/proc/self/status") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmSize:"))

def limit(event):
    if event["type"] == "phase" and event["phase"] == "training":
        resource.setrlimit(resource.RLIMIT_AS, (address_space() + {room}, resource.RLIM_INFINITY))

sys.exit(session.train((limit,)))
"""


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of a process's memory is Linux's")
def test_a_process_that_may_not_have_more_memory_goes_on_with_less(
    workspace: Workspace, tell_figure: Callable[[str, object], None]
) -> None:
    settings: dict[str, object] = {
        "training__batch_size": 64,
        "training__micro_batch_size": 64,
        "training__max_steps": 8,
        "training__optimizer": "adamw",
        "model__d_model": 64,
        "model__max_seq_len": 128,
        "corpus__random_offsets": True,
    }
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    for run, room in (("roomy", 1 << 40), ("short", 60 << 20)):
        script = STARVED.format(root=str(workspace.root), settings=settings, run=run, room=room)
        done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    roomy, short = workspace.run_directory("roomy"), workspace.run_directory("short")
    assert "micro-batch-halved" in warnings_of(short)
    assert "micro-batch-halved" not in warnings_of(roomy)
    assert losses_of(short) == pytest.approx(losses_of(roomy), rel=1e-3)
    least = [event["args"]["micro_batch_size"] for event in sets_of(short) if "micro_batch_size" in event["args"]]
    tell_figure("windows at once, of 64, in 60 MiB of room", least[-1])
    apart = max(
        abs(a - b) for a, b in zip(losses_of(short).values(), losses_of(roomy).values(), strict=True) if a and b
    )
    tell_figure("losses apart by at most (nats a token)", f"{apart:.1e}")
