"""The figures of the steps, on their way from the device to the run's events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from minigpt.narration import duration

if TYPE_CHECKING:
    from minigpt.training.trainer import Trainer

STEPS_TO_JUDGE_BY = 10
# An accelerator works ahead of us: asking for each step's loss would make it wait.
DRAIN_SECONDS = 0.5


class StepMetrics:
    """Keeps the figures of steps until they are drained: fetched, recorded, and shown to those who judge them."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.reading = 0.0  # seconds that went into batches since the last drain
        self._undrained: list[dict[str, Any]] = []
        self._clock = time.monotonic()
        self._first_step, self._began = trainer.progress.step, self._clock
        self._said_how_long = False
        self._flops_per_token = trainer.model.flops_per_token()

    def begin(self) -> None:
        """The first step of this session is next."""
        self._first_step, self._began = self.trainer.progress.step, time.monotonic()
        self.restart_clock()

    def restart_clock(self) -> None:
        """Begin to count tokens a second anew: what came before was not training."""
        self._clock, self.reading = time.monotonic(), 0.0

    def add(self, loss: Tensor, grad_norm: Tensor, finite: Tensor, factor: float) -> None:
        """Keep the figures of the step that was just made: scalars on the device, and the factor of its rates."""
        trainer, settings = self.trainer, self.trainer.settings
        progress = trainer.progress
        record: dict[str, Any] = {
            "step": progress.step,
            "epoch": progress.position / trainer.windows.count,
            "tokens": progress.position * trainer.plan.tokens_per_window,
            "learning_rate": settings.learning_rate * factor,
            "position": progress.position,
            "figures": torch.stack([loss, grad_norm, finite.to(loss.dtype)]),
        }
        if settings.optimizer == "muon":
            record["muon_learning_rate"] = settings.muon_learning_rate * factor
        self._undrained.append(record)
        waits = trainer.device.kind != "cpu" and trainer.precision != torch.float16
        if not waits or time.monotonic() - self._clock > DRAIN_SECONDS:
            self.drain()

    def drain(self) -> None:
        """Fetch and record what was added since the last call; raises GoneBad where it cannot go on like this."""
        if not self._undrained:
            return
        trainer = self.trainer
        steps, self._undrained = self._undrained, []
        asked = time.monotonic()
        figures = torch.stack([record.pop("figures") for record in steps]).tolist()
        now = time.monotonic()
        seconds, reading = max(now - self._clock, 1e-9), self.reading
        self.restart_clock()
        tokens_per_s = len(steps) * trainer.plan.tokens_per_step / seconds
        mfu = tokens_per_s * self._flops_per_token / trainer.peak_flops
        for record, (loss, grad_norm, finite) in zip(steps, figures, strict=True):
            position = record.pop("position")
            record.update(loss=loss, grad_norm=grad_norm, tokens_per_s=tokens_per_s, mfu=mfu)
            trainer.recorder.event("step", **record)
            if record["step"] == self._first_step + STEPS_TO_JUDGE_BY and not self._said_how_long:
                self._say_how_long(record["step"], now)
            trainer.bad_updates.judge(record["step"], position, loss, bool(finite))
            trainer.doctor.on_step(record["step"], loss, grad_norm)
        trainer.doctor.on_time(seconds, len(steps), reading, now - asked)

    def _say_how_long(self, step: int, now: float) -> None:
        self._said_how_long = True
        seconds = (now - self._began) / STEPS_TO_JUDGE_BY * (self.trainer.progress.last_step - step)
        self.trainer.recorder.notice(
            "info", "duration", f"At this pace the training takes about {duration(seconds)}, evaluations not counted."
        )
