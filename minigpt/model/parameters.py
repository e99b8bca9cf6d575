"""How large a network is, and how much work, by arithmetic: without torch, and before there is one.

parameter_parts(config.model, vocab_size=1024)      # {"token embedding": 131072, ...}
"""

from __future__ import annotations

import msgspec

from minigpt.config import ModelSettings


def decided(settings: ModelSettings) -> ModelSettings:
    """Return the settings with all that they leave to the family decided, as `GPTConfig.from_settings` does."""
    gpt2 = settings.family == "gpt2"
    width = settings.d_model
    activation = settings.activation or ("gelu" if gpt2 else "swiglu")
    return msgspec.structs.replace(
        settings,
        n_kv_heads=settings.n_kv_heads or settings.n_heads,
        head_dim=settings.head_dim or width // settings.n_heads,
        d_ff=settings.d_ff or (3 if activation == "swiglu" else 4) * width,
        tied_embeddings=_chosen(settings.tied_embeddings, gpt2),
        norm=settings.norm or ("layernorm" if gpt2 else "rmsnorm"),
        position=settings.position or ("learned" if gpt2 else "rope"),
        activation=activation,
        qk_norm=_chosen(settings.qk_norm, settings.family == "qwen3"),
        bias=_chosen(settings.bias, gpt2),
    )


def parameter_count(settings: ModelSettings, vocab_size: int) -> int:
    """Return what `GPT.parameter_count` gives for a network of these settings: a tied matrix counts once."""
    return sum(parameter_parts(settings, vocab_size).values())


def parameter_parts(settings: ModelSettings, vocab_size: int) -> dict[str, int]:
    """Return the weights of each part of the network; a tied output head has none of its own."""
    model = decided(settings)
    width, bias = model.d_model, int(bool(model.bias))
    norm = width * (1 + (bias and model.norm == "layernorm"))
    attention, mlp = matrix_rows(settings)[:2], matrix_rows(settings)[2:]

    def linear(matrices: list[tuple[list[int], int]]) -> int:
        return sum(sum(rows) * (columns + bias) for rows, columns in matrices)

    return {
        "token embedding": vocab_size * width,
        "positions": model.max_seq_len * width * (model.position == "learned"),
        "attention": model.n_layers * (linear(attention) + 2 * (model.head_dim or 0) * bool(model.qk_norm)),
        "MLP": model.n_layers * linear(mlp),
        "norms": (2 * model.n_layers + 1) * norm,
        "output head": 0 if model.tied_embeddings else vocab_size * width,
    }


def matrix_rows(settings: ModelSettings) -> list[tuple[list[int], int]]:
    """Return one block's matrices as `GPT.matrices` has them: the rows of each stacked projection, and the columns."""
    model = decided(settings)
    assert model.head_dim and model.n_kv_heads and model.d_ff
    heads, kv_heads = model.n_heads * model.head_dim, model.n_kv_heads * model.head_dim
    return [
        ([heads, kv_heads, kv_heads], model.d_model),
        ([model.d_model], heads),
        ([model.d_ff] * (2 if model.activation == "swiglu" else 1), model.d_model),
        ([model.d_model], model.d_ff),
    ]


def matrix_parameters(settings: ModelSettings) -> int:
    """Return how many weights stand in the blocks' matrices: those that Muon moves."""
    return settings.n_layers * sum(sum(rows) * columns for rows, columns in matrix_rows(settings))


def flops_per_token(settings: ModelSettings, vocab_size: int) -> int:
    """Return floating-point operations to train on one token, as `GPT.flops_per_token` counts them."""
    model, parts = decided(settings), parameter_parts(settings, vocab_size)
    looked_up = parts["positions"] + (0 if model.tied_embeddings else parts["token embedding"])
    attention = 12 * model.n_layers * model.n_heads * (model.head_dim or 0) * model.max_seq_len
    return 6 * (sum(parts.values()) - looked_up) + attention


def _chosen(value: bool | None, of_family: bool) -> bool:
    return of_family if value is None else value
