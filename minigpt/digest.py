"""All of a run that it is compared by: how it stands, its curve in few points, its evaluations, its disk use, its note.

found = digest(directory)
plot(found.curves.tokens, found.curves.loss)

The curve and the evaluations are kept beside the run: asked again, only what the run has written since is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from minigpt.events import EVENTS, STEP
from minigpt.runs import summarise
from minigpt.runs.cache import WORTH_KEEPING_BYTES, Place, PlacedReader, keep, read_kept
from minigpt.runs.clock import LAST_TIME, WorkClock
from minigpt.summary import RunSummary

MAX_ROWS = 4000
MAX_EVALUATIONS = 2000
MAX_STEERING = 1000
KEPT = ".digest-curves"
# To be raised with every change of what is kept, or of how it is made from the events.
KEPT_VERSION = 3
# Thinned out when this many rows have come together, so that not every read costs a thinning.
_GATHERED_ROWS = 8 * MAX_ROWS

_NUMBERS = (int, float)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LossCurve:
    """The training loss (nats a token) in at most MAX_ROWS points, each column (points,), steps rising.

    Of every stretch of steps the least and the greatest loss stay. What a step did not tell is NaN.
    """

    step: Floats
    tokens: Floats
    seconds: Floats  # at work, all sessions together, as a summary counts them: what lies between them is left out
    loss: Floats


@dataclass(frozen=True, eq=False)
class RunDigest:
    """One run in bounded size. Of more than MAX_EVALUATIONS `eval` events some are left out, evenly.

    Their `blocks`, by which noise is judged, stay with the best, the latest of each split, and those of a whole split.
    `steering` are the acknowledged `set` commands, the latest MAX_STEERING of them.
    """

    summary: RunSummary
    curves: LossCurve
    evaluations: list[dict[str, Any]]
    disk_bytes: int
    note: str
    steering: list[dict[str, Any]] = field(default_factory=list)

    @cached_property
    def validations(self) -> list[dict[str, Any]]:
        """The evaluations that compare with those of another run, in their order."""
        return [event for event in self.evaluations if is_judged(event)]


def digest(directory: Path) -> RunDigest:
    """Return the digest of a run; one that cannot be read has nothing in it but its summary's notice."""
    summary = summarise(directory)
    try:
        told = _read(directory)
    except OSError:
        told = _Told()
    return RunDigest(summary, told.curve(), told.evaluations, summary.disk_bytes or 0, summary.note, told.steering)


class _StepFigures(msgspec.Struct):
    # Beyond these, somebody has written into the file what no trainer would.
    step: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    time: Annotated[float, msgspec.Meta(ge=0, lt=LAST_TIME)]
    tokens: float | None = None
    loss: float | None = None


_COLUMNS = len(_StepFigures.__struct_fields__)
_STEP, _TIME, _TOKENS, _LOSS = range(_COLUMNS)
_figures = attrgetter(*_StepFigures.__struct_fields__)
_many = msgspec.json.Decoder(list[_StepFigures])


class _Kept(msgspec.Struct):
    version: int
    place: Place
    clock: WorkClock
    rows: bytes
    evaluations: list[dict[str, Any]]
    steering: list[dict[str, Any]]


