"""What is done where the memory of the device or the machine is not enough: the same step again, with less at once.

    loss = trainer.thrift.gradients(lambda: trainer.gradients(inputs, targets))

First fewer windows pass through the network at once, down to one; then activations are computed anew instead of kept.
Both leave the result as it is but for rounding, and hold from that step on: they are recorded as `set` commands, which
a resumed run and `verify` repeat.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import torch
from torch import Tensor

from minigpt.errors import printable
from minigpt.model.checkpoint import INTERRUPTED
from minigpt.notices import Cure
from minigpt.training.diagnosis.doctor import less_memory
from minigpt.training.ended import Ended
from minigpt.training.state import random_states, set_random_states

if TYPE_CHECKING:
    from minigpt.training.trainer import Trainer

Result = TypeVar("Result")

# What of a run may change when it is resumed.
_FLAGS = {
    "training.micro_batch_size": "--micro-batch-size {}",
    "training.gradient_checkpointing": "--gradient-checkpointing",
}
# Torch has no class for these: the host's allocator, C++, the drivers of CUDA and MPS, and CUDA's matrix library.
_SAID = ("can't allocate memory", "not enough memory", "std::bad_alloc", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error tells of a lack of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)


def attempted(work: Callable[[], Result], device_kind: str, undo: Callable[[], None] | None = None) -> Result:
    """Return what `work` returns; raises torch.OutOfMemoryError where it lacked memory, all that it held given back.

    What work leaves behind outside of itself is to be taken away by `undo`.
    """
    try:
        return work()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        words = str(error)
    # Not before here: until its block is left, the error's traceback holds every activation.
    if undo is not None:
        undo()
    _give_back(device_kind)
    raise torch.OutOfMemoryError(words)


def _give_back(device_kind: str) -> None:
    gc.collect()
    if device_kind == "cuda":
        torch.cuda.empty_cache()
    elif device_kind == "mps":
        torch.mps.empty_cache()


class Thrift:
    """Has one run do with the memory that there is."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        # Whoever repeats or measures steps wants those, and no others.
        self.allowed = False

    def gradients(self, compute: Callable[[], Tensor]) -> Tensor:
        """Return the loss whose gradients `compute` adds up; where memory is short, it does so again with less at once.

        Each attempt begins as the first did, the random numbers included. Raises torch.OutOfMemoryError where the
        least is too much.
        """
        if not self.allowed:
            return compute()
        trainer = self.trainer
        before = random_states(trainer.device.kind)
        while True:
            try:
                return attempted(compute, trainer.device.kind, undo=partial(drop_gradients, trainer))
            except torch.OutOfMemoryError:
                set_random_states(before)
                if not self._take_less():
                    raise

    def _take_less(self) -> bool:
        """Have the steps from this one on take less memory; return False where they take the least already."""
        trainer = self.trainer
        windows, step = trainer.plan.micro_batch_size, trainer.progress.step
        if windows > 1:
            less = windows // 2
            trainer.controls.set_by_trainer({"micro_batch_size": less})
            trainer.recorder.notice(
                "warning",
                "micro-batch-halved",
                f"{_memory(trainer)} was not enough for {windows:,} windows at once: step {step + 1:,} is made again, "
                f"and the run goes on, with {less:,} at once. The batch stays the same, and so does the result but for "
                "rounding. When there is room again, "
                f"`minigpt control {_run(trainer)} set micro_batch_size={windows}` makes it as fast as before.",
                step=step,
            )
            return True
        if not trainer.model.gradient_checkpointing:
            trainer.controls.set_by_trainer({"gradient_checkpointing": True})
            trainer.recorder.notice(
                "warning",
                "activations-recomputed",
                f"{_memory(trainer)} was not enough for one window: step {step + 1:,} is made again, and the run goes "
                "on, with activations computed anew instead of kept. The result is the same; a step takes about a "
                "third longer.",
                step=step,
            )
            return True
        return False

    def set(self, name: str, value: Any) -> None:
        """Change micro_batch_size or gradient_checkpointing from here on; checkpoints tell of it too."""
        trainer = self.trainer
        if name == "micro_batch_size":
            trainer.plan = replace(trainer.plan, micro_batch_size=value)
        else:
            trainer.model.gradient_checkpointing = value
        trainer.settings = msgspec.structs.replace(trainer.settings, **{name: value})
        training = msgspec.structs.replace(trainer.config.training, **{name: value})
        trainer.config = msgspec.structs.replace(trainer.config, training=training)
        if trainer.settings.compile:
            # What was compiled for another size is no use, takes memory, and would make the next one less fitting.
            torch.compiler.reset()


def drop_gradients(trainer: Trainer) -> None:
    """Forget what a step has added up so far."""
    for parameter in trainer.model.parameters():
        parameter.grad = None


def rescue(trainer: Trainer, error: Exception) -> None:
    """Save what is there, and say how the run can go on."""
    error.__traceback__ = error.__context__ = None
    drop_gradients(trainer)
    _give_back(trainer.device.kind)
    with suppress(torch.OutOfMemoryError, MemoryError, Ended):
        trainer.drain()
    # In the middle of an update, some weights have moved and others have not.
    saved = " It was in the middle of an update of the weights, which are of no use now." if trainer.updating else ""
    if trainer.progress.step and not trainer.updating:
        with suppress(torch.OutOfMemoryError, MemoryError):
            saved = f" The weights so far are in {INTERRUPTED}." if trainer.save(INTERRUPTED) else ""
    cure = less_memory(trainer)
    trainer.recorder.notice(
        "error",
        "out-of-memory",
        f"{_memory(trainer)} was not enough.{saved} {_way_on(trainer, cure)}",
        cure=cure,
        step=trainer.progress.step,
    )


def _way_on(trainer: Trainer, cure: Cure) -> str:
    """Return in words how the run goes on in less memory: this very run, where the cure leaves its result alone."""
    resumable, resume = any(trainer.directory.glob("*.pt")), f"minigpt train --resume {_run(trainer)}"
    for key, flag in _FLAGS.items():
        if key in cure["settings"] and resumable:
            return (
                f"Go on from the last checkpoint with `{resume} {flag.format(cure['settings'][key])}`: the result is "
                "the same but for rounding. A smaller model.max_seq_len takes less too, in a new run."
            )
        if key in cure["settings"]:
            return (
                "Start again with a lower training.micro_batch_size (same result) or model.max_seq_len, or set "
                "training.gradient_checkpointing."
            )
    again = f"`{resume}` goes on when other programs have left room; else start" if resumable else "Start"
    return (
        "One window at a time, its activations computed anew, is the least that this run can take. "
        f"{again} a new run with a lower model.max_seq_len or a smaller model."
    )


def _memory(trainer: Trainer) -> str:
    return f"The memory of the {'machine' if trainer.device.kind == 'cpu' else 'device'}"


def _run(trainer: Trainer) -> str:
    return printable(trainer.directory.name, single_line=True)
