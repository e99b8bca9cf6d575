"""A part of a run trained again by `minigpt runs verify`, and what came of it in words: for threads."""

from __future__ import annotations

import msgspec

from minigpt.errors import printable
from minigpt.workspace import Workspace
from tui.corpora.children import Children

_CLEARING_SECONDS = 2.0


class Difference(msgspec.Struct):
    """A step whose loss came out otherwise (nats a token; None where it was no finite number)."""

    step: int
    recorded: float | None = None
    replayed: float | None = None


class Verdict(msgspec.Struct):
    """The answer of `minigpt runs verify RUN --json`."""

    checkpoint: str
    from_step: int
    steps: int
    reproduced: bool
    changes: list[str] = []
    differing: int = 0
    first_difference: Difference | None = None
    largest_difference: float | None = None


def replay(workspace: Workspace, run: str, checkpoint: str | None = None) -> Verdict:
    """Have steps of a run trained again after a checkpoint, the last good one if none is named.

    Raises UserError with the child's own words where it cannot, Stopped when the thread's worker is cancelled.
    """
    arguments = ["runs", "verify", run, *(["--from", checkpoint] if checkpoint else []), "--json"]
    # The exit code says whether the losses are the same; an answer is there in both cases.
    told = Children().ask(workspace, arguments, answering=(0, 1), clearing_seconds=_CLEARING_SECONDS)
    return msgspec.convert(told, Verdict)


def in_words(run: str, verdict: Verdict) -> tuple[str, str]:
    """Return a title and a text for a dialog: what was done, what came of it, what it means."""
    first, last = verdict.from_step + 1, verdict.from_step + verdict.steps
    name, file = printable(run, single_line=True), printable(verdict.checkpoint, single_line=True)
    done = f"Steps {first:,} to {last:,} of {name} were trained again from {file}."
    if verdict.reproduced:
        came = "Every loss is the recorded one, to the last bit: what was trained can be trained again."
        return "Reproduced bit for bit", f"{done}\n\n{came}"
    came = f"{verdict.differing:,} of the {verdict.steps:,} losses came out otherwise"
    came += f", by up to {verdict.largest_difference:.2g}." if verdict.largest_difference is not None else "."
    if (one := verdict.first_difference) is not None:
        came += f" The first is that of step {one.step:,}: recorded {_loss(one.recorded)}, now {_loss(one.replayed)}."
    if verdict.changes:
        changes = printable("; ".join(verdict.changes))
        means = f"It is not computed as it was then: {changes}. Other digits at the end of a loss are to be expected."
        return "Not comparable bit for bit", f"{done}\n\n{came}\n\n{means}"
    means = "Nothing known to matter has changed since. A text that was edited would do this, and so would a mistake."
    return "Not reproduced", f"{done}\n\n{came}\n\n{means}"


def _loss(value: float | None) -> str:
    return "no finite number" if value is None else repr(value)
