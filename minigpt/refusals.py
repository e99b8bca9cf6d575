"""Whether a run waits for its disk, and what that means for who would stop it."""

from __future__ import annotations

import time
from pathlib import Path

from minigpt.readings import free_disk
from minigpt.summary import LIVE_STATES, RunSummary

# Silence of this many heartbeats is worth a word.
SILENT_SECONDS = 25
# On a full disk, of one that should have come.
SILENCED_SECONDS = 12
# With less, not even a line of the run's events is sure to find room.
NO_ROOM_BYTES = 1 << 16
_REFUSED, _OVER = ("save-failed", "events-unwritten"), "room-again"


def cannot_write(summary: RunSummary) -> bool:
    """Return whether a run has paused because the system does not let it write."""
    if summary.state != "paused":
        return False
    for notice in reversed(summary.notices):
        if notice.get("code") in (*_REFUSED, _OVER):
            return notice["code"] != _OVER and _time(notice) >= (summary.started or 0)
    return False


def silenced(directory: Path, summary: RunSummary) -> bool:
    """Return whether a run that lives tells nothing because there is no room for it; looks at the disk."""
    told = summary.last_event_time
    if told is None or time.time() - told <= SILENCED_SECONDS:
        return False
    try:
        return free_disk(directory) < NO_ROOM_BYTES
    except OSError:
        return False


def waits_to_write(directory: Path, summary: RunSummary) -> bool:
    """Return whether a run that lives cannot write, as far as its events or, without them, the disk tell."""
    return summary.state in LIVE_STATES and (cannot_write(summary) or silenced(directory, summary))


def state_in_words(directory: Path, summary: RunSummary) -> str:
    """Return a run's state, and what hinders it where that is the disk."""
    if cannot_write(summary):
        return f"{summary.state} until it can write"
    if waits_to_write(directory, summary):
        return f"{summary.state}, silent: the disk is full"
    return summary.state


def at_stake(summary: RunSummary) -> str:
    """Return what a stop would lose of a run that cannot write."""
    saved = [step for file in summary.saved_files() if isinstance(step := file.get("step"), int)]
    since = f"since step {max(saved):,}, its last checkpoint" if saved else "so far"
    return f"all that it has learned {since}"


def consequence(summary: RunSummary) -> str:
    """Return what a stop would cost a run that cannot write."""
    return (
        "It waits because it cannot write its files; the log says why. Stopped now, it tries once more, and if that "
        f"fails, {at_stake(summary)}, is lost. Make room, or give back the right to write: it then goes on by itself."
    )


def _time(notice: dict[str, object]) -> float:
    time = notice.get("time")
    return float(time) if isinstance(time, (int, float)) else 0.0
