"""Comparing runs: which figure compares, what differs, what is noise, and the command that prints it."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.cli.runs_compare import add_compare, run_compare
from minigpt.comparing.curves import RunCurve, curve_of, shared_places
from minigpt.comparing.noise import paired_error
from minigpt.comparing.table import Comparison, compare, result_rows
from minigpt.digest import digest
from minigpt.errors import UserError
from minigpt.jobs import EVENTS
from minigpt.presets import to_toml
from minigpt.workspace import Workspace
from tests.conftest import small_config

BLOCKS = 32
HARD = np.random.default_rng(0).normal(0, 0.5, BLOCKS)


def blocks(loss: float, seed: int, scatter: float = 0.02) -> list[tuple[int, float]]:
    """Return blocks of a text whose hard places are the same for every model, with a scatter of the model's own."""
    own = np.random.default_rng(seed).normal(0, scatter, BLOCKS)
    values = loss + HARD - HARD.mean() + own - own.mean()
    return [(512, value) for value in values.tolist()]


class Runs:
    """A workspace with runs that were never trained."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root)
        self.workspace.checkpoints.mkdir(parents=True)

    def add(
        self,
        name: str,
        loss: float = 2.0,
        *,
        seed: int = 1,
        steps: int = 100,
        tokens: int = 64,
        tokenizer: str = "a",
        bits: float | None = 1.5,
        content: str = "text",
        told_blocks: bool = True,
        end: bool = True,
        scatter: float = 0.02,
        start: dict[str, Any] | None = None,
        **changes: object,
    ) -> Path:
        directory = self.workspace.checkpoints / name
        directory.mkdir()
        (directory / "config.toml").write_text(to_toml(small_config(training__seed=seed, **changes)))
        (directory / "tokenizer.json").write_text(tokenizer)
        told = {"run": name, "corpus": "tale", "parameters": 1000, "vocab_size": 50, "content_hash": content}
        events: list[dict[str, Any]] = [
            {"type": "start", "time": 1000.0, "planned_steps": steps, **told, **(start or {})}
        ]
        for step in range(0, steps + 1, 10):
            when, now = 1000.0 + step, loss + 3 * (steps - step) / steps
            if step:
                events.append({"type": "step", "time": when, "step": step, "tokens": step * tokens, "loss": now})
            evaluation = {"type": "eval", "time": when, "step": step, "split": "validation", "tokens": 16384}
            evaluation |= {"loss": now, "bits_per_byte": bits and bits + now - loss, "accuracy": 0.5, "whole": False}
            events.append({**evaluation, "blocks": blocks(now, seed, scatter)} if told_blocks else evaluation)
        if end:
            events.append({"type": "end", "time": 1000.0 + steps, "exit_code": 0, "reason": "done"})
        (directory / EVENTS).write_text("".join(json.dumps(event) + "\n" for event in events))
        return directory

    def compare(self, *names: str) -> Comparison:
        return compare(self.workspace, names)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "work")


def row(comparison: Comparison, name: str) -> tuple[str, ...]:
    return next(found.values for found in result_rows(comparison) if found.name.strip() == name)


# What compares


def test_runs_on_one_text_with_one_tokenizer_pair_block_by_block(runs: Runs) -> None:
    runs.add("a", 2.0, seed=1)
    runs.add("b", 2.1, seed=2, training__learning_rate=0.02)
    comparison = runs.compare("b", "a")
    (verdict,) = comparison.verdicts
    assert comparison.figure == "loss"
    assert (verdict.better, verdict.other, verdict.paired, verdict.certain) == ("a", "b", True, True)
    assert verdict.difference == pytest.approx(0.1)
    assert verdict.error == pytest.approx(paired_error(blocks(2.0, 1), blocks(2.1, 2)))
    assert verdict.error < 0.3 * comparison.runs[0].best.loss_error  # type: ignore[union-attr]


def test_a_difference_within_the_noise_is_told_as_such(runs: Runs) -> None:
    runs.add("a", 2.0, seed=1, scatter=0.3)
    runs.add("b", 2.01, seed=2, scatter=0.3, training__learning_rate=0.02)
    (verdict,) = runs.compare("a", "b").verdicts
    assert verdict.certain is False
    assert "within the evaluation's own noise" in verdict.message


def test_without_blocks_nobody_says_what_noise_is(runs: Runs) -> None:
    runs.add("a", 2.0, told_blocks=False)
    runs.add("b", 2.5, told_blocks=False, training__learning_rate=0.02)
    (verdict,) = runs.compare("a", "b").verdicts
    assert (verdict.error, verdict.certain) == (None, None)
    assert "cannot be told" in verdict.message


def test_other_tokenizers_compare_by_bits_per_byte(runs: Runs) -> None:
    runs.add("a", 4.0, tokenizer="words", bits=1.4)
    runs.add("b", 2.0, seed=2, tokenizer="letters", bits=2.1)
    comparison = runs.compare("a", "b")
    (verdict,) = comparison.verdicts
    assert (comparison.figure, verdict.better, verdict.paired) == ("bits_per_byte", "a", False)
    assert any("compare bits per byte" in caution for caution in comparison.cautions)


def test_two_of_three_with_one_tokenizer_still_pair(runs: Runs) -> None:
    runs.add("a", 2.0, bits=1.4)
    runs.add("b", 2.1, seed=2, bits=1.5)
    runs.add("c", 1.0, seed=3, tokenizer="letters", bits=2.0)
    verdicts = runs.compare("a", "b", "c").verdicts
    assert [(verdict.other, verdict.figure) for verdict in verdicts] == [("b", "loss"), ("c", "bits_per_byte")]


def test_other_text_does_not_compare_at_all(runs: Runs) -> None:
    runs.add("a", content="one")
    runs.add("b", content="another")
    comparison = runs.compare("a", "b")
    assert (comparison.figure, comparison.verdicts) == ("nothing", ())
    assert [found.key for found in comparison.corpora] == ["content"]
    assert "different text" in comparison.cautions[0]


def test_another_share_for_validation_is_other_text(runs: Runs) -> None:
    runs.add("a")
    runs.add("b", corpus__validation_fraction=0.2)
    comparison = runs.compare("a", "b")
    assert comparison.figure == "nothing"
    assert [found.key for found in comparison.corpora] == ["corpus.validation_fraction"]


def test_settings_for_training_alone_leave_the_text_the_same(runs: Runs) -> None:
    runs.add("a")
    runs.add("b", corpus__random_offsets=True)
    assert runs.compare("a", "b").figure == "loss"


# What is said beside it


def test_settings_that_differ_are_listed_and_no_others(runs: Runs) -> None:
    runs.add("a")
    runs.add("b", model__d_model=64, training__weight_decay=0.2)
    found = {difference.key: difference.values for difference in runs.compare("a", "b").settings}
    assert found == {"model.d_model": (32, 64), "training.weight_decay": (small_config().training.weight_decay, 0.2)}


def test_what_was_set_by_commands_differs_too(runs: Runs) -> None:
    def command(step: int, **values: float) -> str:
        told = {"type": "command", "time": 1100.0, "command": "set", "args": values, "step": step, "done": True}
        return json.dumps(told) + "\n"

    for name, seed in (("a", 1), ("b", 2)):
        with (runs.add(name, seed=seed) / EVENTS).open("a") as file:
            file.write(command(50, patience=3) + (command(60, lr_scale=0.5) + command(80, lr_scale=0.25)) * (seed - 1))
    comparison = runs.compare("a", "b")
    told = {difference.key: difference.values for difference in comparison.settings}
    assert told.pop("lr_scale by command") == ("-", "step 60: 0.5, 80: 0.25")
    assert told == {"training.seed": (1, 2)}
    assert not any("nothing but the seed" in caution for caution in comparison.cautions)


@pytest.mark.parametrize(("begun", "rate"), [(None, 64.0), (25, 48.0)])
def test_tokens_a_second_are_those_of_all_the_time_at_work(runs: Runs, begun: int | None, rate: float) -> None:
    runs.add("a", start={"resumed_from": begun})
    runs.add("b")
    comparison = runs.compare("a", "b")
    assert comparison.runs[0].tokens_per_s == rate
    assert row(comparison, "tokens/s") == (f"{rate:g}", "64")


def test_runs_that_differ_in_the_seed_alone_show_the_noise_of_training(runs: Runs) -> None:
    runs.add("a", seed=1)
    runs.add("b", seed=2)
    assert any("nothing but the seed" in caution for caution in runs.compare("a", "b").cautions)


def test_other_differences_are_told_to_be_repeated_with_other_seeds(runs: Runs) -> None:
    runs.add("a")
    runs.add("b", training__learning_rate=0.02)
    assert any("two or three seeds" in caution for caution in runs.compare("a", "b").cautions)


def test_more_tokens_a_fork_and_a_run_at_work_are_told(runs: Runs) -> None:
    runs.add("a", steps=100)
    runs.add("b", steps=200, start={"forked_from": {"run": "a", "checkpoint": "best_model.pt", "step": 50}})
    told = " ".join(runs.compare("a", "b").cautions)
    assert "b has read 2 times as many tokens as a" in told
    assert "another run's weights: b" in told


def test_the_best_and_the_last_evaluation_are_told_apart(runs: Runs) -> None:
    directory = runs.add("a", 2.0)
    worse = {"type": "eval", "time": 1101.0, "step": 110, "split": "validation", "loss": 2.7, "tokens": 16384}
    whole = {**worse, "loss": 2.65, "whole": True}
    with (directory / EVENTS).open("a") as file:
        file.write(json.dumps(worse) + "\n" + json.dumps(whole) + "\n")
    runs.add("b")
    comparison = runs.compare("a", "b")
    assert row(comparison, "best val loss")[0].startswith("2.0000 ±")
    assert row(comparison, "at step")[0] == "100"
    assert row(comparison, "last val loss")[0] == "2.7000"
    assert row(comparison, "on the whole split") == ("2.6500", "-")
    assert row(comparison, "perplexity")[0] == f"{math.exp(2):.2f}"


def test_runs_that_cannot_be_read_are_compared_by_what_there_is(runs: Runs) -> None:
    runs.add("a")
    (runs.add("b") / "config.toml").write_text("[model")
    (runs.workspace.checkpoints / "c").mkdir()
    comparison = runs.compare("a", "b", "c")
    assert [run.run for run in comparison.runs] == ["a", "b", "c"]
    assert comparison.runs[2].best is None


@pytest.mark.parametrize(
    ("names", "told"), [(["a"], "two runs or more"), (["a", "a"], "named twice"), (["a", "x"], "There is no run 'x'")]
)
def test_what_cannot_be_compared_is_refused(runs: Runs, names: list[str], told: str) -> None:
    runs.add("a")
    with pytest.raises(UserError, match=told):
        runs.compare(*names)


@pytest.mark.parametrize("spoilt", [7, "x", [[1]], [[1, "x"]], [[0, 1.0]], [[True, 1.0]], {"a": 1}])
def test_blocks_that_nobody_of_ours_wrote_pair_with_nothing(runs: Runs, spoilt: object) -> None:
    directory = runs.add("a", told_blocks=False)
    events = [json.loads(line) for line in (directory / EVENTS).read_text().splitlines()]
    lines = [json.dumps({**event, "blocks": spoilt} if event["type"] == "eval" else event) for event in events]
    (directory / EVENTS).write_text("\n".join(lines) + "\n")
    runs.add("b")
    (verdict,) = runs.compare("a", "b").verdicts
    assert verdict.certain is None


# On one axis


@pytest.mark.parametrize(("axis", "places"), [("step", 1), ("tokens", 64), ("time", 1)])
def test_evaluations_lie_where_their_step_does(runs: Runs, axis: Any, places: int) -> None:
    curve = curve_of(digest(runs.add("a")), axis)
    np.testing.assert_allclose(curve.x, places * np.arange(10, 101, 10))
    np.testing.assert_allclose(curve.val_x[1:], curve.x)
    assert curve.validation_at(places * 20.1) == curve.val_loss[2]
    assert curve.validation_at(places * 15) is None, "between two evaluations nobody has measured"
    assert curve.validation_at(places * 110) is None


def test_shared_places_end_where_the_shortest_run_does(runs: Runs) -> None:
    curves = [curve_of(digest(runs.add(name, steps=steps)), "step") for name, steps in (("a", 200), ("b", 100))]
    places = shared_places(curves, 4)
    assert places[-1] == 100
    assert len(places) == 4
    assert all(place in curves[0].val_x for place in places)
    assert shared_places([]) == []


def evaluated(run: str, places: range) -> RunCurve:
    x = np.array(places, dtype=np.float64)
    return RunCurve(run, x, x, x, 7 - x / 100, np.full(len(x), np.nan))


@pytest.mark.parametrize("turned", [False, True])
def test_places_are_those_where_most_were_evaluated(turned: bool) -> None:
    curves = [evaluated("often", range(0, 2000, 15)), evaluated("seldom", range(0, 2001, 400))]
    places = shared_places(curves[::-1] if turned else curves)
    values = [[curve.validation_at(place) for curve in curves] for place in places]
    assert np.allclose(places, [400, 800, 1200, 1600, 1995], rtol=0.02)
    assert all(None not in row for row in values)
    assert shared_places([evaluated("short", range(0, 151, 15)), curves[1]]) == [150]
    assert curves[1].validation_at(150) is None


# The command


def run_command(runs: Runs, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workspace", default=str(runs.workspace.root))
    add_compare(parser.add_subparsers())
    return run_compare(parser.parse_args(["compare", *arguments]))


def test_the_command_prints_results_differences_and_a_verdict(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    runs.add("a", 2.0)
    runs.add("b", 2.5, seed=2, training__learning_rate=0.02)
    assert run_command(runs, "a", "b", "--by", "tokens") == 0
    told = capsys.readouterr().out
    for words in (
        "best val loss",
        "validation loss by tokens",
        "training.learning_rate",
        "a is better than b by 0.5000",
    ):
        assert words in told


def test_the_command_prints_no_loss_that_nobody_measured(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    runs.add("a", steps=150)
    seldom = runs.add("b", seed=2, steps=400)
    events = [json.loads(line) for line in (seldom / EVENTS).read_text().splitlines()]
    kept = [event for event in events if event["type"] != "eval" or event["step"] % 400 == 0]
    (seldom / EVENTS).write_text("".join(json.dumps(event) + "\n" for event in kept))
    for by in ("step", "time", "tokens"):
        assert run_command(runs, "a", "b", "--by", by) == 0
        told = capsys.readouterr().out
        told = told.partition("as far as all of them came")[2].partition("-: not evaluated near there")[0]
        (line,) = told.splitlines()[2:]
        assert line.split()[-2:] == ["2.0000", "-"]


def test_json_has_everything_for_machines(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    runs.add("a", 2.0)
    runs.add("b", 2.5, seed=2, bits=None)
    assert run_command(runs, "a", "b", "--json", "--by", "time") == 0
    told = json.loads(capsys.readouterr().out)
    assert told.keys() == {"figure", "runs", "settings", "corpora", "verdicts", "cautions", "by", "curves"}
    assert [run["best"]["loss"] for run in told["runs"]] == [2.0, 2.5]
    assert told["settings"] == [{"key": "training.seed", "values": {"a": 1, "b": 2}}]
    assert told["curves"][1]["validation"]["bits_per_byte"] == [None] * 11
    assert told["curves"][0]["x"] == list(range(10, 101, 10))
