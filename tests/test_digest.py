"""Digests: a run in few numbers, the same whether read at once, in parts, or from what was kept beside the run."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt import digest as digests
from minigpt.digest import MAX_EVALUATIONS, MAX_ROWS, RunDigest, digest
from minigpt.jobs import EVENTS
from minigpt.runs import known, list_runs, set_note, summarise
from minigpt.workspace import Workspace

Event = dict[str, Any]
KEPT = (".digest-curves", ".digest-summary")


@pytest.fixture
def always_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep digests of short runs too."""
    monkeypatch.setattr(digests, "WORTH_KEEPING_BYTES", 1)
    monkeypatch.setattr(known, "WORTH_KEEPING_BYTES", 1)


def start(resumed_from: int | None = None, time: float = 1000.0, **more: Any) -> Event:
    return {"type": "start", "time": time, "resumed_from": resumed_from, "planned_steps": 100, **more}


def step(number: int, loss: float | None = 2.0, **more: Any) -> Event:
    return {"type": "step", "time": 1000.0 + number, "step": number, "tokens": 64 * number, "loss": loss, **more}


def evaluation(number: int, loss: float, split: str = "validation") -> Event:
    return {
        "type": "eval",
        "time": 1000.0 + number,
        "split": split,
        "step": number,
        "loss": loss,
        "blocks": [[9, loss]],
    }


