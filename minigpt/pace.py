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


class Pace:
    """Follows a run's events and extrapolates from the later half of what was trained since the (re)start."""

    def __init__(self) -> None:
        self.planned_steps: int | None = None
        self._marks: list[tuple[int, float]] = []  # (step, seconds at work until then)
        self._stride = 1
        self._paused_since: float | None = None
        self._paused_seconds = 0.0

    def update(self, event: Mapping[str, Any]) -> None:
        """Take in the next event; only `start`, `step`, `phase` and acknowledged changes of `max_steps` matter."""
        kind, time = event.get("type"), event.get("time")
        if not isinstance(time, (int, float)):
            return
        if kind == "step":
            self._take_step(event.get("step"), float(time))
        elif kind == "start":
            planned = event.get("planned_steps")
            self.__init__()  # type: ignore[misc]
            self.planned_steps = planned if isinstance(planned, int) else None
        elif kind == "phase":
            self._take_phase(event.get("phase"), float(time))
        elif kind == "command" and event.get("command") == "set" and event.get("done"):
            steps = (event.get("args") or {}).get("max_steps")
            self.planned_steps = steps if isinstance(steps, int) and steps > 0 else self.planned_steps

    @property
    def seconds_per_step(self) -> float | None:
        """Seconds from one step to the next, all that lies between them included; None until it can be known."""
        if not self._marks:
            return None
        last_step, last_time = self._marks[-1]
        middle = (self._marks[0][0] + last_step) / 2
        step, time = max((mark for mark in self._marks if mark[0] <= middle), default=self._marks[0])
        if last_step - self._marks[0][0] < MIN_STEPS or last_step <= step:
            return None
        return max(0.0, last_time - time) / (last_step - step)

    @property
    def seconds_left(self) -> float | None:
        """Seconds of work until the last planned step, or None while that cannot be said."""
        pace = self.seconds_per_step
        if pace is None or self.planned_steps is None:
            return None
        return max(0, self.planned_steps - self._marks[-1][0]) * pace

    def _take_step(self, step: Any, time: float) -> None:
        if not isinstance(step, int):
            return
        self._end_pause(time)
        mark = (step, time - self._paused_seconds)
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
