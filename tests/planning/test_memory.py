"""The arithmetic of memory against what torch really takes: tensor by tensor, and by the whole process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from minigpt.config import Config
from minigpt.model import layers
from minigpt.model.gpt import GPT, GPTConfig
from minigpt.model.memory import Placement, memory_of
from minigpt.presets import with_values
from minigpt.training.optimizer import Optimizer
from tests.conftest import run_minigpt
from tests.planning.allocations import Allocations

NEAR = 0.15
SHAPE = {"model.d_model": 96, "model.n_layers": 3, "model.n_heads": 4, "model.max_seq_len": 64}
STEPS = 2

CASES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "llama": {"model.family": "llama"},
    "gpt2": {"model.family": "gpt2"},
    "adamw": {"training.optimizer": "adamw"},
    "gpt2-adamw": {"model.family": "gpt2", "training.optimizer": "adamw"},
    "shared-keys": {"model.n_kv_heads": 1},
    "llama-shared-keys": {"model.family": "llama", "model.n_kv_heads": 2, "model.head_dim": 16},
    "deep": {"model.n_layers": 8, "training.batch_size": 2},
    "wide-mlp": {"model.d_ff": 1024},
    "large-vocabulary": {"vocab_size": 3000},
    "large-vocabulary-tied": {"vocab_size": 3000, "model.tied_embeddings": True},
    "large-vocabulary-one-window": {"vocab_size": 3000, "training.batch_size": 1, "model.max_seq_len": 16},
    "dropout": {"model.dropout": 0.1},
    "gpt2-dropout": {"model.family": "gpt2", "model.dropout": 0.1},
    "bfloat16": {"training.precision": "bfloat16"},
    "bfloat16-gpt2": {"training.precision": "bfloat16", "model.family": "gpt2"},
    "bfloat16-dropout": {"training.precision": "bfloat16", "model.dropout": 0.1},
    "bfloat16-large-vocabulary": {"training.precision": "bfloat16", "vocab_size": 3000},
    "checkpointing": {"training.gradient_checkpointing": True, "model.n_layers": 8},
    "checkpointing-gpt2": {"training.gradient_checkpointing": True, "model.n_layers": 6, "model.family": "gpt2"},
    "accumulation": {"training.micro_batch_size": 2},
    "accumulation-adamw": {"training.micro_batch_size": 1, "training.optimizer": "adamw"},
    "one-short-window": {"training.batch_size": 1, "model.max_seq_len": 16},
    "one-short-window-adamw": {"training.batch_size": 1, "model.max_seq_len": 16, "training.optimizer": "adamw"},
    "plain-attention": {"plain_attention": True, "model.max_seq_len": 128},
    "plain-attention-shared-keys": {"plain_attention": True, "model.n_kv_heads": 1},
}
QUICK = {
    "qwen3",
    "gpt2-adamw",
    "llama-shared-keys",
    "large-vocabulary-tied",
    "gpt2-dropout",
    "checkpointing-gpt2",
    "one-short-window",
    "plain-attention",
}


def config_of(changes: dict[str, Any]) -> Config:
    values = {"training.batch_size": 8, "training.precision": "float32", **SHAPE, **changes}
    return with_values(Config(), {key: value for key, value in values.items() if "." in key}, "test")


def measured(config: Config, vocab_size: int) -> int:
    """Return the bytes that tensors take at the peak of some steps, made as the trainer makes them."""
    training = config.training
    windows = training.micro_batch_size or training.batch_size
    precision = getattr(torch, training.precision)
    with Allocations() as allocations:
        model = GPT(GPTConfig.from_settings(config.model, vocab_size))
        model.gradient_checkpointing = training.gradient_checkpointing
        optimizer = Optimizer(model, training, precision)
        for _ in range(STEPS):
            tokens = torch.randint(vocab_size, (2, training.batch_size, config.model.max_seq_len))
            for start in range(0, training.batch_size, windows):
                part = tokens[:, start : start + windows].contiguous()
                with torch.autocast("cpu", precision, enabled=precision != torch.float32):
                    loss = model.loss(part[0], part[1]) / part[0].numel()
                loss.backward()
            optimizer.step(1.0)
            for parameter in model.parameters():
                parameter.grad = None
    return allocations.peak


@pytest.mark.parametrize(
    "changes",
    [pytest.param(case, id=name, marks=[] if name in QUICK else pytest.mark.slow) for name, case in CASES.items()],
)
def test_the_estimate_is_near_what_tensors_take(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config, vocab_size = config_of(changes), changes.get("vocab_size", 64)
    plain = "plain_attention" in changes
    monkeypatch.setattr(layers, "PLAIN_ATTENTION_LENGTH", config.model.max_seq_len if plain else 0)
    training = config.training
    windows = training.micro_batch_size or training.batch_size
    placement = Placement("cpu", training.precision, windows, training.batch_size, plain)
    estimate = memory_of(config.model, vocab_size, training, placement)
    assert estimate.tensors == pytest.approx(measured(config, vocab_size), rel=NEAR)


def test_the_parts_that_stay_are_what_they_are() -> None:
    config = config_of({"training.optimizer": "adamw"})
    model = GPT(GPTConfig.from_settings(config.model, 64))
    optimizer = Optimizer(model, config.training)
    model.loss(torch.zeros(1, 8, dtype=torch.long), torch.zeros(1, 8, dtype=torch.long)).backward()
    optimizer.step(1.0)
    state = [value for values in optimizer.adam.state.values() for key, value in values.items() if key != "step"]
    estimate = memory_of(config.model, 64, config.training, Placement("cpu", "float32", 1))
    assert estimate.weights == sum(p.nbytes for p in model.parameters())
    assert estimate.gradients == sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    assert estimate.optimizer == sum(value.nbytes for value in state)


def test_half_precision_on_a_gpu_takes_less() -> None:
    config = config_of({"vocab_size": 3000})
    of = {p: memory_of(config.model, 3000, config.training, Placement("cuda", p, 8)) for p in ("float32", "bfloat16")}
    assert of["bfloat16"].activations < of["float32"].activations
    assert of["bfloat16"].weights == of["float32"].weights


@pytest.mark.slow
def test_it_needs_no_torch() -> None:
    modules = "minigpt.model.memory, minigpt.planning.outlook, minigpt.planning.probe, minigpt.cli.presets_check"
    script = f"import sys; import {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


PROCESSES = {
    "qwen3": ["--d-model=256", "--batch-size=8"],
    "gpt2-adamw": ["--d-model=256", "--batch-size=8", "--family=gpt2", "--optimizer=adamw"],
    "llama-shared-keys": ["--d-model=384", "--n-heads=6", "--n-kv-heads=2", "--family=llama", "--batch-size=4"],
    "few-windows": ["--d-model=512", "--n-heads=8", "--batch-size=2", "--n-layers=6"],
    "bfloat16": ["--d-model=256", "--batch-size=2", "--precision=bfloat16"],
}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the heap's overhead was measured on Linux")
def test_the_estimate_is_near_what_a_process_takes(arguments: list[str], tmp_path: Path) -> None:
    done = run_minigpt("train", "--dry-run", "--json", "--threads=1", *arguments, workspace=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["memory_estimate"] == pytest.approx(figures["memory_measured"], rel=NEAR)
