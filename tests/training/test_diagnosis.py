"""Each finding is provoked in a real training, and a healthy one beside it stays silent."""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from minigpt.jobs import EVENTS, EventReader, send_command
from minigpt.model.checkpoint import load
from minigpt.notices import NOTICES, latest_cure
from minigpt.text import sample
from minigpt.text.ladder import Ladder
from minigpt.text.sources import add_path
from minigpt.training import recorder as recorder_module
from minigpt.training.diagnosis import time_spent
from minigpt.training.diagnosis.curve import LossCurve
from minigpt.training.diagnosis.doctor import start_extras
from minigpt.training.diagnosis.falling import NotFalling, Plateau
from minigpt.training.diagnosis.finding import Evaluated, Finding, Situation
from minigpt.training.diagnosis.nonfinite import find_culprit
from minigpt.training.diagnosis.splits import Underfitting
from minigpt.training.session import Session
from minigpt.training.trainer import Trainer
from minigpt.workspace import Workspace
from tests.conftest import small_config
from tests.training.test_trainer import of_type, quiet

Event = dict[str, Any]
Listener = Callable[[Event], None]

# What every run says of itself.
ORDINARY = {"duration", "finished"}

QUICK: dict[str, object] = {
    "corpus__name": "stories",
    "model__d_model": 16,
    "model__n_layers": 1,
    "training__max_steps": 100,
    "training__warmup_steps": 5,
    "training__eval_every": 50,
    "training__eval_tokens": 1024,
    "training__sample_every": 10_000,
    "training__save_every": 10_000,
    "training__sample_prompts": ["T"],
    "training__batch_size": 8,
}


