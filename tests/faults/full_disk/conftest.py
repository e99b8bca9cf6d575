"""A workspace on a small disk of its own, one with room enough, and what a run does for which there was always room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from minigpt.training import room
from minigpt.workspace import Workspace
from tests.conftest import tale_workspace
from tests.faults.full_disk.trouble import made
from tests.faults.harness import losses_of
from tests.faults.mounts import small_disk


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again so soon that nobody has to wait."""
    for name in ("LOOK_SECONDS", "FIRST_RETRY_SECONDS", "LONGEST_RETRY_SECONDS"):
        monkeypatch.setattr(room, name, 0.01)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "24m") as folder:
        yield folder


@pytest.fixture
def workspace(disk: Path) -> Workspace:
    """A workspace that lies on a small disk of its own."""
    return tale_workspace(disk)


@pytest.fixture
def roomy(tmp_path: Path) -> Workspace:
    """A workspace where there is room: for faults that need no disk of their own, nor the right to mount one."""
    return tale_workspace(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, float | None]:
    """Return the losses of a run for which there was always room."""
    session = made(tale_workspace(tmp_path_factory.mktemp("undisturbed")))
    assert session.train() == 0
    return losses_of(session.directory)
