"""The network's parts without weights of their own: normalisation, rotation, attention, and the cache."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd

from minigpt.device import prefers_onednn

if TYPE_CHECKING:
    from minigpt.model.gpt import GPTConfig

# Where MKL is slow, plain matrix products through oneDNN beat the fused attention kernel up to this length.
PLAIN_ATTENTION_LENGTH = 512 if prefers_onednn() else 0


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Return x / sqrt(mean(x^2) + epsilon) * weight (https://arxiv.org/abs/1910.07467); the mean is over the last axis.

    The weight's shape is that of x's last axes, one or more.
    """
    if x.device.type == "cpu" and torch.is_grad_enabled():
        normalised: Tensor = _RMSNormCPU.apply(x, weight, epsilon)
        return normalised
    return (
        F.rms_norm(x, x.shape[-1:], None, epsilon) * weight
        if weight.dim() > 1
        else (F.rms_norm(x, x.shape[-1:], weight, epsilon))
    )


class _RMSNormCPU(torch.autograd.Function):
    """The same with a third of the passes over memory: torch has no fused kernel for it on CPUs."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.size(-1)).add_(epsilon).rsqrt_()
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, scale, weight = ctx.saved_tensors
        of_weight = gradient * unit
        along = (of_weight * weight).mean(dim=-1, keepdim=True)
        of_x = torch.addcmul(gradient * weight, unit, along, value=-1).mul_(scale)
        return of_x, of_weight.flatten(0, -1 - weight.dim()).sum(dim=0), None


class RMSNorm(nn.Module):
    """Root-mean-square normalisation with a learned scale."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same shape."""
        return rms_norm(x, self.weight, self.epsilon)


def drop(x: Tensor, share: float, training: bool) -> Tensor:
    """Dropout that costs nothing when there is none: when one token at a time is generated, every call counts."""
    return F.dropout(x, share) if training and share > 0 else x


def make_norm(config: GPTConfig, width: int) -> nn.Module:
    if config.norm == "layernorm":
        return nn.LayerNorm(width, config.norm_epsilon, bias=config.bias)
    return RMSNorm(width, config.norm_epsilon)


def rotation_table(config: GPTConfig) -> Tensor:
    """Return cosine and sine of RoPE's angles (https://arxiv.org/abs/2104.09864): (max_seq_len, 1, head_dim / 2, 2)."""
    pairs = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    # The reciprocal of the power, not a negative power, as in `transformers`: far along, the last bit is visible.
    angles = torch.outer(torch.arange(config.max_seq_len, dtype=torch.float32), 1.0 / config.rope_base**pairs)
    return torch.stack([angles.cos(), angles.sin()], dim=-1).unsqueeze(1)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn each pair (x[2i], x[2i + 1]) by its position's angle: x (batch, time, heads, head_dim).

    `transformers` pairs x[i] with x[i + head_dim / 2]: the same function of weights in another order.
    """
    pairs = x.float().unflatten(-1, (-1, 2))
    if x.device.type == "cpu":
        # A pair is a complex number, turned by one product.
        turned = torch.view_as_complex(pairs) * torch.view_as_complex(rotation)
        return torch.view_as_real(turned).flatten(-2)
    (a, b), (cos, sin) = pairs.unbind(-1), rotation.unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)


class KVCache:
    """Keys and values of the tokens seen so far, for each layer: (batch, n_kv_heads, capacity, head_dim)."""

    def __init__(self, config: GPTConfig, batch: int, capacity: int, like: Tensor) -> None:
        shape = (batch, config.n_kv_heads, capacity, config.head_dim)
        self.keys = [like.new_zeros(shape) for _ in range(config.n_layers)]
        self.values = [like.new_zeros(shape) for _ in range(config.n_layers)]
        self.capacity = capacity
        self.length = 0

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append (batch, n_kv_heads, time, head_dim); return everything so far. The caller advances `length`."""
        time = keys.size(2)
        end = self.length + time
        assert end <= self.capacity, "the cache is full"
        self.keys[layer].narrow(2, self.length, time).copy_(keys)
        self.values[layer].narrow(2, self.length, time).copy_(values)
        return self.keys[layer].narrow(2, 0, end), self.values[layer].narrow(2, 0, end)


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """Causal attention; the queries are the last ones of the sequence the keys cover.

    q (batch, n_heads, time, head_dim), k and v (batch, n_kv_heads, length, head_dim) -> (batch, time, width)
    """
    batch, n_heads, time, head_dim = q.shape
    length = k.size(2)
    if time == 1:
        # One new token may look at everything.
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=n_heads != k.size(1))
        return y.reshape(batch, 1, n_heads * head_dim)
    if n_heads != k.size(1):
        k = k.repeat_interleave(n_heads // k.size(1), dim=1)
        v = v.repeat_interleave(n_heads // v.size(1), dim=1)
    if q.device.type == "cpu" and length <= PLAIN_ATTENTION_LENGTH:
        y = _plain_attention(q, k, v, dropout)
    elif time == length:
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
    else:
        seen = torch.ones(time, length, dtype=torch.bool, device=q.device).tril(length - time)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=dropout)
    return y.transpose(1, 2).reshape(batch, time, n_heads * head_dim)


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    batch, n_heads, time, head_dim = q.shape
    length = k.size(2)
    future = torch.full((time, length), -math.inf, dtype=q.dtype, device=q.device).triu(length - time + 1)
    scores = torch.baddbmm(
        future, q.reshape(-1, time, head_dim), k.reshape(-1, length, head_dim).transpose(1, 2), alpha=head_dim**-0.5
    )
    weights = F.dropout(scores.softmax(dim=-1), dropout, dropout > 0)
    return torch.bmm(weights, v.reshape(-1, length, head_dim)).view(batch, n_heads, time, head_dim)
