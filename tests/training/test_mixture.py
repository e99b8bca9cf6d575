"""Training on several corpora at once, and on little text cut anew each epoch: repeatable, and exactly resumable."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from minigpt.cli.main import main
from minigpt.errors import UserError
from minigpt.jobs import EVENTS, EventReader
from minigpt.model.checkpoint import load
from minigpt.presets import read_file
from minigpt.text.mixture import Mixture
from minigpt.training.session import Session
from minigpt.workspace import Workspace
from tests.conftest import run_minigpt, small_config

MIXED = {"corpus__mixture": ["tale:0.7", "sums:0.3"], "corpus__random_offsets": True}
SHUFFLED = {"corpus__name": "notes", "corpus__shuffle_documents": True, "corpus__random_offsets": True}
MIXED_AND_SHUFFLED = {**MIXED, "corpus__mixture": ["tale:2", "notes:1", "sums:1"], "corpus__shuffle_documents": True}


def quiet(message: str) -> None:
    """Say nothing."""


@pytest.fixture
def several(workspace: Workspace) -> Workspace:
    """A workspace with the corpora tale, sums (one text each) and notes (many documents)."""
    from minigpt.text.sources import add_path

    sums = "".join(f"{i % 7} + {i % 5} = {i % 7 + i % 5}\n" for i in range(60))
    notes = "".join(json.dumps({"text": f"Note {i}: the {i * i % 97} birds are back."}) + "\n" for i in range(80))
    for name, text in (("sums.txt", sums), ("notes.jsonl", notes)):
        (workspace.root / name).write_text(text)
        add_path(workspace, workspace.root / name)
    return workspace


def events(session: Session, kind: str) -> list[dict[str, Any]]:
    with EventReader(session.directory / EVENTS) as reader:
        return [event for event in reader.poll(1 << 24) if event["type"] == kind]


def losses(session: Session) -> dict[int, float]:
    """Return each step's loss; of a step made twice, the later one's."""
    return {event["step"]: event["loss"] for event in events(session, "step")}


def trained(workspace: Workspace, run: str, **changes: object) -> Session:
    session = Session.new(workspace, small_config(**changes), run=run, say=quiet)
    assert session.train() == 0
    return session


def assert_equal(ours: Session, theirs: Session) -> None:
    assert losses(ours) == losses(theirs)
    weights = [load(session.directory / "final_model.pt").weights for session in (ours, theirs)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


@pytest.mark.parametrize(
    "choices",
    [pytest.param(SHUFFLED, id="shuffled", marks=pytest.mark.slow), pytest.param(MIXED_AND_SHUFFLED, id="mixed")],
)
def test_interrupted_and_resumed_it_is_the_same_run(several: Workspace, choices: dict[str, object]) -> None:
    steps = {"training__max_steps": 40, **choices}
    whole = trained(several, "whole", **steps)
    parted = Session.new(several, small_config(**steps), run="parted", say=quiet)

    def stop(event: dict[str, Any]) -> None:
        if event["type"] == "step" and event["step"] == 23:
            signal.raise_signal(signal.SIGTERM)

    assert parted.train((stop,)) == 3
    resumed = Session.resume(several, "parted", say=quiet)
    assert resumed.progress.step == 23
    assert resumed.train() == 0
    assert_equal(resumed, whole)


@pytest.mark.slow  # interrupted and resumed says nearly the same
def test_killed_and_resumed_it_is_the_same_run(several: Workspace) -> None:
    steps = {"training__max_steps": 120, "training__save_every": 10, **MIXED}
    whole = trained(several, "whole", **steps)
    script = (
        "from minigpt.training.session import Session; from minigpt.workspace import Workspace;"
        "from tests.conftest import small_config;"
        f"Session.new(Workspace.find({str(several.root)!r}), small_config(**{steps!r}), run='killed').train()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.DEVNULL)
    directory = several.run_directory("killed")
    deadline = time.monotonic() + 60
    while not list(directory.glob("checkpoint_step_*.pt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    resumed = Session.resume(several, "killed", say=quiet)
    assert resumed.train() == 0
    assert_equal(resumed, whole)


@pytest.mark.slow
def test_its_configuration_repeats_it(several: Workspace) -> None:
    first = trained(several, "first", **MIXED)
    config = read_file(first.directory / "config.toml")
    assert config.corpus.mixture == ["tale:0.7", "sums:0.3"]
    again = Session.new(several, config, run="again", say=quiet)
    assert again.train() == 0
    assert_equal(again, first)


def test_a_corpus_from_elsewhere_is_found_again(several: Workspace, tmp_path: Path) -> None:
    other = Workspace(tmp_path / "other")
    other.require_writable()
    entries = [f"{several.data / 'tale'}:1", f"{several.data / 'sums'}:1"]
    session = Session.new(other, small_config(corpus__mixture=entries), say=quiet)
    assert session.config.corpus.mixture == entries


@pytest.mark.slow
def test_it_is_told_under_the_names_of_its_corpora(several: Workspace) -> None:
    session = Session.new(several, small_config(**MIXED), preset="tiny", say=quiet)
    assert session.train() == 0
    assert session.directory.name == "tiny-tale-sums-1"
    (start,) = events(session, "start")
    assert start["corpus"] == "tale+sums"
    notices = {notice["code"]: notice["message"] for notice in events(session, "notice")}
    assert notices["mixture"].startswith("Mixture: tale 70% (")
    assert "corpus-repeated" not in notices


def test_a_small_corpus_read_over_and_over_is_worth_a_warning(several: Workspace) -> None:
    session = trained(
        several, "long", training__batch_size=500, training__max_steps=5, corpus__mixture=["tale:1", "sums:6"]
    )
    (warning,) = [notice for notice in events(session, "notice") if notice["code"] == "corpus-repeated"]
    assert warning["severity"] == "warning"
    assert "All of sums is read" in warning["message"]


def test_an_evaluation_sees_all_corpora_in_the_same_proportions(several: Workspace) -> None:
    session = Session.new(several, small_config(training__eval_tokens=40, **MIXED), say=quiet)
    heads = [[len(shard) for shard in split.shards[:2]] for split in (session.text.train, session.text.validation)]
    assert heads[0] == heads[1]
    assert 40 <= sum(heads[0]) <= 42
    assert min(heads[0]) > 1


def test_without_choices_the_stream_is_that_of_one_corpus(several: Workspace) -> None:
    session = Session.new(several, small_config(), say=quiet)
    assert not isinstance(session.text.windows, Mixture)
    assert session.text.windows.documents is None
    assert not session.text.windows.random_offsets


@pytest.mark.slow
def test_the_changed_one_of_several_corpora_is_named(several: Workspace) -> None:
    session = trained(several, "run", **MIXED)
    manifest = several.data / "sums" / "corpus.toml"
    text = manifest.read_text()
    digest = next(line for line in text.splitlines() if line.startswith("content_hash"))
    manifest.write_text(text.replace(digest, 'content_hash = "0"'))
    with pytest.raises(UserError, match="The corpus sums has changed"):
        Session.resume(several, session.directory.name, steps=99, say=quiet)


# The command line


FLAGS = [
    *("--preset", "tiny", "--tokenizer", "char", "--d-model", "16", "--n-layers", "1", "--max-seq-len", "16"),
    *("--batch-size", "4", "--steps", "4", "--threads", "1"),
]


def evaluated(workspace: Workspace, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    assert main(["eval", "--json", "--device", "cpu", *flags, "--workspace", str(workspace.root)]) == 0
    return dict(json.loads(capsys.readouterr().out))


@pytest.mark.slow
def test_the_command_line_mixes_and_evaluates(several: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    mixed = run_minigpt(
        "train", "--quiet", *FLAGS, "--mix", "tale:0.7", "--mix", "sums:0.3", "--random-offsets", workspace=several.root
    )
    assert mixed.returncode == 0, mixed.stderr
    assert mixed.stdout.strip() == "tiny-tale-sums-1"
    together, alone = (evaluated(several, capsys, *more) for more in ([], ["--corpus", "sums"]))
    assert (together["corpus"], alone["corpus"]) == ("tale+sums", "sums")
    assert together["tokens"] > alone["tokens"] > 0


@pytest.mark.slow
def test_a_dry_run_tells_the_shares(several: Workspace) -> None:
    done = run_minigpt("train", "--dry-run", *FLAGS, "--mix", "tale:3", "--mix", "sums:1", workspace=several.root)
    assert done.returncode == 0, done.stderr
    assert "75.0% from tale, " in done.stdout
    assert "25.0% from sums, " in done.stdout


def test_one_corpus_and_a_mixture_do_not_go_together(several: Workspace) -> None:
    done = run_minigpt("train", "--corpus", "tale", "--mix", "sums:1", workspace=several.root)
    assert done.returncode == 2
    assert "--corpus and --mix do not go together" in done.stderr


@pytest.mark.slow
def test_a_corpus_on_the_command_line_replaces_the_mixture_of_a_file(several: Workspace) -> None:
    first = trained(several, "first", **MIXED)
    config = str(first.directory / "config.toml")
    done = run_minigpt("train", "--quiet", "--config", config, "--corpus", "notes", workspace=several.root)
    assert done.returncode == 0, done.stderr
    run = several.run_directory(done.stdout.strip())
    assert read_file(run / "config.toml").corpus.name == "notes"
    assert read_file(run / "config.toml").corpus.mixture == []
