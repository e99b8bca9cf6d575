"""The ladder of losses: how a model stands to the simplest ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

from minigpt.narration import number
from tui.parts import DIM, PLAIN, WARN
from tui.widgets.rows import Part

# The simple models, the best first, and what they are called where room is short.
RUNGS = {"bigram": "bigram", "unigram": "unigram", "uniform": "ln V"}
# Weights that have just been drawn lie within this of chance.
_NEAR_CHANCE = 1.1


def rung_passed(ladder: Mapping[str, float] | None, loss: float | None) -> list[Part]:
    """Return which simple model one with this loss (nats a token) has passed, and that one's perplexity."""
    rungs = _rungs(ladder)
    passed = next(((name, rung) for name, rung in rungs.items() if loss is not None and loss < rung), None)
    if passed is None:
        chance = rungs.get("uniform", math.inf)
        words = "worse than chance" if loss is not None and loss > _NEAR_CHANCE * chance else "still at chance"
        return [(f"  {words}", WARN)] if rungs and loss is not None else []
    return [(f"  past {passed[0]} {math.exp(min(passed[1], 700)):,.4g}", DIM)]


def rungs_in_words(ladder: Mapping[str, float] | None) -> list[Part]:
    """Return the losses of the simple models, the best first: where there is no room, the others give way."""
    steps = [f"{RUNGS[name]} {number(loss, 2)}" for name, loss in _rungs(ladder).items()]
    return [(step if not place else f" {step}", DIM if place else PLAIN) for place, step in enumerate(steps)]


def _rungs(ladder: Mapping[str, float] | None) -> dict[str, float]:
    told = ladder or {}
    return {name: told[name] for name in RUNGS if math.isfinite(told.get(name, math.nan))}
