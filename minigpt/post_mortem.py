"""Why a trainer vanished without a word: what its last readings of the machine make likely.

    why(directory, summary)     # None for a run that lives, or that said itself how it ended

A process that the system ends by signal 9 can tell nobody. Its events can: what the memory was like a moment before,
and how many processes the kernel had ended for want of it, which is compared with how many it has ended now.
"""

from __future__ import annotations

import shlex
import socket
from pathlib import Path
from typing import Any

import psutil

from minigpt.errors import printable
from minigpt.events import last_events
from minigpt.host import ended_since
from minigpt.lock import last_owner
from minigpt.narration import clock, duration, size
from minigpt.runs.files import CONFIG
from minigpt.summary import RunSummary

# The readings come every five seconds: memory that grew in between may have been full before the next.
NEARLY_FULL = 0.92
_TAIL_BYTES = 1 << 18
_NO_DISK = 1 << 20
# The end of the year 9999: no clock tells more.
_LATEST = 253_402_300_799
_MOST_BYTES = 1 << 63


def why(directory: Path, summary: RunSummary) -> str | None:
    """Return what most probably ended a crashed run, and what to do, in a sentence or two; else None."""
    if summary.state == "empty":
        return _never_began(directory)
    if summary.state != "crashed":
        return None
    events = _tail(directory)
    if any(event.get("type") == "end" for event in events[-1:]):
        return None
    events = [event for event in events if _is_number(event.get("time"), _LATEST)]
    told = [event for event in events if event.get("type") == "device" and isinstance(event.get("host"), dict)]
    last = max((event["time"] for event in events), default=None)
    if last is None:
        return None
    begin = f"The process vanished without a word at {clock({'time': last})}, after step {summary.step:,}"
    go_on = f"`minigpt train --resume {printable(directory.name, single_line=True)}` goes on from the last checkpoint"
    if not any(directory.glob("*.pt")):
        go_on = "nothing was saved yet, so start it again"
    if psutil.boot_time() > last:
        return f"{begin}: the machine was switched off or restarted; {go_on}."
    memory, killed = _memory(told, last), _ended_since(events)
    less = (
        "Close other programs, or add a smaller --micro-batch-size, which gives the same result in less memory; "
        f"{go_on}."
    )
    if memory is not None and killed is not False:
        known = ", as it has ended at least one process since" if killed else ""
        return f"{begin}, and {memory}: most probably the system ended it to get memory back (signal 9){known}. {less}"
    if memory is not None:
        return (
            f"{begin}, and {memory}; but the kernel has ended no process for want of memory since, so it was a kill -9 "
            f"by somebody, or by a guard such as systemd-oomd. {less}"
        )
    if killed:
        before = "memory was not short at its last reading, but since then" if told else "since it began"
        return (
            f"{begin}; {before} the kernel has ended a process to get memory back (signal 9): most probably this one, "
            f"having grown quickly. {less}"
        )
    free = told[-1]["host"].get("disk_free") if told else None
    if free is not None and _is_number(free, _MOST_BYTES) and free < _NO_DISK:
        return f"{begin}, and the disk was full: make room first. Then {go_on}."
    short = "memory was not short" if told else "too soon to have told how much memory was left"
    return f"{begin}, as by kill -9 or a loss of power; {short}; {go_on}."


def _never_began(directory: Path) -> str | None:
    """Return what is known of a process that ended before its first event; None where none was there."""
    holder = last_owner(directory)
    if holder is None:
        return None
    since = f" at {clock({'time': holder.started})}" if _is_number(holder.started, _LATEST) else ""
    begin = f"Process {holder.pid} began to prepare it{since} and vanished before its first step was planned"
    if holder.host == socket.gethostname() and psutil.boot_time() > holder.started:
        cause = "the machine was switched off or restarted"
    else:
        cause = "killed (kill -9, or by the system, for want of memory while it was loading) or cut off from power"
    again = "start it again as before"
    if (directory / CONFIG).is_file():
        path = printable(shlex.quote(str(directory / CONFIG)), single_line=True)
        again = f"`minigpt train --config {path}` starts it anew with the same settings"
    return f"{begin}: {cause}. Nothing was trained or saved; {again}."


def _is_number(value: Any, most: int) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= most


def _tail(directory: Path) -> list[dict[str, Any]]:
    """Return the last events."""
    try:
        return list(last_events(directory, _TAIL_BYTES))
    except OSError:
        return []


def _memory(told: list[dict[str, Any]], last: float) -> str | None:
    """Return how full the host's memory was before the end, or would have been soon after; None where it was not."""
    figures = [(event, event["host"].get("memory_used"), event["host"].get("memory_total")) for event in told[-2:]]
    known = [
        (event, used, total)
        for event, used, total in figures
        if _is_number(used, _MOST_BYTES) and _is_number(total, _MOST_BYTES)
    ]
    if not known:
        return None
    event, used, total = known[-1]
    grown = max(0, used - known[0][1])
    if used <= NEARLY_FULL * total and used + grown <= total:
        return None
    ago = max(0.0, last - event["time"])
    before = f" {duration(ago)} before" if round(ago) else ""
    return f"{size(used)} of the {size(total)} of memory that it could have were in use{before}"


def _ended_since(events: list[dict[str, Any]]) -> bool | None:
    """Return whether the kernel has ended processes for want of memory since the last reading, or the start."""
    counts = [
        (event["host"] if isinstance(event.get("host"), dict) else event).get("oom_kills")
        for event in events
        if event.get("type") in ("start", "device")
    ]
    return ended_since(next((count for count in reversed(counts) if count is not None), None))
