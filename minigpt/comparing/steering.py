"""What was set by commands while runs were at work, which no configuration tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minigpt.digest import RunDigest

_MOST_TOLD = 3


def steered(digests: Sequence[RunDigest]) -> dict[str, tuple[str, ...]]:
    """Return what was set differently: its name, and for each run in words from which step on which value."""
    found = [_by_name(known.steering) for known in digests]
    names = dict.fromkeys(name for changes in found for name in changes)
    told = {name: [changes.get(name, []) for changes in found] for name in names}
    return {
        f"{name} by command": tuple(map(_in_words, changes))
        for name, changes in told.items()
        if any(others != changes[0] for others in changes)
    }


def _by_name(events: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, object]]]:
    changes: dict[str, list[tuple[int, object]]] = {}
    for event in events:
        for name, value in event["args"].items():
            changes.setdefault(str(name), []).append((event["step"], value))
    return changes


def _in_words(changes: Sequence[tuple[int, object]]) -> str:
    """Return the changes as people read them, the last ones where there are many."""
    if not changes:
        return "-"
    left_out = max(0, len(changes) - _MOST_TOLD)
    words = ", ".join(f"{step:,}: {_value(value)}" for step, value in changes[left_out:])
    return f"{left_out} before, step {words}" if left_out else f"step {words}"


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)
