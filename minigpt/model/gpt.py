"""The network: tokens in, a prediction of each next token out.

    model = GPT(GPTConfig.from_settings(ModelSettings(), vocab_size=65))
    logits = model(torch.randint(65, (1, 16)))        # (batch, time, vocabulary)

One class, a handful of switches, three named families: gpt2, llama and qwen3 compute the same functions as the
classes of those names in Hugging Face `transformers`, which `tests/interop` proves.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from minigpt.config import Family, ModelSettings
from minigpt.model.layers import KVCache, attend, drop, make_norm, rms_norm, rotate, rotation_table

FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {
        "norm": "layernorm",
        "position": "learned",
        "activation": "gelu",
        "qk_norm": False,
        "bias": True,
        "tied_embeddings": True,
        "norm_epsilon": 1e-5,
    },
    "llama": {
        "norm": "rmsnorm",
        "position": "rope",
        "activation": "swiglu",
        "qk_norm": False,
        "bias": False,
        "tied_embeddings": False,
        "norm_epsilon": 1e-5,
    },
    "qwen3": {
        "norm": "rmsnorm",
        "position": "rope",
        "activation": "swiglu",
        "qk_norm": True,
        "bias": False,
        "tied_embeddings": False,
        "norm_epsilon": 1e-6,
    },
}


class GPTConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of a network, every switch decided."""

    family: Family
    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    max_seq_len: int
    dropout: float
    tied_embeddings: bool
    norm: str
    position: str
    activation: str
    qk_norm: bool
    bias: bool
    rope_base: float
    norm_epsilon: float

    @classmethod
    def from_settings(cls, settings: ModelSettings, vocab_size: int) -> GPTConfig:
        """Decide what the settings leave to the family."""
        values = msgspec.structs.asdict(settings)
        left_out = {name: choice for name, choice in FAMILIES[settings.family].items() if values[name] is None}
        values.update(left_out, vocab_size=vocab_size)
        values["n_kv_heads"] = settings.n_kv_heads or settings.n_heads
        values["head_dim"] = settings.head_dim or settings.d_model // settings.n_heads
        expansion = 4 if values["activation"] == "gelu" else 3
        values["d_ff"] = settings.d_ff or expansion * settings.d_model
        return cls(**values)

    def to_settings(self) -> ModelSettings:
        """Return settings that spell out every switch, so that defaults may change without changing this model."""
        values = msgspec.structs.asdict(self)
        del values["vocab_size"]
        return ModelSettings(**values)


class Attention(nn.Module):
    """Causal self-attention with grouped queries; queries, keys and values come from one matrix."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.n_heads, self.n_kv_heads, self.head_dim = config.n_heads, config.n_kv_heads, config.head_dim
        self.row_sizes = [n * config.head_dim for n in (config.n_heads, config.n_kv_heads, config.n_kv_heads)]
        self.qkv = nn.Linear(config.d_model, sum(self.row_sizes), bias=config.bias)
        self.output = nn.Linear(config.n_heads * config.head_dim, config.d_model, bias=config.bias)
        self.dropout = config.dropout
        self.epsilon = config.norm_epsilon
        if config.qk_norm:
            self.q_norm = nn.Parameter(torch.ones(config.head_dim))
            self.k_norm = nn.Parameter(torch.ones(config.head_dim))
        self.qk_norm = config.qk_norm

    def forward(self, x: Tensor, rotation: Tensor | None, cache: KVCache | None = None) -> Tensor:
        """(batch, time, d_model) -> the same shape."""
        batch, time, _ = x.shape
        heads = self.qkv(x).view(batch, time, -1, self.head_dim)
        qk, v = heads.split([self.n_heads + self.n_kv_heads, self.n_kv_heads], dim=2)
        if self.qk_norm:
            scale = torch.cat([self.q_norm.expand(self.n_heads, -1), self.k_norm.expand(self.n_kv_heads, -1)])
            qk = rms_norm(qk, scale, self.epsilon)
        if rotation is not None:
            qk = rotate(qk, rotation)
        q, k = qk.to(v.dtype).transpose(1, 2).split([self.n_heads, self.n_kv_heads], dim=1)
        v = v.transpose(1, 2)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)
        y = attend(q, k, v, self.dropout if self.training else 0.0)
        return drop(self.output(y), self.dropout, self.training)


class MLP(nn.Module):
    """Two layers with a non-linearity between: GELU (tanh form, as in GPT-2) or SwiGLU."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.gated = config.activation == "swiglu"
        self.row_sizes = [config.d_ff] * (2 if self.gated else 1)
        self.up = nn.Linear(config.d_model, sum(self.row_sizes), bias=config.bias)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=config.bias)
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, d_model) -> the same shape."""
        x = self.up(x)
        if self.gated:
            gate, x = x.chunk(2, dim=-1)
            x = F.silu(gate) * x
        else:
            x = F.gelu(x, approximate="tanh")
        return drop(self.down(x), self.dropout, self.training)


class Block(nn.Module):
    """Look at other tokens (attention), then think about what was seen (MLP); each adds to its input."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = make_norm(config, config.d_model)
        self.attention = Attention(config, layer)
        self.mlp_norm = make_norm(config, config.d_model)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, rotation: Tensor | None, cache: KVCache | None = None) -> Tensor:
        """(batch, time, d_model) -> the same shape."""
        x = x + self.attention(self.attention_norm(x), rotation, cache)
        return x + self.mlp(self.mlp_norm(x))