def rates(factor: float) -> dict[str, object]:
    """Return both learning rates, by how much they differ from good ones for such a network."""
    return {"training__learning_rate": 0.01 * factor, "training__muon_learning_rate": 0.02 * factor}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with ordinary text and several corpora that have something wrong."""
    root = tmp_path_factory.mktemp("diagnosis")
    dice = random.Random(1)
    stories = [document.text for document in sample.documents(150_000) if not document.messages]
    texts = {
        "stories": "\n\n".join(stories),
        "scraps": stories[0] + stories[1],
        "noise": "".join(dice.choices("abcdefgh ijklmnop\n", k=60_000)),
        "again": (stories[0] + "\n") * 150,
        "chain": chain(60_000, dice),
    }
    for name, text in texts.items():
        (root / f"{name}.txt").write_text(text)
    (root / "letters").mkdir()
    for number in range(200):
        (root / "letters" / f"{number:03}.txt").write_text(f"Letter {number} {dice.choice(stories)[:9]}")
    found = Workspace(root)
    found.require_writable()
    for name in (*(f"{name}.txt" for name in texts), "letters"):
        add_path(found, root / name)
    return found


def chain(length: int, dice: random.Random) -> str:
    """Return a text in which each letter is followed by either of two, so that there is nothing more to learn."""
    letters, last = "abcdefghijklmnop", "a"
    follows = {letter: dice.sample(letters, 2) for letter in letters}
    return "".join(last := dice.choice(follows[last]) for _ in range(length))


def train(workspace: Workspace, *listeners: Listener, **changes: object) -> tuple[Session, list[Event]]:
    session = Session.new(workspace, small_config(**{**QUICK, **changes}), say=quiet)
    session.train(listeners)
    return session, events_of(session)


def events_of(session: Session) -> list[Event]:
    with EventReader(session.directory / EVENTS) as reader:
        return reader.poll(1 << 26)


def codes(events: list[Event]) -> list[str]:
    """Return the codes of the notices but for those that every run gives."""
    return [event["code"] for event in of_type(events, "notice") if event["code"] not in ORDINARY]


def notice(events: list[Event], code: str) -> Event:
    (found,) = [event for event in of_type(events, "notice") if event["code"] == code]
    return found


def on_notice(code: str, action: Callable[[Event], object]) -> Listener:
    def listener(event: Event) -> None:
        if event["type"] == "notice" and event["code"] == code:
            action(event)

    return listener


def stop_on(session_of: Callable[[], Path], code: str) -> Listener:
    return on_notice(code, lambda event: send_command(session_of(), "stop", {}))


# The loss


def test_a_healthy_run_stays_silent(workspace: Workspace) -> None:
    _, events = train(workspace, training__max_steps=150, model__d_model=32)
    assert codes(events) == []


def test_a_rate_too_low_is_told_once_with_a_cure(workspace: Workspace) -> None:
    _, events = train(workspace, **rates(1e-3), training__max_steps=105)
    told = notice(events, "rate-too-low")
    assert told["step"] < 100
    assert told["cure"]["args"] == {"lr_scale": 10.0}
    assert "rate-too-high" not in codes(events)


def test_the_cure_does_what_it_says(workspace: Workspace) -> None:
    session = Session.new(workspace, small_config(**{**QUICK, **rates(0.01), "training__max_steps": 70}), say=quiet)

    def obey(event: Event) -> None:
        send_command(session.directory, event["cure"]["command"], event["cure"]["args"])

    session.train((on_notice("rate-too-low", obey),))
    events = events_of(session)
    told = notice(events, "rate-too-low")
    rate = {event["step"]: event["learning_rate"] for event in of_type(events, "step")}
    assert rate[told["step"] + 1] > 5 * rate[told["step"]]
    assert latest_cure(events) is None or latest_cure(events) != told["cure"]


@pytest.mark.parametrize("optimizer", [pytest.param("muon", marks=pytest.mark.slow), "adamw"])
def test_a_rate_too_high_is_told(workspace: Workspace, optimizer: str) -> None:
    rate = rates(300) if optimizer == "muon" else {"training__learning_rate": 10.0}
    _, events = train(workspace, **rate, training__optimizer=optimizer, training__schedule="constant")
    told = notice(events, "rate-too-high")
    assert told["cure"]["args"]["lr_scale"] == pytest.approx(0.3)
    assert "rate-too-low" not in codes(events)


def test_a_loss_that_rises_again_is_told(workspace: Workspace) -> None:
    changes = {"training__max_steps": 200, "training__schedule": "constant", "training__max_rollbacks": 0}
    session = Session.new(workspace, small_config(**{**QUICK, **changes}), say=quiet)

    def spoil(event: Event) -> None:
        if event["type"] == "step" and event["step"] == 60:
            # As if somebody had raised the rate long ago: the run itself is not told.
            session.progress.peak = 300.0

    session.train((spoil, stop_on(lambda: session.directory, "diverging")))
    told = notice(events_of(session), "diverging")
    assert told["step"] > 60
    assert told["cure"]["args"] == {"lr_scale": 0.5}


def simulated(loss: Callable[[int], float], steps: int) -> LossCurve:
    """Return the curve of a loss with the noise of a batch."""
    dice, curve = random.Random(2), LossCurve()
    for step in range(steps):
        curve.add(loss(step) + dice.gauss(0, 0.04), 1.0)
    return curve


def test_a_loss_that_stands_is_a_plateau_and_one_that_falls_slowly_is_none() -> None:
    long = situation(last_step=4000)
    standing = simulated(lambda step: 1.5 + 2.7 * math.exp(-step / 30), 1500)
    falling = simulated(lambda step: 1.0 + 3.2 * (step + 1) ** -0.2, 1500)
    assert Plateau().on_steps(standing, long) is not None
    assert Plateau().on_steps(falling, long) is None


@pytest.mark.slow
def test_a_plateau_is_told(workspace: Workspace) -> None:
    changes = {
        **QUICK,
        "corpus__name": "chain",
        "model__max_seq_len": 64,
        "training__max_steps": 900,
        "training__schedule": "constant",
        "training__optimizer": "adamw",
        "training__learning_rate": 0.02,
    }
    session = Session.new(workspace, small_config(**changes), say=quiet)
    session.train((stop_on(lambda: session.directory, "plateau"),))
    told = notice(events_of(session), "plateau")
    assert told["step"] >= 200


def test_overfitting_is_told_with_its_step_and_a_key_to_end(workspace: Workspace) -> None:
    session = Session.new(
        workspace,
        small_config(
            **{
                **QUICK,
                "corpus__name": "scraps",
                "model__d_model": 64,
                "training__max_steps": 300,
                "training__eval_every": 15,
            }
        ),
        say=quiet,
    )

    def obey(event: Event) -> None:
        send_command(session.directory, event["cure"]["command"], event["cure"]["args"])

    assert session.train((on_notice("overfitting", obey),)) == 0
    events = events_of(session)
    told = notice(events, "overfitting")
    best = load(session.directory / "best_model.pt").step
    assert f"Since step {best}" in told["message"]
    assert of_type(events, "step")[-1]["step"] <= told["step"] + 2
    assert of_type(events, "end")[-1]["exit_code"] == 0


def test_a_run_that_ends_too_soon_is_told(workspace: Workspace) -> None:
    _, events = train(workspace, **rates(0.05), training__max_steps=60)
    assert notice(events, "underfitting")["cure"]["settings"] == {"training.max_steps": 180}


RUNGS = Ladder(4.2, 3.1, 2.4)


def situation(**more: Any) -> Situation:
    return Situation(small_config().training, 4.2, RUNGS, **{"first_step": 0, "last_step": 400, "warmup": 5, **more})


def test_who_was_told_of_a_rate_too_high_is_not_told_to_train_longer_at_it() -> None:
    detector, settings = Underfitting(), small_config().training
    detector.on_evaluation(Evaluated("validation", 400, 5.0, 1000, []), situation())
    too_high = detector.on_end(situation(too_high=True))
    lowered = detector.on_end(situation(lr_scale=0.3))
    assert too_high is not None
    assert lowered is not None
    lower = {
        "training.learning_rate": pytest.approx(0.3 * settings.learning_rate),
        "training.muon_learning_rate": pytest.approx(0.3 * settings.muon_learning_rate),
    }
    assert (too_high.cure or {})["settings"] == lower
    assert (lowered.cure or {})["settings"] == {"training.max_steps": 1200, **lower}


def test_a_loss_that_comes_down_after_a_cure_is_not_said_to_stay_up() -> None:
    coming_down = simulated(lambda step: 17.3 if step < 10 else 6.2 - 0.13 * max(0, step - 40), 50)
    staying_up = simulated(lambda step: 5.9 + 11.4 * math.exp(-step / 5), 75)
    assert NotFalling().on_steps(coming_down, situation()) is None
    found = NotFalling().on_steps(staying_up, situation())
    assert found is not None
    assert found.code == "rate-too-high"


def test_of_two_words_on_a_rate_too_high_one_is_said(workspace: Workspace) -> None:
    with made(workspace) as trainer:
        for code in ("diverging", "rate-too-high", "diverging"):
            trainer.doctor.say(Finding(code, "Lower it."))
    assert codes(events_in(trainer)) == ["diverging"]


def test_gradients_beyond_bounds_are_told(workspace: Workspace) -> None:
    session = Session.new(workspace, small_config(**QUICK), say=quiet)

    def steepen(gradient: torch.Tensor) -> torch.Tensor:
        return gradient * 100 if session.progress.step > 75 else gradient

    session.model.head.weight.register_hook(steepen)
    session.train((stop_on(lambda: session.directory, "exploding-gradients"),))
    assert notice(events_of(session), "exploding-gradients")["step"] > 75


# Numbers that are none


def test_the_layer_that_gave_the_first_infinite_number_is_named(workspace: Workspace) -> None:
    session = Session.new(workspace, small_config(**{**QUICK, "model__n_layers": 2}), say=quiet)

    def spoil(event: Event) -> None:
        if event["type"] == "step" and event["step"] == 3:
            with torch.no_grad():
                session.model.blocks[1].mlp.down.weight.fill_(1e38)  # type: ignore[union-attr, operator]

    session.train((spoil,))
    messages = [event["message"] for event in of_type(events_of(session), "notice") if event["code"] == "non-finite"]
    assert "layer 2, MLP (blocks.1.mlp.down)" in messages[0]


def test_looking_for_the_layer_leaves_no_trace(workspace: Workspace) -> None:
    session = Session.new(workspace, small_config(**{**QUICK, "model__dropout": 0.1}), say=quiet)
    model = session.model
    with torch.no_grad():
        model.head.weight.fill_(1.0)
        model.norm.weight.fill_(3e38)  # type: ignore[operator]
    before, random_state = {n: p.clone() for n, p in model.named_parameters()}, torch.get_rng_state()
    inputs = torch.zeros(2, 16, dtype=torch.int64)
    culprit = find_culprit(model, lambda: iter([(inputs, inputs, 1.0)]), torch.no_grad)
    assert culprit.kind == "output"
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(torch.equal(p, before[n]) and p.grad is None for n, p in model.named_parameters())
    assert not any(module._forward_hooks for module in model.modules())


# The text


@pytest.mark.parametrize(
    ("corpus", "code"),
    [("stories", None), ("noise", "gibberish"), ("again", "repeated-text"), ("letters", "short-documents")],
)
def test_a_glance_at_the_text(workspace: Workspace, corpus: str, code: str | None) -> None:
    changes = {"corpus__name": corpus, "training__max_steps": 1, "model__max_seq_len": 128}
    _, events = train(workspace, **changes)
    assert codes(events) == ([] if code is None else [code])


def test_too_little_text_for_the_model_is_told(workspace: Workspace) -> None:
    changes = {"corpus__name": "scraps", "model__d_model": 128, "training__max_steps": 2, "training__batch_size": 400}
    _, events = train(workspace, **changes)
    assert notice(events, "too-little-data")["cure"]["args"] == {"patience": 3}


def test_little_text_read_once_is_fine(workspace: Workspace) -> None:
    _, events = train(workspace, corpus__name="scraps", model__d_model=128, training__max_steps=1)
    assert "too-little-data" not in codes(events)


def test_the_ladder_of_losses_stands_in_the_start_event(workspace: Workspace) -> None:
    session = Session.new(workspace, small_config(**{**QUICK, "corpus__name": "chain"}), say=quiet)
    with recorder_module.Recorder(_made(session.directory), "cpu", 1) as recorder:
        rungs = start_extras(session.trainer(recorder))["ladder"]
    assert rungs["uniform"] == pytest.approx(math.log(session.model.config.vocab_size))
    assert rungs["uniform"] > rungs["unigram"] > rungs["bigram"] > 0


@contextmanager
def made(workspace: Workspace) -> Iterator[Trainer]:
    """Make a trainer that has begun nothing."""
    session = Session.new(workspace, small_config(**QUICK), say=quiet)
    with recorder_module.Recorder(_made(session.directory), "cpu", 1) as recorder:
        yield session.trainer(recorder)


def events_in(trainer: Trainer) -> list[Event]:
    with EventReader(trainer.directory / EVENTS) as reader:
        return reader.poll(1 << 26)


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


# The machine


def test_memory_that_is_not_enough_for_the_least_ends_the_run_with_all_saved(workspace: Workspace) -> None:
    session = Session.new(workspace, small_config(**QUICK), say=quiet)

    def hunger(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if module.training and session.progress.step == 4:
            torch.empty(1 << 60, dtype=torch.uint8)

    session.model.head.register_forward_hook(hunger)
    assert session.train() == 1
    told = notice(events_of(session), "out-of-memory")
    assert told["cure"]["settings"] == {"model.max_seq_len": 8}
    assert load(session.directory / "interrupted_checkpoint.pt").step == 4


GB = 1_000_000_000


def test_a_machine_that_runs_short_is_told_once_until_it_is_well_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    well = {"host": {"memory_used": 10 * GB, "memory_total": 16 * GB, "disk_free": 50 * GB}}
    full = {"host": {"memory_used": 15.5 * GB, "memory_total": 16 * GB, "disk_free": 50 * GB}}
    no_disk = {"host": {"memory_used": 10 * GB, "memory_total": 16 * GB, "disk_free": 10_000_000}}
    kept_by_torch = {"memory": 79 * GB, "memory_peak": 40 * GB, "memory_total": 80 * GB}
    device_full = {**kept_by_torch, "memory_peak": 79 * GB}
    story = iter([well, full, full, well, full, no_disk, no_disk, kept_by_torch, device_full, device_full])
    monkeypatch.setattr(recorder_module, "READINGS_SECONDS", 0.01)
    begun: set[str] = set()
    monkeypatch.setattr(recorder_module, "readings", lambda *_: next(story, {}) if "step" in begun else well)
    session = Session.new(workspace, small_config(**{**QUICK, "training__max_steps": 100_000}), say=quiet)

    def stop(event: Event) -> None:
        begun.add(event["type"])
        if event["type"] == "device" and not {"host", "memory"} & event.keys():
            send_command(session.directory, "stop", {})

    session.train((stop,))
    memory, disk = "memory-nearly-full", "disk-nearly-full"
    assert codes(events_of(session)) == [memory, memory, disk, memory]


def test_waiting_for_text_is_told(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_spent, "STRETCH_SECONDS", 0.0)
    assert codes(train(workspace, training__max_steps=12)[1]) == []
    session = Session.new(workspace, small_config(**{**QUICK, "training__max_steps": 12}), say=quiet)
    windows, read = session.text.windows, session.text.windows.batch

    def from_a_slow_disk(position: int, size: int) -> Any:
        time.sleep(0.05)
        return read(position, size)

    monkeypatch.setattr(windows, "batch", from_a_slow_disk)
    session.train()
    assert codes(events_of(session)) == ["waiting-for-data"]


def test_nothing_saved_for_long_is_told(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_spent, "UNSAVED_SECONDS", 0.005)
    _, events = train(workspace, training__max_steps=30)
    told = [event for event in of_type(events, "notice") if event["code"] == "no-checkpoint"]
    assert told[0]["cure"]["command"] == "checkpoint"
    assert len(told) <= 1 + len(of_type(events, "checkpoint"))


def test_what_is_unsaved_is_counted_in_training_and_only_a_save_ends_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*anything: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    with made(workspace) as trainer:
        trainer.doctor.on_time(1700, 10, 0, 0)
        with monkeypatch.context() as patched:
            patched.setattr("minigpt.training.checkpointer.save", full)
            assert not trainer.save("checkpoint_step_0.pt")
        trainer.doctor.on_time(200, 10, 0, 0)
        trainer.doctor.on_time(200, 10, 0, 0)
        assert trainer.save("checkpoint_step_0.pt")
        trainer.doctor.on_time(1700, 10, 0, 0)
        trainer.doctor.on_time(200, 10, 0, 0)
    assert codes(events_in(trainer)) == ["save-failed", "no-checkpoint", "no-checkpoint"]


# What is said, and when


@pytest.mark.slow
def test_a_resumed_run_does_not_say_again_what_was_said(workspace: Workspace) -> None:
    session = Session.new(workspace, small_config(**{**QUICK, **rates(1e-3), "training__max_steps": 160}), say=quiet)
    session.train((stop_on(lambda: session.directory, "rate-too-low"),))
    resumed = Session.resume(workspace, session.directory.name, say=quiet)
    resumed.train()
    assert codes(events_of(session)).count("rate-too-low") == 1


def test_every_notice_that_is_given_is_listed_and_every_listed_one_is_given() -> None:
    import minigpt

    sources = [path.read_text() for path in Path(minigpt.__file__).parent.rglob("*.py") if path.name != "notices.py"]
    quoted = {word for source in sources for word in re.findall(r'"([a-z]+(?:-[a-z]+)*)"', source)}
    assert set(NOTICES) - quoted == set()
    given = r'(?:notice\(|_notice\(|Finding\(|notices\.append\(\()\s*(?:"(?:info|warning|error)",\s*)?"([a-z-]+)"'
    found = {code for source in sources for code in re.findall(given, source)}
    assert found - {"info", "warning", "error"} - set(NOTICES) == set()


def test_the_latest_cure_is_found_until_it_is_carried_out() -> None:
    cure = {"label": "halve the learning rate", "command": "set", "args": {"lr_scale": 0.5}}
    events: list[Event] = [
        {"type": "notice", "code": "diverging", "cure": cure},
        {"type": "notice", "code": "finished"},
        {"type": "notice", "code": "plateau", "cure": "lower it"},
    ]
    assert latest_cure(events) == cure
    obeyed = {"type": "command", "command": "set", "args": {"lr_scale": 0.5}, "done": True}
    assert latest_cure([*events, obeyed]) is None
