"""The app's command line: what it says without a screen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minigpt import __version__
from tests.tui.scene import HARMLESS, HOSTILE, Scene

ROOT = Path(__file__).parent.parent.parent
RUN = "done-1"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with Scene(tmp_path) as made:
        yield made


def run_tui(*arguments: str, workspace: Path, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run `minigpt-tui` as a person without a terminal would."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "TERM": "dumb"}
    return subprocess.run(
        [sys.executable, *python, "-m", "tui.main", *arguments, "--workspace", str(workspace)],
        cwd=workspace,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def test_plain_without_a_run_says_how_to_start_one(scene: Scene) -> None:
    done = run_tui("--plain", workspace=scene.workspace.root)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "No run is training: start one with `minigpt-tui --plain --train tiny`.\n"


def test_plain_with_a_run_that_is_not_there_says_so(scene: Scene) -> None:
    done = run_tui("--plain", "--run", "[red]evil[/]\x1b[31m", workspace=scene.workspace.root)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "\x1b" not in done.stderr
    assert "Traceback" not in done.stderr


def test_plain_tells_the_story_of_a_finished_run(scene: Scene) -> None:
    scene.run(RUN, steps=600, ended=0)
    done = run_tui("--plain", "--run", RUN, workspace=scene.workspace.root)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "start: 1,115,520 parameters, cpu, 600 steps" in lines[0]
    assert any("step 200: validation 1.339" in line for line in lines)
    assert "all 600 steps done" in lines[-1]
    assert done.stderr == f"The run {RUN} is finished.\n"


def test_plain_shows_hostile_text_harmlessly(scene: Scene) -> None:
    scene.run(RUN, steps=50)
    scene.tell(RUN, {"type": "notice", "severity": "warning", "code": "x", "message": HOSTILE})
    scene.tell(RUN, {"type": "end", "reason": HOSTILE, "exit_code": 0})
    done = run_tui("--plain", "--run", RUN, workspace=scene.workspace.root)
    assert done.returncode == 0, done.stderr
    assert HARMLESS in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_without_a_terminal_it_names_what_works(scene: Scene) -> None:
    done = run_tui(workspace=scene.workspace.root)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "`minigpt-tui --plain`" in done.stderr


@pytest.mark.parametrize(("argument", "told"), [("--version", f"minigpt-tui {__version__}"), ("--help", "--plain")])
def test_it_introduces_itself_without_its_screen(scene: Scene, argument: str, told: str) -> None:
    done = run_tui(argument, workspace=scene.workspace.root, python=("-X", "importtime"))
    assert done.returncode == 0
    assert told in done.stdout
    # What was imported is told on stderr, a module a line.
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "tui.main" in imported or "minigpt.workspace" in imported
    assert not {name for name in imported if name.partition(".")[0] in ("textual", "torch", "plotext")}
