"""What we measure ourselves against: the textbook GPT and its training loop, nothing added.

    recipe = Recipe()
    model = TextbookGPT(recipe, vocab_size=65)
    for loss in training(model, make_optimizer(model, recipe), random_windows(tokens, recipe), recipe): ...

Architecture, optimizer and figures are those of nanoGPT (https://github.com/karpathy/nanoGPT), with the settings its
README gives for Shakespeare by character on a CPU; the code is our own. It shares nothing with the rest of MiniGPT but
the names of the weights, so that it serves the tests as a second opinion too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Recipe:
    """nanoGPT's settings for a CPU; there is no dropout in them."""

    n_layers: int = 4
    n_heads: int = 4
    width: int = 128
    context: int = 64
    batch: int = 12
    steps: int = 2000
    learning_rate: float = 1e-3
    min_learning_rate: float = 1e-4
    warmup: int = 100
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    bias: bool = False
    # GPT-2 has the tanh form of GELU, nanoGPT the exact one.
    tanh_gelu: bool = False
    compile: bool = False


class CausalAttention(nn.Module):
    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.n_heads = recipe.n_heads
        self.qkv = nn.Linear(recipe.width, 3 * recipe.width, bias=recipe.bias)
        self.output = nn.Linear(recipe.width, recipe.width, bias=recipe.bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        q, k, v = (
            part.view(batch, time, self.n_heads, width // self.n_heads).transpose(1, 2)
            for part in self.qkv(x).split(width, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.output(y.transpose(1, 2).reshape(batch, time, width))


class FeedForward(nn.Module):
    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.up = nn.Linear(recipe.width, 4 * recipe.width, bias=recipe.bias)
        self.down = nn.Linear(4 * recipe.width, recipe.width, bias=recipe.bias)
        self.gelu = nn.GELU(approximate="tanh" if recipe.tanh_gelu else "none")

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.gelu(self.up(x)))


class Layer(nn.Module):
    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(recipe.width, bias=recipe.bias)
        self.attention = CausalAttention(recipe)
        self.mlp_norm = nn.LayerNorm(recipe.width, bias=recipe.bias)
        self.mlp = FeedForward(recipe)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class TextbookGPT(nn.Module):
    """GPT-2's network: tokens (batch, time) -> logits (batch, time, vocabulary)."""

    def __init__(self, recipe: Recipe, vocab_size: int) -> None:
        super().__init__()
        self.context = recipe.context
        self.token_embedding = nn.Embedding(vocab_size, recipe.width)
        self.position_embedding = nn.Embedding(recipe.context, recipe.width)
        self.blocks = nn.Sequential(*(Layer(recipe) for _ in range(recipe.n_layers)))
        self.norm = nn.LayerNorm(recipe.width, bias=recipe.bias)
        self.head = nn.Linear(recipe.width, vocab_size, bias=False)
        self.head.weight = self.token_embedding.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                into_residual = name.endswith(("output.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * recipe.n_layers) if into_residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, last_only: bool = False) -> Tensor:
        positions = torch.arange(tokens.size(1), device=tokens.device)
        x = self.norm(self.blocks(self.token_embedding(tokens) + self.position_embedding(positions)))
        return self.head(x[:, -1:] if last_only else x)


def random_windows(tokens: np.ndarray, recipe: Recipe, device: str = "cpu") -> Iterator[Batch]:
    """Yield batches of windows from anywhere in the text, drawn with torch's global generator, for ever."""
    while True:
        starts = torch.randint(len(tokens) - recipe.context, (recipe.batch,)).tolist()
        windows = np.stack([tokens[start : start + recipe.context + 1] for start in starts]).astype(np.int64)
        batch = torch.from_numpy(windows).to(device)
        yield batch[:, :-1], batch[:, 1:]


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the rate of update `step` (from 0): a linear climb, then half a cosine down to the minimum."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / (recipe.warmup + 1)
    progress = (step - recipe.warmup) / (recipe.steps - recipe.warmup)
    share = 0.5 * (1 + math.cos(math.pi * progress))
    return recipe.min_learning_rate + share * (recipe.learning_rate - recipe.min_learning_rate)


def make_optimizer(model: TextbookGPT, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW; only matrices and embeddings decay."""
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        betas=(recipe.beta1, recipe.beta2),
        fused=True if model.head.weight.device.type == "cuda" else None,
    )


def training(
    model: TextbookGPT, optimizer: torch.optim.Optimizer, batches: Iterator[Batch], recipe: Recipe
) -> Iterator[float]:
    """Train for the recipe's steps; yield each step's loss, the mean nats a token, after its update."""
    network = torch.compile(model) if recipe.compile else model
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        inputs, targets = next(batches)
        with mixed_precision(inputs.device.type):
            loss = F.cross_entropy(network(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item()


def mixed_precision(device: str) -> torch.autocast:
    """Return the arithmetic nanoGPT computes in: bfloat16 on a GPU, float32 elsewhere."""
    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")


@torch.no_grad()
def whole_loss(model: TextbookGPT, tokens: np.ndarray, windows_at_once: int = 64) -> float:
    """Return the mean nats of every token but the first, each predicted once, in windows side by side."""
    device = model.head.weight.device
    text = torch.from_numpy(tokens.astype(np.int64)).to(device)
    targets = len(text) - 1
    whole = targets // model.context * model.context
    inputs, wanted = text[:whole].view(-1, model.context), text[1 : whole + 1].view(-1, model.context)
    batches = list(zip(inputs.split(windows_at_once), wanted.split(windows_at_once), strict=True))
    if whole < targets:
        batches.append((text[whole:-1].view(1, -1), text[whole + 1 :].view(1, -1)))
    total = 0.0
    for batch, answer in batches:
        total += F.cross_entropy(model(batch).flatten(0, 1), answer.flatten(), reduction="sum").item()
    return total / targets


@torch.no_grad()
def generate(
    model: TextbookGPT, tokens: Tensor, count: int, temperature: float = 0.8, top_k: int = 200
) -> Iterator[Tensor]:
    """Yield new tokens (batch, 1), reading all that fits the context again for each: tokens (batch, time)."""
    for _ in range(count):
        with mixed_precision(tokens.device.type):
            logits = model(tokens[:, -model.context :], last_only=True)[:, -1] / temperature
        smallest = logits.topk(min(top_k, logits.size(-1))).values[:, -1:]
        logits[logits < smallest] = -math.inf
        token = torch.multinomial(logits.softmax(dim=-1), 1)
        tokens = torch.cat([tokens, token], dim=1)
        yield token
