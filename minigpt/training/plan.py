"""Before the first step: how long the run is, what it will need, and when it evaluates, samples and saves.

plan = make_plan(config, windows_per_epoch, ...)
print(plan.in_words())
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from minigpt.config import Config, TrainingSettings
from minigpt.device import Device
from minigpt.model.gpt import GPTConfig
from minigpt.model.layers import PLAIN_ATTENTION_LENGTH

DEFAULT_EPOCHS = 10
EVALUATIONS_A_RUN = 10
LOG_LINES_A_RUN = 50
EPOCH_CHECKPOINTS_A_RUN = 20
# An evaluation costs about a third of training on as many tokens; ten of two splits then take a few percent.
EVALUATED_SHARE = 0.005
FEWEST_EVALUATED_TOKENS = 8192
# On a CPU more tokens at once only leave the caches.
CPU_TOKENS_AT_ONCE = 16384


@dataclass(frozen=True)
class Plan:
    """What one run will do; windows are counted over all devices."""

    steps: int
    windows_per_step: int
    windows_per_epoch: int
    tokens_per_window: int
    micro_batch_size: int
    eval_every: int
    eval_tokens: int
    save_every: int
    sample_every: int
    log_every: int
    epoch_checkpoint_every: int

    @property
    def tokens_per_step(self) -> int:
        return self.windows_per_step * self.tokens_per_window

    @property
    def tokens(self) -> int:
        return self.steps * self.tokens_per_step

    @property
    def epochs(self) -> float:
        return self.steps * self.windows_per_step / self.windows_per_epoch

    def in_words(self) -> str:
        """Return "N steps = E epochs = T tokens"."""
        return f"{self.steps:,} steps = {self.epochs:.3g} epochs = {self.tokens:,} tokens"

    def with_steps(self, steps: int) -> Plan:
        return replace(self, steps=steps)


def make_plan(config: Config, shape: GPTConfig, windows_per_epoch: int, device: Device) -> Plan:
    """Decide the length of the run and its cadences; the earlier of max_epochs and max_steps ends it."""
    training = config.training
    windows_per_step = training.batch_size * training.gradient_accumulation_steps
    steps = planned_steps(training, windows_per_epoch)
    tokens = steps * windows_per_step * shape.max_seq_len
    every = max(1, steps // EVALUATIONS_A_RUN)
    eval_every = training.eval_every or every
    epochs = steps * windows_per_step / windows_per_epoch
    return Plan(
        steps=steps,
        windows_per_step=windows_per_step,
        windows_per_epoch=windows_per_epoch,
        tokens_per_window=shape.max_seq_len,
        micro_batch_size=min(
            training.batch_size,
            training.micro_batch_size or fitting_batch(shape, device, training.gradient_checkpointing),
        ),
        eval_every=eval_every,
        eval_tokens=training.eval_tokens or max(FEWEST_EVALUATED_TOKENS, int(tokens * EVALUATED_SHARE)),
        save_every=training.save_every or every,
        sample_every=training.sample_every or eval_every,
        log_every=training.log_every or max(1, steps // LOG_LINES_A_RUN),
        epoch_checkpoint_every=math.ceil(epochs / EPOCH_CHECKPOINTS_A_RUN),
    )


def planned_steps(training: TrainingSettings, windows_per_epoch: int) -> int:
    """Return the number of updates: the earlier of both limits, or a default number of epochs without any."""
    windows_per_step = training.batch_size * training.gradient_accumulation_steps
    epochs = training.max_epochs or (None if training.max_steps else DEFAULT_EPOCHS)
    limits = [] if epochs is None else [math.ceil(epochs * windows_per_epoch / windows_per_step)]
    if training.max_steps:
        limits.append(training.max_steps)
    return max(1, min(limits))


def activation_bytes_per_token(shape: GPTConfig, device: Device, checkpointing: bool) -> int:
    """Estimate what the backward pass keeps of one token: each layer's inputs, and the predictions in float32."""
    size = 4 if device.precision == "float32" else 2
    heads = shape.n_heads * shape.head_dim
    kv = shape.n_kv_heads * shape.head_dim
    hidden = shape.d_ff * (4 if shape.activation == "swiglu" else 2)
    one_layer = 6 * shape.d_model + 5 * heads + 4 * kv + hidden
    if device.kind == "cpu" and shape.max_seq_len <= PLAIN_ATTENTION_LENGTH:
        one_layer += 2 * shape.n_heads * shape.max_seq_len  # scores and weights; the fused kernel keeps neither
    layers = shape.d_model * shape.n_layers + one_layer if checkpointing else one_layer * shape.n_layers
    return size * layers + shape.vocab_size * (8 + size)


def state_bytes(parameters: int, matrix_parameters: int, optimizer: str) -> int:
    """Return bytes for weights, gradients and optimizer in float32: Adam keeps two numbers a weight, Muon one."""
    by_muon = matrix_parameters if optimizer == "muon" else 0
    return 4 * (2 * parameters + by_muon + 2 * (parameters - by_muon))


def fitting_batch(shape: GPTConfig, device: Device, checkpointing: bool) -> int:
    """Return how many windows pass through the network at once, by estimate, in half of the device's memory."""
    room = device.memory // 2
    windows = room // (activation_bytes_per_token(shape, device, checkpointing) * shape.max_seq_len)
    if device.kind == "cpu":
        windows = min(windows, CPU_TOKENS_AT_ONCE // shape.max_seq_len)
    return max(1, int(windows))


def memory_estimate(
    config: Config, shape: GPTConfig, parameters: int, matrices: int, plan: Plan, device: Device
) -> int:
    """Estimate the bytes a run needs on its device."""
    training = config.training
    per_token = activation_bytes_per_token(shape, device, training.gradient_checkpointing)
    activations = per_token * plan.micro_batch_size * plan.tokens_per_window
    return state_bytes(parameters, matrices, training.optimizer) + activations


def start_fields(plan: Plan) -> dict[str, Any]:
    """Return what a run's `start` event says of its plan."""
    return {
        "planned_steps": plan.steps,
        "planned_epochs": plan.epochs,
        "planned_tokens": plan.tokens,
        "tokens_per_step": plan.tokens_per_step,
    }
