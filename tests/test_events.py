"""Events: every one arrives, once and whole, whatever happens to the file on the way."""

from __future__ import annotations

import json
import math
import os
import resource
import tempfile
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt import event_writer
from minigpt.event_writer import EventWriter
from minigpt.events import EventReader

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
json_objects = st.dictionaries(st.text(max_size=5), json_values, max_size=4)
# Things found in files that no writer of ours put there.
rubbish = st.sampled_from(
    [b"", b"  ", b"{", b'{"a":1', b"[1,2]", b"7", b"{}{}", b"\xff\xfe", b"\x00" * 9, b'{"a":NaN}', b"[" * 2000]
)
lines = st.one_of(json_objects.map(lambda value: json.dumps(value).encode()), rubbish)


def read_all(reader: EventReader, limit_bytes: int = 1 << 20) -> list[dict[str, Any]]:
    events = reader.poll(limit_bytes)
    while not reader.at_end:
        events += reader.poll(limit_bytes)
    return events


def by_the_standard_library(content: bytes) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    found = []
    for line in content.split(b"\n")[:-1]:
        try:
            value = json.loads(line, parse_constant=refuse)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_a_reader_gets_what_the_standard_library_finds_in_the_file(path: Path) -> None:
    writer = EventWriter(path)
    written = [writer.write("step", step=step, loss=step / 7) for step in range(50)]
    written.append(writer.write("sample", prompt="\u2028\n\x1b[31m", text="snow \u2603 \U0001f600"))
    writer.close()
    assert read_all(EventReader(path)) == [json.loads(line) for line in path.read_bytes().splitlines()] == written


def test_numbers_that_json_lacks_become_null(path: Path) -> None:
    EventWriter(path).write("eval", loss=math.nan, perplexity=math.inf)
    (event,) = EventReader(path).poll()
    assert event["loss"] is None and event["perplexity"] is None


def test_an_undecodable_file_name_can_be_told(path: Path) -> None:
    EventWriter(path).write("notice", paths=[os.fsdecode(b"caf\xe9.txt")])
    (event,) = EventReader(path).poll()
    assert event["paths"] == [r"caf\udce9.txt"]


@settings(max_examples=40, deadline=None)
@given(st.lists(lines, max_size=8), st.data(), st.integers(5, 200))
def test_however_the_file_grows_the_same_events_come(
    content_lines: list[bytes], data: st.DataObject, limit_bytes: int
) -> None:
    content = b"".join(line + b"\n" for line in content_lines) + b'{"half": '
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=8)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        reader = EventReader(path)
        found = []
        for begin, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
            with path.open("ab") as file:
                file.write(content[begin:end])
            found += read_all(reader, limit_bytes)
        reader.close()
    assert found == by_the_standard_library(content)


def test_byte_by_byte(path: Path) -> None:
    content = b'{"type":"a"}\n{"type":"b","text":"\xe2\x98\x83"}\n'
    reader, counts = EventReader(path), []
    for position in range(len(content)):
        with path.open("ab") as file:
            file.write(content[position : position + 1])
        counts.append(len(reader.poll()))
    assert [position for position, count in enumerate(counts) if count] == [12, len(content) - 1]


def test_lines_that_are_no_objects_are_counted(path: Path) -> None:
    path.write_bytes(b'{"a":1}\nnot json\n[]\n\n{"b":2}\n{"c":\n')
    reader = EventReader(path)
    assert reader.poll() == [{"a": 1}, {"b": 2}]
    assert reader.skipped == 3


def test_an_endless_line_is_passed_over_in_bounded_memory(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 << 20)
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"type":"after"}\n')
    reader = EventReader(path)
    tracemalloc.start()
    try:
        found = read_all(reader)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == [{"type": "after"}]
    assert reader.skipped == 1
    assert peak < 30 << 20


def test_a_replaced_file_is_read_from_its_beginning(path: Path) -> None:
    path.write_bytes(b'{"a":1}\n{"half')
    reader = EventReader(path)
    reader.poll()
    path.unlink()
    path.write_bytes(b'{"b":2}\n{"c":3}\n{"d":4}\n')
    assert reader.poll() == [{"b": 2}, {"c": 3}, {"d": 4}]


def test_a_file_that_shrank_is_read_from_its_beginning(path: Path) -> None:
    path.write_bytes(b'{"a":1}\n{"b":2}\n')
    reader = EventReader(path)
    reader.poll()
    path.write_bytes(b'{"c":3}\n')
    assert reader.poll() == [{"c": 3}]


