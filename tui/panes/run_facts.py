"""What the Runs pane shows of a run: its row, its facts, its files and notices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from textual.content import Content

from minigpt.errors import printable
from minigpt.narration import duration, narrate, number, size
from minigpt.runs import LIVE_STATES, RunSummary
from tui.figures import STATE_SIGNS, short
from tui.widgets.browser import details
from tui.widgets.listing import MUTED, Cell, Row

NOTICES = 5
_STYLES = {"success": "$text-success", "warning": "$text-warning", "error": "$text-error"}
_ADVICE = {
    "finished": "c talks to it.",
    "interrupted": "It was stopped and everything is saved: r goes on where it stopped.",
    "failed": "It gave up; the last notice says why. r tries to go on from its last checkpoint.",
    "crashed": "Its process ended without a word (killed, no memory, power cut). r goes on from its last checkpoint.",
    "imported": "A model from elsewhere. c talks to it.",
    "empty": "Nothing was recorded here yet. If nothing starts, d removes it.",
}


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint on disk; the step it was saved at, where the history tells it."""

    name: str
    bytes: int
    modified: float
    step: int | None


@dataclass(frozen=True)
class RunFiles:
    """The checkpoints of a run, the newest first."""

    run: str
    files: tuple[CheckpointFile, ...] = ()
    looked: bool = False


def look_for_files(directory: Path, summary: RunSummary) -> RunFiles:
    """Return the run's checkpoints; those that vanish meanwhile are left out."""
    steps = {Path(event["path"]).name: event["step"] for event in summary.saved_files()}
    found = []
    for path in directory.glob("*.pt"):
        try:
            status = path.stat()
        except OSError:
            continue
        found.append(CheckpointFile(path.name, status.st_size, status.st_mtime, steps.get(path.name)))
    found.sort(key=lambda file: file.modified, reverse=True)
    return RunFiles(summary.run, tuple(found), looked=True)


def row_of(summary: RunSummary, now: float) -> Row:
    """Return a run's line in the list."""
    planned = f"/{summary.planned_steps:,}" if summary.planned_steps else ""
    step = f"{summary.step:,}{planned}" if summary.step or planned else "-"
    cells = (
        Cell(summary.run, "bold"),
        Cell(*_state(summary.state)),
        Cell(step),
        Cell(number(summary.best_val_loss)),
        Cell(short(summary.parameters) if summary.parameters else "-"),
        Cell(summary.corpus or "-"),
        Cell(age(summary.last_event_time, now), MUTED),
    )
    return Row(summary.run, cells)


def _state(state: str) -> tuple[str, str]:
    sign, colour = STATE_SIGNS.get(state, ("·", ""))
    return f"{sign} {state}", _STYLES.get(colour, MUTED)


def age(then: float | None, now: float) -> str:
    """Return how long ago something was, in one unit, so that it seldom changes: "now", "3 min", "5 d"."""
    if then is None:
        return "-"
    seconds = now - then
    return "now" if seconds < 60 else " ".join(duration(seconds).split()[:2])


def facts_of(summary: RunSummary, now: float) -> Content:
    """Return how a run stands, and what can be done with it."""
    state, style = _state(summary.state)
    step = _of(f"{summary.step:,}", f"{summary.planned_steps:,}" if summary.planned_steps else "")
    if summary.epoch:
        step += f" (epoch {_of(number(summary.epoch, 2), number(summary.planned_epochs, 2))})"
    size_of_model = f"{summary.parameters:,} parameters" if summary.parameters else ""
    speed = f"{summary.tokens_per_s:,.0f} tokens/s" if summary.tokens_per_s else ""
    pairs = [
        ("step", step),
        ("best loss", _best(summary)),
        ("model", _joined(summary.preset, size_of_model)),
        ("corpus", summary.corpus or ""),
        ("device", _joined(summary.device, speed)),
        ("time", _joined(_lasted(summary), _ago(summary.last_event_time, now))),
        ("ended", summary.reason or ""),
    ]
    told = _ADVICE.get(summary.state, "It is at work: Enter shows it in the Train pane.")
    advice = [Content.styled(told, MUTED)] if summary.state in _ADVICE or summary.state in LIVE_STATES else []
    heading = details(summary.run, [])
    return Content("\n").join([heading, Content.styled(state, style), *advice, details("", pairs)])


def _of(done: str, planned: str) -> str:
    return f"{done} of {planned}" if planned not in ("", "-") else done


def _joined(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _best(summary: RunSummary) -> str:
    loss = summary.best_val_loss
    if loss is None:
        return ""
    step = f" at step {summary.best_step:,}" if summary.best_step is not None else ""
    return f"{loss:.4f}{step}" + (f" (perplexity {math.exp(loss):.2f})" if 0 <= loss < 20 else "")


def _ago(then: float | None, now: float) -> str:
    if then is None:
        return ""
    told = age(then, now)
    return "heard of just now" if told == "now" else f"last heard of {told} ago"


def _lasted(summary: RunSummary) -> str:
    if summary.started is None or summary.last_event_time is None or summary.last_event_time < summary.started:
        return ""
    since = " since it resumed" if summary.resumed_from else ""
    return f"{duration(summary.last_event_time - summary.started)}{since}"


def files_of(files: RunFiles, summary: RunSummary, now: float) -> Content:
    """Return a run's checkpoints with sizes and steps, and the last notices."""
    lines = []
    if files.files:
        lines.append(Content.styled("Checkpoints", "bold"))
        width = max(len(file.name) for file in files.files)
        for file in files.files:
            step = "" if file.step is None else f"step {file.step:,}"
            told = f"{size(file.bytes):>8}  {step:<12}  {age(file.modified, now)}"
            lines.append(Content(f"{printable(file.name, single_line=True):<{width}}  ") + Content.styled(told, MUTED))
    elif files.looked:
        lines.append(Content.styled("No checkpoints.", MUTED))
    if summary.notices:
        lines += [Content(""), Content.styled("Last notices", "bold")]
        for event in reversed(summary.notices[-NOTICES:]):
            style = {"error": "$text-error", "warning": "$text-warning"}.get(str(event.get("severity")), "")
            told = narrate(event) or ""
            lines.append(Content.styled(told, style) if style else Content(told))
    return Content("\n").join(lines)
