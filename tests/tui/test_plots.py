"""What each chart shows of a run: the right figures in the right place, on every axis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.history import RunHistory
from tui.curves import plot, smoothed_loss
from tui.view import AXES, CHARTS, SMOOTHINGS, View
from tui.widgets.chart import Series
from tui.widgets.figure import Figure

Event = dict[str, Any]


def history_of(*events: Event) -> RunHistory:
    history = RunHistory(Path("/nowhere/run"))
    history.feed([json.dumps({"time": 1000.0, **event}, separators=(",", ":")).encode() for event in events])
    return history


def run(steps: int, planned: int | None = 1000, **start: Any) -> list[Event]:
    """Return a run of two seconds and 64 tokens a step, with its evaluations and readings."""
    plan = {"planned_steps": planned, "planned_tokens": None if planned is None else 64 * planned}
    events: list[Event] = [{"type": "start", **plan, **start}]
    for number in range(1, steps + 1):
        told = {"step": number, "time": 1000.0 + 2 * number, "tokens": 64 * number}
        events.append({"type": "step", **told, "loss": 1 + 2 / number, "learning_rate": 1e-3, "grad_norm": 0.5})
        if number % 10 == 0:
            loss = 1.5 + 2 / number
            events.append({"type": "eval", "split": "validation", "step": number, "time": told["time"], "loss": loss})
            events.append({"type": "device", "time": told["time"], "memory": 1e9 * number, "gpus": []})
    return events


def by_name(series: list[Series]) -> dict[str, Series]:
    return {one.name: one for one in series}


def test_the_loss_chart_has_each_step_the_smoothed_line_and_the_validation() -> None:
    series = by_name(plot("loss", history_of(*run(30)), View()).series)
    assert series.keys() == {"each step", "train", "val"}
    np.testing.assert_allclose(series["each step"].y, [1 + 2 / number for number in range(1, 31)])
    np.testing.assert_array_equal(series["val"].x, [10, 20, 30])
    np.testing.assert_allclose(series["val"].y, [1.7, 1.6, 1.5 + 2 / 30])
    assert series["val"].value == "1.567"


def test_without_smoothing_each_step_is_the_line() -> None:
    series = by_name(plot("loss", history_of(*run(30)), View(smoothing=0.0)).series)
    assert series.keys() == {"train", "val"}
    assert series["train"].y[-1] == pytest.approx(1 + 2 / 30)


def test_perplexity_is_the_exponential_of_the_loss_on_a_logarithmic_axis() -> None:
    history = history_of(*run(30))
    loss, perplexity = plot("loss", history, View()), plot("perplexity", history, View())
    for one, other in zip(loss.series, perplexity.series, strict=True):
        np.testing.assert_allclose(other.y, np.exp(one.y))
    assert perplexity.log and not loss.log


@pytest.mark.parametrize(("axis", "places"), [("step", 1), ("tokens", 64), ("time", 2)])
def test_steps_and_evaluations_lie_at_the_same_place_on_every_axis(axis: str, places: int) -> None:
    series = by_name(plot("loss", history_of(*run(30)), View(axis=axis)).series)
    np.testing.assert_allclose(series["train"].x, places * np.arange(1, 31))
    np.testing.assert_allclose(series["val"].x, places * np.array([10, 20, 30]))


def test_the_night_between_two_sessions_is_no_time_at_work() -> None:
    evening, night = run(30), 8 * 3600.0
    went_on = {"type": "start", "resumed_from": 20, "time": 1060.0 + night, "planned_steps": 1000}
    morning = [{**event, "time": event["time"] + night + 20} for event in run(40)[1:] if event.get("step", 0) > 20]
    history = history_of(*evening, went_on, *morning)
    series = by_name(plot("loss", history, View(axis="time")).series)
    # 60 seconds in the evening, of which the last 20 were for steps that were made again; 2 a step in the morning.
    expected = [2.0 * step if step <= 20 else 60 + 2.0 * (step - 20) for step in range(1, 41)]
    np.testing.assert_allclose(series["train"].x, expected)
    np.testing.assert_allclose(series["val"].x, [20, 40, 80, 100])
    np.testing.assert_allclose(history.summary.seconds, 100)


def test_the_axis_reaches_to_the_planned_end() -> None:
    history = history_of(*run(30))
    assert plot("loss", history, View()).x_limits == (0.0, 1000.0)
    assert plot("loss", history, View(axis="tokens")).x_limits == (0.0, 64000.0)
    assert plot("loss", history, View(axis="time")).x_limits is None
    assert plot("loss", history_of(*run(30, planned=None)), View()).x_limits is None


def test_a_run_beyond_its_plan_is_shown_to_its_end() -> None:
    assert plot("loss", history_of(*run(30, planned=20)), View()).x_limits == (0.0, 30.0)


@pytest.mark.parametrize("axis", AXES)
def test_the_last_fifth_is_a_fifth_of_the_way(axis: str) -> None:
    shown = plot("loss", history_of(*run(400)), View(axis=axis, recent=True))
    series = by_name(shown.series)
    assert len(series["train"].x) == pytest.approx(80, abs=1)
    assert len(series["val"].x) == pytest.approx(8, abs=1)
    assert shown.x_limits == (series["train"].x[0], series["train"].x[-1])


def test_of_a_run_thinned_out_at_its_beginning_a_fifth_is_a_fifth() -> None:
    sparse = [{"type": "step", "step": number, "loss": 2.0} for number in [*range(0, 9000, 90), *range(9000, 10_000)]]
    limits = plot("loss", history_of({"type": "start"}, *sparse), View(recent=True)).x_limits
    assert limits is not None and limits[0] == pytest.approx(8000, abs=100)


def test_a_short_run_is_shown_whole() -> None:
    assert len(by_name(plot("loss", history_of(*run(30)), View(recent=True)).series)["train"].x) == 30


def test_memory_readings_lie_at_their_steps_in_gigabytes() -> None:
    (series,) = plot("memory", history_of(*run(30)), View()).series
    np.testing.assert_array_equal(series.x, [10, 20, 30])
    np.testing.assert_array_equal(series.y, [10, 20, 30])


@pytest.mark.parametrize("name", CHARTS)
def test_before_the_first_step_a_chart_says_so(name: str) -> None:
    for history in (history_of(), history_of({"type": "start", "planned_steps": 10})):
        assert plot(name, history, View()).message


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_does_not_share_numbers_with_the_history(name: str) -> None:
    history = history_of(*run(60))
    before = history.curves._rows[:60].copy()
    for series in plot(name, history, View()).series:
        series.y[:] = -1
        series.x[:] = -1
    np.testing.assert_array_equal(history.curves._rows[:60], before)


def test_the_smoothed_loss_is_the_end_of_the_smoothed_line() -> None:
    history = history_of(*run(200))
    series = by_name(plot("loss", history, View(smoothing=0.9)).series)
    assert smoothed_loss(history, 0.9) == pytest.approx(series["train"].y[-1])


def test_the_smoothed_loss_passes_over_what_was_no_number() -> None:
    assert smoothed_loss(history_of(), 0.9) is None
    assert smoothed_loss(history_of({"type": "step", "step": 1, "loss": None}), 0.9) is None
    told = [{"type": "step", "step": 1, "loss": 2.0}, {"type": "step", "step": 2, "loss": None}]
    assert smoothed_loss(history_of(*told), 0.9) == pytest.approx(2.0)


def test_a_curve_goes_on_where_a_resumed_run_went_back_to() -> None:
    again = [{"type": "start", "resumed_from": 20}, {"type": "step", "step": 21, "loss": 9.0}]
    series = by_name(plot("loss", history_of(*run(30), *again), View(smoothing=0.0)).series)
    np.testing.assert_array_equal(series["train"].x, np.arange(1, 22))
    np.testing.assert_array_equal(series["val"].x, [10, 20])


numbers = st.none() | st.integers(-5, 100) | st.just(2**62) | st.floats(allow_nan=False) | st.text(max_size=2)
FIELDS = "time step tokens loss memory grad_norm planned_steps planned_tokens mfu"
strange = st.fixed_dictionaries(
    {"type": st.sampled_from(["start", "step", "step", "eval", "device"]), "split": st.just("validation")},
    optional=dict.fromkeys(FIELDS.split(), numbers),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(strange, max_size=12), st.booleans(), st.integers(0, 60))
def test_nothing_that_stands_in_a_file_stops_a_chart(events: list[Event], recent: bool, steps: int) -> None:
    history = history_of(*run(steps), *events)
    for name in CHARTS:
        for axis in AXES:
            shown = plot(name, history, View(axis, recent, SMOOTHINGS[1]))
            figure = Figure()
            figure.series = tuple(shown.series)
            figure.x_limits, figure.log = shown.x_limits, shown.log
            figure.prepare()
            figure.draw(40, 8)
