"""All that a watcher shows of a run, kept up to date from its events in bounded memory.

history = RunHistory(directory)
while history.read():      # until all that is there has been read
    pass
print(history.summary.state, history.curves["loss"][-1], history.pace.seconds_left)
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from minigpt.curves import Curves, decode_steps
from minigpt.errors import printable
from minigpt.events import EVENTS, STEP, EventReader, sample_lines
from minigpt.narration import narrate
from minigpt.pace import Pace
from minigpt.summary import RunSummary

MAX_LOG_LINES = 2000
MAX_SAMPLES = 400
MAX_READINGS = 4000
# Above this, a look at some of the lines comes first, so that something is on the screen at once.
PREVIEW_ABOVE_BYTES = 8 << 20
# Read at a time: decoding it must not keep other threads waiting for long.
PART_BYTES = 1 << 18
PREVIEW_LINES = 500
PREVIEW_PART = 50
# What is kept of a text or a nested value. Whole numbers beyond the largest, and times beyond the last, come from no
# trainer of ours, and arithmetic or a calendar would choke on them.
MAX_TEXT, MAX_DEPTH = 20_000, 8
_LARGEST, _LAST_TIME = 2**63, 1e11
_END = b'{"type":"end",'
_TOLD = ("start", "eval", "notice", "command", "checkpoint", "end")


@dataclass(frozen=True)
class LogLine:
    """One line of a run's story; `kind` is the event's type, or a notice's severity."""

    time: float
    kind: str
    text: str


@dataclass(frozen=True)
class SampleText:
    """What the model said to a prompt at a step."""

    step: int
    prompt: str
    text: str


