"""A trainer in a process of its own, to be killed and starved; and what its events tell of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from minigpt.events import all_events
from minigpt.presets import to_toml
from minigpt.workspace import Workspace
from tests.conftest import small_config


def start_trainer(workspace: Workspace, run: str, *arguments: str, **changes: object) -> subprocess.Popen[str]:
    """Start `minigpt train` of a small run; `changes` are settings keyed section__name."""
    config = workspace.root / f"{run}.toml"
    config.write_text(to_toml(small_config(**changes)))
    return start_minigpt(workspace, "train", "--config", str(config), "--run", run, *arguments)


def resume_trainer(workspace: Workspace, run: str, *arguments: str) -> subprocess.Popen[str]:
    """Start `minigpt train --resume RUN`."""
    return start_minigpt(workspace, "train", "--resume", run, *arguments)


def start_minigpt(workspace: Workspace, *arguments: str, **popen: Any) -> subprocess.Popen[str]:
    """Start the command line in a process of its own; its narration can be read from `stderr`."""
    environment = {**os.environ, "MINIGPT_WORKSPACE": str(workspace.root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "minigpt.cli.main", *arguments]
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=workspace.root, env=environment, text=True, **{**options, **popen})


def events_of(directory: Path) -> list[dict[str, Any]]:
    """Return all events of a run so far."""
    return list(all_events(directory))


def losses_of(directory: Path) -> dict[int, float | None]:
    """Return the loss of each step as a reader sees it: what a resumption goes back behind is gone."""
    found: dict[int, float | None] = {}
    for event in events_of(directory):
        if event["type"] == "start" and event.get("resumed_from") is not None:
            found = {step: loss for step, loss in found.items() if step <= event["resumed_from"]}
        elif event["type"] == "step":
            found[event["step"]] = event["loss"]
    return found


def notices_of(directory: Path) -> list[str]:
    """Return the codes of a run's notices, in their order."""
    return [event["code"] for event in events_of(directory) if event["type"] == "notice"]
