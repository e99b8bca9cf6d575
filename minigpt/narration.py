"""A run's events told as sentences: the lines of training.log, of `minigpt train` and of `minigpt runs watch`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from minigpt.errors import printable
from minigpt.notices import NOTICES, cure_of


def narrate(event: Mapping[str, Any], log_every: int = 1, pointer: bool = True) -> str | None:
    """Return one line for people, safe for a terminal, or None for events that only machines need.

    Of `step` events, one in `log_every` is told; what no trainer of ours would write, not at all. With a `pointer`,
    warnings end with the command that explains them.
    """
    try:
        return _told(event, log_every, pointer)
    except (TypeError, ValueError, OverflowError):  # fields of a shape that no trainer of ours writes
        return None


def _told(event: Mapping[str, Any], log_every: int, pointer: bool) -> str | None:
    teller = _TELLERS.get(str(event.get("type")))
    if teller is None:
        return None
    if event["type"] == "step" and int(event.get("step") or 0) % log_every:
        return None
    line = teller(event)
    if pointer and event["type"] == "notice" and event.get("severity") != "info" and event.get("code") in NOTICES:
        line = f"{line} (minigpt learn {event['code']})"
    return None if line is None else printable(line)


def clock(event: Mapping[str, Any]) -> str:
    """Return the event's time of day, HH:MM:SS; dashes where it tells of no such time."""
    try:
        return time.strftime("%H:%M:%S", time.localtime(float(event.get("time") or 0)))
    except (TypeError, ValueError, OverflowError, OSError):
        return "--:--:--"


def duration(seconds: float) -> str:
    """Return a length of time as people say it: 42 s, 3 min 10 s, 2 h 5 min, 3 d 4 h."""
    seconds = round(seconds)
    for size, name, smaller, smaller_name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{seconds} s"


def size(n_bytes: float) -> str:
    """Return a number of bytes as people say it: 12.3 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def number(value: Any, digits: int = 3) -> str:
    """Return a figure, or a dash where there is none (a loss that was not finite is stored as null)."""
    return f"{value:.{digits}f}" if isinstance(value, (int, float)) else "-"


def _start(event: Mapping[str, Any]) -> str:
    resumed = event.get("resumed_from")
    begin = "start" if resumed is None else f"resume after step {resumed:,}"
    if (left := event.get("rolled_back_from")) is not None:
        begin = f"back from step {left:,} to step {resumed or 0:,}"
    return (
        f"{begin}: {event.get('parameters', 0):,} parameters, {event.get('device')}, "
        f"{event.get('planned_steps', 0):,} steps = {event.get('planned_epochs', 0):.3g} epochs = "
        f"{event.get('planned_tokens', 0):,} tokens"
    )


def _step(event: Mapping[str, Any]) -> str:
    return (
        f"step {event.get('step', 0):,}  epoch {number(event.get('epoch'), 2)}  loss {number(event.get('loss'))}  "
        f"rate {event.get('learning_rate') or 0:.2e}  gradient {number(event.get('grad_norm'), 2)}  "
        f"{event.get('tokens_per_s') or 0:,.0f} tokens/s"
    )


def _evaluation(event: Mapping[str, Any]) -> str:
    best = ", best yet" if event.get("best") else ""
    return (
        f"step {event.get('step', 0):,}: {event.get('split')} {number(event.get('loss'))}, "
        f"perplexity {number(event.get('perplexity'), 2)}{best} ({event.get('tokens', 0):,} tokens)"
    )


def _sample(event: Mapping[str, Any]) -> str:
    text = " ".join(f"{event.get('prompt', '')} | {event.get('text', '')}".split())
    return f"sample at step {event.get('step', 0):,}: {text}"


def _phase(event: Mapping[str, Any]) -> str | None:
    # The heartbeat repeats the phase; only a change is news.
    return f"{event.get('phase')}" if event.get("changed") and event.get("phase") in ("paused", "compiling") else None


def _notice(event: Mapping[str, Any]) -> str:
    cure = cure_of(event)
    todo = "" if cure is None else f" [Cure: {cure['label']}]"
    return f"{event.get('severity', 'note')}: {event.get('message', '')}{todo}"


def _command(event: Mapping[str, Any]) -> str:
    done = "done" if event.get("done") else "not done"
    why = f": {event['why']}" if event.get("why") else ""
    return f"{event.get('command')} at step {event.get('step', 0):,}: {done}{why}"


def _checkpoint(event: Mapping[str, Any]) -> str:
    return f"saved {event.get('path')} at step {event.get('step', 0):,}"


def _end(event: Mapping[str, Any]) -> str:
    return f"end: {event.get('reason')} (exit code {event.get('exit_code')})"


_TELLERS = {
    "start": _start,
    "step": _step,
    "eval": _evaluation,
    "sample": _sample,
    "phase": _phase,
    "notice": _notice,
    "command": _command,
    "checkpoint": _checkpoint,
    "end": _end,
}
