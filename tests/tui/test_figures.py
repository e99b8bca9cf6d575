"""A run's figures in words: what is not known is absent, and nothing that a file holds does harm."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.history import LogLine, RunHistory
from tui.figures import (
    BAD,
    GOOD,
    LOG_FILTERS,
    WARN,
    device_rows,
    evaluation_rows,
    log_rows,
    run_rows,
    short,
    state_parts,
    verdict,
)

Event = dict[str, Any]
NOW = 1_700_000_000.0
GPU = {
    "index": 0,
    "name": "NVIDIA H200",
    "uuid": "GPU-1",
    "utilisation": 97,
    "memory_used": 40e9,
    "memory_total": 140e9,
    "memory_ours": 30e9,
    "memory_others": 10e9,
    "temperature": 61,
    "power": 512.4,
    "power_cap": 700.0,
    "clock_sm": 1755,
    "clock_max": 1980,
    "throttle": ["power cap"],
    "ours": True,
    "cuda_index": 0,
}


@pytest.fixture(autouse=True)
def frozen_clock() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: NOW)
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def history_of(*events: Event) -> RunHistory:
    history = RunHistory(Path("/nowhere/run"))
    history.feed([json.dumps({"time": NOW, **event}, separators=(",", ":")).encode() for event in events])
    return history


def start(**fields: Any) -> Event:
    return {"type": "start", "planned_steps": 100, "planned_epochs": 4.0, "parameters": 1_234_567, **fields}


def step(number: int, **fields: Any) -> Event:
    return {"type": "step", "step": number, **fields}


def steady(until: int, seconds: float, planned: int) -> list[Event]:
    """Return a run whose last step was done just now."""
    events = [step(number, time=NOW - (until - number) * seconds) for number in range(1, until + 1)]
    return [start(planned_steps=planned, time=NOW - until * seconds), *events]


def evaluation(number: int, validation: float | None, train: float | None = None) -> list[Event]:
    told = [("train", train), ("validation", validation)]
    return [{"type": "eval", "split": split, "step": number, "epoch": 0.5, "loss": loss} for split, loss in told]


def texts(history: RunHistory) -> dict[str, str]:
    """Return what stands after the label of each row of the run's figures."""
    return {row.key: re.sub(r"^\S+\s+", "", row.text) for row in run_rows(history, None)}


# The run


def test_each_figure_of_a_step_is_told() -> None:
    told = step(25, epoch=1.0, tokens=2_500_000, loss=1.456, learning_rate=3e-4, grad_norm=0.51234)
    shown = texts(history_of(start(peak_source="measured"), {**told, "tokens_per_s": 51234.5, "mfu": 0.31}))
    assert "25/100" in shown["step"]
    assert "1/4" in shown["epoch"]
    assert shown["loss"] == "1.456"
    assert shown["lr"] == "3.00e-04"
    assert shown["grad_norm"] == "0.512"
    assert shown["tokens_per_s"] == "51,234"
    assert shown["mfu"] == "31% of measured"
    assert shown["tokens"] == "2.5M  2 a param"
    assert shown["parameters"] == "1,234,567"


def test_what_no_step_told_is_left_out_or_a_dash() -> None:
    shown = texts(history_of({"type": "start"}, step(1)))
    assert not {"mfu", "tokens", "epoch", "parameters", "validation", "perplexity"} & shown.keys()
    assert {shown[key] for key in ("loss", "lr", "grad_norm", "tokens_per_s")} == {"-"}


def test_no_figure_reads_nan() -> None:
    rows = run_rows(history_of(start(), step(1, loss=None, grad_norm=None, tokens_per_s=None)), None)
    assert not any("nan" in row.text or "inf" in row.text for row in rows)


def test_the_best_validation_is_told_beside_the_latest() -> None:
    shown = texts(history_of(start(), *evaluation(10, 1.25), *evaluation(20, 1.5)))
    assert shown["validation"] == "1.500  best 1.250 @10"


