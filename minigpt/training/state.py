"""Where a run stands, and how that gets into a checkpoint and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import Tensor

from minigpt.device import describe
from minigpt.errors import UserError
from minigpt.model.checkpoint import EPOCH, STEP, Checkpoint

if TYPE_CHECKING:
    from minigpt.training.trainer import Trainer

# What optimizers raise for tensors that are missing, of another shape, or no tensors.
_NOT_OF_THIS_NETWORK = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError)

# What of a plan must be as it was when a run is resumed.
PLAN_OF_A_RUN = (
    # Sums depend on how many windows go through the network at once, if only in their last digits.
    "micro_batch_size",
    "eval_every",
    "eval_tokens",
    "save_every",
    "sample_every",
    "log_every",
    "epoch_checkpoint_every",
)


class Progress(msgspec.Struct):
    """Where a run stands: all of it goes into each checkpoint."""

    last_step: int  # planned; the schedule runs from `first_step` to here, starting from `peak`
    first_step: int = 0
    peak: float = 1.0
    step: int = 0
    position: int = 0  # windows consumed
    lr_scale: float = 1.0
    loss_scale: float = 1.0
    good_updates: int = 0  # since the loss scale last changed
    bad_updates: int = 0  # in a row
    spike_above: float | None = None  # a loss that is far from the usual (nats a token); None until that is known
    spike_steps: int = 0  # in a row with such a loss
    best_loss: float | None = None
    best_step: int = 0
    evaluations_without_gain: int = 0


class _Limits(msgspec.Struct):
    target_loss: float | None
    patience: int | None


class _Environment(msgspec.Struct):
    precision: str
    threads: int


class _Training(msgspec.Struct):
    """What stands in a checkpoint's `training`: the form alone; optimizers look at their own tensors."""

    progress: Progress
    plan: dict[str, int]
    limits: _Limits
    optimizer: dict[str, dict[str, Any]]
    random_states: dict[str, Tensor]
    corpus: str
    environment: _Environment


def require_form(state: dict[str, Any]) -> None:
    """Raise msgspec.ValidationError unless a checkpoint's `training` is of the form that `capture` gives it."""
    msgspec.convert(state, _Training)


def capture(trainer: Trainer) -> Checkpoint:
    """Return all of a run as it stands now."""
    progress, text = trainer.progress, trainer.text
    return Checkpoint(
        config=trainer.config,
        model_config=trainer.model.config,
        weights=trainer.model.state_dict(),
        tokenizer=text.tokenizer.to_json(),
        step=progress.step,
        conversations=text.conversations,
        separated=text.separated,
        metrics={} if progress.best_loss is None else {"best_val_loss": progress.best_loss},
        training={
            "progress": msgspec.to_builtins(progress),
            "plan": {name: getattr(trainer.plan, name) for name in PLAN_OF_A_RUN},
            "limits": {"target_loss": trainer.settings.target_loss, "patience": trainer.settings.patience},
            "optimizer": trainer.optimizer.state_dict(),
            "random_states": random_states(trainer.device.kind),
            "corpus": text.content_hash,
            "environment": environment(trainer),
        },
    )


def random_states(device_kind: str) -> dict[str, Tensor]:
    """Return where the random numbers of the host and of the device stand."""
    states = {"cpu": torch.get_rng_state()}
    if device_kind == "cuda":
        states["cuda"] = torch.cuda.get_rng_state()
    elif device_kind == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(states: dict[str, Tensor]) -> None:
    """Have random numbers go on from where they stood."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])
    if "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def environment(trainer: Trainer) -> dict[str, Any]:
    """Return what must be the same for a resumed run to repeat the old one bit for bit."""
    return {**describe(trainer.device), "torch": str(torch.__version__), "world_size": 1}


def environment_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what of two environments differs and may change digits, in words: "torch was 2.6, is 2.7"."""
    return [
        f"{key} was {before.get(key)}, is {now[key]}"
        for key in now
        if before.get(key) != now[key] and not key.startswith("memory")
    ]


def restore(trainer: Trainer, state: dict[str, Any]) -> None:
    """Take optimizer, random states and changed limits from a checkpoint; weights and progress are there already.

    Raises UserError where they are not of this network.
    """
    states = state["random_states"]
    try:
        trainer.optimizer.load_state_dict(state["optimizer"])
        set_random_states({kind: states[kind] for kind in ("cpu", trainer.device.kind) if kind in states})
    except _NOT_OF_THIS_NETWORK as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise UserError(
            f"The checkpoint's state of the optimizer is damaged ({type(error).__name__}): choose another checkpoint "
            "of the run."
        ) from error
    trainer.settings = msgspec.structs.replace(trainer.settings, **state["limits"])


def go_back(trainer: Trainer, checkpoint: Checkpoint, progress: Progress) -> None:
    """Put a trainer, within its session, where it stood when one of its checkpoints was written."""
    now = trainer.progress
    if progress.first_step < now.first_step:
        # Written before the run got a new end: the session has that from the command line, and no file has it yet.
        schedule = {name: getattr(now, name) for name in ("first_step", "last_step", "peak")}
        progress = msgspec.structs.replace(progress, **schedule, evaluations_without_gain=0)
    for name in progress.__struct_fields__:
        setattr(now, name, getattr(progress, name))
    trainer.model.load_state_dict(checkpoint.weights)
    trainer.plan = replace(trainer.plan, **{name: checkpoint.training["plan"][name] for name in PLAN_OF_A_RUN})
    trainer.recorder.log_every = trainer.plan.log_every
    restore(trainer, checkpoint.training)


def remove_old_checkpoints(directory: Path, keep_last: int, keep_every: int | None = None) -> None:
    """Remove all but the newest step and epoch checkpoints, and those of every `keep_every` steps.

    The best, the final and the interrupted one have other names, and stay.
    """
    for pattern in (STEP, EPOCH):
        prefix = pattern.partition("{}")[0]
        numbered = [(path.stem.removeprefix(prefix), path) for path in directory.glob(prefix + "*.pt")]
        files = sorted((int(number), path) for number, path in numbered if number.isdecimal())
        for number, path in files[:-keep_last]:
            if pattern == STEP and keep_every and number % keep_every == 0:
                continue
            path.unlink(missing_ok=True)
