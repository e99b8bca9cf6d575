"""Checkpoints: one file with everything, written so that it is whole or absent, opened without executing anything.

save(path, Checkpoint(...))
checkpoint = load(path)
model = checkpoint.build_model()
"""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import torch
from torch import Tensor

from minigpt.config import Config, settings
from minigpt.errors import UserError, one_line
from minigpt.model.gpt import GPT, GPTConfig
from minigpt.model.unopened import Damaged, Refused, inspect, plain
from minigpt.presets import allowed, convert
from minigpt.workspace import sync_folder

FORMAT = "minigpt-checkpoint"
VERSION = 1

BEST = "best_model.pt"
FINAL = "final_model.pt"
INTERRUPTED = "interrupted_checkpoint.pt"
STEP = "checkpoint_step_{}.pt"
EPOCH = "checkpoint_epoch_{}.pt"

# What torch.load raises on a file whose bytes were altered, besides UnpicklingError.
_DAMAGED = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    struct.error,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    Damaged,
)


@dataclass
class Checkpoint:
    """All that is needed to generate, and (where `training` is set) to go on training as if never stopped.

    `training` holds plain values and tensors: optimizer, position in the text, schedule, random states.
    """

    config: Config
    model_config: GPTConfig
    weights: dict[str, Tensor]
    tokenizer: str  # the text of tokenizer.json
    step: int = 0
    conversations: bool = False  # whether the text it learned from had conversations in it
    separated: bool = True  # whether that text was many documents, each begun by the end of another
    metrics: dict[str, float] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def build_model(self, device: torch.device | str = "cpu") -> GPT:
        """Return the network with these weights; raises UserError when they do not fit it."""
        if self.model_config.n_layers > len(self.weights):
            raise UserError("The checkpoint's description of its network does not fit its weights: it is damaged.")
        try:
            with torch.device("meta"):
                model = GPT(self.model_config)
            shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        except (RuntimeError, ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
            raise UserError(f"The checkpoint describes an impossible network ({error}): it is damaged.") from error
        found = {name: tensor.shape for name, tensor in self.weights.items()}
        wrong = sorted(name for name in shapes.keys() | found.keys() if shapes.get(name) != found.get(name))
        if wrong:
            raise UserError(
                f"The checkpoint's weights do not fit the network it describes: {wrong[0]} is missing or wrong."
            )
        model.to_empty(device=device)
        model.fill_tables()
        if self.model_config.tied_embeddings:
            model.head.weight = model.token_embedding.weight
        model.load_state_dict(self.weights)
        return model


def save(path: Path, checkpoint: Checkpoint, also: tuple[Path, ...] = ()) -> None:
    """Write a checkpoint under `path`, and under the names in `also` without a second copy of the bytes.

    The file appears whole or not at all: written beside, flushed to the disk, renamed, and the folder flushed. What
    was there before under another name may go when this returns. Raises OSError.
    """
    payload = {
        "format": FORMAT,
        "version": VERSION,
        "config": msgspec.to_builtins(checkpoint.config),
        "model_config": msgspec.to_builtins(checkpoint.model_config),
        "weights": checkpoint.weights,
        "tokenizer": checkpoint.tokenizer,
        "step": checkpoint.step,
        "conversations": checkpoint.conversations,
        "separated": checkpoint.separated,
        "metrics": checkpoint.metrics,
        "training": checkpoint.training,
    }
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            _write(payload, file)
            file.flush()
            os.fsync(file.fileno())
        for name in also:
            _link(beside, name)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


def _write(payload: dict[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(payload, file)
    except RuntimeError as error:
        # torch's writer reports a full disk as a wrong position in the file.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _link(source: Path, name: Path) -> None:
    beside = name.with_name(f".{name.name}.{os.getpid()}.link")
    beside.unlink(missing_ok=True)
    try:
        try:
            os.link(source, beside)
        except OSError:
            # Some file systems have no hard links.
            with source.open("rb") as whole, beside.open("wb") as copy:
                while chunk := whole.read(1 << 24):
                    copy.write(chunk)
                copy.flush()
                os.fsync(copy.fileno())
        beside.replace(name)
    finally:
        beside.unlink(missing_ok=True)


def load(path: str | Path) -> Checkpoint:
    """Open a checkpoint on the CPU, its tensors read from disk as they are used.

    Nothing in the file is executed. Raises UserError when it is missing, damaged, hostile or of another format.
    """
    path = Path(path)
    name = one_line(path)
    if not path.is_file():
        raise UserError(f"There is no checkpoint at {name}: `minigpt runs list` shows the runs there are.")
    try:
        with path.open("rb") as file:
            inspect(file)
        payload = plain(torch.load(path, map_location="cpu", weights_only=True, mmap=True), path.stat().st_size)
    except (pickle.UnpicklingError, Refused) as error:
        why = f" ({error})" if isinstance(error, Refused) else ""
        raise UserError(
            f"{name} was not opened: it holds something other than numbers and text, which a checkpoint never "
            f"does{why}. If it came from another program, ask for safetensors and use `minigpt import`."
        ) from error
    except _DAMAGED as error:
        raise UserError(
            f"{name} is damaged or not a MiniGPT checkpoint: choose another one of the run, or copy it again."
        ) from error
    return _checked(payload, name)


def _checked(payload: Any, name: str) -> Checkpoint:
    # Asked for its type first: a tensor, compared, is a tensor.
    if not isinstance(payload, dict) or type(payload.get("format")) is not str or payload["format"] != FORMAT:
        raise UserError(f"{name} is not a MiniGPT checkpoint: `minigpt import` takes Hugging Face directories.")
    if type(payload.get("version")) is not int or payload["version"] != VERSION:
        version = one_line(payload.get("version"))[:40]
        raise UserError(
            f"{name} is a checkpoint of version {version}, this program reads version {VERSION}: "
            "use the MiniGPT that wrote it."
        )
    weights, tokenizer = payload.get("weights"), payload.get("tokenizer")
    try:
        if not isinstance(weights, dict) or not all(
            isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()
        ):
            raise msgspec.ValidationError("weights must be tensors with names")
        return Checkpoint(
            config=_possible(msgspec.convert(payload["config"], Config)),
            model_config=_possible_network(msgspec.convert(payload["model_config"], GPTConfig)),
            weights=weights,
            tokenizer=msgspec.convert(tokenizer, str),
            step=msgspec.convert(payload["step"], int),
            conversations=msgspec.convert(payload["conversations"], bool),
            separated=msgspec.convert(payload["separated"], bool),
            metrics=msgspec.convert(payload["metrics"], dict[str, float]),
            training=msgspec.convert(payload["training"], dict),
        )
    except (msgspec.ValidationError, KeyError, AttributeError) as error:  # asked of a tensor where a table should be
        raise UserError(f"{name} is a damaged MiniGPT checkpoint ({error}): choose another one of the run.") from error


def _possible(config: Config) -> Config:
    """Return the configuration; raises ValidationError where a number in it is one that nobody can ask for."""
    for item in settings().values():
        try:
            convert(item, item.value_in(config))
        except ValueError as error:
            raise msgspec.ValidationError(f"{item.key} must be {error}") from error
    return config


def _possible_network(shape: GPTConfig) -> GPTConfig:
    """Return the shape; raises ValidationError where it is beyond what a configuration can ask for."""
    for name in ("d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim", "d_ff", "max_seq_len"):
        item = settings()[f"model.{name}"]
        assert item.about.possible is not None
        if not 1 <= getattr(shape, name) <= item.about.possible[1]:
            raise msgspec.ValidationError(f"the network's {name} must be {allowed(item)}")
    return shape
