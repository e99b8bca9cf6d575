"""What moves the weights: Muon on the matrices, Adam on the rest, and the schedule of both rates.

optimizer = Optimizer(model, TrainingSettings())
optimizer.step(rate_factor=1.0)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from minigpt.config import TrainingSettings
from minigpt.model.gpt import GPT

# Coefficients of the quintic iteration: https://kellerjordan.github.io/posts/muon/
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
MUON_EPSILON = 1e-7


def orthogonalise(matrices: Tensor, iterations: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Return the nearest (roughly) orthogonal matrix of each: (n, rows, columns), singular values near 1."""
    a, b, c = NEWTON_SCHULZ
    x = matrices.to(dtype)
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=MUON_EPSILON)
    for _ in range(iterations):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x


class Muon:
    """Momentum, made orthogonal: https://kellerjordan.github.io/posts/muon/. All matrices of a shape move as one batch.

    `matrices` pairs each weight with the row counts of the projections stacked in it; each projection is
    orthogonalised by itself.
    """

    def __init__(
        self,
        matrices: Iterable[tuple[Tensor, list[int]]],
        momentum: float,
        iterations: int,
        weight_decay: float,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        self.momentum, self.iterations, self.weight_decay, self.dtype = momentum, iterations, weight_decay, dtype
        self.groups: dict[tuple[int, int], list[tuple[Tensor, int]]] = defaultdict(list)
        for weight, row_sizes in matrices:
            start = 0
            for rows in row_sizes:
                self.groups[rows, weight.size(1)].append((weight, start))
                start += rows
        self.velocity = {
            shape: torch.zeros(len(members), *shape, device=members[0][0].device)
            for shape, members in self.groups.items()
        }

    @torch.no_grad()
    def step(self, learning_rate: float, skip: Tensor | None = None) -> None:
        """Move every matrix once; where the 0-dimensional tensor `skip` is 1, leave weights and momentum alone."""
        for (rows, columns), members in self.groups.items():
            velocity = self.velocity[rows, columns]
            gradient = torch.stack([_gradient(weight)[start : start + rows] for weight, start in members])
            keep: Tensor | float = 1.0
            if skip is not None:
                keep = 1.0 - skip
                # Zero, not a product with zero: NaN would survive that.
                gradient = torch.where(skip > 0, 0.0, gradient)
                velocity.lerp_(gradient, keep * (1 - self.momentum))
            else:
                velocity.lerp_(gradient, 1 - self.momentum)
            update = orthogonalise(gradient.lerp_(velocity, self.momentum), self.iterations, self.dtype)
            # A tall matrix writes to more outputs than it reads: the same change of each needs a larger matrix.
            rate = learning_rate * math.sqrt(max(1.0, rows / columns))
            update = update.to(velocity.dtype).mul_(keep * -rate)
            slices = [weight[start : start + rows] for weight, start in members]
            torch._foreach_mul_(slices, 1 - learning_rate * self.weight_decay * keep)
            torch._foreach_add_(slices, list(update.unbind(0)))

    def state_dict(self) -> dict[str, Tensor]:
        return {f"{rows}x{columns}": velocity for (rows, columns), velocity in self.velocity.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for (rows, columns), velocity in self.velocity.items():
            velocity.copy_(state[f"{rows}x{columns}"])


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None, "step() before backward()"
    return weight.grad


class Optimizer:
    """The optimizer the settings ask for, over all weights of a model."""

    def __init__(self, model: GPT, settings: TrainingSettings, muon_dtype: torch.dtype = torch.bfloat16) -> None:
        self.settings = settings
        self.muon: Muon | None = None
        by_muon: set[int] = set()
        if settings.optimizer == "muon":
            matrices = model.matrices()
            by_muon = {id(weight) for weight, _ in matrices}
            self.muon = Muon(
                matrices, settings.muon_momentum, settings.muon_iterations, settings.weight_decay, muon_dtype
            )
        self.adam = torch.optim.AdamW(
            self._adam_groups([p for p in model.parameters() if id(p) not in by_muon]),
            lr=settings.learning_rate,
            betas=(settings.adam_beta1, settings.adam_beta2),
            eps=settings.adam_epsilon,
            fused=True,
        )

    def _adam_groups(self, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
        if self.settings.optimizer == "muon":
            return [{"params": parameters, "weight_decay": 0.0}]
        return [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": self.settings.weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]

    def step(self, rate_factor: float, skip: Tensor | None = None) -> None:
        """Move the weights once, both learning rates times `rate_factor`.

        Where the 0-dimensional tensor `skip` is 1, nothing changes: decided on the device, so the host need not wait.
        """
        for group in self.adam.param_groups:
            group["lr"] = self.settings.learning_rate * rate_factor
        # The hook through which torch's own GradScaler skips a step inside the fused kernel.
        self.adam.found_inf = skip  # type: ignore[attr-defined]
        self.adam.step()
        if self.muon is not None:
            self.muon.step(self.settings.muon_learning_rate * rate_factor, skip)

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"adam": self.adam.state_dict()}
        if self.muon is not None:
            state["muon"] = self.muon.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.adam.load_state_dict(state["adam"])
        for tensors in self.adam.state.values():
            # On a CPU torch keeps those it is given: their file, when removed, would take its room all the same.
            tensors.update({name: tensor.clone() if tensor.is_cpu else tensor for name, tensor in tensors.items()})
        if self.muon is not None:
            self.muon.load_state_dict(state["muon"])


def warmup_of(settings: TrainingSettings, steps: int) -> int:
    """Return how many steps the rate climbs in a run of so many: half of it at most."""
    return min(settings.warmup_steps, steps // 2)


def rate_factor(settings: TrainingSettings, step: int, steps: int) -> float:
    """Return the share of the learning rate to use for update `step` (from 0) of `steps`."""
    warmup = warmup_of(settings, steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    floor = settings.min_lr_fraction
    progress = (step - warmup) / max(1, steps - warmup)
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "cosine":
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
    if settings.schedule == "wsd":
        remaining = (steps - step) / max(1.0, settings.decay_fraction * steps)
        return floor + (1 - floor) * min(1.0, remaining)
    return floor + (1 - floor) * (1 - progress)
