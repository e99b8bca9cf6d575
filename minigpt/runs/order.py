"""Putting runs in order, and finding those that one means among many."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from minigpt.errors import UserError
from minigpt.presets import nearest
from minigpt.summary import RunSummary

# What runs can be sorted by: the key, and whether the greatest come first.
_KEYS: dict[str, tuple[Callable[[RunSummary], Any], bool]] = {
    "started": (lambda run: run.started, True),
    "name": (lambda run: run.run.casefold(), False),
    "state": (lambda run: run.state, False),
    "preset": (lambda run: run.preset and run.preset.casefold(), False),
    "corpus": (lambda run: run.corpus and run.corpus.casefold(), False),
    "size": (lambda run: run.parameters, True),
    "step": (lambda run: run.step, True),
    "loss": (lambda run: run.best_val_loss, False),
    "time": (lambda run: run.seconds if run.started is not None else None, True),
    "disk": (lambda run: run.disk_bytes, True),
}
SORT_KEYS = tuple(_KEYS)


def sorted_runs(runs: Iterable[RunSummary], key: str, backwards: bool = False) -> list[RunSummary]:
    """Return runs by one of SORT_KEYS, equals as they were, those of which it is not known last. Raises UserError."""
    if key not in _KEYS:
        raise UserError(
            f"Runs cannot be sorted by {key!r}: choose {', '.join(SORT_KEYS)}.{nearest(key, list(SORT_KEYS))}"
        )
    value_of, greatest_first = _KEYS[key]
    valued = [(value_of(run), run) for run in runs]
    known = [(value, run) for value, run in valued if value is not None]
    known.sort(key=lambda pair: pair[0], reverse=greatest_first != backwards)
    return [run for _, run in known] + [run for value, run in valued if value is None]


def matching(runs: Iterable[RunSummary], text: str) -> list[RunSummary]:
    """Return the runs of which name, state, preset, corpus or note, taken together, hold every word of `text`."""
    words = text.casefold().split()
    return [run for run in runs if all(word in _told(run) for word in words)]


def _told(run: RunSummary) -> str:
    return " ".join(part for part in (run.run, run.state, run.preset, run.corpus, run.note) if part).casefold()
