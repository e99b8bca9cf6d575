"""How long a run still takes, told honestly: evaluations, samples and saving are counted, pauses are not.

pace = Pace()
for event in follow(directory):
    pace.update(event)
print(pace.seconds_left)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MIN_STEPS = 3
MAX_MARKS = 512
# What the trainer does between two steps, now and then.
BREAKS = ("eval", "sample", "checkpoint")
# Beyond these, somebody has written into the file what no trainer would.
_MAX_TIME, _MAX_STEP = 1e11, 2**53


class Pace:
    """Follows a run's events. A step's own time is that of the later half of the steps since the (re)start; breaks are
    counted in whole periods, or the estimate would jump with each of them.
    """

    def __init__(self) -> None:
        self.planned_steps: int | None = None
        self.last_step_time: float | None = None  # Unix seconds
        self._first: tuple[int, float] | None = None  # step, seconds at work until then; so are the next two
        self._last: tuple[int, float] | None = None
        self._marks: list[tuple[int, float]] = []  # breaks are left out of these, steps and seconds
        self._stride = 1
        self._begin: int | None = None  # the step before the first
        self._break_due = False
        self._breaks, self._last_break = 0, 0
        self._break_steps, self._break_seconds = 0, 0.0
        self._paused_since: float | None = None
        self._paused_seconds = 0.0

    def update(self, event: Mapping[str, Any]) -> None:
        """Take in the next event. Of steps in a row, the first and the last are enough."""
        kind, time = event.get("type"), event.get("time")
        if not isinstance(time, (int, float)) or not 0 <= time < _MAX_TIME:
            return
        if kind == "step":
            self._take_step(event.get("step"), float(time))
        elif kind in BREAKS:
            self._break_due = True
        elif kind == "start":
            self.__init__()  # type: ignore[misc]
            self.planned_steps = _steps(event.get("planned_steps"))
            self._begin = _steps(event.get("resumed_from")) or 0
        elif kind == "phase":
            self._take_phase(event.get("phase"), float(time))
        elif kind == "command" and event.get("command") == "set" and event.get("done") is True:
            arguments = event.get("args")
            steps = _steps(arguments.get("max_steps")) if isinstance(arguments, dict) else None
            self.planned_steps = steps or self.planned_steps

    @property
    def seconds_per_step(self) -> float | None:
        """Seconds from one step to the next, all that lies between them included; None until it can be known."""
        if self._first is None or self._last is None or self._last[0] - self._first[0] < MIN_STEPS:
            return None
        own = self._own_seconds()
        if own is None:
            return max(0.0, self._last[1] - self._first[1]) / (self._last[0] - self._first[0])
        begin = self._first[0] if self._begin is None else self._begin
        # Up to the last break these are whole periods. One break that was asked for, long ago, says less and less.
        steps = max(self._last_break - begin, (self._last[0] - begin) * self._breaks / (self._breaks + 1))
        return own + max(0.0, self._break_seconds - self._break_steps * own) / max(1, steps)

    @property
    def seconds_left(self) -> float | None:
        """Seconds of work from the last step seen to the last one planned, or None while that cannot be said."""
        pace = self.seconds_per_step
        if pace is None or self.planned_steps is None or self._last is None:
            return None
        return max(0, self.planned_steps - self._last[0]) * pace

    def _own_seconds(self) -> float | None:
        """Return the seconds of a step without breaks."""
        if not self._marks:
            return None
        last_step, last_time = self._marks[-1]
        middle = (self._marks[0][0] + last_step) / 2
        step, time = max((mark for mark in self._marks if mark[0] <= middle), default=self._marks[0])
        return max(0.0, last_time - time) / (last_step - step) if last_step - step >= MIN_STEPS - 1 else None

    def _take_step(self, value: Any, time: float) -> None:
        step = _steps(value)
        if step is None:
            return
        self._end_pause(time)
        self.last_step_time = time
        now = (step, time - self._paused_seconds)
        if self._last is not None and step > self._last[0] and self._break_due:
            self._breaks += 1
            self._break_steps += step - self._last[0]
            self._break_seconds += now[1] - self._last[1]
            self._last_break = self._last[0]
        self._break_due = False
        self._first = self._first or now
        self._last = now
        self._mark((step - self._break_steps, now[1] - self._break_seconds))

    def _mark(self, mark: tuple[int, float]) -> None:
        # The last mark always moves along; one in `_stride` stays.
        if len(self._marks) > 1 and self._marks[-1][0] - self._marks[-2][0] < self._stride:
            self._marks[-1] = mark
            return
        self._marks.append(mark)
        if len(self._marks) > MAX_MARKS:
            self._marks = self._marks[::2]
            self._stride *= 2

    def _take_phase(self, phase: Any, time: float) -> None:
        if phase != "paused":
            self._end_pause(time)
        elif self._paused_since is None:
            self._paused_since = time

    def _end_pause(self, time: float) -> None:
        if self._paused_since is not None:
            self._paused_seconds += max(0.0, time - self._paused_since)
            self._paused_since = None


def _steps(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value < _MAX_STEP else None
