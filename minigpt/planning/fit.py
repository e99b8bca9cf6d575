"""Fit: the largest micro-batch that the device holds, found by trying. Needs no torch.

    fitting = fit(workspace, "small", "novels", task=task)
    fitting.changes                # {"training.batch_size": 16, "training.gradient_accumulation_steps": 4, ...}

Each trial is a process of its own that makes real steps (planning/trial.py) and is gone with all its memory. On a GPU
the trial itself finds out, with a reserve taken off what is free. On a CPU memory is the machine's own: a trial begins
only where the trials before it foretell that it fits, and one that grows beyond the room is ended at once, so that the
machine never swaps. Only sizes that make a difference are tried: those that cut the step's windows into other numbers
of equal parts.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import msgspec
import psutil

from minigpt.errors import JobFailed, UserError, printable
from minigpt.host import host_memory
from minigpt.narration import size
from minigpt.tasks import NOBODY, Task
from minigpt.workspace import Workspace

# Of what is free: evaluations, samples and whatever else the machine does need some too.
CPU_RESERVE = 0.2
# Whatever takes it: with so little of the machine's memory left, a trial ends.
LEAST_LEFT = 0.05
# A run of hours fragments its memory more than a few steps do.
GPU_RESERVE = 0.05
FASTER = 1.25
# No further beyond what was tried than this many times: a line through two small sizes is not to be trusted far.
_LEAP = 8
_LOOK_SECONDS = 0.02
_OUT_OF_MEMORY_EXIT, _KILLED = 1, -9
_LARGEST_COMPLAINT = 1 << 13


class Trial(msgspec.Struct):
    """What came of a number of windows at once: peak memory in bytes (None where it did not fit), tokens a second."""

    windows: int
    fits: bool
    peak: int | None = None
    tokens_per_s: float | None = None


class Setup(msgspec.Struct):
    """What a run of the preset is: `effective_batch` windows a step, `room` bytes that may be used of the device."""

    device: str
    kind: str
    effective_batch: int
    room: int


class Fitting(msgspec.Struct):
    """The outcome: `changes` keep the effective batch as it was; empty where not even one window fits."""

    preset: str
    corpus: str
    device: str
    effective_batch: int
    room: int
    micro_batch_size: int
    changes: dict[str, int]
    trials: list[Trial]
    text: str = ""


# A trial of so many windows at once, that may take so many bytes.
Try = Callable[[int, int], Trial]


def fit(workspace: Workspace, preset: str, corpus: str | None = None, task: Task = NOBODY) -> Fitting:
    """Find the largest micro-batch for a preset; raises UserError, JobFailed, and Cancelled when it is to stop."""
    setup = ask_setup(workspace, preset, corpus, task)

    def attempt(windows: int, room: int) -> Trial:
        trial = run_trial(workspace, preset, corpus, windows, setup.kind, room, task)
        task.notice(trial_line(trial))
        return trial

    trials = search(sizes(setup.effective_batch), setup, attempt)
    return conclude(preset, corpus or "", setup, trials)


# Which sizes


def sizes(effective_batch: int) -> list[int]:
    """Return the micro-batches worth trying, ascending: the smallest for each number of parts of a step."""
    found = [effective_batch]
    while found[-1] > 1:
        parts = -(-effective_batch // (found[-1] - 1))  # as few as make each smaller than the last
        found.append(-(-effective_batch // parts))
    return found[::-1]


def search(candidates: Sequence[int], setup: Setup, attempt: Try) -> list[Trial]:
    """Try sizes until the largest that fits is known; returns the trials in the order of their making."""
    trials: list[Trial] = []
    low, high, probe = -1, len(candidates), 0
    while high - low > 1:
        windows = candidates[probe]
        foretold = predicted_peak(trials, windows)
        if setup.kind == "cpu" and foretold is not None and foretold > setup.room:
            trial = Trial(windows, fits=False)
        else:
            trial = attempt(windows, setup.room)
            trials.append(trial)
        low, high = (probe, high) if trial.fits else (low, probe)
        probe = _next(candidates, low, high, trials, setup.room)
    return trials


def _next(candidates: Sequence[int], low: int, high: int, trials: list[Trial], room: int) -> int:
    """Return which to try next: what the peaks so far foretell, else twice as many, else half way."""
    if high < len(candidates) and trials and not trials[-1].fits:
        return (low + high) // 2
    fitting = [
        index
        for index in range(low + 1, high)
        if (peak := predicted_peak(trials, candidates[index])) is not None
        and peak <= room
        and candidates[index] <= _LEAP * candidates[low]
    ]
    if fitting:
        return fitting[-1]
    if predicted_peak(trials, candidates[low]) is not None:
        return low + 1
    return min(2 * max(low, 0) + 1, high - 1)


def predicted_peak(trials: Sequence[Trial], windows: int) -> int | None:
    """Return the bytes that so many windows will take, by a line through the last two that fitted; None before."""
    known = sorted({trial.windows: trial.peak for trial in trials if trial.peak is not None}.items())
    if len(known) < 2:
        return None
    (few, little), (many, much) = known[-2:]
    slope = max(0.0, (much - little) / (many - few))
    return int(much + slope * (windows - many))


def conclude(preset: str, corpus: str, setup: Setup, trials: list[Trial]) -> Fitting:
    """Return the outcome of the trials in settings and words."""
    fitting = [trial for trial in trials if trial.fits]
    best = max(fitting, key=lambda trial: trial.windows, default=None)
    found = Fitting(
        preset=preset,
        corpus=corpus,
        device=setup.device,
        effective_batch=setup.effective_batch,
        room=setup.room,
        micro_batch_size=best.windows if best else 0,
        changes=batch_settings(setup.effective_batch, best.windows) if best else {},
        trials=sorted(trials, key=lambda trial: trial.windows),
    )
    found.text = " ".join(_sentences(found))
    return found


def batch_settings(effective_batch: int, windows: int) -> dict[str, int]:
    """Return settings under which so many windows pass at once, and a step uses as many as before."""
    if effective_batch % windows == 0:
        return {
            "training.batch_size": windows,
            "training.gradient_accumulation_steps": effective_batch // windows,
            "training.micro_batch_size": windows,
        }
    # No whole number of batches: one batch, cut into parts of which the last is smaller.
    return {
        "training.batch_size": effective_batch,
        "training.gradient_accumulation_steps": 1,
        "training.micro_batch_size": windows,
    }


def _sentences(found: Fitting) -> list[str]:
    if not found.changes:
        return [
            f"Not even one window at once fits into the {size(found.room)} that may be used: lower model.max_seq_len "
            "or the model's size, or set training.gradient_checkpointing."
        ]
    windows, effective = found.micro_batch_size, found.effective_batch
    parts = math.ceil(effective / windows)
    best = next(trial for trial in found.trials if trial.windows == windows)
    peak = f", {size(best.peak)} at the peak" if best.peak is not None else ""
    told = [f"All of a step passes at once, {_windows(effective)}{peak}."]
    if parts > 1:
        told = [f"{windows} of a step's {effective} windows pass at once{peak}: {parts} parts a step, the same result."]
    speeds = [(trial.tokens_per_s, trial.windows) for trial in found.trials if trial.tokens_per_s is not None]
    fastest, fewer = max(speeds, default=(0.0, windows))
    if best.tokens_per_s is not None and fewer < windows and fastest > FASTER * best.tokens_per_s:
        told.append(
            f"{fewer} at once is {fastest / best.tokens_per_s:.1f} times as fast here: for speed, set "
            f"training.micro_batch_size = {fewer}."
        )
    return told


def trial_line(trial: Trial) -> str:
    """Return a trial in a line."""
    windows = _windows(trial.windows)
    if not trial.fits:
        return f"{windows} at once: does not fit"
    speed = "" if trial.tokens_per_s is None else f", {trial.tokens_per_s:,.0f} tokens/s"
    return f"{windows} at once: {size(trial.peak or 0)} at the peak{speed}"


def _windows(count: int) -> str:
    return f"{count:,} window{'' if count == 1 else 's'}"


# Trials in processes of their own


def ask_setup(workspace: Workspace, preset: str, corpus: str | None, task: Task) -> Setup:
    """Prepare the text in a process of its own, and return what a run of the preset is. Raises UserError."""
    found = _run(_command(workspace, preset, corpus, 0), task, "preparing the text", None)
    if found is None:
        raise JobFailed("There is not enough memory to prepare the text: close other programs.")
    return msgspec.json.decode(found, type=Setup)


def run_trial(
    workspace: Workspace, preset: str, corpus: str | None, windows: int, kind: str, room: int, task: Task
) -> Trial:
    """Try so many windows at once; on a CPU the process is ended as soon as it takes more than the room."""
    phase = f"trying {_windows(windows)} at once"
    found = _run(_command(workspace, preset, corpus, windows), task, phase, room if kind == "cpu" else None)
    if found is None:
        return Trial(windows, fits=False)
    trial = msgspec.json.decode(found, type=Trial)
    if kind == "cpu" and trial.peak is not None and trial.peak > room:
        return Trial(windows, fits=False)
    return trial


def _command(workspace: Workspace, preset: str, corpus: str | None, windows: int) -> list[str]:
    program = [sys.executable, "-m", "minigpt.cli.main", "presets", "fit", preset, "--trial", str(windows)]
    named = ["--corpus", corpus] if corpus is not None else []
    return [*program, *named, "--workspace", str(workspace.root)]


def _run(program: list[str], task: Task, phase: str, room: int | None) -> bytes | None:
    """Return what a process writes; None where memory did not suffice. Raises UserError with its last words."""
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=answer, stderr=log)
        try:
            if not _watch(process, task, phase, room):
                return None
        finally:
            process.kill()
            process.wait()
        answer.seek(0)
        written = answer.read()
        log.seek(max(0, log.seek(0, 2) - _LARGEST_COMPLAINT))
        lines = log.read().decode("utf-8", "replace").strip().splitlines()
    if process.returncode == _KILLED or (process.returncode == _OUT_OF_MEMORY_EXIT and "memory" in "".join(lines[-1:])):
        return None
    if process.returncode:
        raise UserError(printable(lines[-1]) if lines else "A trial ended without a word: try again.")
    return written


def _watch(process: subprocess.Popen[bytes], task: Task, phase: str, room: int | None) -> bool:
    """Wait for the end of a process; False, with the process still there, once it takes more than the room."""
    least = host_memory()[1] * LEAST_LEFT
    while process.poll() is None:
        if room is not None and (_resident(process.pid) > room or host_memory()[0] < least):
            return False
        task.report(phase)
        time.sleep(_LOOK_SECONDS)
    return True


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:  # it has just ended
        return 0


def cpu_room() -> int:
    """Return the bytes that a run may take of this machine's memory, or of the container's."""
    return int(host_memory()[0] * (1 - CPU_RESERVE))
