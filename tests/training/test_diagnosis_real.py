"""Runs of many kinds, as people make them: a wrong setting is told by what comes of it, and who is well left alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from minigpt.jobs import send_command
from minigpt.training.diagnosis.curve import GradientNorms
from minigpt.training.session import Session
from minigpt.workspace import Workspace
from tests.conftest import small_config
from tests.faults.conftest import tell_figure  # noqa: F401
from tests.training.test_diagnosis import QUICK, Event, codes, events_of, notice, rates, stop_on, train, workspace  # noqa: F401
from tests.training.test_trainer import of_type, quiet

OF_THE_LOSS = {
    "rate-too-low",
    "rate-too-high",
    "diverging",
    "plateau",
    "overfitting",
    "underfitting",
    "exploding-gradients",
    "non-finite",
    "diverged",
}

# Rates as by a slip of the decimal point, reached by a warmup or at once.
WILD: dict[str, dict[str, object]] = {
    "qwen3, Muon": {"training__learning_rate": 10.0, "training__muon_learning_rate": 10.0},
    "qwen3, AdamW, clipped": {
        "training__optimizer": "adamw",
        "training__learning_rate": 10.0,
        "training__max_grad_norm": 1.0,
    },
    "llama, AdamW": {
        "model__family": "llama",
        "training__optimizer": "adamw",
        "training__learning_rate": 10.0,
    },
    "gpt2, AdamW": {
        "model__family": "gpt2",
        "training__optimizer": "adamw",
        "training__learning_rate": 10.0,
    },
    "gpt2, AdamW, clipped, slowly": {
        "model__family": "gpt2",
        "training__optimizer": "adamw",
        "training__learning_rate": 3.0,
        "training__max_grad_norm": 1.0,
    },
}


@pytest.fixture
def largest(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How many times as long as at its calmest the gradients of a run have become, by each look at them."""
    found = [1.0]
    look = GradientNorms.calmest

    def calmest(self: GradientNorms, loss: float) -> float | None:
        norm = look(self, loss)
        found.append(1.0 if norm is None else math.exp(self.latest(10) - norm))
        return norm

    monkeypatch.setattr(GradientNorms, "calmest", calmest)
    return found


def run_until(workspace: Workspace, code: str, **changes: object) -> list[Event]:  # noqa: F811
    """Train until a notice of this code comes, or to the end."""
    wild = {**QUICK, "training__max_steps": 400, "training__warmup_steps": 300, "training__eval_every": 10_000}
    session = Session.new(workspace, small_config(**{**wild, "training__max_grad_norm": 0.0, **changes}), say=quiet)
    session.train((stop_on(lambda: session.directory, code),))
    return events_of(session)


def test_gradients_that_explode_by_themselves_are_told(workspace: Workspace) -> None:  # noqa: F811
    events = run_until(workspace, "exploding-gradients", **WILD["qwen3, Muon"])
    told = notice(events, "exploding-gradients")
    assert told["step"] <= 100
    assert "set training.max_grad_norm to 1" in told["message"]
    assert codes(events)[0] == "rate-too-high"
    assert max(event["loss"] for event in of_type(events, "step")) > math.log(10_000)


@pytest.mark.campaign
@pytest.mark.parametrize("kind", WILD)
def test_wild_rates_are_told_while_they_still_rise(
    workspace: Workspace,  # noqa: F811
    kind: str,
    largest: list[float],
    tell_figure: Callable[[str, object], None],  # noqa: F811
) -> None:
    events = run_until(workspace, "exploding-gradients", **WILD[kind])
    tell_figure("gradients told at step", notice(events, "exploding-gradients")["step"])
    tell_figure("the rate told at step", notice(events, "rate-too-high")["step"])
    assert notice(events, "exploding-gradients")["step"] < 300
    assert notice(events, "rate-too-high")["step"] < 300
    assert "rate-too-low" not in codes(events)


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_who_has_learned_and_comes_apart_by_itself_is_told_by_the_gradients_first(
    workspace: Workspace,  # noqa: F811
    tell_figure: Callable[[str, object], None],  # noqa: F811
) -> None:
    changes: dict[str, object] = {"training__learning_rate": 1.0, "training__muon_learning_rate": 3.0}
    changes |= {"training__warmup_steps": 600, "training__max_steps": 1200, "training__schedule": "constant"}
    events = run_until(workspace, "diverging", **changes)
    tell_figure("gradients told at step", notice(events, "exploding-gradients")["step"])
    tell_figure("divergence told at step", notice(events, "diverging")["step"])
    assert [code for code in codes(events) if code in OF_THE_LOSS] == ["exploding-gradients", "diverging"]