def test_before_the_first_steps_the_time_left_is_not_known() -> None:
    assert texts(history_of(start()))["left"] == "not known yet"


@pytest.mark.parametrize(
    ("seconds", "planned", "words"),
    [
        (1.0, 130, "30 s  until 22:13"),
        (1.0, 100 + 3600, "1 h  until 23:13"),
        (60.0, 100 + 24 * 60, "1 d  until Wed 22:13"),
        (3600.0, 100 + 24 * 30, "30 d  until 14 Dec 22:13"),
        (86400.0, 100 + 1000, "1000 d  until 10 Aug 2026"),
        (86400.0, 10**15, "more than ten years"),
    ],
)
def test_the_time_left_names_its_end(seconds: float, planned: int, words: str) -> None:
    history = history_of(*steady(100, seconds, planned), {"type": "phase", "phase": "training"})
    assert texts(history)["left"] == words


def test_the_time_left_runs_down_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    history = history_of(*steady(100, 60.0, 110), {"type": "phase", "phase": "training"})
    monkeypatch.setattr(time, "time", lambda: NOW + 45)
    assert texts(history)["left"] == "9 min 15 s  until 22:23"


def test_the_time_left_stands_still_in_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    history = history_of(*steady(100, 60.0, 110), {"type": "phase", "phase": "paused"})
    monkeypatch.setattr(time, "time", lambda: NOW + 3600)
    assert texts(history)["left"].startswith("10 min  until 23:23")


def test_of_a_run_that_is_over_its_length_is_told() -> None:
    history = history_of(start(time=NOW - 90), step(1), {"type": "end", "exit_code": 0})
    assert texts(history)["left"] == "over, after 1 min 30 s"


# Its state


@pytest.mark.parametrize(
    ("event", "text", "colour"),
    [
        ({"type": "phase", "phase": "training"}, "● training", GOOD),
        ({"type": "phase", "phase": "paused"}, "‖ paused", WARN),
        ({"type": "end", "exit_code": 0}, "✓ finished", GOOD),
        ({"type": "end", "exit_code": 3}, "■ interrupted", WARN),
        ({"type": "end", "exit_code": 1}, "✗ failed", BAD),
    ],
)
def test_a_state_has_a_word_a_sign_and_a_colour(event: Event, text: str, colour: str) -> None:
    assert state_parts(history_of(start(), event)) == [(text, colour)]


def test_a_run_at_work_that_is_silent_is_told_so() -> None:
    history = history_of(start(), {"type": "phase", "phase": "training", "time": NOW - 120})
    assert "".join(text for text, _ in state_parts(history)) == "● training silent for 2 min"


def test_a_run_that_has_no_room_to_tell_why_it_is_silent_is_spoken_for() -> None:
    history = history_of(start(), {"type": "phase", "phase": "training", "time": NOW - 120})
    told = "".join(text for text, _ in state_parts(history, disk_full=True))
    assert told == "● training silent for 2 min: the disk is full"


@pytest.mark.parametrize(
    ("notices", "words"), [(["save-failed"], " until it can write"), (["save-failed", "room-again"], "")]
)
def test_a_pause_for_want_of_room_is_told_from_one_that_was_asked_for(notices: list[str], words: str) -> None:
    told = [{"type": "notice", "severity": "error", "code": code, "message": "..."} for code in notices]
    history = history_of(start(time=NOW), *told, {"type": "phase", "phase": "paused"})
    assert "".join(text for text, _ in state_parts(history)) == f"‖ paused{words}"


def test_a_finished_run_may_be_silent() -> None:
    assert len(state_parts(history_of(start(), {"type": "end", "exit_code": 0, "time": NOW - 9999}))) == 1


def test_a_run_on_its_way_is_starting_whatever_came_before() -> None:
    history = RunHistory(Path("/nowhere/run"))
    assert state_parts(history, starting=True)[0][0] == "○ starting"


# Devices


def device(**fields: Any) -> dict[str, str]:
    rows = device_rows(history_of({"type": "device", **fields}), 80)
    return {row.key: row.text for row in rows}


