"""MiniGPT: train, steer, inspect and talk to a GPT of your own.

import minigpt
print(minigpt.load("best_model.pt").generate("Once upon a time"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from minigpt.inference.generate import LoadedModel

__version__ = "0.1.0"


def load(path: str | Path, device: str = "auto") -> LoadedModel:
    """Open a checkpoint file, ready to generate.

    Raises `minigpt.errors.UserError` when the file is missing, damaged or not a checkpoint.
    """
    # Torch is imported here and not above: most of the package works without it.
    from minigpt.inference.generate import LoadedModel

    return LoadedModel.open(path, device=device)
