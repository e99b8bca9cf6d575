"""Every notice that a run, a task or a watcher can give: what it is about, and how grave it is.

    NOTICES["overfitting"].title            # "It learns the text by heart"
    cure = latest_cure(events)              # {"label": "halve the learning rate", "command": "set", "args": {...}}

A notice is an event: severity, code, message, and a `cure` where what to do is an action: either a command that the
trainer obeys (`command`, `args`) or settings for a new run or a fork (`settings`); `label` says it in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

Severity = Literal["info", "warning", "error"]
Cure = dict[str, Any]


class Notice(NamedTuple):
    """One kind of notice: how grave it is, and its title in a line."""

    severity: Severity
    title: str


NOTICES: dict[str, Notice] = {
    # The loss
    "rate-too-low": Notice("warning", "The loss hardly falls: the learning rate is too low"),
    "rate-too-high": Notice("warning", "The loss does not fall: the learning rate is too high"),
    "diverging": Notice("warning", "The loss rises again"),
    "diverged": Notice("error", "The numbers have become infinite, and the run ends"),
    "plateau": Notice("warning", "The loss has stopped falling"),
    "overfitting": Notice("warning", "It learns the text by heart"),
    "underfitting": Notice("warning", "The run ended before much was learned"),
    "exploding-gradients": Notice("warning", "The gradients grow beyond bounds"),
    "rolled-back": Notice("warning", "The numbers had gone bad: the run has gone back to a good checkpoint"),
    "non-finite": Notice("warning", "A step gave no finite number and was skipped"),
    # The text
    "too-little-data": Notice("warning", "There is too little text for so large a model"),
    "gibberish": Notice("warning", "The text has no order that could be learned"),
    "repeated-text": Notice("warning", "Much of the text is the same, again and again"),
    "short-documents": Notice("info", "The context is longer than the documents"),
    "no-validation": Notice("warning", "No text is kept aside to judge by"),
    "corpus-repeated": Notice("warning", "A corpus of the mixture is read very often"),
    "mixture": Notice("info", "What the mixture amounts to"),
    "nothing-to-shuffle": Notice("info", "There is only one document to shuffle"),
    # The machine
    "out-of-memory": Notice("error", "The memory was not enough"),
    "micro-batch-halved": Notice("warning", "The memory was short, and the run goes on with less at once"),
    "activations-recomputed": Notice("warning", "The memory was short, and activations are computed anew"),
    "evaluation-skipped": Notice("warning", "The memory was not enough to evaluate"),
    "sample-skipped": Notice("warning", "The memory was not enough for a sample"),
    "memory-nearly-full": Notice("warning", "The memory is nearly full"),
    "waiting-for-data": Notice("warning", "The training waits for text to be read"),
    "disk-nearly-full": Notice("warning", "The disk is nearly full"),
    "no-checkpoint": Notice("warning", "Nothing has been saved for long"),
    "save-failed": Notice("error", "A checkpoint could not be written"),
    "events-unwritten": Notice("error", "What the run tells could not be written"),
    "room-again": Notice("info", "There is room again, and the training goes on"),
    "slow-disk": Notice("warning", "Saving takes long: the disk is slow"),
    "log-unwritable": Notice("warning", "The log for people cannot be written"),
    "commands-untrusted": Notice("warning", "Commands are not obeyed, for others could write them"),
    # The course of a run
    "queued": Notice("info", "The run waits for its turn"),
    "not-started": Notice("error", "The run could not begin when its turn had come"),
    "duration": Notice("info", "How long it will take"),
    "rewarmed": Notice("info", "The learning rate climbs again"),
    "environment-changed": Notice("info", "The run goes on in another environment"),
    "finished": Notice("info", "The run is done"),
    # Tasks
    "task": Notice("info", "A remark of a long job"),
}


def latest_cure(events: Iterable[Mapping[str, Any]]) -> Cure | None:
    """Return the cure of the latest notice that has one; None where there is none, or it has been carried out since.

    `events` may be all of a run's events or its notices alone.
    """
    found: Cure | None = None
    for event in events:
        if event.get("type") == "notice":
            found = cure_of(event) or found
        elif event.get("type") == "command" and found is not None and event.get("done"):
            same = event.get("command") == found.get("command") and event.get("args") == found.get("args")
            found = None if same else found
    return found


def cure_of(notice: Mapping[str, Any]) -> Cure | None:
    """Return what a notice says can be done by a key, or None; never what is not of the form above."""
    cure = notice.get("cure")
    if not isinstance(cure, Mapping) or not isinstance(cure.get("label"), str):
        return None
    by_command = isinstance(cure.get("command"), str) and isinstance(cure.get("args"), Mapping)
    return dict(cure) if by_command or isinstance(cure.get("settings"), Mapping) else None