def test_a_missing_file_has_no_events_until_it_comes(path: Path) -> None:
    reader = EventReader(path)
    assert reader.poll() == []
    path.write_bytes(b'{"a":1}\n')
    assert reader.poll() == [{"a": 1}]


def test_from_the_end_a_reader_sees_whole_lines_that_come_later(path: Path) -> None:
    path.write_bytes(b'{"old":1}\n{"half":')
    reader = EventReader(path, from_end=True)
    with path.open("ab") as file:
        file.write(b'1}\n{"new":1}\n')
    assert reader.poll() == [{"new": 1}]


def test_the_tail_begins_with_a_whole_line(path: Path) -> None:
    path.write_bytes(b'{"a":1}\n{"b":2}\n{"c":3}\n')
    assert EventReader(path, from_end=True, tail_bytes=12).poll() == [{"c": 3}]
    assert EventReader(path, from_end=True, tail_bytes=16).poll() == [{"b": 2}, {"c": 3}]
    assert len(EventReader(path, from_end=True, tail_bytes=1000).poll()) == 3


def test_the_outline_keeps_the_last_step_before_anything_else(path: Path) -> None:
    writer = EventWriter(path)
    for step in range(1, 31):
        writer.write("step", step=step)
        if step % 10 == 0:
            writer.write("eval", step=step)
    writer.write("step", step=31)
    writer.close()
    with path.open("ab") as file:
        file.write(b'{"type":"step","time":1,"st\n')
    outline = EventReader(path).poll_outline()
    assert [(event["type"], event["step"]) for event in outline] == [
        *[(kind, step) for step in (10, 20, 30) for kind in ("step", "eval")],
        ("step", 31),
    ]


def test_a_writer_ends_the_line_that_another_left_unfinished(path: Path) -> None:
    path.write_bytes(b'{"a":1}\n{"type":"step","lo')
    EventWriter(path).write("start")
    reader = EventReader(path)
    assert [event.get("type") for event in reader.poll()] == [None, "start"]
    assert reader.skipped == 1


def test_steps_wait_and_all_else_is_written_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_writer, "FLUSH_SECONDS", math.inf)
    writer, reader = EventWriter(path), EventReader(path)
    writer.write("step", step=1)
    assert reader.poll() == []
    writer.write("eval", step=1)
    assert [event["type"] for event in reader.poll()] == ["step", "eval"]


def test_steps_do_not_wait_longer_than_they_may(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_writer, "FLUSH_SECONDS", -1.0)
    EventWriter(path).write("step", step=1)
    assert len(EventReader(path).poll()) == 1


def test_threads_and_writers_share_a_file(path: Path) -> None:
    writers = [EventWriter(path), EventWriter(path)]

    def write(worker: int) -> None:
        for number in range(300):
            writers[worker % 2].write("device" if number % 3 else "step", worker=worker, number=number)

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        writer.close()
    reader = EventReader(path)
    found = read_all(reader)
    assert reader.skipped == 0
    for worker in range(4):
        assert [event["number"] for event in found if event["worker"] == worker] == list(range(300))


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The kernel takes the bytes that fit and refuses the rest, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_wherever_a_full_disk_cuts_a_write_each_event_arrives_once(path: Path) -> None:
    waiting, half_lines = [], set()
    for limit in range(200):
        path.unlink(missing_ok=True)
        writer = EventWriter(path)
        writer.write("step", number=0)
        writer.write("step", number=1)
        with file_size_limit(limit):
            writer.write("eval", number=2)
            waiting.append(writer.unwritten)
            writer.write("eval", number=3)
        writer.close()
        reader = EventReader(path)
        assert [event["number"] for event in reader.poll()] == [0, 1, 2, 3], limit
        assert writer.unwritten == 0 and writer.error is None and writer.dropped == 0
        half_lines.add(reader.skipped)
    assert sorted(set(waiting)) == [0, 1, 2, 3]
    assert half_lines == {0, 1}


def test_a_disk_that_stays_full_costs_bounded_memory_and_old_steps_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_writer, "MAX_PENDING_BYTES", 10_000)
    writer = EventWriter(path)
    with file_size_limit(0):
        for number in range(1000):
            writer.write("checkpoint" if number % 100 == 0 else "step", number=number)
        writer.flush()
        assert writer.error is not None
        assert writer.dropped + writer.unwritten == 1000
    writer.close()
    found = EventReader(path).poll()
    assert len(found) == 1000 - writer.dropped
    assert path.stat().st_size <= 10_000
    assert [event["number"] for event in found if event["type"] == "checkpoint"] == list(range(0, 1000, 100))
    assert found[-1]["number"] == 999
