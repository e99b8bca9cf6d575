"""Each benchmark from end to end, at sizes that say nothing about speed."""

from __future__ import annotations

from pathlib import Path

import pytest

from minigpt.bench import BENCHES, Row, run, speedrun
from minigpt.bench.measure import Bench, Task, compare, run_process
from minigpt.bench.measure import measure as measure_tasks
from minigpt.errors import JobFailed, UserError
from minigpt.workspace import Workspace


def measured(what: str, folder: Path, text: Path | None = None) -> dict[str, Row]:
    """Run a benchmark; return its rows by name, having checked what holds for all."""
    said: list[str] = []
    rows = run(what, Workspace(folder), text, said.append, quick=True)
    assert any("1 of 1" in line for line in said)
    assert list((folder / "data").iterdir()) == [], "a benchmark leaves nothing behind"
    assert len({row.name for row in rows}) == len(rows) > 0
    for row in rows:
        assert row.name.startswith(what)
        assert 0 < row.low <= row.value <= row.high
        assert row.baseline and row.baseline_value is not None and row.baseline_value > 0
        assert row.unit
    return {row.name: row for row in rows}


@pytest.mark.slow
def test_train(tmp_path: Path) -> None:
    (row,) = measured("train", tmp_path).values()
    assert row.unit == "tokens/s"
    assert row.ratio == pytest.approx(row.value / row.baseline_value)


@pytest.mark.slow
def test_speedrun(tmp_path: Path) -> None:
    rows = measured("speedrun", tmp_path)
    tokens = rows["speedrun sample: tokens read"]
    assert tokens.value == 3 * 16 * 64
    assert tokens.baseline_value == 3 * 12 * 64
    loss = rows["speedrun sample: validation loss"]
    assert loss.ratio is None
    seconds = rows["speedrun sample: training time to the baseline's loss"]
    assert (seconds.ratio is None) == (loss.high > loss.baseline_value)


@pytest.mark.parametrize(("losses", "reached"), [((1.7, 1.8, 1.9), True), ((1.7, 1.8, 1.91), False)])
def test_a_speedrun_counts_when_every_seed_reaches_the_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: tuple[float, ...], reached: bool
) -> None:
    ours = [{"seconds": 3.0, "loss": loss, "tokens": 10} for loss in losses]
    baseline = [{"seconds": 60.0, "loss": loss, "tokens": 100} for loss in (1.88, 1.9, 1.95)]
    # The first length falls short on one seed, whatever the second does.
    short = [{"seconds": 2.0, "loss": loss, "tokens": 5} for loss in (1.8, 1.8, 2.0)]
    first, second = (str(steps) for steps in speedrun.LENGTHS)
    measured_already = {first: iter(short), second: iter(ours), "None": iter(baseline)}
    monkeypatch.setattr(
        "minigpt.bench.measure.run_process", lambda task: next(measured_already[str(task.arguments["steps"])])
    )
    seconds, loss, tokens = speedrun.rows(Bench(Workspace(tmp_path), ("x",), True, lambda line: None, quick=False))
    assert seconds.ratio == (20.0 if reached else None)
    assert ("not reached" in seconds.note) != reached
    assert (loss.value, loss.high, loss.baseline_value) == (1.8, max(losses), 1.9)
    assert tokens.ratio == 10.0


@pytest.mark.slow
def test_generate(tmp_path: Path) -> None:
    (row,) = measured("generate", tmp_path).values()
    assert row.unit == "tokens/s"
    assert "gpt2, float32" in row.name


@pytest.mark.slow
def test_prepare_makes_the_same_tokens_as_the_library(tmp_path: Path) -> None:
    text = tmp_path / "own.txt"
    text.write_text("A line of text, number 12.\n\nAnd <|endoftext|> is only text; Straße, 日本.\n" * 50)
    rows = measured("prepare", tmp_path, text)
    assert [name.split(":")[0] for name in rows] == ["prepare bpe"] * 2 + ["prepare char"] * 2
    assert [row.note for row in rows.values()] == [""] * 4


def test_an_unknown_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no benchmark 'sleep'") as refused:
        run("sleep", Workspace(tmp_path), None, print)
    assert all(what in str(refused.value) for what in BENCHES)


def test_a_missing_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no-such-file\.txt"):
        run("prepare", Workspace(tmp_path), tmp_path / "no-such-file.txt", print, quick=True)


def test_a_failing_measurement_says_why(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match=r"prepare\.ours failed.*no-such-file\.json"):
        run_process(Task("prepare.ours", {"tokenizer": str(tmp_path / "no-such-file.json"), "text": ""}))


def test_sides_take_turns_and_seeds_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    def process(task: Task) -> dict[str, int]:
        order.append((task.function, task.arguments["seed"]))
        return {"seed": task.arguments["seed"]}

    monkeypatch.setattr("minigpt.bench.measure.run_process", process)
    bench = Bench(Workspace(tmp_path), ("sample",), False, lambda line: None, quick=False)
    tasks = {"ours": Task("a", {"seed": 4}), "baseline": Task("b", {"seed": 7})}
    results = measure_tasks(bench, "name", tasks, repeats=2)
    assert order == [("a", 4), ("b", 7), ("a", 5), ("b", 8)]
    assert results == {"ours": [{"seed": 4}, {"seed": 5}], "baseline": [{"seed": 7}, {"seed": 8}]}


def test_a_row_holds_medians_extremes_and_how_much_better_ours_is() -> None:
    ours, baseline = [{"s": 4.0}, {"s": 2.0}, {"s": 3.0}], [{"s": 30.0}, {"s": 40.0}, {"s": 20.0}]
    faster = compare("name", "s", "s", ours, baseline, baseline_name="other", less_is_better=True)
    assert faster == Row(
        name="name", unit="s", value=3.0, low=2.0, high=4.0, baseline="other", baseline_value=30.0,
        baseline_low=20.0, baseline_high=40.0, ratio=10.0,
    )  # fmt: skip
    assert compare("name", "MB/s", "s", ours, baseline).ratio == pytest.approx(0.1)
