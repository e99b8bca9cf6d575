"""The time at work of a run, from its events, for whoever wants to know it at every step."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

# In Unix seconds; later ones were written by no trainer.
LAST_TIME = 1e11

Floats = NDArray[np.float64]


class WorkClock(msgspec.Struct):
    """Counts the time at work: from each start to the last word of its session."""

    started: float | None = None
    before: float = 0.0  # seconds of the sessions before this one
    seconds: float = 0.0
    at_work: bool = False

    def start(self, time: float, goes_on: bool) -> None:
        self.started, self.at_work = time, True
        self.seconds = self.before = self.seconds if goes_on else 0.0

    def pass_event(self, event: dict[str, Any]) -> None:
        # In the queue nobody works; a session before it was killed.
        self.at_work = self.at_work and event.get("phase") != "waiting"
        time = event.get("time")
        if self.at_work and isinstance(time, (int, float)) and 0 <= time < LAST_TIME:
            self.at(np.array([time]))
        self.at_work = self.at_work and event.get("type") != "end"

    def at(self, times: Floats) -> Floats:
        """Return the seconds at work at times of this session, and count up to the last of them."""
        if self.started is None:
            self.started = float(times[0])
        seconds = self.before + np.maximum(0.0, times - self.started)
        self.seconds = float(seconds[-1])
        return seconds
