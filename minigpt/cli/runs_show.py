"""How `minigpt runs list` and `minigpt runs show` look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minigpt.cli.common import write_json
from minigpt.errors import printable
from minigpt.narration import duration, narrate, number, size
from minigpt.post_mortem import why
from minigpt.refusals import state_in_words, waits_to_write
from minigpt.runs import CheckpointFile, RunSummary, checkpoints_of, summarise, to_json

_NOTICES = 5
_STATE_WIDTH = 11
_LADDER = ("uniform", "unigram", "bigram")


def print_list(runs: list[RunSummary], folder: Path) -> None:
    """Print a table of the runs that lie in a folder."""
    width = max(len(run.run) for run in runs)
    states = [state_in_words(folder / run.run, run) for run in runs]
    widest = max(_STATE_WIDTH, *map(len, states))
    print(
        f"{'run':<{width}}  {'state':<{widest}}  {'step':>15}  {'best loss':>9}  {'parameters':>12}  {'time':>12}  "
        f"{'disk':>9}  preset, corpus, note"
    )
    for run, state in zip(runs, states, strict=True):
        step = f"{run.step:,}/{run.planned_steps:,}" if run.planned_steps else f"{run.step:,}"
        parameters = f"{run.parameters:,}" if run.parameters else "-"
        time = duration(run.seconds) if run.started is not None else "-"
        last = ", ".join(printable(part, single_line=True) for part in (run.preset, run.corpus, run.note) if part)
        print(
            f"{printable(run.run, single_line=True):<{width}}  {state:<{widest}}  {step:>15}  "
            f"{number(run.best_val_loss):>9}  {parameters:>12}  {time:>12}  "
            f"{size(run.disk_bytes or 0):>9}  {last or '-'}"
        )


def print_run(directory: Path, as_json: bool) -> None:
    """Print all of one run: how it stands, its checkpoints, its last notices."""
    run = summarise(directory)
    checkpoints = checkpoints_of(directory, run)
    ended = why(directory, run)
    if as_json:
        details: dict[str, Any] = {
            "evaluations": run.evaluations,
            "notices": run.notices,
            "files": run.saved_files(),
            "checkpoints": checkpoints,
            "ladder": run.ladder,
            "why": ended,
            "cannot_write": waits_to_write(directory, run),
        }
        write_json({**to_json(run), **details})
        return
    steps = f" of {run.planned_steps:,}" if run.planned_steps else ""
    print(f"{printable(run.run, single_line=True)}: {state_in_words(directory, run)}, step {run.step:,}{steps}")
    for name, value in _facts(run, ended).items():
        if value:
            print(f"  {name:<11} {printable(str(value), single_line=True)}")
    print("  checkpoints")
    for checkpoint in checkpoints:
        print(_line_of(checkpoint))
    for event in run.notices[-_NOTICES:]:
        print(f"  {narrate(event)}")


def _facts(run: RunSummary, ended: str | None) -> dict[str, Any]:
    origin = run.forked_from or {}
    return {
        "note": run.note,
        "preset": run.preset,
        "corpus": run.corpus,
        "parameters": run.parameters and f"{run.parameters:,}",
        "device": run.device,
        "forked from": origin and f"{origin.get('run')}, {origin.get('checkpoint')}, step {origin.get('step')}",
        "best loss": run.best_val_loss is not None and f"{run.best_val_loss:.4f} at step {run.best_step:,}",
        "ladder": _ladder(run),
        "ended": ended or run.reason,
        "time": run.started is not None and duration(run.seconds),
        "disk": run.disk_bytes and size(run.disk_bytes),
    }


def _ladder(run: RunSummary) -> str:
    """Return the losses of simple models beside this one's, so that one sees what was learned."""
    rungs = [f"{name} {run.ladder[name]:.3f}" for name in _LADDER if run.ladder and name in run.ladder]
    if rungs and run.best_val_loss is not None:
        rungs.append(f"this model {run.best_val_loss:.3f}")
    return ", ".join(rungs)


def _line_of(checkpoint: CheckpointFile) -> str:
    loss = "" if checkpoint.loss is None else f"  loss {checkpoint.loss:.4f}"
    name = printable(checkpoint.name, single_line=True)
    return f"    {name:<32} {size(checkpoint.bytes):>9}  step {checkpoint.step:,}{loss}"
