"""A workspace without runs, corpora or presets of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from minigpt.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path)
    found.require_writable()
    found.configs.mkdir()
    return found