class GPT(nn.Module):
    """A decoder-only transformer."""

    rotation: Tensor

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        if config.position == "learned":
            self.position_embedding = nn.Embedding(config.max_seq_len, config.d_model)
        else:
            self.register_buffer("rotation", rotation_table(config), persistent=False)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.norm = make_norm(config, config.d_model)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tied_embeddings:
            self.head.weight = self.token_embedding.weight
        self.gradient_checkpointing = False
        self.initialise()

    def forward(self, tokens: Tensor, cache: KVCache | None = None, last_only: bool = False) -> Tensor:
        """Return logits (batch, time, vocabulary) for tokens (batch, time), or for the last position only.

        With a cache, the tokens follow those the cache has seen.
        """
        start = 0 if cache is None else cache.length
        end = start + tokens.size(1)
        assert end <= self.config.max_seq_len, f"{end} tokens do not fit a context of {self.config.max_seq_len}"
        x = self.token_embedding(tokens)
        rotation = None
        if self.config.position == "learned":
            x = x + self.position_embedding.weight[start:end]
        else:
            rotation = self.rotation[start:end]
        x = drop(x, self.config.dropout, self.training)
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                x = checkpoint(block, x, rotation, use_reentrant=False)
            else:
                x = block(x, rotation, cache)
        if cache is not None:
            cache.length = end
        if last_only:
            x = x[:, -1:]
        return self.head(self.norm(x))

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over all tokens of -log p(target), in nats; inputs and targets are (batch, time)."""
        logits = self(inputs)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum")

    @torch.no_grad()
    def fill_tables(self) -> None:
        """Compute what follows from the configuration alone and is not saved with the weights."""
        if self.config.position == "rope":
            self.rotation.copy_(rotation_table(self.config))

    @torch.no_grad()
    def initialise(self) -> None:
        """Set fresh weights, in the family's way."""
        if self.config.family == "gpt2":
            self._initialise_gpt2()
        else:
            self._initialise_zero_output()

    def _initialise_gpt2(self) -> None:
        # As in GPT-2: N(0, 0.02), and less for the layers that add to the residual stream, by its depth.
        std = 0.02
        for name, parameter in self.named_parameters():
            if name.endswith((".attention.output.weight", ".mlp.down.weight")):
                nn.init.normal_(parameter, std=std / math.sqrt(2 * self.config.n_layers))
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=std)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.ones_(parameter)  # the scale of a norm

    def _initialise_zero_output(self) -> None:
        # As in modded-nanogpt: every block starts as the identity, and an untied head predicts all tokens alike.
        bound = 0.5 * math.sqrt(3 / self.config.d_model)
        for name, parameter in self.named_parameters():
            if name.endswith((".attention.output.weight", ".mlp.down.weight", "head.weight", "bias")):
                nn.init.zeros_(parameter)
            elif name == "token_embedding.weight":
                # A tied matrix also predicts: it must start small, or the first predictions are wild.
                nn.init.normal_(parameter, std=0.02 if self.config.tied_embeddings else 0.25)
            elif name == "position_embedding.weight":
                nn.init.normal_(parameter, std=0.02)
            elif parameter.dim() == 2:
                nn.init.uniform_(parameter, -bound, bound)
            else:
                nn.init.ones_(parameter)  # the scale of a norm

    def matrices(self) -> list[tuple[Tensor, list[int]]]:
        """Return the blocks' weight matrices, each with the row counts of the projections stacked in it."""
        found = []
        for block in self.blocks:
            assert isinstance(block, Block)
            for linear, rows in (
                (block.attention.qkv, block.attention.row_sizes),
                (block.attention.output, [self.config.d_model]),
                (block.mlp.up, block.mlp.row_sizes),
                (block.mlp.down, [self.config.d_model]),
            ):
                found.append((linear.weight, rows))
        return found

    def parameter_count(self) -> int:
        """Return the number of weights, a tied matrix counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def flops_per_token(self) -> int:
        """Return floating-point operations to train on one token: 6 a weight used in a product, plus attention.

        PaLM's count (https://arxiv.org/abs/2204.02311, appendix B): 6 N + 12 layers x heads x head_dim x time.
        """
        config = self.config
        embedding = 0 if config.tied_embeddings else self.token_embedding.weight.numel()
        if config.position == "learned":
            embedding += self.position_embedding.weight.numel()
        attention = 12 * config.n_layers * config.n_heads * config.head_dim * config.max_seq_len
        return 6 * (self.parameter_count() - embedding) + attention
