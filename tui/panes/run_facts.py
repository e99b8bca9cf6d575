"""What the Runs pane shows of one run: its facts, its checkpoints and its last notices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from textual.content import Content

from minigpt.errors import printable
from minigpt.narration import duration, narrate, number, size
from minigpt.post_mortem import why
from minigpt.runs import LIVE_STATES, CheckpointFile, RunSummary, checkpoints_of
from tui.runs.roster import age, state_cell
from tui.widgets.browser import details
from tui.widgets.listing import MUTED

NOTICES = 5
_ADVICE = {
    "finished": "c talks to it; f begins a new run from it.",
    "interrupted": "It was stopped and everything is saved: r goes on where it stopped.",
    "failed": "It gave up; the last notice says why. r tries to go on from its last checkpoint.",
    "crashed": "Its process ended without a word (killed, no memory, power cut). r goes on from its last checkpoint.",
    "imported": "A model from elsewhere. c talks to it; f trains it on a text of yours.",
    "empty": "Nothing was recorded here yet. If nothing starts, d removes it.",
}
_STYLES = {"error": "$text-error", "warning": "$text-warning"}


@dataclass(frozen=True)
class Saved:
    """A checkpoint on disk, and when it was written (Unix seconds)."""

    file: CheckpointFile
    modified: float


@dataclass(frozen=True)
class RunFiles:
    """What has to be looked for in a run's folder: its checkpoints, the furthest first, and why it ended."""

    run: str
    files: tuple[Saved, ...] = ()
    why: str = ""
    looked: bool = False

    @property
    def bytes(self) -> int:
        return sum(saved.file.bytes for saved in self.files)


def look_for_files(directory: Path, summary: RunSummary) -> RunFiles:
    """Return what lies in a run's folder; checkpoints that vanish meanwhile are left out."""
    found = []
    for file in checkpoints_of(directory, summary):
        try:
            found.append(Saved(file, (directory / file.name).stat().st_mtime))
        except OSError:
            continue
    return RunFiles(summary.run, tuple(reversed(found)), why(directory, summary) or "", looked=True)


def facts_of(summary: RunSummary, files: RunFiles, now: float) -> Content:
    """Return how a run stands, and what can be done with it."""
    state, style = state_cell(summary.state)
    step = _of(f"{summary.step:,}", f"{summary.planned_steps:,}" if summary.planned_steps else "")
    if summary.epoch:
        step += f" (epoch {_of(number(summary.epoch, 2), number(summary.planned_epochs, 2))})"
    size_of_model = f"{summary.parameters:,} parameters" if summary.parameters else ""
    speed = f"{summary.tokens_per_s:,.0f} tokens/s" if summary.tokens_per_s else ""
    pairs = [
        ("note", summary.note),
        ("begun with", _origin(summary)),
        ("step", step),
        ("best loss", _best(summary)),
        ("model", _joined(summary.preset, size_of_model)),
        ("corpus", summary.corpus or ""),
        ("device", _joined(summary.device, speed)),
        ("time", _joined(_lasted(summary), _ago(summary.last_event_time, now))),
        ("saved", _saved(summary, files)),
        ("ended", summary.reason or ""),
    ]
    told = _advice(summary, files)
    known = summary.state in _ADVICE or summary.state in LIVE_STATES
    advice = [Content.styled(printable(told), MUTED)] if known else []
    heading = details(summary.run, [])
    return Content("\n").join([heading, Content.styled(state, style), *advice, details("", pairs)])


def _advice(summary: RunSummary, files: RunFiles) -> str:
    """Return what the state means and what can be done."""
    told = _ADVICE.get(summary.state, "It is at work: Enter shows it in the Train pane.")
    if summary.state == "empty" and files.why:
        return f"{files.why} d removes it."
    if summary.state not in ("failed", "crashed", "interrupted") or not files.looked:
        return told
    if not files.files:
        why = files.why or ("The last notice says why it gave up." if summary.state == "failed" else "It ended early.")
        return f"{why} It saved no checkpoint, so there is nothing to go on from."
    return f"{files.why} The key r does that." if files.why else told


def notices_of(summary: RunSummary) -> Content:
    """Return the last things worth a notice, the newest first."""
    if not summary.notices:
        return Content("")
    lines = [Content.styled("Last notices", "bold")]
    for event in reversed(summary.notices[-NOTICES:]):
        style, told = _STYLES.get(str(event.get("severity")), ""), narrate(event, pointer=False) or ""
        lines.append(Content.styled(told, style) if style else Content(told))
    return Content("\n").join(lines)


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
    return f"{duration(summary.seconds)} at work" if summary.started is not None else ""


def _origin(summary: RunSummary) -> str:
    """Return whose weights a fork began with."""
    told = summary.forked_from or {}
    checkpoint = f", {told['checkpoint']}" if told.get("checkpoint") else ""
    return f"the weights of {told['run']}{checkpoint}" if told.get("run") else ""


def _saved(summary: RunSummary, files: RunFiles) -> str:
    if not files.looked:
        return ""
    count = len(files.files)
    told = f"{count} checkpoint{'' if count == 1 else 's'}, {size(files.bytes)}" if count else "no checkpoint yet"
    whole = summary.disk_bytes or 0
    if count and files.bytes > whole > 0:  # checkpoints of one step are one file with two names
        return f"{count} checkpoints, {size(whole)} on disk"
    return f"{told} of {size(whole)} on disk" if count and size(whole) != size(files.bytes) else told
