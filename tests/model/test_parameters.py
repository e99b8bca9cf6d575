"""The arithmetic of sizes against the network itself."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from minigpt.config import ModelSettings
from minigpt.model.gpt import GPT, GPTConfig
from minigpt.model.parameters import parameter_count
from minigpt.presets import read_file
from minigpt.workspace import builtin_presets

VOCABULARY = 300
SWITCHES = [
    {},
    {"n_kv_heads": 2},
    {"head_dim": 10},
    {"d_ff": 70},
    {"tied_embeddings": True},
    {"tied_embeddings": False},
    {"norm": "layernorm", "bias": True},
    {"norm": "layernorm", "bias": False},
    {"norm": "rmsnorm", "bias": True},
    {"position": "learned"},
    {"position": "rope"},
    {"activation": "gelu"},
    {"activation": "swiglu"},
    {"qk_norm": True},
    {"qk_norm": False},
]


def counted(settings: ModelSettings, vocab_size: int) -> int:
    # On the meta device nothing is allocated, however large the model.
    with torch.device("meta"):
        return GPT(GPTConfig.from_settings(settings, vocab_size)).parameter_count()


@pytest.mark.parametrize("path", sorted(builtin_presets().glob("*.toml")), ids=lambda path: path.stem)
def test_every_preset_has_the_size_that_is_said(path) -> None:
    config = read_file(path)
    vocab_size = config.tokenizer.vocab_size
    assert parameter_count(config.model, vocab_size) == counted(config.model, vocab_size)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_every_switch_is_counted(family, switch) -> None:
    settings = ModelSettings(family=family, d_model=32, n_layers=2, n_heads=4, max_seq_len=16, **switch)
    assert parameter_count(settings, VOCABULARY) == counted(settings, VOCABULARY)


def test_it_needs_no_torch() -> None:
    script = "import sys; import minigpt.model.parameters; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
