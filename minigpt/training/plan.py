"""Before the first step: how long the run is, what it will need, and when it evaluates, samples and saves.

plan = make_plan(config, windows_per_epoch, ...)
print(plan.in_words())
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from minigpt.config import Config, ModelSettings, TrainingSettings
from minigpt.device import Device
from minigpt.model.memory import FLOAT, Memory, Placement, memory_of
from minigpt.model.parameters import matrix_parameters, parameter_count

if TYPE_CHECKING:
    from minigpt.model.gpt import GPTConfig

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
        micro_batch_size=micro_batch(
            shape.to_settings(),
            shape.vocab_size,
            training,
            device,
            plain_attention=_plain_attention(device, shape.max_seq_len),
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


def fitting_batch(
    settings: ModelSettings, vocab_size: int, training: TrainingSettings, placement: Placement, room: int
) -> int:
    """Return how many windows pass through the network at once, by estimate, in half of `room` bytes."""
    one, two = (
        memory_of(settings, vocab_size, training, replace(placement, windows=windows)).activations for windows in (1, 2)
    )
    windows = room // 2 // (two - one)
    if placement.kind == "cpu":
        windows = min(windows, CPU_TOKENS_AT_ONCE // settings.max_seq_len)
    return max(1, int(windows))


def micro_batch(
    settings: ModelSettings, vocab_size: int, training: TrainingSettings, device: Device, plain_attention: bool
) -> int:
    """Return how many windows pass through the network at once: what is asked for, or what fits."""
    placement = Placement(device.kind, device.precision, 1, plain_attention=plain_attention)
    fitting = training.micro_batch_size or fitting_batch(settings, vocab_size, training, placement, device.memory)
    return min(training.batch_size, fitting)


def memory_estimate(config: Config, shape: GPTConfig, plan: Plan, device: Device) -> Memory:
    """Estimate what a run takes of its device's memory."""
    placement = Placement(
        device.kind,
        device.precision,
        plan.micro_batch_size,
        plan.windows_per_step,
        plain_attention=_plain_attention(device, shape.max_seq_len),
    )
    return memory_of(shape.to_settings(), shape.vocab_size, config.training, placement)


def _plain_attention(device: Device, time: int) -> bool:
    from minigpt.model.layers import PLAIN_ATTENTION_LENGTH  # with torch, which a plan does not need otherwise

    return device.kind == "cpu" and time <= PLAIN_ATTENTION_LENGTH


def checkpoint_bytes(settings: ModelSettings, vocab_size: int, training: TrainingSettings) -> int:
    """Estimate the size of one checkpoint: weights and optimizer, in float32."""
    parameters = parameter_count(settings, vocab_size)
    by_muon = matrix_parameters(settings) if training.optimizer == "muon" else 0
    return FLOAT * (3 * parameters - by_muon)


def checkpoints_kept(training: TrainingSettings, steps: int) -> int:
    """Return how many checkpoints a run of so many steps has on disk at once, at most."""
    # Best and final stay; of step and epoch checkpoints the last few; one more while it is written.
    for_good = steps // training.keep_every if training.keep_every else 0
    return 2 * training.keep_last + 3 + for_good


def start_fields(plan: Plan) -> dict[str, Any]:
    """Return what a run's `start` event says of its plan."""
    return {
        "planned_steps": plan.steps,
        "planned_epochs": plan.epochs,
        "planned_tokens": plan.tokens,
        "tokens_per_step": plan.tokens_per_step,
    }