class _Told:
    """What the events have told so far: the steps' figures, (rows, columns), times as seconds at work, and the rest."""

    def __init__(self) -> None:
        self.rows: Floats = np.empty((0, _COLUMNS))
        self.clock = WorkClock()
        self.evaluations: list[dict[str, Any]] = []
        self.steering: list[dict[str, Any]] = []
        self._best: dict[str, Any] | None = None

    @classmethod
    def of(cls, kept: _Kept) -> _Told | None:
        """Return what was kept, or None where it is no table."""
        told = cls()
        values = np.frombuffer(kept.rows, dtype=np.float64) if len(kept.rows) % 8 == 0 else np.empty(1)
        if len(values) % _COLUMNS:
            return None
        told.rows = values.reshape(-1, _COLUMNS)
        told.clock, told.evaluations, told.steering = kept.clock, kept.evaluations, kept.steering
        return told

    def curve(self) -> LossCurve:
        rows = thinned(self.rows)
        return LossCurve(rows[:, _STEP], rows[:, _TOKENS], rows[:, _TIME], rows[:, _LOSS])

    def take(self, lines: list[bytes], reader: PlacedReader) -> None:
        """Take in the next events, as lines of JSON."""
        if lines and self._best is None:
            self._best = self._find_best()
        for is_step, group in groupby(lines, key=_is_step):
            if is_step:
                self._take_steps(list(group))
                continue
            for line in group:
                for event in reader.decode([line]):
                    # A step, but not as we write it: somebody has put spaces between.
                    if event.get("type") == "step":
                        self._take_steps([line])
                    else:
                        self._take_other(event)

    def _take_other(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind == "start":
            self._take_start(event)
        elif kind == "eval":
            self._take_evaluation(event)
        elif kind == "command":
            self._take_command(event)
        self.clock.pass_event(event)

    def _take_steps(self, lines: list[bytes]) -> None:
        rows = _rising(_decoded(lines))
        if not len(rows):
            return
        rows[:, _TIME] = self.clock.at(rows[:, _TIME])
        if len(self.rows) and rows[0, _STEP] <= self.rows[-1, _STEP]:
            # Steps that come again without a word of resumption: a file put together by somebody else.
            self._discard_after(rows[0, _STEP] - 1)
        self.rows = np.concatenate([self.rows, rows])
        if len(self.rows) > _GATHERED_ROWS:
            self.rows = thinned(self.rows)

    def _take_start(self, event: dict[str, Any]) -> None:
        resumed, time = event.get("resumed_from"), event.get("time")
        last = resumed if isinstance(resumed, int) else -1
        self._discard_after(last)
        self.evaluations = [event for event in self.evaluations if event["step"] <= last]
        self.steering = [event for event in self.steering if event["step"] <= last]
        self._best = self._find_best()
        if isinstance(time, (int, float)) and 0 <= time < LAST_TIME:
            self.clock.start(float(time), isinstance(resumed, int))

    def _take_command(self, event: dict[str, Any]) -> None:
        # A resumed run sets again what had been set, and says so again.
        obeyed = event.get("command") == "set" and event.get("done") is True and isinstance(event.get("args"), dict)
        if obeyed and isinstance(event.get("step"), int):
            told = {name: event[name] for name in ("step", "args")}
            self.steering = [*(known for known in self.steering if known != told), told][-MAX_STEERING:]

    def _discard_after(self, step: float) -> None:
        self.rows = self.rows[: int(np.searchsorted(self.rows[:, _STEP], step, side="right"))]

    def _take_evaluation(self, event: dict[str, Any]) -> None:
        step = event.get("step")
        if not isinstance(step, int) or isinstance(step, bool):
            return
        if not event.get("whole"):
            self._forget_blocks(event)
        self.evaluations.append(event)
        if len(self.evaluations) > MAX_EVALUATIONS:
            steps = sorted({event["step"] for event in self.evaluations})
            kept = {*steps[::2], steps[-1], self._best["step"] if self._best else None}
            self.evaluations = [event for event in self.evaluations if event["step"] in kept][-MAX_EVALUATIONS:]

    def _forget_blocks(self, event: dict[str, Any]) -> None:
        """Take their blocks from evaluations that are neither the best nor the latest any more, now that one comes."""
        alike = (known for known in reversed(self.evaluations) if known.get("split") == event.get("split"))
        previous = next((known for known in alike if not known.get("whole")), None)
        if is_judged(event) and (self._best is None or event["loss"] < self._best["loss"]):
            previous_best, self._best = self._best, event
            if previous_best is not None:
                previous_best.pop("blocks", None)
        if previous is not None and previous is not self._best:
            previous.pop("blocks", None)

    def _find_best(self) -> dict[str, Any] | None:
        return min(filter(is_judged, self.evaluations), key=lambda event: event["loss"], default=None)


def thinned(rows: Floats) -> Floats:
    """Return at most MAX_ROWS of the rows: the first, the last, and by stretches of equal length those with the least
    and the greatest loss.
    """
    if len(rows) <= MAX_ROWS:
        return rows
    steps, loss = rows[:, _STEP], rows[:, _LOSS]
    width = (steps[-1] - steps[0] + 1) / (MAX_ROWS // 2 - 1)
    stretch = ((steps - steps[0]) // width).astype(np.int64)
    begin = np.flatnonzero(np.diff(stretch, prepend=-1))
    end = np.append(begin[1:], len(rows)) - 1
    known = np.isfinite(loss)
    least = np.lexsort((np.where(known, loss, np.inf), stretch))[begin]
    greatest = np.lexsort((np.where(known, loss, -np.inf), stretch))[end]
    return rows[np.unique(np.concatenate([least, greatest, [0, len(rows) - 1]]))]


def is_judged(event: Mapping[str, Any]) -> bool:
    """Return whether an `eval` event is one of the row that compares: on the fixed part of the validation split."""
    # Asked of thousands of events: the type itself is quicker to compare, and leaves out True and False.
    told = type(event.get("step")) in _NUMBERS and type(event.get("loss")) in _NUMBERS
    return told and event.get("split") == "validation" and not event.get("whole")


def _read(directory: Path) -> _Told:
    """Read what came since the last time, and keep it for the next; raises OSError."""
    kept = read_kept(directory / KEPT, _Kept)
    told = _Told.of(kept) if kept is not None and kept.version == KEPT_VERSION else None
    reader = PlacedReader.at(directory / EVENTS, kept.place if kept is not None and told is not None else None)
    with reader:
        known_bytes = 0 if kept is None else kept.place.position
        if told is None or reader.begins_anew:
            told, known_bytes = _Told(), 0
        at_end = False
        while not at_end:
            restarts = reader.restarts
            lines = reader.poll_lines()
            if reader.restarts != restarts:
                told, known_bytes = _Told(), 0
            told.take(lines, reader)
            at_end = reader.at_end
        place = reader.place()
    if place is not None and place.position - known_bytes >= WORTH_KEEPING_BYTES:
        told.rows = thinned(told.rows)
        keep(
            directory / KEPT,
            _Kept(
                KEPT_VERSION,
                place,
                told.clock,
                np.ascontiguousarray(told.rows).tobytes(),
                told.evaluations,
                told.steering,
            ),
        )
    return told


def _is_step(line: bytes) -> bool:
    return line.startswith(STEP)


def _decoded(lines: list[bytes]) -> Floats:
    """Return the figures on lines of steps, (steps, columns); what a step does not tell is NaN."""
    try:
        steps = _many.decode(b"[" + b",".join(lines) + b"]")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        steps = []
    if len(steps) != len(lines):  # a line that is none, or that holds two
        steps = [figures for line in lines if (figures := _decoded_one(line)) is not None]
    # None becomes NaN.
    return np.array(list(map(_figures, steps)), dtype=np.float64).reshape(-1, _COLUMNS)


def _decoded_one(line: bytes) -> _StepFigures | None:
    try:
        return msgspec.json.decode(line, type=_StepFigures)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _rising(rows: Floats) -> Floats:
    """Return the rows without those that a later row goes back behind."""
    if not len(rows):
        return rows
    steps = rows[:, _STEP]
    least_after = np.minimum.accumulate(np.append(steps[1:], np.inf)[::-1])[::-1]
    return rows[steps < least_after]
