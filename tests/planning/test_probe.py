"""`minigpt presets check`: five steps are measured once for a configuration, and remembered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minigpt.planning.probe import cached_probe
from minigpt.tasks import task_state
from minigpt.workspace import Workspace
from tests.conftest import run_minigpt, small_config


@pytest.fixture
def preset(workspace: Workspace) -> Path:
    from minigpt.presets import to_toml

    workspace.configs.mkdir()
    path = workspace.configs / "mine.toml"
    path.write_text(to_toml(small_config()))
    return path


def test_a_probe_is_made_once_and_found_again(workspace: Workspace, preset: Path) -> None:
    arguments = ["presets", "check", "mine", "--corpus", "tale", "--json"]
    made = run_minigpt(*arguments, "--probe", "--task", "trying", workspace=workspace.root)
    assert made.returncode == 0, made.stderr
    figures = json.loads(made.stdout)
    assert figures["seconds"] == pytest.approx(figures["steps"] * figures["seconds_per_step"])
    assert figures["train_tokens_exact"]
    state = task_state(workspace.task_directory("trying"))
    assert (state.state, state.result and state.result["seconds_per_step"]) == ("done", figures["seconds_per_step"])

    found = cached_probe(workspace, small_config(), "tale")
    assert found is not None
    assert found.seconds_per_step == figures["seconds_per_step"]
    # The length of a run and its rates change no step's time; the batch does.
    assert cached_probe(workspace, small_config(training__max_steps=99, training__learning_rate=0.5), "tale") == found
    assert cached_probe(workspace, small_config(training__batch_size=5), "tale") is None
    assert cached_probe(workspace, small_config(), "other") is None
    assert not list(workspace.checkpoints.iterdir()), "a probe leaves no run behind"


def test_check_prints_the_outlook_and_warnings(workspace: Workspace, preset: Path) -> None:
    done = run_minigpt(
        "presets", "check", "mine", "--corpus", "tale", "--set", "training.warmup_steps=100", workspace=workspace.root
    )
    assert done.returncode == 0, done.stderr
    assert "token embedding" in done.stdout
    assert "not measured yet" in done.stdout
    assert "! training.warmup_steps = 100 is longer than the run of 12 steps" in done.stdout


def test_an_unknown_preset_is_told(workspace: Workspace) -> None:
    done = run_minigpt("presets", "check", "tinny", workspace=workspace.root)
    assert done.returncode == 2
    assert "tiny" in done.stderr