def test_a_gpu_tells_all_it_can() -> None:
    shown = device(gpus=[GPU])
    assert shown["gpu"].endswith("97 %  61 °C  512/700 W")
    assert shown["gpu_memory"].endswith("40/140 GB  ours 30 GB  others 10 GB")
    assert shown["clock"].endswith("1755 of 1980 MHz  held back: power cap")


@pytest.mark.parametrize("absent", [{}, dict.fromkeys(GPU)])
def test_a_gpu_that_tells_nothing_is_not_told_to_be_idle(absent: Event) -> None:
    shown = device(gpus=[{**absent, "index": 0, "name": "NVIDIA GPU", "ours": True}])
    assert not {"gpu", "gpu_memory", "clock"} & shown.keys()


@pytest.mark.parametrize(
    ("missing", "key", "gone"),
    [
        ("utilisation", "gpu", " %"),
        ("temperature", "gpu", "°C"),
        ("power", "gpu", " W"),
        ("power_cap", "gpu", "/700"),
        ("memory_ours", "gpu_memory", "ours"),
        ("memory_others", "gpu_memory", "others"),
        ("clock_max", "clock", "1980"),
        ("throttle", "clock", "held back"),
    ],
)
def test_a_reading_that_is_missing_leaves_the_others(missing: str, key: str, gone: str) -> None:
    for told in ({name: value for name, value in GPU.items() if name != missing}, {**GPU, missing: None}):
        text = device(gpus=[told])[key]
        assert gone not in text and gone in device(gpus=[GPU])[key]


def test_nothing_at_all_is_a_reading_too() -> None:
    idle = {"index": 0, "utilisation": 0, "memory_used": 0, "memory_total": 80e9, "memory_ours": 0}
    shown = device(gpus=[idle], host={"cpu_percent": 0.0, "disk_free": 0})
    assert shown["gpu"].endswith("0 %") and "0/80 GB  ours 0 bytes" in shown["gpu_memory"]
    assert shown["cpu"].endswith("0 %") and "0 bytes free" in shown["disk"]


def test_several_gpus_are_told_apart() -> None:
    rows = device_rows(history_of({"type": "device", "gpus": [GPU, {**GPU, "index": 1}]}), 80)
    assert [row.text.split()[0] for row in rows if row.key == "gpu"] == ["gpu0", "gpu1"]


def test_the_host_tells_processor_memory_and_disk() -> None:
    host = {"cpu_percent": 42.4, "cpu_temperature": 71.0, "memory_used": 8e9, "memory_total": 16e9}
    shown = device(host={**host, "process_memory": 2e9, "disk_free": 5e11, "disk_total": 1e12}, gpus=[])
    assert shown["cpu"].endswith("42 %  71 °C")
    assert shown["ram"].endswith("8/16 GB  ours 2 GB")
    assert shown["disk"].endswith("500 GB free of 1 TB")


def test_before_the_first_reading_it_is_said_when_it_comes() -> None:
    (row,) = device_rows(history_of(start()), 80)
    assert "every 5 s" in row.text


def test_a_name_from_a_file_cannot_steer_the_terminal() -> None:
    shown = device(gpus=[{**GPU, "index": "\x1b[2J", "throttle": ["\x1b]0;x\x07", "a\nb"]}, GPU])
    assert not any(re.search(r"[\x00-\x1f]", text) for text in shown.values())
    assert "\x1b" not in texts(history_of(start(peak_source="\x1b[2J"), step(1, mfu=0.5)))["mfu"]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**300) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
gpus = st.dictionaries(st.sampled_from(sorted(GPU)), anything, max_size=6)
hosts = st.dictionaries(
    st.sampled_from(["cpu_percent", "cpu_temperature", "memory_used", "memory_total", "disk_free"]), anything
)
devices = st.fixed_dictionaries(
    {"type": st.just("device"), "gpus": st.lists(gpus, max_size=2) | anything, "host": hosts | anything}
)
FIELDS = """time step epoch tokens loss split phase planned_steps planned_epochs parameters exit_code peak_source mfu
    perplexity whole severity message learning_rate grad_norm tokens_per_s resumed_from"""
