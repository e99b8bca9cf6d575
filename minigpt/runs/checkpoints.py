"""A run's checkpoints: at which step each was written, what it takes, how good it was; and which to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from minigpt.errors import UserError, printable
from minigpt.runs.files import BEST, FINAL, INTERRUPTED, PERIODIC, modified, newest_file
from minigpt.runs.known import summarise
from minigpt.summary import RunSummary

# The system dates files by a clock that is up to a tick behind the one that dates events.
FILE_CLOCK_SECONDS = 0.02


class CheckpointFile(msgspec.Struct, frozen=True):
    """One checkpoint of a run; `loss` is the validation loss measured at its step (nats a token), if any was."""

    name: str
    step: int
    kind: str  # best, final, interrupted, step or epoch; "other" for a file of another name
    bytes: int
    loss: float | None = None


def checkpoints_of(directory: Path, summary: RunSummary | None = None) -> list[CheckpointFile]:
    """Return the checkpoints that are there, those of the earliest steps first."""
    summary = summarise(directory) if summary is None else summary
    # By name: the run may have been moved since, and no event points outside its directory.
    steps = {Path(event["path"]).name: int(event["step"]) for event in summary.saved_files()}
    losses = _losses(summary)
    found = []
    for path in directory.glob("*.pt"):
        kind = kind_of(path.name)
        step = steps.get(path.name, _likely_step(path.name, kind, summary))
        try:
            size = path.stat().st_size
        except OSError:  # the trainer has just removed it
            continue
        found.append(((step, modified(path), path.name), CheckpointFile(path.name, step, kind, size, losses.get(step))))
    return [checkpoint for _, checkpoint in sorted(found, key=lambda pair: pair[0])]


def find_checkpoint(directory: Path, name: str) -> Path:
    """Return the checkpoint file of that name in a run, `.pt` or not; raises UserError with those there are."""
    names = [checkpoint.name for checkpoint in checkpoints_of(directory)]
    for known in (name, f"{name}.pt", f"{name}_model.pt", f"{name}_checkpoint.pt", f"checkpoint_step_{name}.pt"):
        if known in names:
            return directory / known
    run = printable(directory.name, single_line=True)
    told = f"it has {', '.join(printable(known, single_line=True) for known in names)}." if names else "it has none."
    raise UserError(f"The run {run} has no checkpoint {name!r}: {told}")


def kind_of(name: str) -> str:
    """Return what a checkpoint's name says of why it was written."""
    stem = name.removesuffix(".pt")
    for kind in ("step", "epoch"):
        # There are digits beyond 0 to 9 that are no number.
        if stem.removeprefix(f"checkpoint_{kind}_").isdecimal():
            return kind
    return {BEST: "best", FINAL: "final", INTERRUPTED: "interrupted"}.get(name, "other")


def resume_checkpoint(directory: Path) -> Path | None:
    """Return the checkpoint that is furthest on, by the run's events; by the files' dates where these tell nothing.

    A file of which no event tells counts where it is younger than all of them: a killed process had no time to tell of
    it, or a power loss took the last events. An older one belongs to a part of the run that was given up.
    """
    files = {path.name: path for path in directory.glob("*.pt") if path.is_file()}
    summary = summarise(directory)
    # By name: the run may have been moved since, and no event points outside its directory.
    saved = [(event["step"], Path(event["path"]).name) for event in summary.saved_files()]
    known = {name for _, name in saved}
    untold = [path for name, path in files.items() if name not in known and kind_of(name) != "other"]
    last = (summary.last_event_time or 0.0) - FILE_CLOCK_SECONDS
    if youngest := newest_file(path for path in untold if modified(path) > last):
        return youngest
    # Of equals the last written.
    told = [(step, order, name) for order, (step, name) in enumerate(saved) if name in files]
    if told:
        return files[max(told)[2]]
    named = [files[name] for name in (BEST, FINAL, INTERRUPTED) if name in files]
    return newest_file([*named, *directory.glob(PERIODIC)])


def _likely_step(name: str, kind: str, summary: RunSummary) -> int:
    """Return the step of a checkpoint of which no event tells; 0 where nothing does, as in an imported model."""
    if kind == "step":
        return int(name.removesuffix(".pt").rpartition("_")[2])
    if kind == "best":
        return summary.best_step or 0
    return summary.step if kind in ("final", "interrupted") else 0


def _losses(summary: RunSummary) -> dict[int, float]:
    """Return the validation losses by step, all measured on the same part of the split."""
    found = dict(summary.records)
    for event in summary.evaluations:
        if event.get("split") == "validation" and not event.get("whole"):
            step, loss = _number(event.get("step")), _number(event.get("loss"))
            if step is not None and loss is not None:
                found[int(step)] = loss
    return found


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
