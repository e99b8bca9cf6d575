"""Curves: every step while there is room, later the extremes; nothing of what a run took back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt import curves as curves_module
from minigpt.curves import Curves, decode_steps

Event = dict[str, Any]


def line(step: int, loss: float | None = 2.0, **fields: Any) -> bytes:
    event = {"type": "step", "time": 1000.0 + step, "step": step, "loss": loss, **fields}
    return json.dumps(event, separators=(",", ":")).encode()


def steps_of(curves: Curves) -> list[int]:
    return [int(step) for step in curves["step"]]


def replay(events: list[Event]) -> dict[int, Event]:
    """Fold steps as a person would: a step that comes again takes back all from there on."""
    kept: dict[int, Event] = {}
    for event in events:
        kept = {step: old for step, old in kept.items() if step < event["step"]} | {event["step"]: event}
    return kept


def test_each_figure_is_a_column() -> None:
    curves = Curves()
    curves.extend([line(1, 3.5, learning_rate=0.1, grad_norm=2.0, tokens=64), line(2, 3.25, tokens=128, mfu=0.5)])
    assert len(curves) == 2
    np.testing.assert_array_equal(curves["step"], [1, 2])
    np.testing.assert_array_equal(curves["loss"], [3.5, 3.25])
    np.testing.assert_array_equal(curves["tokens"], [64, 128])
    np.testing.assert_array_equal(curves["time"], [1001.0, 1002.0])


def test_what_a_step_does_not_tell_is_absent_and_not_zero() -> None:
    curves = Curves()
    curves.extend([line(1, None), line(2, 3.0, mfu=0.25)])
    np.testing.assert_array_equal(curves["loss"], [np.nan, 3.0])
    np.testing.assert_array_equal(curves["mfu"], [np.nan, 0.25])
    np.testing.assert_array_equal(curves["grad_norm"], [np.nan, np.nan])


def test_the_last_that_made_sense_is_returned() -> None:
    curves = Curves()
    assert curves.extend([]) is None
    last = curves.extend([line(1), line(2, 1.5), b'{"type":"step","ti'])
    assert last is not None and (last.step, last.loss) == (2, 1.5)
    assert curves.extend([b"rubbish"]) is None


rubbish = st.sampled_from(
    [
        b"",
        b'{"type":"step",',
        b'{"type":"step","time":1,"step":5,"loss":4.1',
        b'{"type":"step","time":1,"step":-3}',
        b'{"type":"step","time":1,"step":1' + b"0" * 400 + b"}",
        b'{"type":"step","time":1e300,"step":6}',
        b'{"type":"step","time":1,"step":6.5}',
        b'{"type":"step","time":1,"step":true}',
        b'{"type":"step","time":1,"step":7,"loss":"low"}',
        b'{"type":"step","time":1,"step":8},{"type":"step","time":1,"step":9}',
        b'{"type":"step","time":1,"step":8,"loss":[{"a":1}',
        b'{"type":"step","x":' + b"[" * 3000,
        b"\xff\xfe\x00",
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30).map(line) | rubbish, max_size=25), st.data())
def test_in_whatever_parts_lines_come_the_good_ones_count(lines: list[bytes], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(lines)), max_size=4)))
    curves = Curves()
    for begin, end in zip([0, *cuts], [*cuts, len(lines)], strict=True):
        curves.extend(lines[begin:end])
    events = []
    for one in lines:
        try:
            event = json.loads(one)
        except (ValueError, RecursionError):
            continue
        good = type(event["step"]) is int and 0 <= event["step"] < 2**53 and event["time"] < 1e11
        if good and not isinstance(event.get("loss"), str):
            events.append(event)
    assert steps_of(curves) == list(replay(events))


def test_a_step_that_comes_again_takes_the_place_of_all_from_there_on() -> None:
    curves = Curves()
    curves.extend([line(step, 3.0) for step in range(1, 11)])
    curves.extend([line(6, 1.0), line(7, 1.0)])
    assert steps_of(curves) == [1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_array_equal(curves["loss"][-2:], [1.0, 1.0])


def test_discarding_keeps_the_step_itself() -> None:
    curves = Curves()
    curves.extend([line(step) for step in (2, 4, 6, 8)])
    curves.discard_after(5)
    assert steps_of(curves) == [2, 4]
    curves.discard_after(4)
    assert steps_of(curves) == [2, 4]
    curves.discard_after(0)
    assert len(curves) == 0


def test_steps_in_disorder_within_one_part() -> None:
    assert [figures.step for figures in decode_steps([line(3), line(4), line(2), line(5)])] == [2, 5]


def test_a_long_run_stays_bounded_and_keeps_its_spikes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves_module, "MAX_ROWS", 2500)
    curves, steps, part = Curves(), 80_000, 800
    told = {13_457: 9.5, 40_002: 8.25, 79_999: 7.0, 26_001: 0.125}
    template = b'{"type":"step","time":%d,"step":%d,"loss":%s}'
    for begin in range(1, steps, part):
        numbers = range(begin, begin + part)
        curves.extend([template % (1000 + step, step, b"%.3f" % told.get(step, 2.0)) for step in numbers])
        assert len(curves) <= 2500
        assert curves["step"][-1] == numbers[-1]
    assert told.items() <= dict(zip(steps_of(curves), curves["loss"].tolist(), strict=True)).items()
    # Nowhere a hole that would show: no more than a column of the widest screen, the beginning included.
    assert np.diff(curves["step"], prepend=0).max() < steps / 300


@pytest.fixture
def small_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves_module, "MAX_ROWS", 20)


@pytest.mark.usefixtures("small_room")
def test_a_loss_that_is_no_number_does_not_hide_the_spike_beside_it() -> None:
    curves = Curves()
    told = {5: 50.0, 6: None, 7: 1.0}
    curves.extend([line(step, told.get(step, 2.0)) for step in range(1, 22)])
    assert 50.0 in curves["loss"]


@pytest.mark.usefixtures("small_room")
@pytest.mark.parametrize("count", range(19, 30))
def test_the_first_and_the_last_step_are_always_there(count: int) -> None:
    curves = Curves()
    curves.extend([line(step, 5.0 - step / 100) for step in range(1, count + 1)])
    assert (steps_of(curves)[0], steps_of(curves)[-1]) == (1, count)


@pytest.mark.usefixtures("small_room")
def test_however_much_comes_at_once_it_is_bounded() -> None:
    curves = Curves()
    curves.extend([line(step) for step in range(1, 1000)])
    assert len(curves) <= 20


@pytest.mark.usefixtures("small_room")
def test_a_run_of_nothing_but_nan_is_thinned_out_too() -> None:
    curves = Curves()
    curves.extend([line(step, None) for step in range(1, 100)])
    assert 2 <= len(curves) <= 20
    assert np.isnan(curves["loss"]).all()
