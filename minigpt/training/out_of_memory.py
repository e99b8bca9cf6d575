"""What is done where the memory of the device or the machine was not enough."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import torch

from minigpt.errors import printable
from minigpt.model.checkpoint import INTERRUPTED
from minigpt.notices import Cure
from minigpt.training.diagnosis.doctor import less_memory
from minigpt.training.ended import Ended

if TYPE_CHECKING:
    from minigpt.training.trainer import Trainer

# What of a run may change when it is resumed.
_FLAGS = {
    "training.micro_batch_size": "--micro-batch-size {}",
    "training.gradient_checkpointing": "--gradient-checkpointing",
}


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error tells of a lack of memory."""
    # What torch says when the host's memory is not enough has no class of its own.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def rescue(trainer: Trainer, error: Exception) -> None:
    """Save what is there, and say what takes less memory."""
    cure = less_memory(trainer)
    # The traceback holds every activation.
    error.__traceback__ = None
    for parameter in trainer.model.parameters():
        parameter.grad = None
    if trainer.device.kind == "cuda":
        torch.cuda.empty_cache()
    with suppress(torch.OutOfMemoryError, MemoryError, Ended):
        trainer.drain()
    saved = ""
    # In the middle of an update, some weights have moved and others have not.
    if trainer.progress.step and not trainer.updating:
        with suppress(torch.OutOfMemoryError, MemoryError):
            saved = f" The weights so far are in {INTERRUPTED}." if trainer.save(INTERRUPTED) else ""
    trainer.recorder.notice(
        "error",
        "out-of-memory",
        f"The memory of the {'machine' if trainer.device.kind == 'cpu' else 'device'} was not enough.{saved} "
        + _way_on(trainer, cure),
        cure=cure,
        step=trainer.progress.step,
    )


def _way_on(trainer: Trainer, cure: Cure) -> str:
    """Return in words how the run goes on in less memory: this very run, where the cure leaves its result alone."""
    for key, flag in _FLAGS.items():
        if key in cure["settings"] and any(trainer.directory.glob("*.pt")):
            run = printable(trainer.directory.name, single_line=True)
            return (
                f"Go on with `minigpt train --resume {run} {flag.format(cure['settings'][key])}`: the result is the "
                "same but for rounding. A smaller model.max_seq_len takes less too, in a new run."
            )
    return (
        "Start again with a lower training.micro_batch_size (same result) or model.max_seq_len, or set "
        "training.gradient_checkpointing."
    )