@pytest.mark.campaign
def test_a_rate_too_high_from_the_first_step_is_not_called_too_low(workspace: Workspace) -> None:  # noqa: F811
    """The loss leaps to many times that of a network which knows nothing, and then falls, slowly."""
    changes: dict[str, object] = {
        "model__family": "gpt2",
        "training__optimizer": "adamw",
        "training__learning_rate": 3.0,
        "training__warmup_steps": 5,
    }
    events = run_until(workspace, "rate-too-high", **changes)
    assert notice(events, "rate-too-high")["step"] <= 100
    assert "rate-too-low" not in codes(events)


@pytest.mark.campaign
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_who_raises_the_rate_a_hundredfold_is_told_of_the_gradients_soon(
    workspace: Workspace,  # noqa: F811
    optimizer: str,
    tell_figure: Callable[[str, object], None],  # noqa: F811
) -> None:
    changes = {**QUICK, **rates(3), "model__family": "gpt2" if optimizer == "adamw" else "qwen3"}
    changes |= {"training__optimizer": optimizer, "training__max_steps": 300, "training__schedule": "constant"}
    # It would go back by itself before long.
    changes["training__max_rollbacks"] = 0
    session = Session.new(workspace, small_config(**changes), say=quiet)

    def slip(event: Event) -> None:
        if event["type"] == "step" and event["step"] == 100:
            send_command(session.directory, "set", {"lr_scale": 100.0})

    session.train((slip, stop_on(lambda: session.directory, "exploding-gradients")))
    told = notice(events_of(session), "exploding-gradients")
    tell_figure("gradients told so many steps after the change", told["step"] - 101)
    assert told["step"] <= 150
    assert told["cure"]["args"] == {"lr_scale": 50.0}


# It rests at the frequencies of single tokens for a while.
GPT2: dict[str, object] = {
    "model__family": "gpt2",
    "model__d_model": 32,
    "model__max_seq_len": 32,
    "training__optimizer": "adamw",
    "training__learning_rate": 0.003,
}
HEALTHY: dict[str, dict[str, object]] = {
    "qwen3, Muon": {},
    "qwen3, AdamW": {"training__optimizer": "adamw"},
    "gpt2, AdamW": {**GPT2, "training__max_steps": 1000},
    "gpt2, Muon": {"model__family": "gpt2"},
    "llama, Muon, deep": {"model__family": "llama", "model__n_layers": 4},
    "bpe": {"tokenizer__kind": "bpe", "tokenizer__vocab_size": 300},
    "words": {"tokenizer__kind": "word", "tokenizer__vocab_size": 500},
    "one window a step": {"training__batch_size": 1, "training__max_steps": 1000},
    "accumulated": {"training__batch_size": 2, "training__gradient_accumulation_steps": 4},
    "a long warmup": {"training__warmup_steps": 250, "training__max_steps": 600},
    "a constant rate": {"training__schedule": "constant"},
    "dropout": {"model__dropout": 0.1, "training__max_steps": 600},
    "gpt2, AdamW, a large batch": {**GPT2, "training__batch_size": 64, "training__learning_rate": 0.01},
    "nothing cut": {"training__max_grad_norm": 0.0},
}


def test_a_rest_at_the_frequencies_of_tokens_is_no_rate_too_high(workspace: Workspace) -> None:  # noqa: F811
    _, events = train(workspace, **{**GPT2, "training__max_steps": 100, "training__schedule": "constant"})
    assert "rate-too-high" not in codes(events)


@pytest.mark.campaign
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", HEALTHY)
def test_healthy_runs_of_every_kind_are_left_alone(
    workspace: Workspace,  # noqa: F811
    kind: str,
    largest: list[float],
    tell_figure: Callable[[str, object], None],  # noqa: F811
) -> None:
    well: dict[str, object] = {**rates(1), "model__d_model": 32, "model__max_seq_len": 32, "training__max_steps": 400}
    _, events = train(workspace, **{**well, **HEALTHY[kind]})
    tell_figure("gradients at most so many times as long as when it was as good", f"{max(largest):.2f}")
    assert not OF_THE_LOSS & set(codes(events))
    assert max(largest) < 5
