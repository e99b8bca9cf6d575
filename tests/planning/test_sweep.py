from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.errors import JobFailed, UserError
from minigpt.planning.halving import (
    Candidate,
    Measure,
    Record,
    distinct,
    main_rate,
    margin,
    ranking,
    rate_settings,
    rates_around,
    recommend,
    rung_steps,
    survivors,
)
from minigpt.planning.sweep import default_steps, sweep
from minigpt.runs import list_runs
from minigpt.tasks import Cancelled, Task, task_state
from minigpt.text.corpora import list_corpora
from minigpt.training.trainer import Trainer
from minigpt.workspace import Workspace
from tests.conftest import run_minigpt, small_config

RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 0.3, 32)


def judged(rate: float, loss: float, step: int = 10, spread: float = 0.0) -> Candidate:
    """Return a candidate measured on 32 blocks, all as hard as for the others but for a spread of its own."""
    own = RNG.normal(0, 1, 32)
    blocks = [(100, float(value)) for value in loss + NOISE + spread * (own - own.mean())]
    return Candidate(rate, {"training.learning_rate": rate}, measures=[Measure(step, loss, blocks)])


def record(*candidates: Candidate, own: float = 99.0) -> Record:
    return Record("mine", "tale", "training.learning_rate", own, [10], 0.2, 64, 3200, list(candidates))


# Which rates


