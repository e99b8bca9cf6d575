"""The time at work of a run, from its events, for whoever wants to know it at every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

# In Unix seconds; later ones were written by no trainer.
LAST_TIME = 1e11

Floats = NDArray[np.float64]


class WorkClock(msgspec.Struct):
    """Counts the time at work: from each start to the last word of its session."""

    seconds: float = 0.0
    told_at: float | None = None  # the latest time that was counted
    at_work: bool = False

    def start(self, time: float, goes_on: bool) -> None:
        self.told_at, self.at_work = time, True
        self.seconds = self.seconds if goes_on else 0.0

    def pass_event(self, event: dict[str, Any]) -> None:
        # In the queue nobody works; a session before it was killed.
        self.at_work = self.at_work and event.get("phase") != "waiting"
        time = event.get("time")
        if self.at_work and isinstance(time, (int, float)) and 0 <= time < LAST_TIME:
            self.at(np.array([time]))
        self.at_work = self.at_work and event.get("type") != "end"

    def at(self, times: Floats) -> Floats:
        """Return the seconds at work at times of this session, and count up to the last of them.

        A clock that is set back takes nothing away of what was counted.
        """
        before = times[0] if self.told_at is None else self.told_at
        seconds = self.seconds + np.cumsum(np.maximum(0.0, np.diff(times, prepend=before)))
        self.seconds, self.told_at = float(seconds[-1]), float(times[-1])
        return seconds


def seconds_at_work(times: Floats, sessions: Sequence[tuple[float, float]]) -> Floats:
    """Return the seconds at work at some times (Unix), by the sessions: when each began, and the seconds before it.

    Without any, from the first of the times on.
    """
    if not sessions or not len(times):
        return times - times[:1]
    began, before = np.array(sessions, dtype=np.float64).T
    session = np.maximum(np.searchsorted(np.maximum.accumulate(began), times, side="right") - 1, 0)
    return np.asarray(before[session] + np.maximum(0.0, times - began[session]), dtype=np.float64)