others = st.fixed_dictionaries(
    {"type": st.sampled_from(["start", "step", "eval", "phase", "notice", "end"])},
    optional=dict.fromkeys(FIELDS.split(), anything) | {"split": st.sampled_from(["train", "validation"])},
)


@settings(max_examples=40, deadline=None)
@given(st.lists(devices | others, max_size=5))
def test_nothing_that_stands_in_a_file_stops_the_figures(events: list[Event]) -> None:
    history = history_of(start(), step(1, loss=2.0), *evaluation(1, 2.0, 1.5), *events)
    rows = run_rows(history, None) + device_rows(history, 40) + evaluation_rows(history)
    rows += log_rows(list(history.log), "all")
    assert not any(re.search(r"[\x00-\x1f]", row.text) for row in rows)
    assert state_parts(history)


# Evaluations


def test_the_table_has_a_line_a_step_and_a_verdict_in_words() -> None:
    history = history_of(start(), *evaluation(0, 4.0, 4.0), *evaluation(10, 3.0, 2.9), *evaluation(20, 3.5, 2.0))
    rows = [row.text for row in evaluation_rows(history)]
    assert [row.split()[:5] for row in rows] == [
        ["0", "0.50", "4.000", "4.000", "0.00"],
        ["10", "0.50", "2.900", "3.000", "0.10"],
        ["20", "0.50", "2.000", "3.500", "1.50"],
    ]
    assert [row[33:].strip() for row in rows] == ["the start", "best yet", "by heart?"]


def test_a_look_at_the_whole_split_is_not_compared() -> None:
    whole = [{**event, "whole": True} for event in evaluation(20, 1.0)]
    assert len(evaluation_rows(history_of(start(), *evaluation(10, 2.0), *whole))) == 1


def test_without_validation_text_it_is_said_so() -> None:
    (row,) = evaluation_rows(history_of(start(), evaluation(10, None, 2.0)[0]))
    assert row.text.endswith("no validation text")


@pytest.mark.parametrize(
    ("best", "validation", "gap", "earlier_gap", "words"),
    [
        (None, None, None, None, "no validation text"),
        (None, 3.0, None, None, "the start"),
        (3.0, 2.9, 0.5, 0.1, "best yet"),
        (3.0, 3.1, 0.5, 0.1, "by heart?"),
        (3.0, 3.1, 0.1, 0.5, "no better"),
        (3.0, 3.1, None, None, "no better"),
        (3.0, 3.1, -0.1, -0.2, "no better"),
    ],
)
def test_a_verdict(
    best: float | None, validation: float | None, gap: float | None, earlier_gap: float | None, words: str
) -> None:
    assert verdict(best, validation, gap, earlier_gap)[0] == words


# The log


def test_a_log_line_is_one_line_with_a_clock_and_a_sign() -> None:
    (row,) = log_rows([LogLine(NOW, "warning", "disk\n nearly\tfull")], "all")
    assert row.text == "22:13:20 ! disk nearly full"


@pytest.mark.parametrize(
    ("chosen", "kept"),
    [
        ("all", ["start", "eval", "warning", "command", "app"]),
        ("warnings", ["warning", "command", "app"]),
        ("evaluations", ["eval", "command", "app"]),
        ("commands", ["start", "command", "app"]),
    ],
)
def test_a_filter_keeps_its_kinds_and_what_was_asked_for(chosen: str, kept: list[str]) -> None:
    lines = [LogLine(NOW, kind, kind) for kind in ("start", "eval", "warning", "command", "app")]
    assert chosen in LOG_FILTERS
    assert [row.text.split()[-1] for row in log_rows(lines, chosen)] == kept


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (999, "999"), (1234, "1.23k"), (2.5e6, "2.5M"), (1e9, "1B"), (7.77e12, "7.77T")]
)
def test_counts_in_few_characters(value: float, text: str) -> None:
    assert short(value) == text