def test_rates_lie_log_evenly_around_the_presets_own() -> None:
    rates = rates_around(0.02)
    assert rates == [0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16]
    assert rates_around(0.02, low=0.001, high=0.1, count=3) == [0.001, 0.01, 0.1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((0.0,), "give --low and --high"), ((0.1, 0.2, 0.1), "below --high"), ((0.1, None, None, 1), "2 to 64")],
)
def test_a_range_that_is_none_is_refused(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        rates_around(*arguments)


def test_named_rates_come_once_and_in_order() -> None:
    assert distinct([0.1, 0.001, 0.1]) == [0.001, 0.1]
    with pytest.raises(UserError, match="above 0"):
        distinct([0.1, -0.1])


def test_with_muon_both_rates_change_in_proportion() -> None:
    config = small_config(training__muon_learning_rate=0.02, training__learning_rate=0.01)
    assert rate_settings(config, 0.04) == {"training.muon_learning_rate": 0.04, "training.learning_rate": 0.02}
    adamw = small_config(training__optimizer="adamw")
    assert main_rate(adamw) == "training.learning_rate"
    assert rate_settings(adamw, 0.04) == {"training.learning_rate": 0.04}


# Who goes on


@pytest.mark.parametrize(("count", "steps", "expected"), [(2, 40, [40]), (3, 40, [20, 40]), (7, 200, [50, 100, 200])])
def test_each_round_doubles_the_steps_until_two_are_left(count: int, steps: int, expected: list[int]) -> None:
    assert rung_steps(count, steps) == expected


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(UserError, match="at least 16"):
        rung_steps(7, 15)


def test_the_better_half_goes_on() -> None:
    candidates = [judged(0.1, 3.0), judged(0.2, 1.0), judged(0.3, 2.0), judged(0.4, 4.0)]
    assert [one.rate for one in survivors(candidates, 10)] == [0.2, 0.3]


def test_one_that_cannot_be_told_from_the_best_goes_on_too() -> None:
    candidates = [judged(0.1, 1.02, spread=0.2), judged(0.2, 1.0), judged(0.3, 1.01, spread=0.2), judged(0.4, 4.0)]
    assert [one.rate for one in survivors(candidates, 10)] == [0.1, 0.2, 0.3]


def test_a_diverged_one_never_goes_on() -> None:
    diverged = Candidate(0.1, {}, state="diverged")
    assert [one.rate for one in survivors([diverged, judged(0.2, 9.0), diverged], 10)] == [0.2]


# What the outcome is worth


def test_the_margin_is_that_of_a_paired_t_test() -> None:
    one, other = judged(0.1, 1.0, spread=0.1), judged(0.2, 1.1, spread=0.1)
    first, second = one.measures[0].blocks, other.measures[0].blocks
    differences = np.array([a[1] - b[1] for a, b in zip(first, second, strict=True)])
    # 2.0395 is the 97.5 % quantile of t with 31 degrees of freedom, as tables have it.
    expected = 2.0395 * differences.std(ddof=1) / math.sqrt(32)
    assert margin(first, second) == pytest.approx(expected, rel=1e-3)


def test_a_difference_beyond_the_noise_is_called_clear() -> None:
    found = recommend(record(judged(0.1, 1.5), judged(0.2, 1.0, spread=0.01), judged(0.3, 1.2)))
    assert found is not None
    assert (found.rate, found.runner_up, found.clear, found.edge) == (0.2, 0.3, True, "")
    assert found.difference == pytest.approx(0.2)
    assert "more than the evaluation's noise" in found.text


def test_a_difference_within_the_noise_is_not() -> None:
    found = recommend(record(judged(0.1, 1.5), judged(0.2, 1.0, spread=0.3), judged(0.3, 1.01)))
    assert found is not None and not found.clear
    assert "either will do" in found.text


@pytest.mark.parametrize(("best", "edge", "flag"), [(0.1, "low", "--low 0.0125"), (0.3, "high", "--high 2.4")])
def test_the_best_at_the_edge_asks_for_a_wider_sweep(best: float, edge: str, flag: str) -> None:
    found = recommend(record(*(judged(rate, 1 + abs(rate - best)) for rate in (0.1, 0.2, 0.3))))
    assert found is not None and found.edge == edge
    assert flag in found.text


def test_the_presets_own_rate_is_spoken_of() -> None:
    rates = [judged(0.1, 1.5), judged(0.2, 1.0), judged(0.3, 1.2)]
    own, other = recommend(record(*rates, own=0.2)), recommend(record(*rates, own=0.1))
    assert own is not None and own.own and "the preset has already" in own.text
    assert other is not None and "The preset's own 0.1 was 0.5000 behind at step 10." in other.text


# Sweeps for real


class Stopper(Task):
    """Asks for an end at the so-manyth report of a step."""

    def __init__(self, after: int) -> None:
        self.left = after

    def report(self, phase: str, done: float = 0, total: float | None = None, unit: str = "") -> None:
        self.left -= phase.startswith("round")
        if self.left < 0:
            raise Cancelled


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Collect the rates of all steps that are trained."""
    steps: list[float] = []
    train = Trainer.train_step

    def train_step(self: Trainer) -> None:
        steps.append(self.settings.muon_learning_rate)
        train(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", train_step)
        yield steps


def swept(workspace: Workspace, rates: list[float], steps: int = 16, **more: Any) -> Record:
    config = small_config(training__warmup_steps=0, training__max_steps=400)
    return sweep(workspace, config, preset="mine", rates=rates, steps=steps, say=lambda text: None, **more)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured of the machine is of no interest here."""
    monkeypatch.setattr("minigpt.training.trainer.peak_flops", lambda device: (1e12, "not measured"))
    monkeypatch.setattr("minigpt.planning.rounds.gc.collect", lambda: 0)


def test_the_best_of_real_runs_wins_and_none_of_them_is_a_run(workspace: Workspace, cheap: None) -> None:
    found = swept(workspace, [0.0001, 0.02, 9.0])
    assert found.recommendation is not None and found.recommendation.rate == 0.02
    assert found.rungs == [8, 16]
    assert [len(one.measures) for one in found.candidates if one.rate != 0.02] in ([2, 1], [1, 2])
    assert list_runs(workspace) == []
    assert [corpus.name for corpus in list_corpora(workspace)[0]] == ["tale"]
    assert list(workspace.data.rglob("*.pt")) == []


@pytest.mark.slow
def test_rounds_go_on_with_the_weights_of_the_one_before(workspace: Workspace, cheap: None) -> None:
    in_two = swept(workspace, [0.0001, 0.02, 0.03])
    at_once = swept(workspace, [0.02, 0.03])
    assert at_once.rungs == [16] and in_two.rungs == [8, 16]
    curves = [{one.rate: one.curve for one in found.candidates} for found in (in_two, at_once)]
    assert curves[0][0.02] == curves[1][0.02]
    assert [step for step, _ in curves[0][0.02]] == list(range(1, 17))
    assert ranking(in_two.candidates, 16)[0].measures[-1] == ranking(at_once.candidates, 16)[0].measures[-1]


def test_a_stopped_sweep_goes_on_where_it_was(
    workspace: Workspace, cheap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = [0.0001, 0.02, 0.03]
    with counted(monkeypatch) as before, pytest.raises(Cancelled):
        swept(workspace, rates, 8, task=Stopper(7))
    with counted(monkeypatch) as after:
        found = swept(workspace, rates, 8)
    with counted(monkeypatch) as once:
        assert swept(workspace, rates, 8, fresh=True) == found
    assert len(before) == 7
    assert len(before) + len(after) == len(once)


def test_a_sweep_that_was_done_is_not_done_again(
    workspace: Workspace, cheap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = swept(workspace, [0.01, 0.02], 4)
    with counted(monkeypatch) as steps:
        assert swept(workspace, [0.01, 0.02], 4) == first
        assert steps == []
        swept(workspace, [0.01, 0.03], 4)
        assert steps != []


@pytest.mark.slow
def test_a_diverged_rate_loses_and_the_others_go_on(
    workspace: Workspace, cheap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _overflow_above(1.0, monkeypatch)
    found = swept(workspace, [0.01, 0.02, 5.0])
    assert [one.state for one in found.candidates] == ["in", "in", "diverged"]
    assert found.recommendation is not None


def test_all_diverged_is_said(workspace: Workspace, cheap: None, monkeypatch: pytest.MonkeyPatch) -> None:
    _overflow_above(0.0, monkeypatch)
    with pytest.raises(JobFailed, match="lower ones"):
        swept(workspace, [3.0, 5.0], 4)


def _overflow_above(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the weights overflow where the rate is above; at this size a rate of 10 leaves them finite."""
    train = Trainer.train_step

    def train_step(self: Trainer) -> None:
        if self.settings.muon_learning_rate > rate:
            self.model.head.weight.data.fill_(math.inf)
        train(self)

    monkeypatch.setattr(Trainer, "train_step", train_step)


def test_how_far_a_sweep_trains_follows_the_run() -> None:
    assert [default_steps(planned) for planned in (50, 600, 10_000, 10**6)] == [50, 100, 500, 1000]


@pytest.mark.slow
def test_a_killed_sweep_is_reused_and_saved_from_the_command_line(workspace: Workspace) -> None:
    workspace.configs.mkdir()
    (workspace.configs / "mine.toml").write_text(
        '[corpus]\nname = "tale"\n[tokenizer]\nkind = "char"\n[model]\nd_model = 32\nn_layers = 2\nn_heads = 2\n'
        "max_seq_len = 16\n[training]\nbatch_size = 4\nmax_steps = 400\nthreads = 1  # one is enough\n"
    )
    command = ["presets", "sweep", "mine", "--rates", "0.0001,0.02,0.03", "--steps", "80"]
    program = [
        sys.executable,
        "-m",
        "minigpt.cli.main",
        *command,
        "--workspace",
        str(workspace.root),
        "--task",
        "first",
    ]
    process = subprocess.Popen(program, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(workspace.data.glob(".sweeps/*/rate-*/trunk.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert task_state(workspace.tasks / "first").state == "lost"
    directory = Path((workspace.tasks / "first" / "sweep").read_text())
    assert (workspace.data / ".sweeps" / directory / "sweep.json").exists()
    told = run_minigpt(*command, "--json", "--save", "--task", "second", workspace=workspace.root, timeout=300)
    found = json.loads(told.stdout)
    best = found["recommendation"]
    assert best["rate"] in (0.02, 0.03)
    result = task_state(workspace.tasks / "second").result
    assert result is not None and result["recommendation"]["rate"] == best["rate"]
    assert (workspace.tasks / "second" / "sweep").read_text() == str(directory)
    text = (workspace.configs / "mine.toml").read_text()
    assert f"muon_learning_rate = {best['rate']:g}" in text and "# one is enough" in text
