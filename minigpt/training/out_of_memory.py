"""What is done where the memory of the device or the machine was not enough."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import torch

from minigpt.model.checkpoint import INTERRUPTED
from minigpt.training.diagnosis.doctor import less_memory
from minigpt.training.ended import Ended

if TYPE_CHECKING:
    from minigpt.training.trainer import Trainer


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
        f"The memory of the {'machine' if trainer.device.kind == 'cpu' else 'device'} was not enough: lower "
        "training.micro_batch_size (same result), or model.max_seq_len, or set training.gradient_checkpointing."
        f"{saved}",
        cure=cure,
        step=trainer.progress.step,
    )
