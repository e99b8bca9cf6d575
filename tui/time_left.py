"""When a run will be over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from minigpt.narration import duration
from tui.parts import DIM, PLAIN
from tui.widgets.rows import Part

if TYPE_CHECKING:
    from minigpt.history import RunHistory

# How to tell when a run will be over that takes less than so many seconds.
HOUR, DAY = 3600, 86400
UNTIL = ((12 * HOUR, "%H:%M"), (6 * DAY, "%a %H:%M"), (200 * DAY, "%d %b %H:%M"))
LONGEST = 3650 * DAY


def time_left(history: RunHistory) -> list[Part]:
    """Return how long the training will take yet and until when, or how long it took."""
    summary = history.summary
    if summary.ended is not None or summary.state in ("crashed", "finished", "interrupted", "failed"):
        spent = (summary.last_event_time or 0) - (summary.started or 0)
        resumed = [("  since it resumed", DIM)] if summary.resumed_from else []
        return [(f"over, after {duration(max(0.0, spent))}", PLAIN), *resumed]
    left = history.pace.seconds_left
    if left is None:
        return [("not known yet", DIM)]
    now = time.time()
    if summary.state != "paused":
        # The pace is known up to the last step; what passed since then is gone.
        left = max(0.0, left - max(0.0, now - (history.pace.last_step_time or now)))
    if left > LONGEST:
        return [("more than ten years", PLAIN)]
    form = next((form for limit, form in UNTIL if left < limit), "%d %b %Y")
    return [(duration(left), PLAIN), (f"  until {time.strftime(form, time.localtime(now + left))}", DIM)]
