"""Faults on purpose: the seed they are drawn with, and the figures that a campaign prints at its end."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

SEED = "MINIGPT_CAMPAIGN_SEED"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Return random numbers that are another test's own, and the same each time unless MINIGPT_CAMPAIGN_SEED says."""
    return random.Random(f"{os.environ.get(SEED, '1')} {request.node.name}")


@pytest.fixture
def tell_figure(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Return what notes a figure of a campaign: tell_figure("kills", 100). It is printed when all tests are done."""

    def tell(name: str, value: object) -> None:
        request.node.user_properties.append((f"figure: {name}", str(value)))

    return tell
