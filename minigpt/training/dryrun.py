"""What a run will take, measured by making a few of its steps and throwing them away."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from minigpt.device import synchronise
from minigpt.readings import free_disk
from minigpt.text.mixture import Mixture
from minigpt.training.plan import memory_estimate
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
    """Sizes in bytes, times in seconds; `mixture` is empty for a lone corpus."""

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
        before = psutil.Process().memory_info().rss
        for step in range(WARMUP_STEPS + MEASURED_STEPS):
            if step == WARMUP_STEPS:
                synchronise(trainer.torch_device)
                started = time.perf_counter()
            trainer.train_step()
        trainer.drain()
        synchronise(trainer.torch_device)
        seconds = (time.perf_counter() - started) / MEASURED_STEPS
        if session.device.kind == "cuda":
            memory = torch.cuda.max_memory_allocated()
        else:
            # The weights were there before; gradients, optimizer and activations came with the steps.
            memory = psutil.Process().memory_info().rss - before + 4 * session.model.parameter_count()
    plan, model = session.plan, session.model
    matrices = sum(weight.numel() for weight, _ in model.matrices())
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
        memory_estimate=memory_estimate(
            session.config, model.config, model.parameter_count(), matrices, plan, session.device
        ),
        memory_measured=memory,
        memory_available=_available(session),
        checkpoint_bytes=checkpoint,
        # Best and final stay; of step and epoch checkpoints the last few; one more while it is written.
        disk_needed=checkpoint * (2 * session.config.training.keep_last + 3),
        disk_free=free_disk(session.directory),
        mixture=_portions(session),
    )


def _portions(session: Session) -> tuple[Portion, ...]:
    windows = session.text.windows
    if not isinstance(windows, Mixture):
        return ()
    epochs = windows.epochs_of_parts(session.plan.steps * session.plan.windows_per_step)
    return tuple(Portion(*portion) for portion in zip(windows.names, windows.shares, epochs, strict=True))


def _available(session: Session) -> int:
    if session.device.kind == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)
