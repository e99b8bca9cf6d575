"""A fork: a new run that begins with the weights of a checkpoint, under settings of its own.

origin = Origin.open(checkpoint_to_fork(workspace, "tiny-sample-1:best_model.pt"))
session = Session.new(workspace, with_values(origin.checkpoint.config, changes, "changes"), origin=origin)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from minigpt.config import Config
from minigpt.errors import UserError, printable
from minigpt.model.checkpoint import Checkpoint, load
from minigpt.model.gpt import GPT, GPTConfig
from minigpt.training.resuming import run_of


@dataclass(frozen=True)
class Origin:
    """The checkpoint that a fork begins with."""

    path: Path
    checkpoint: Checkpoint

    @classmethod
    def open(cls, path: Path, kept: Path | None = None) -> Origin:
        """Read a checkpoint, `kept` meanwhile under another name if so. Raises UserError where there is none."""
        return cls(path, load(kept or path))

    @property
    def name(self) -> str:
        """The run that it is of, or the file's own name."""
        return run_of(self.path)

    def as_fields(self) -> dict[str, Any]:
        """Return what the fork's `start` event says of it."""
        return {"run": self.name, "checkpoint": self.path.name, "step": self.checkpoint.step}

    def shape(self, config: Config) -> GPTConfig:
        """Return the network that `config` describes, for the vocabulary of these weights."""
        return GPTConfig.from_settings(config.model, self.checkpoint.model_config.vocab_size)

    def require_fitting(self, config: Config) -> None:
        """Raise UserError, with the settings to blame, unless the weights fit the network that `config` describes."""
        own, wanted = self.checkpoint.model_config, self.shape(config)
        free = ["dropout"] if own.position == "learned" else ["dropout", "max_seq_len"]
        changed = [f"model.{name}" for name in _different(own, wanted) if name not in free]
        changed += [f"tokenizer.{name}" for name in _different(self.checkpoint.config.tokenizer, config.tokenizer)]
        if changed:
            may = " and ".join(f"model.{name}" for name in free)
            raise UserError(
                f"The weights in {printable(self.path.name, single_line=True)} do not fit another "
                f"{', '.join(changed)}: a fork keeps that of its origin. It may change the settings of corpus, "
                f"training and generation, and {may}; for all else start a new run."
            )

    def network(self, shape: GPTConfig, device: str) -> GPT:
        """Return the network with these weights, dropout and context as in `shape`."""
        return replace(self.checkpoint, model_config=shape).build_model(device)


def _different(one: msgspec.Struct, other: msgspec.Struct) -> list[str]:
    return [name for name in one.__struct_fields__ if getattr(one, name) != getattr(other, name)]
