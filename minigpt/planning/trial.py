"""One trial of `fit`, in a process of its own: real steps of a preset with so many windows at once.

setup = describe_setup(session)
trial = try_windows(session, 16, setup.room)
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from minigpt.device import synchronise
from minigpt.inference.evaluate import TOKENS_AT_ONCE, evaluate
from minigpt.planning.fit import GPU_RESERVE, Setup, Trial, cpu_room
from minigpt.training.recorder import Recorder
from minigpt.training.session import Session
from minigpt.training.trainer import Trainer

# Where a step is quick, a second look at its time costs nothing.
QUICK_SECONDS = 5.0


def describe_setup(session: Session) -> Setup:
    """Return what a run is, and how much memory it may take."""
    device = session.device
    if device.kind == "cuda":
        room = int(torch.cuda.mem_get_info()[0] * (1 - GPU_RESERVE))
    elif device.kind == "mps":
        room = int(torch.mps.recommended_max_memory() * (1 - GPU_RESERVE))
    else:
        room = cpu_room()
    return Setup(device.label, device.kind, session.plan.windows_per_step, room)


def try_windows(session: Session, windows: int) -> Trial:
    """Make a few steps and an evaluation with so many windows at once; the session is of no further use."""
    # Two parts show what many do: the second meets the gradients of the first.
    windows_per_step = min(session.plan.windows_per_step, 2 * windows)
    session.plan = replace(session.plan, micro_batch_size=windows, windows_per_step=windows_per_step)
    _limit_memory(session)
    try:
        with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder), session.device.kind, 10**9) as recorder:
            trainer = session.trainer(recorder)
            # The first step makes the optimizer's state: only in the second is everything there at once.
            _seconds_of_a_step(trainer)
            seconds = _seconds_of_a_step(trainer)
            if seconds < QUICK_SECONDS:
                seconds = min(seconds, _seconds_of_a_step(trainer))
            _evaluate(trainer)
    except RuntimeError as error:
        if "out of memory" not in str(error) and "allocate memory" not in str(error):
            raise
        return Trial(windows, fits=False)
    return Trial(windows, True, _peak(session.device.kind), session.plan.tokens_per_step / seconds)


def _limit_memory(session: Session) -> None:
    """Have the device refuse what is beyond the room that a run may take."""
    room = describe_setup(session).room
    if session.device.kind == "cuda":
        _, total = torch.cuda.mem_get_info()
        # What this process holds already counts too.
        torch.cuda.set_per_process_memory_fraction(min(1.0, (room + torch.cuda.memory_reserved()) / total))
        torch.cuda.reset_peak_memory_stats()
    elif session.device.kind == "mps":
        torch.mps.set_per_process_memory_fraction(1 - GPU_RESERVE)


def _seconds_of_a_step(trainer: Trainer) -> float:
    synchronise(trainer.torch_device)
    started = time.perf_counter()
    trainer.train_step()
    synchronise(trainer.torch_device)
    return time.perf_counter() - started


def _evaluate(trainer: Trainer) -> None:
    shards = trainer.text.validation.shards or trainer.text.train.shards
    evaluate(trainer.model, shards, max_tokens=TOKENS_AT_ONCE, precision=trainer.precision)


def _peak(kind: str) -> int:
    """Return the most bytes that were taken at once: of the device, or of this process."""
    if kind == "cuda":
        return int(torch.cuda.max_memory_reserved())
    if kind == "mps":
        return int(torch.mps.driver_allocated_memory())
    try:
        # Not getrusage, which counts what the parent took before it became this process.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