class RunHistory:
    """One run's summary, curves, pace, samples, log and latest device readings."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._reader = EventReader(directory / EVENTS)
        self._restarts = 0
        self._clear()

    def _clear(self) -> None:
        self.summary = RunSummary(self.directory.name)
        self.curves = Curves()
        self.pace = Pace()
        self.samples: list[SampleText] = []
        self.log: deque[LogLine] = deque(maxlen=MAX_LOG_LINES)
        self.logged = 0  # how many lines there ever were: `log` keeps the last
        self.device: dict[str, Any] = {}
        self.memory: list[tuple[int, float, float]] = []  # (step, Unix seconds, bytes in use on the device)
        self._readings, self._stride = 0, 1
        self.start: dict[str, Any] = {}
        self.sessions: list[tuple[float, float]] = []  # (Unix seconds of its start, seconds at work before it) of each
        self._scales: list[tuple[int, float]] = []  # (step, lr_scale) of each change

    @property
    def lr_scale(self) -> float:
        """By how much the person has scaled the learning rate by now."""
        return self._scales[-1][1] if self._scales else 1.0

    def close(self) -> None:
        self._reader.close()

    @property
    def long(self) -> bool:
        """Whether reading all of it takes so long that a preview is worth it."""
        try:
            return (self.directory / EVENTS).stat().st_size > PREVIEW_ABOVE_BYTES
        except OSError:
            return False

    @classmethod
    def preview(cls, directory: Path) -> RunHistory:
        """Return a history made from some lines of a long file: its curves are coarse, its log is the file's end."""
        history = cls(directory)
        lines = sample_lines(directory / EVENTS, PREVIEW_LINES)
        # The end of an earlier session may be among them, and the start of the next one not.
        lines = [line for line in lines if not line.startswith(_END)]
        with EventReader(directory / EVENTS) as head:
            first = head.poll_lines()[:1]
        lines = lines if lines[:1] == first else first + lines
        with EventReader(directory / EVENTS, from_end=True, tail_bytes=PREVIEW_LINES * 100) as tail:
            lines += tail.poll_lines()
        # In parts, for the pace looks at the last step of each.
        for begin in range(0, len(lines), PREVIEW_PART):
            history.feed(lines[begin : begin + PREVIEW_PART])
        return history

    def read(self) -> bool:
        """Take in the next part of the file; return whether more is there already. Raises OSError."""
        lines = self._reader.poll_lines(PART_BYTES)
        # Kept from read to read: another file may be found in one that fails.
        if self._reader.restarts != self._restarts:
            self._restarts = self._reader.restarts
            self._clear()
        self.feed(lines)
        return not self._reader.at_end

    def feed(self, lines: list[bytes]) -> None:
        """Take in the next events, as lines of JSON."""
        for is_step, group in groupby(lines, key=_is_step):
            if is_step:
                self._take_steps(list(group))
                continue
            for line in group:
                for event in self._reader.decode([line]):
                    # A step, but not as we write it: somebody has put spaces between.
                    if event.get("type") == "step":
                        self._take_steps([line])
                    else:
                        self._take(_bounded(event))

    def _take_steps(self, lines: list[bytes]) -> None:
        for first in decode_steps(lines[:1]):
            self.pace.update({"type": "step", "time": first.time, "step": first.step})
        last = self.curves.extend(lines)
        if last is not None:
            event = {"type": "step", "time": last.time, "step": last.step, "epoch": last.epoch, "loss": last.loss}
            event["tokens"] = None if last.tokens is None else int(last.tokens)
            event["tokens_per_s"] = last.tokens_per_s
            self.summary.update(event)
            self.pace.update(event)

    def _take(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        self.summary.update(event)
        self.pace.update(event)
        if kind == "start":
            self._take_start(event)
        elif kind == "device":
            self._take_device(event)
        elif kind == "sample":
            self._take_sample(event)
        elif kind == "command" and event.get("done"):
            self._take_acknowledgement(event)
        if kind in _TOLD or (kind == "phase" and event.get("changed")):
            self._tell(event)

    def _take_start(self, event: dict[str, Any]) -> None:
        self.start = event
        resumed = event.get("resumed_from")
        last = resumed if isinstance(resumed, int) else 0
        when = event.get("time")
        if isinstance(when, (int, float)) and 0 <= when < _LAST_TIME:
            earlier = self.sessions if last else []
            self.sessions = [*earlier, (float(when), self.summary.seconds)][-MAX_READINGS:]
        self._scales = [change for change in self._scales if change[0] <= last] if last else []
        self.curves.discard_after(last)
        self.memory = [reading for reading in self.memory if reading[0] <= last] if last else []
        self.samples = [sample for sample in self.samples if sample.step <= last] if last else []

    def _take_device(self, event: dict[str, Any]) -> None:
        self.device = event
        memory, when = event.get("memory"), event.get("time")
        if isinstance(memory, (int, float)) and isinstance(when, (int, float)):
            # The last reading always moves along; one in `_stride` stays.
            if self._readings % self._stride and self.memory:
                self.memory.pop()
            self.memory.append((self.summary.step, float(when), float(memory)))
            self._readings += 1
            if len(self.memory) > MAX_READINGS:
                self.memory = self.memory[::2]
                self._stride *= 2

    def _take_acknowledgement(self, event: dict[str, Any]) -> None:
        arguments = event.get("args")
        scale = arguments.get("lr_scale") if isinstance(arguments, dict) else None
        if event.get("command") == "set" and isinstance(scale, (int, float)):
            step = event.get("step")
            change = (step if isinstance(step, int) else self.summary.step, float(scale))
            self._scales = [*self._scales, change][-MAX_READINGS:]

    def _take_sample(self, event: dict[str, Any]) -> None:
        step, prompt, text = event.get("step"), event.get("prompt"), event.get("text")
        if isinstance(step, int) and isinstance(prompt, str) and isinstance(text, str):
            self.samples.append(SampleText(step, printable(prompt), printable(text)))
            if len(self.samples) > MAX_SAMPLES:
                self._thin_out_samples()

    def _thin_out_samples(self) -> None:
        """Drop the step, with all its prompts, that stands closest between others: how it began stays visible."""
        steps = sorted({sample.step for sample in self.samples})
        inner = range(1, len(steps) - 1)
        dropped = min(inner, key=lambda index: steps[index + 1] - steps[index - 1], default=None)
        if dropped is not None:
            self.samples = [sample for sample in self.samples if sample.step != steps[dropped]]
        self.samples = self.samples[-MAX_SAMPLES:]

    def note(self, text: str) -> None:
        """Add a watcher's own remark to the log."""
        self.log.append(LogLine(time.time(), "app", text))
        self.logged += 1

    def _tell(self, event: dict[str, Any]) -> None:
        line = narrate(event, pointer=False)
        if line is not None:
            when = event.get("time")
            told = isinstance(when, (int, float)) and 0 <= when < _LAST_TIME
            kind = str(event.get("severity")) if event.get("type") == "notice" else str(event.get("type"))
            self.log.append(LogLine(float(when or 0) if told else 0.0, kind, line))
            self.logged += 1


def _is_step(line: bytes) -> bool:
    return line.startswith(STEP)


def _bounded(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event without what a screen could not show: endless numbers and texts, endless nesting."""
    return {key: _bounded_value(value, MAX_DEPTH) for key, value in event.items()}


def _bounded_value(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return value[:MAX_TEXT]
    if isinstance(value, (int, float)):
        return value if abs(value) < _LARGEST else None
    if isinstance(value, (dict, list)) and not depth:
        return None
    if isinstance(value, dict):
        return {key: _bounded_value(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_bounded_value(item, depth - 1) for item in value]
    return value