def write(directory: Path, *events: Event, spaced: bool = False) -> Path:
    """Append events as the trainer does (without spaces), or as somebody else may."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / EVENTS).open("a") as file:
        file.writelines(json.dumps(event, separators=None if spaced else (",", ":")) + "\n" for event in events)
    return directory


def same(one: RunDigest, other: RunDigest) -> bool:
    columns = ("step", "tokens", "seconds", "loss")
    alike = all(
        np.array_equal(getattr(one.curves, name), getattr(other.curves, name), equal_nan=True) for name in columns
    )
    # The files that are kept take room themselves.
    summaries = [replace(told.summary, disk_bytes=None) for told in (one, other)]
    return alike and one.evaluations == other.evaluations and summaries[0] == summaries[1]


def afresh(directory: Path) -> RunDigest:
    """Return the digest that is made where nothing was kept."""
    for name in KEPT:
        (directory / name).unlink(missing_ok=True)
    found = digest(directory)
    for name in KEPT:
        (directory / name).unlink(missing_ok=True)
    return found


@pytest.mark.parametrize("spaced", [False, True])
def test_a_short_run_is_told_step_by_step(tmp_path: Path, spaced: bool) -> None:
    write(tmp_path, start(), *(step(n, 1 / n) for n in range(1, 9)), evaluation(8, 0.5), spaced=spaced)
    found = digest(tmp_path)
    assert found.curves.step.tolist() == list(range(1, 9))
    assert found.curves.tokens.tolist() == [64.0 * n for n in range(1, 9)]
    assert found.curves.seconds.tolist() == [float(n) for n in range(1, 9)]
    assert found.curves.loss.tolist() == [1 / n for n in range(1, 9)]
    assert [event["blocks"] for event in found.evaluations] == [[[9, 0.5]]]


def test_a_long_run_keeps_its_spikes(tmp_path: Path) -> None:
    rng = random.Random(1)
    losses = {n: 2 + rng.random() for n in range(1, 50_001)}
    losses[31_234], losses[777] = 9.5, 0.25
    write(tmp_path, start(), *(step(n, loss) for n, loss in losses.items()))
    curve = digest(tmp_path).curves
    assert MAX_ROWS / 2 < len(curve.step) <= MAX_ROWS
    assert (curve.step[0], curve.step[-1]) == (1, 50_000)
    told = dict(zip(curve.step.tolist(), curve.loss.tolist(), strict=True))
    assert (told[31_234], told[777]) == (9.5, 0.25)
    assert all(losses[int(n)] == loss for n, loss in told.items()), "every point is a step that was"


def test_seconds_are_those_at_work_without_the_nights_between(always_kept: None, tmp_path: Path) -> None:
    heartbeat = {"type": "phase", "phase": "training", "time": 1004.0}
    waiting = {"type": "phase", "phase": "waiting", "time": 4990.0}
    write(tmp_path, start(), step(1), step(2), heartbeat, waiting, start(resumed_from=2, time=5000.0))
    found = digest(tmp_path)
    assert found.curves.seconds.tolist() == [1.0, 2.0]
    write(tmp_path, {**step(3), "time": 5001.0}, {"type": "end", "time": 5002.0, "exit_code": 3})
    write(tmp_path, start(resumed_from=3, time=9000.0), {**step(4), "time": 9007.0})
    found = digest(tmp_path)
    assert found.curves.seconds.tolist() == [1.0, 2.0, 5.0, 13.0]
    assert found.summary.seconds == 13.0


def test_what_was_set_on_the_way_is_told_until_it_is_gone_back_behind(always_kept: None, tmp_path: Path) -> None:
    def command(number: int, done: bool = True, **args: Any) -> Event:
        return {"type": "command", "command": "set", "args": args, "step": number, "done": done, "time": 1001.0}

    write(tmp_path, start(), step(1), command(1, lr_scale=0.5), command(1, False, lr_scale=-1), step(2))
    write(tmp_path, command(2, max_steps=9), {"type": "command", "command": "pause", "done": True, "step": 2})
    assert [event["args"] for event in digest(tmp_path).steering] == [{"lr_scale": 0.5}, {"max_steps": 9}]
    write(tmp_path, start(resumed_from=1), command(1, lr_scale=0.5))
    assert digest(tmp_path).steering == [{"step": 1, "args": {"lr_scale": 0.5}}]


def test_what_was_gone_back_behind_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, start(), step(1, 5.0), step(2, 4.0), evaluation(1, 5.0), evaluation(2, 4.0))
    write(tmp_path, start(resumed_from=1), step(2, 3.0))
    found = digest(tmp_path)
    assert found.curves.loss.tolist() == [5.0, 3.0]
    assert [event["step"] for event in found.evaluations] == [1]


def test_of_many_evaluations_the_best_and_the_last_stay(tmp_path: Path) -> None:
    splits = ("train", "validation")
    events = [evaluation(n, 0.5 if n == 701 else 1 + 1 / n, split) for n in range(1, 2501) for split in splits]
    write(tmp_path, start(), *events)
    found = digest(tmp_path).evaluations
    steps = [event["step"] for event in found]
    assert len(found) <= MAX_EVALUATIONS
    assert {701, 2500} <= set(steps)
    assert steps == sorted(steps)
    assert steps[0] < 10


def test_the_parts_of_an_evaluation_stay_where_they_are_looked_at(tmp_path: Path) -> None:
    write(tmp_path, start(), *(evaluation(n, loss) for n, loss in enumerate([5.0, 4.0, 2.0, 3.0, 3.5])))
    write(tmp_path, evaluation(4, 9.0, "train"), {**evaluation(4, 1.0), "whole": True})
    found = [
        (event["split"], event["step"], event["loss"]) for event in digest(tmp_path).evaluations if "blocks" in event
    ]
    assert found == [("validation", 2, 2.0), ("validation", 4, 3.5), ("train", 4, 9.0), ("validation", 4, 1.0)]


def test_a_run_without_events_has_an_empty_digest(tmp_path: Path) -> None:
    found = digest(tmp_path)
    assert len(found.curves.step) == 0
    assert (found.evaluations, found.summary.state) == ([], "empty")


def test_strange_lines_do_not_stop_a_digest(tmp_path: Path) -> None:
    write(tmp_path, start(), step(1), step(2, None))
    with (tmp_path / EVENTS).open("a") as file:
        file.write('{"type":"step","step":-1,"time":1,"loss":1}\n{"type":"step","step":"x"}\n\x00\xff{]\n')
        file.write('{"type":"eval","step":"x","loss":[]}\n{"type":"start","time":"x","resumed_from":2}\n')
    write(tmp_path, step(4), step(3), step(5))
    found = digest(tmp_path)
    assert found.curves.step.tolist() == [1, 2, 3, 5]
    assert np.isnan(found.curves.loss[1])


# What is kept


def long_story(rng: random.Random) -> list[Event]:
    """Return the events of a run with steps, evaluations and sessions that go back."""
    events, now = [start()], 0
    for _ in range(rng.randrange(2, 8)):
        for _ in range(rng.randrange(1, 40)):
            now += 1
            events.append(step(now, rng.random()))
            if rng.random() < 0.2:
                events.append(evaluation(now, rng.random()))
        now = rng.randrange(now + 1)
        events.append(start(resumed_from=now) if rng.random() < 0.8 else {"type": "end", "time": 1.0, "exit_code": 3})
    return events


@pytest.mark.parametrize("seed", range(25))
def test_read_in_parts_is_read_at_once(always_kept: None, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    data = (write(tmp_path / "whole", *long_story(rng)) / EVENTS).read_bytes()
    position = 0
    while position < len(data):
        part = data[position : position + rng.randrange(1, 2000)]  # it may end within a line
        position += len(part)
        with (tmp_path / EVENTS).open("ab") as file:
            file.write(part)
        digest(tmp_path)
    parted = digest(tmp_path)
    assert all((tmp_path / name).is_file() for name in KEPT)
    assert same(parted, afresh(tmp_path))


def rewrite_silently(directory: Path) -> None:
    """Change a loss within the events so that no size and no date tells."""
    path = directory / EVENTS
    before = path.stat()
    middle = b'"loss":7.5}'
    data = path.read_bytes()
    assert middle in data
    with path.open("r+b") as file:
        file.seek(data.index(middle))
        file.write(b'"loss":3.5}')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def story_with_a_landmark(directory: Path) -> Path:
    steps = [step(n) for n in range(1, 301)]
    steps[150] = step(151, 7.5)
    # The landmark lies beyond the beginning and before the end of the file.
    return write(directory, start(), *steps)


def test_the_second_time_nothing_is_read_again(always_kept: None, tmp_path: Path) -> None:
    story_with_a_landmark(tmp_path)
    digest(tmp_path)
    rewrite_silently(tmp_path)
    assert digest(tmp_path).curves.loss.max() == 7.5
    assert afresh(tmp_path).curves.loss.max() == 3.5


def test_an_edited_history_is_read_anew(always_kept: None, tmp_path: Path) -> None:
    story_with_a_landmark(tmp_path)
    digest(tmp_path)
    rewrite_silently(tmp_path)
    os.utime(tmp_path / EVENTS)
    assert digest(tmp_path).curves.loss.max() == 3.5


@pytest.mark.parametrize("longer", [False, True])
def test_a_history_put_in_the_place_of_another_is_read_anew(always_kept: None, tmp_path: Path, longer: bool) -> None:
    story_with_a_landmark(tmp_path)
    digest(tmp_path)
    other = write(tmp_path / "other", start(), *(step(n, 4.0) for n in range(1, 900 if longer else 5)))
    (other / EVENTS).replace(tmp_path / EVENTS)
    found = digest(tmp_path)
    assert (found.curves.loss.max(), found.summary.last_loss) == (4.0, 4.0)


def test_what_was_kept_and_is_damaged_is_made_anew(always_kept: None, tmp_path: Path) -> None:
    story_with_a_landmark(tmp_path)
    digest(tmp_path)
    for damage in (b"", b"\x00" * 50, os.urandom(500), b"\x95\x01"):
        for name in KEPT:
            (tmp_path / name).write_bytes(damage)
        assert digest(tmp_path).curves.loss.max() == 7.5
    for name in KEPT:  # whole, but cut in the middle of its numbers
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-7])
    assert digest(tmp_path).curves.loss.max() == 7.5


def test_where_nothing_can_be_kept_all_is_read(always_kept: None, tmp_path: Path) -> None:
    story_with_a_landmark(tmp_path)
    for name in KEPT:
        (tmp_path / name).mkdir()
    assert digest(tmp_path).curves.loss.max() == 7.5
    assert sorted(path.name for path in tmp_path.iterdir()) == [*KEPT, EVENTS]


def test_numbers_beyond_measure_are_not_kept_and_do_no_harm(always_kept: None, tmp_path: Path) -> None:
    write(tmp_path, start(), {"type": "eval", "step": 1, "loss": 1.0, "strange": 10**30}, step(1))
    assert same(digest(tmp_path), digest(tmp_path))


def test_a_short_history_leaves_no_files_behind(tmp_path: Path) -> None:
    write(tmp_path, start(), step(1))
    digest(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [EVENTS]


def test_listing_uses_what_was_kept_and_sees_what_came_since(always_kept: None, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    directory = write(workspace.checkpoints / "one", start(), step(1), evaluation(1, 3.0))
    assert list_runs(workspace)[0].best_val_loss == 3.0
    write(directory, step(2), evaluation(2, 2.5))
    set_note(directory, "seen")
    (listed,) = list_runs(workspace)
    assert (listed.step, listed.best_val_loss, listed.note) == (2, 2.5, "seen")
    renamed = directory.rename(directory.with_name("two"))
    assert summarise(renamed).run == "two"
