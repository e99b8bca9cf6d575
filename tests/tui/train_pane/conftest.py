"""A scene without a run, and one with a run at work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tui.scene import Scene
from tests.tui.train_pane.pane import RUN


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with Scene(tmp_path) as found:
        yield found


@pytest.fixture
def training(scene: Scene) -> Scene:
    """A scene with a run at work."""
    scene.run(RUN)
    scene.work(RUN)
    return scene
