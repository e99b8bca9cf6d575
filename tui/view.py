"""How a person looks at a run: which chart, over which axis, how smooth, and what stands below."""

from __future__ import annotations

from dataclasses import dataclass

CHARTS = ("loss", "perplexity", "lr", "grad_norm", "tokens_per_s", "memory")
AXES = ("step", "tokens", "time")
SMOOTHINGS = (0.0, 0.9, 0.97, 0.99)
# What may stand below the charts where there is room for one thing only.
VIEWS = ("log", "sample", "evaluations", "device")


@dataclass(frozen=True)
class View:
    """How the charts look at a run."""

    axis: str = "step"
    recent: bool = False
    smoothing: float = 0.9
