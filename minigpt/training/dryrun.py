"""What a run will take, measured by making a few of its steps and throwing them away."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from minigpt.device import synchronise
from minigpt.host import host_memory
from minigpt.readings import free_disk
from minigpt.text.mixture import Mixture
from minigpt.training.plan import checkpoints_kept, memory_estimate
from minigpt.training.recorder import Recorder
from minigpt.training.session import Session

WARMUP_STEPS, MEASURED_STEPS = 2, 3


@dataclass(frozen=True)
class Portion:
    """What a corpus of a mixture gives to a run: its share of the windows, and how often all of it is read."""

    corpus: str
    share: float
    epochs: float


@dataclass(frozen=True)
class Forecast:
    """Sizes in bytes, times in seconds; `mixture` is empty for a lone corpus.

    Both figures of memory are of tensors on a GPU, and of the whole process elsewhere, where no allocator counts.
    """

    parameters: int
    train_tokens: int
    validation_tokens: int
    steps: int
    epochs: float
    tokens: int
    tokens_per_parameter: float
    seconds_per_step: float
    seconds: float
    memory_estimate: int
    memory_measured: int
    memory_available: int
    checkpoint_bytes: int
    disk_needed: int
    disk_free: int
    mixture: tuple[Portion, ...] = ()


def forecast(session: Session) -> Forecast:
    """Make a few steps and say what the whole run needs; the session is of no further use."""
    with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder), session.device.kind, 10**9) as recorder:
        trainer = session.trainer(recorder)
        _forget_peak(session)
        for step in range(WARMUP_STEPS + MEASURED_STEPS):
            if step == WARMUP_STEPS:
                synchronise(trainer.torch_device)
                started = time.perf_counter()
            trainer.train_step()
        trainer.drain()
        synchronise(trainer.torch_device)
        seconds = (time.perf_counter() - started) / MEASURED_STEPS
        memory = _peak(session)
    plan, model = session.plan, session.model
    estimate = memory_estimate(session.config, model.config, plan, session.device)
    checkpoint = session.checkpoint_bytes()
    return Forecast(
        parameters=model.parameter_count(),
        train_tokens=session.text.train.tokens,
        validation_tokens=session.text.validation.tokens,
        steps=plan.steps,
        epochs=plan.epochs,
        tokens=plan.tokens,
        tokens_per_parameter=plan.tokens / model.parameter_count(),
        seconds_per_step=seconds,
        seconds=seconds * plan.steps,
        memory_estimate=estimate.tensors if session.device.kind == "cuda" else estimate.total,
        memory_measured=memory,
        memory_available=_available(session),
        checkpoint_bytes=checkpoint,
        disk_needed=checkpoint * checkpoints_kept(session.config.training, plan.steps),
        disk_free=free_disk(session.directory),
        mixture=_portions(session),
    )


def _portions(session: Session) -> tuple[Portion, ...]:
    windows = session.text.windows
    if not isinstance(windows, Mixture):
        return ()
    epochs = windows.epochs_of_parts(session.plan.steps * session.plan.windows_per_step)
    return tuple(Portion(*portion) for portion in zip(windows.names, windows.shares, epochs, strict=True))


def _forget_peak(session: Session) -> None:
    """Have the peak of memory counted from now on, where that is possible."""
    if session.device.kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):  # another system than Linux, or not allowed
        Path("/proc/self/clear_refs").write_text("5")


def _peak(session: Session) -> int:
    """Return the most memory that was taken, in bytes: by tensors on a GPU, by the process elsewhere."""
    if session.device.kind == "cuda":
        return int(torch.cuda.max_memory_allocated())
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _available(session: Session) -> int:
    if session.device.kind == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return host_memory()[0]
