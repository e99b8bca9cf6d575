"""`minigpt presets check`: five steps are measured once for a configuration, and remembered."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from minigpt.cli.main import main
from minigpt.planning.outlook import outlook, parameters_of
from minigpt.planning.probe import Probe, cached_probe, make_probe
from minigpt.tasks import TaskProcess, task_state
from minigpt.text.corpora import remove
from minigpt.text.sources import add_path
from minigpt.text.tokenizer import Tokenizer
from minigpt.workspace import Workspace
from tests.conftest import run_minigpt, small_config


@pytest.fixture
def preset(workspace: Workspace) -> Path:
    from minigpt.presets import to_toml

    workspace.configs.mkdir()
    path = workspace.configs / "mine.toml"
    path.write_text(to_toml(small_config()))
    return path


@pytest.mark.slow
def test_a_probe_is_made_and_found_again(workspace: Workspace, preset: Path) -> None:
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
    # Who asks again gets another measurement.
    again = run_minigpt(*arguments, "--probe", workspace=workspace.root)
    assert json.loads(again.stdout)["measured"] > figures["measured"]


@pytest.fixture
def forecasts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds a step, one for each probe, in the place of five real steps."""
    seconds = [3.0, 2.0, 1.0]

    def forecast(session: object) -> SimpleNamespace:
        return SimpleNamespace(seconds_per_step=seconds.pop(), memory_measured=1)

    monkeypatch.setattr("minigpt.training.dryrun.forecast", forecast)
    return seconds


def test_what_was_measured_is_of_one_text(workspace: Workspace, forecasts: list[float]) -> None:
    config = small_config()
    made = make_probe(workspace, config, "tale")
    assert cached_probe(workspace, config, "tale") == made
    assert outlook(workspace, config, "tale", made).vocab_size == made.vocab_size
    assert parameters_of(workspace, config) == outlook(workspace, config, "tale", made).parameters
    (workspace.root / "tale.txt").write_text("".join(map(chr, range(0x400, 0x460))) * 40)
    remove(workspace, "tale")
    add_path(workspace, workspace.root / "tale.txt")
    assert cached_probe(workspace, config, "tale") is None
    # Whatever it is asked with, exact shards know their own vocabulary.
    other = make_probe(workspace, config, "tale")
    assert outlook(workspace, config, "tale", made).vocab_size == other.vocab_size != made.vocab_size


def test_another_tokenizer_file_is_another_probe(workspace: Workspace, forecasts: list[float]) -> None:
    file = workspace.root / "mine.json"
    Tokenizer.train("char", ["abcdefghijklmnopqrstuvwxyz .,"], 0).save(file)
    config = small_config(tokenizer__file=str(file))
    make_probe(workspace, config, "tale")
    assert cached_probe(workspace, config, "tale") is not None
    Tokenizer.train("char", ["abcdefghijklmnopqrstuvwxyz .,!"], 0).save(file)
    assert cached_probe(workspace, config, "tale") is None


def test_check_measures_anew_and_says_when_and_beside_what(
    workspace: Workspace, preset: Path, forecasts: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["presets", "check", "mine", "--corpus", "tale", "--workspace", str(workspace.root)]
    assert main([*arguments, "--probe"]) == 0
    assert "(1,000 ms a step, measured just now)" in capsys.readouterr().out
    with TaskProcess(workspace.task_directory("sweep-other"), "a sweep"):
        assert main([*arguments, "--probe"]) == 0
    assert "2,000 ms a step, measured just now while others were at work: sweep-other" in capsys.readouterr().out
    (kept,) = sorted((workspace.data / ".probes").iterdir())
    probe = msgspec.json.decode(kept.read_bytes(), type=Probe)
    kept.write_bytes(msgspec.json.encode(msgspec.structs.replace(probe, made=probe.made - 7300, beside=())))
    assert main(arguments) == 0
    assert "2,000 ms a step, measured 2 h ago)" in capsys.readouterr().out


def test_check_prints_the_outlook_and_warnings(
    workspace: Workspace, preset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--set", "training.warmup_steps=100", "--workspace", str(workspace.root)]
    assert main(["presets", "check", "mine", "--corpus", "tale", *more]) == 0
    told = capsys.readouterr().out
    assert "token embedding" in told
    assert "not measured yet" in told
    assert "! training.warmup_steps = 100 is longer than the run of 12 steps, so warmup is cut to half of" in told


def test_an_unknown_preset_is_told(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "check", "tinny", "--workspace", str(workspace.root)]) == 2
    assert "tiny" in capsys.readouterr().err
