"""How many weights a network has, by arithmetic: without torch, and before there is one."""

from __future__ import annotations

from minigpt.config import ModelSettings


def parameter_count(settings: ModelSettings, vocab_size: int) -> int:
    """Return what `GPT.parameter_count` gives for a network of these settings: a tied matrix counts once."""
    gpt2 = settings.family == "gpt2"
    width, n_heads = settings.d_model, settings.n_heads
    n_kv_heads, head_dim = settings.n_kv_heads or n_heads, settings.head_dim or width // n_heads
    bias = int(_chosen(settings.bias, gpt2))
    gated = (settings.activation or ("gelu" if gpt2 else "swiglu")) == "swiglu"
    d_ff = settings.d_ff or (3 if gated else 4) * width
    norm = width * (1 + (bias and (settings.norm or ("layernorm" if gpt2 else "rmsnorm")) == "layernorm"))

    def linear(inputs: int, outputs: int) -> int:
        return outputs * (inputs + bias)

    attention = linear(width, (n_heads + 2 * n_kv_heads) * head_dim) + linear(n_heads * head_dim, width)
    attention += 2 * head_dim * _chosen(settings.qk_norm, settings.family == "qwen3")
    mlp = linear(width, d_ff * (2 if gated else 1)) + linear(d_ff, width)
    learned = (settings.position or ("learned" if gpt2 else "rope")) == "learned"
    positions = settings.max_seq_len * width * learned
    embeddings = vocab_size * width * (1 if _chosen(settings.tied_embeddings, gpt2) else 2)
    return embeddings + positions + settings.n_layers * (attention + mlp + 2 * norm) + norm


def _chosen(value: bool | None, of_family: bool) -> bool:
    return of_family if value is None else value
