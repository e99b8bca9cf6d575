"""What a configuration will take, told before training, against the network, the plan and the shards of the run."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from minigpt.config import Config, ModelSettings
from minigpt.device import choose
from minigpt.model.gpt import GPT, GPTConfig
from minigpt.model.parameters import decided, flops_per_token, matrix_parameters, parameter_parts
from minigpt.planning import outlook as planning
from minigpt.planning.machine import likely_device
from minigpt.planning.outlook import outlook
from minigpt.presets import load_preset, read_file
from minigpt.text.sources import add_path
from minigpt.training.session import Session
from minigpt.workspace import Workspace, builtin_presets
from tests.conftest import small_config, tale

FAMILIES = ("gpt2", "llama", "qwen3")


def codes(workspace: Workspace, config: Config, corpus: str | None = None) -> set[str]:
    return {warning.code for warning in outlook(workspace, config, corpus).warnings}


def network(settings: ModelSettings) -> GPT:
    with torch.device("meta"):
        return GPT(GPTConfig.from_settings(settings, 300))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_family_decides_as_in_the_network(family) -> None:
    settings = ModelSettings(family=family)
    there = GPTConfig.from_settings(settings, 300).to_settings()
    assert decided(settings) == msgspec.structs.replace(there, norm_epsilon=None)


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_those_of_the_network(family) -> None:
    model, settings = network(ModelSettings(family=family)), ModelSettings(family=family)
    parts = parameter_parts(settings, 300)
    named = dict(model.named_parameters())

    def counted(*words: str) -> int:
        return sum(p.numel() for name, p in named.items() if any(word in name for word in words))

    assert parts["token embedding"] == counted("token_embedding")
    assert parts["positions"] == counted("position_embedding")
    assert parts["attention"] == counted(".attention.")
    assert parts["MLP"] == counted(".mlp.")
    assert parts["norms"] == counted("attention_norm", "mlp_norm") + sum(p.numel() for p in model.norm.parameters())
    assert parts["output head"] == counted("head.weight")
    assert matrix_parameters(settings) == sum(weight.numel() for weight, _ in model.matrices())


@pytest.mark.parametrize("path", sorted(builtin_presets().glob("*.toml")), ids=lambda path: path.stem)
def test_compute_is_what_a_run_counts(path: Path) -> None:
    model = read_file(path).model
    assert flops_per_token(model, 300) == network(model).flops_per_token()


@pytest.mark.parametrize("precision", ["auto", "bfloat16"])
def test_the_device_is_guessed_as_torch_chooses_it(precision) -> None:
    settings = small_config(training__precision=precision).training
    assert likely_device(settings) == choose(precision=precision, threads=1)


def test_length_is_what_the_run_plans(workspace: Workspace) -> None:
    config = small_config(training__max_epochs=3, training__max_steps=None)
    before = outlook(workspace, config, "tale")
    session = Session.new(workspace, config, say=lambda message: None)
    after = outlook(workspace, config, "tale")
    assert not before.train_tokens_exact
    assert before.train_tokens == pytest.approx(session.text.train.tokens, rel=0.1)
    assert after.train_tokens_exact
    assert (after.train_tokens, after.vocab_size) == (session.text.train.tokens, session.model.config.vocab_size)
    assert (after.steps, after.epochs, after.tokens) == (session.plan.steps, session.plan.epochs, session.plan.tokens)
    assert (after.parameters, after.micro_batch_size) == (
        session.model.parameter_count(),
        session.plan.micro_batch_size,
    )


def test_checkpoints_are_as_large_as_told(workspace: Workspace) -> None:
    config = small_config(model__d_model=128, training__max_steps=2)
    session = Session.new(workspace, config, run="sized", say=lambda message: None)
    told = outlook(workspace, config, "tale")
    session.train()
    largest = max(path.stat().st_size for path in session.directory.glob("*.pt"))
    assert told.checkpoint_bytes == pytest.approx(largest, rel=0.15)
    assert told.disk_needed >= sum(path.stat().st_size for path in session.directory.glob("*.pt"))


def test_looking_changes_nothing(workspace: Workspace) -> None:
    before = {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*")}
    outlook(workspace, load_preset("tiny", workspace), "sample")
    outlook(workspace, small_config(), "tale")
    assert {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*")} == before


def test_a_mixture_counts_all_its_corpora(workspace: Workspace) -> None:
    (workspace.root / "more.txt").write_text("The end of it is here. " * 400)
    add_path(workspace, workspace.root / "more.txt")
    one = outlook(workspace, small_config(), "tale").train_tokens
    both = outlook(workspace, small_config(corpus__mixture=["tale:0.5", "more:0.5"]), None)
    assert both.corpus == "tale+more"
    assert one is not None
    assert both.train_tokens is not None
    assert both.train_tokens > one


# Warnings: each provoked, and a healthy configuration that is silent


@pytest.fixture
def long(workspace: Workspace) -> str:
    """The name of a text that is long enough for the healthy configuration."""
    (workspace.root / "long.txt").write_text(tale(4000))
    return add_path(workspace, workspace.root / "long.txt").name


def healthy(**changes: object) -> Config:
    return small_config(**{"model__d_model": 16, "training__max_steps": 100, **changes})


def test_nothing_to_warn_of(workspace: Workspace, long: str) -> None:
    assert codes(workspace, healthy(), long) == set()


def test_the_first_preset_is_not_warned_of(workspace: Workspace) -> None:
    assert codes(workspace, load_preset("tiny", workspace), "sample") == set()


def test_too_large_for_the_machine(workspace: Workspace) -> None:
    config = healthy(model__d_model=32768, model__n_layers=256, model__n_heads=256)
    assert "does-not-fit" in codes(workspace, config)


def test_too_little_text_for_the_model(workspace: Workspace) -> None:
    assert codes(workspace, healthy(model__d_model=128)) == {"little-data"}


def test_text_shorter_than_a_window(workspace: Workspace) -> None:
    found = outlook(workspace, healthy(model__max_seq_len=2048), "tale")
    assert {warning.code for warning in found.warnings} == {"text-too-short"}
    assert found.steps is None


def test_no_corpus_yet(workspace: Workspace) -> None:
    found = outlook(workspace, healthy(), "nowhere")
    assert {warning.code for warning in found.warnings} == {"no-corpus"}
    assert found.train_tokens is None
    assert found.steps == 100


def test_warmup_longer_than_the_run(workspace: Workspace, long: str) -> None:
    assert codes(workspace, healthy(training__warmup_steps=200), long) == {"warmup-longer-than-run"}


def test_context_longer_than_documents(workspace: Workspace) -> None:
    folder = workspace.root / "notes"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.txt").write_text(f"The cat sees dog number {number}.")
    add_path(workspace, folder)
    assert codes(workspace, healthy(model__max_seq_len=256), "notes") >= {"context-longer-than-documents"}
    assert "context-longer-than-documents" not in codes(workspace, healthy(model__max_seq_len=32), "notes")


def test_a_full_disk(workspace: Workspace, long: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "free_disk", lambda path: 1000)
    assert codes(workspace, healthy(), long) == {"disk-too-small"}
