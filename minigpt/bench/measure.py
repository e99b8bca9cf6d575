"""How a figure comes about: each measurement in a process of its own, both sides in turn, medians over the repeats.

    tasks = {"ours": Task("train.ours", {...}), "baseline": Task("train.baseline", {...})}
    results = measure(bench, "train small", tasks, repeats=3)
    row = compare("train small", "tokens/s", results["ours"], results["baseline"], key="tokens_per_s", ...)

Threads, allocator and kernels are settings of a process, so only a process of its own shows what a side does without
the other's. A machine is slower in one minute than in the next, so only figures of one run are compared.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from minigpt.errors import JobFailed
from minigpt.workspace import Workspace

Say = Callable[[str], None]
Result = dict[str, Any]


class Row(msgspec.Struct, kw_only=True):
    """One figure beside its baseline's, medians of one run; low and high are the extremes of the repeats.

    `ratio` says how many times better ours is, whether more or less is better; None where that has no meaning.
    """

    name: str
    value: float
    unit: str
    baseline: str | None = None
    baseline_value: float | None = None
    ratio: float | None = None
    low: float
    high: float
    baseline_low: float | None = None
    baseline_high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Bench:
    """What every measurement of one run shares; `workspace` is temporary and holds the corpora named."""

    workspace: Workspace
    corpora: tuple[str, ...]
    own_text: bool  # whether the last corpus is a text of the user's
    say: Say
    quick: bool

    @property
    def folder(self) -> Path:
        return self.workspace.root


@dataclass(frozen=True)
class Task:
    """What one process measures: a function of this package, `module.function`, and its arguments (JSON values)."""

    function: str
    arguments: dict[str, Any]


def measure(bench: Bench, name: str, tasks: dict[str, Task], repeats: int) -> dict[str, list[Result]]:
    """Run every task in turn, `repeats` times over; return each one's results, in order.

    An argument `seed` grows by one with each repeat. Raises JobFailed when a process fails.
    """
    repeats = 1 if bench.quick else repeats
    results: dict[str, list[Result]] = {side: [] for side in tasks}
    for repeat in range(repeats):
        for side, task in tasks.items():
            arguments = dict(task.arguments)
            if "seed" in arguments:
                arguments["seed"] += repeat
            bench.say(f"{name}: {side}, {repeat + 1} of {repeats}")
            results[side].append(run_process(Task(task.function, arguments)))
    return results


def run_process(task: Task) -> Result:
    """Run one task in a fresh Python; return what it measured. Raises JobFailed."""
    command = [sys.executable, "-m", "minigpt.bench.worker", task.function, json.dumps(task.arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise JobFailed(f"The measurement {task.function} failed: {reason[0]}")
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(
    name: str,
    unit: str,
    key: str,
    ours: Sequence[Result],
    baseline: Sequence[Result] = (),
    *,
    baseline_name: str | None = None,
    less_is_better: bool = False,
    note: str = "",
) -> Row:
    """Return the row of one figure, the results' `key`, over all repeats."""
    values, others = [result[key] for result in ours], [result[key] for result in baseline]
    row = Row(name=name, unit=unit, value=statistics.median(values), low=min(values), high=max(values), note=note)
    if others:
        row.baseline = baseline_name
        row.baseline_value = statistics.median(others)
        row.baseline_low, row.baseline_high = min(others), max(others)
        better, worse = (row.baseline_value, row.value) if less_is_better else (row.value, row.baseline_value)
        row.ratio = better / worse
    return row
