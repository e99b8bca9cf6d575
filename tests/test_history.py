"""A run's history: what a plain reading of the file gives, whatever stands in it and however it comes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt import history as history_module
from minigpt.events import EVENTS, sample_lines
from minigpt.history import RunHistory

Event = dict[str, Any]


def event(type: str, time: float = 1000.0, **fields: Any) -> Event:
    return {"type": type, "time": time, **fields}


def start(resumed_from: int | None = None, planned: int = 100, **fields: Any) -> Event:
    return event("start", planned_steps=planned, parameters=42, resumed_from=resumed_from, **fields)


def step(number: int, loss: float | None = 2.0, **fields: Any) -> Event:
    return event("step", 1000.0 + number, step=number, loss=loss, tokens=64 * number, **fields)


def sample(number: int, prompt: str = "The cat", text: str = " sat") -> Event:
    return event("sample", 1000.0 + number, step=number, prompt=prompt, text=text)


def encoded(*events: Event) -> list[bytes]:
    return [json.dumps(one, separators=(",", ":")).encode() for one in events]


def write(directory: Path, *events: Event) -> Path:
    """Append events as our trainer does."""
    directory.mkdir(exist_ok=True)
    with (directory / EVENTS).open("ab") as file:
        file.write(b"".join(line + b"\n" for line in encoded(*events)))
    return directory


def read(directory: Path) -> RunHistory:
    history = RunHistory(directory)
    while history.read():
        pass
    return history


def fed(*events: Event) -> RunHistory:
    history = RunHistory(Path("/nowhere/run"))
    history.feed(encoded(*events))
    return history


def steps_of(history: RunHistory) -> list[int]:
    return [int(number) for number in history.curves["step"]]


# What is told


def test_a_history_is_what_a_plain_reading_of_the_file_gives(tmp_path: Path) -> None:
    story: list[Event] = [start()]
    for number in range(1, 91):
        story.append(step(number, 4 - number / 50))
        if number % 10 == 0:
            story += [event("eval", split="validation", step=number, loss=5 - number / 40), sample(number)]
            story += [event("checkpoint", path="best_model.pt", step=number, kind="best")]
            story += [event("device", memory=1e9 + number, gpus=[])]
        if number == 60:
            story += [event("end", exit_code=3, reason="stop"), start(resumed_from=45), step(46, 9.0)]
    write(tmp_path, *story)

    kept: list[Event] = []
    for line in (tmp_path / EVENTS).read_text().splitlines():
        told = json.loads(line)
        if told["type"] == "start":
            beyond = told["resumed_from"] or 0
            kept = [old for old in kept if old.get("step", 0) <= beyond]
        if told["type"] == "step":
            kept = [old for old in kept if old["type"] != "step" or old["step"] < told["step"]]
        kept.append(told)
    losses = {told["step"]: told["loss"] for told in kept if told["type"] == "step"}
    validation = {told["step"]: told["loss"] for told in kept if told["type"] == "eval"}
    history = read(tmp_path)
    assert dict(zip(steps_of(history), history.curves["loss"].tolist(), strict=True)) == losses
    assert [shown.step for shown in history.samples] == [told["step"] for told in kept if told["type"] == "sample"]
    assert {told["step"]: told["loss"] for told in history.summary.evaluations} == validation
    assert history.summary.best_val_loss == min(validation.values())
    assert history.summary.step == max(losses)
    assert history.device["memory"] == 1e9 + 90


def test_going_back_takes_back_curves_samples_and_memory_readings() -> None:
    history = fed(
        start(),
        *map(step, range(1, 11)),
        sample(10),
        event("device", memory=1e9),
        *map(step, range(11, 21)),
        sample(20),
        event("device", memory=2e9),
        start(resumed_from=10),
    )
    assert steps_of(history) == list(range(1, 11))
    assert [shown.step for shown in history.samples] == [10]
    assert [reading[0] for reading in history.memory] == [10]


def test_a_fresh_start_in_the_same_directory_begins_at_nothing() -> None:
    history = fed(start(), sample(0), step(1), step(2), event("device", memory=1.0), start())
    assert (len(history.curves), history.samples, history.memory) == (0, [], [])


def test_the_scale_of_the_rate_is_that_of_the_step_gone_back_to() -> None:
    def scale(number: int, value: float, done: bool = True) -> Event:
        return event("command", command="set", args={"lr_scale": value}, step=number, done=done)

    history = fed(start(), scale(10, 0.5), scale(12, 9.0, done=False), scale(30, 0.25))
    assert history.lr_scale == 0.25
    history.feed(encoded(start(resumed_from=20)))
    assert history.lr_scale == 0.5
    history.feed(encoded(start()))
    assert history.lr_scale == 1.0


def test_the_time_left_follows_from_a_file_read_at_once(tmp_path: Path) -> None:
    story, now = [start(planned=1000)], 1000.0
    for number in range(1, 501):
        now += 0.5
        story.append(step(number) | {"time": now})
        if number % 50 == 0:
            now += 10.0
            story.append(event("eval", now, split="validation", step=number, loss=2.0))
    history = read(write(tmp_path, *story))
    assert history.pace.seconds_left == pytest.approx(500 * 0.5 + 10 * 10.0, rel=0.05)


def test_the_log_tells_what_a_person_would_want_to_know() -> None:
    history = fed(
        start(),
        step(1),
        event("notice", severity="warning", code="c", message="disk\x1b[31m nearly full"),
        event("command", command="pause", step=1, done=True),
        event("phase", phase="paused", changed=True),
        event("phase", phase="paused"),
        event("device", memory=1.0),
        event("end", exit_code=0, reason="finished"),
    )
    assert [line.kind for line in history.log] == ["start", "warning", "command", "phase", "end"]
    assert "disk\\x1b[31m nearly full" in history.log[1].text


def test_what_a_model_wrote_cannot_steer_the_terminal() -> None:
    (shown,) = fed(start(), sample(1, "\x1b]0;x\x07", "\x1b[2Jline\nnext")).samples
    assert (shown.prompt, shown.text) == ("\\x1b]0;x\\x07", "\\x1b[2Jline\nnext")


# A file as it grows


def test_a_line_is_taken_in_when_it_is_whole(tmp_path: Path) -> None:
    lines = b"\n".join(encoded(start(), step(1), step(2))) + b"\n"
    path, history = tmp_path / EVENTS, RunHistory(tmp_path)
    path.write_bytes(lines[:-20])
    history.read()
    assert steps_of(history) == [1]
    path.write_bytes(lines)
    history.read()
    assert steps_of(history) == [1, 2]


def test_a_history_without_a_file_waits_for_it(tmp_path: Path) -> None:
    history = RunHistory(tmp_path / "run")
    assert history.read() is False
    write(tmp_path / "run", start(), step(1))
    history.read()
    assert history.summary.step == 1


def test_a_replaced_file_is_another_story(tmp_path: Path) -> None:
    history = read(write(tmp_path, start(), *map(step, range(1, 30)), sample(29)))
    (tmp_path / EVENTS).unlink()
    history.read()
    assert len(history.curves) == 0
    write(tmp_path, start(), step(1))
    history.read()
    assert (steps_of(history), history.samples, len(history.log)) == ([1], [], 1)


def test_a_file_that_was_a_directory_for_a_while_is_read_anew(tmp_path: Path) -> None:
    history = read(write(tmp_path, start(), *map(step, range(1, 30)), sample(29)))
    (tmp_path / EVENTS).unlink()
    (tmp_path / EVENTS).mkdir()
    for _ in range(2):
        with pytest.raises(OSError):
            history.read()
    (tmp_path / EVENTS).rmdir()
    write(tmp_path, start(), step(1))
    history.read()
    assert (steps_of(history), history.samples, len(history.log)) == ([1], [], 1)


def test_steps_that_somebody_wrote_with_spaces_count_too() -> None:
    history = RunHistory(Path("/nowhere/run"))
    history.feed([json.dumps(one).encode() for one in (start(), step(1, 3.0), step(2, 2.5))])
    np.testing.assert_array_equal(history.curves["loss"], [3.0, 2.5])
    assert history.summary.last_loss == 2.5


# Bounds


def test_memory_is_bounded_and_how_it_began_stays_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "MAX_READINGS", 300)
    monkeypatch.setattr(history_module, "MAX_SAMPLES", 100)
    monkeypatch.setattr(history_module, "MAX_LOG_LINES", 500)
    history = RunHistory(Path("/nowhere/run"))
    history.feed(encoded(start()))
    for number in range(800):
        told = [sample(number, "one"), sample(number, "two"), event("device", memory=float(number))]
        history.feed(encoded(*told, event("notice", severity="info", message=str(number))))
        assert len(history.samples) <= 100 and len(history.memory) <= 300
    assert len(history.log) == 500
    assert history.logged == 801
    for prompt in ("one", "two"):
        mine = [shown.step for shown in history.samples if shown.prompt == prompt]
        assert (mine[0], mine[-1]) == (0, 799)
        assert sum(number < 400 for number in mine) > 15
    readings = [reading[2] for reading in history.memory]
    assert (readings[0], readings[-1]) == (0.0, 799.0)
    assert max(np.diff(readings)) <= 8


def test_an_endless_text_is_cut() -> None:
    (shown,) = fed(start(), sample(1, text="x" * 1_000_000)).samples
    assert len(shown.text) < 100_000


# A look at a long file


def long_story(steps: int) -> list[Event]:
    story = [start(planned=2 * steps, environment="x" * 3000)]
    for number in range(1, steps + 1):
        loss = 1.5 + 8 * float(np.exp(-number / 500)) + (20.0 if number == steps // 2 else 0.0)
        story.append(step(number, round(loss, 4)))
        if number % 500 == 0:
            story.append(event("eval", 1000.0 + number, split="validation", step=number, loss=2.0))
    return story


def test_a_preview_is_close_to_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "PREVIEW_LINES", 400)
    steps = 20_000
    write(tmp_path, *long_story(steps))
    preview, whole = RunHistory.preview(tmp_path), read(tmp_path)
    assert preview.summary.step == whole.summary.step == steps
    assert preview.summary.planned_steps == 2 * steps
    assert 300 < len(preview.curves) < 2000
    assert np.diff(preview.curves["step"], prepend=0).max() <= steps / 150
    exact = np.interp(preview.curves["step"], whole.curves["step"], whole.curves["loss"])
    np.testing.assert_allclose(preview.curves["loss"], exact)
    assert preview.pace.seconds_left == pytest.approx(whole.pace.seconds_left, rel=0.05)


def test_a_preview_does_not_take_an_earlier_end_for_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "PREVIEW_LINES", 100)
    ends = [event("end", exit_code=3, reason="stop")] * 20
    write(tmp_path, start(), *map(step, range(1, 1000)), *ends, start(resumed_from=999), *map(step, range(1000, 3000)))
    assert RunHistory.preview(tmp_path).summary.state == "starting"


def test_only_a_long_file_is_worth_a_preview(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not RunHistory(tmp_path).long
    write(tmp_path, start(), *map(step, range(1, 100)))
    assert not RunHistory(tmp_path).long
    monkeypatch.setattr(history_module, "PREVIEW_ABOVE_BYTES", 1000)
    assert RunHistory(tmp_path).long


def test_a_preview_of_rubbish_is_empty(tmp_path: Path) -> None:
    (tmp_path / EVENTS).write_bytes(bytes(range(256)) * 100)
    assert len(RunHistory.preview(tmp_path).curves) == 0
    (tmp_path / EVENTS).write_bytes(b"")
    assert len(RunHistory.preview(tmp_path).curves) == 0


def test_sampled_lines_are_whole_in_order_and_evenly_spread(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"".join(b"%d %s\n" % (number, b"x" * (number % 90)) for number in range(10_000)))
    found = [line.split(b" ") for line in sample_lines(path, 100)]
    numbers = [int(number) for number, _ in found]
    assert all(text == b"x" * (int(number) % 90) for number, text in found)
    assert len(numbers) == 100 and numbers[0] == 0
    assert max(np.diff(numbers)) < 150 and min(np.diff(numbers)) > 50


def test_a_file_that_is_not_there_has_no_lines_to_sample(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sample_lines(tmp_path / "missing", 10)


# Hostile files

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**300) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
kinds = st.sampled_from(
    ["start", "step", "eval", "sample", "checkpoint", "phase", "notice", "command", "end", "device"]
)
FIELDS = """
    time step epoch tokens loss split path kind phase changed planned_steps planned_tokens resumed_from exit_code
    reason command done args memory gpus host severity message why prompt text perplexity parameters device"""
names = st.sampled_from(FIELDS.split())
arguments = st.fixed_dictionaries(
    {"command": st.just("set"), "done": st.just(True), "args": st.dictionaries(st.just("lr_scale"), anything)}
)
strange = st.tuples(kinds, st.dictionaries(names, anything, max_size=8), st.just({}) | arguments).map(
    lambda parts: json.dumps({"type": parts[0], **parts[1], **parts[2]}, separators=(",", ":")).encode()
)
rubbish = st.binary(max_size=20) | st.sampled_from([b"[" * 3000, b"{}", b"null", b'{"type":[]}', b'{"a":' * 500])


@settings(max_examples=60, deadline=None)
@given(st.lists(strange | rubbish, max_size=8))
def test_no_line_however_strange_stops_a_history(lines: list[bytes]) -> None:
    history = fed(start(), step(1), step(2))
    history.feed([line for whole in lines for line in whole.split(b"\n")])
    history.feed(encoded(start(), step(3)))
    assert history.summary.step == 3
    assert all(0 <= line.time < 1e11 and "\x1b" not in line.text for line in history.log)
    assert history.lr_scale == 1.0


@settings(max_examples=20, deadline=None)
@given(st.lists(strange | rubbish | st.integers(0, 30).map(lambda n: encoded(step(n))[0]), max_size=8))
def test_reading_in_whatever_parts_gives_the_same(lines: list[bytes]) -> None:
    at_once = RunHistory(Path("/nowhere/run"))
    at_once.feed([part for line in lines for part in line.split(b"\n")])
    with tempfile.TemporaryDirectory() as folder:
        bit_by_bit = RunHistory(Path(folder))
        for line in lines:
            with (Path(folder) / EVENTS).open("ab") as file:
                file.write(line + b"\n")
            bit_by_bit.read()
        bit_by_bit.close()
    assert steps_of(bit_by_bit) == steps_of(at_once)
    assert bit_by_bit.summary.evaluations == at_once.summary.evaluations
    assert (bit_by_bit.samples, list(bit_by_bit.log)) == (at_once.samples, list(at_once.log))
