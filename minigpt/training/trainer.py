"""The loop: batches in, better weights out.

    with Recorder(directory, "cpu", log_every=10) as recorder:
        exit_code = Trainer(..., recorder=recorder).fit()

One step: read the next windows, predict every next token, measure the loss, follow the gradient. Around it, between
two steps: evaluate, sample, save, and obey the person.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from minigpt.config import Config
from minigpt.device import Device, peak_flops
from minigpt.model.checkpoint import BEST, FINAL, INTERRUPTED, STEP
from minigpt.model.gpt import GPT
from minigpt.training.bad_updates import BadUpdates
from minigpt.training.checkpointer import Checkpointer
from minigpt.training.controls import Controls
from minigpt.training.diagnosis.doctor import Doctor
from minigpt.training.ended import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, Ended, GoneBad
from minigpt.training.metrics import StepMetrics
from minigpt.training.observer import Observer
from minigpt.training.optimizer import Optimizer, rate_factor
from minigpt.training.out_of_memory import Thrift, is_out_of_memory, rescue
from minigpt.training.plan import Plan
from minigpt.training.recorder import Recorder
from minigpt.training.rollback import Rollback
from minigpt.training.room import Room
from minigpt.training.state import Progress

if TYPE_CHECKING:
    from minigpt.training.material import TrainingText


class Trainer:
    """Trains one model on one text, on one device."""

    def __init__(
        self,
        *,
        directory: Path,
        config: Config,
        plan: Plan,
        progress: Progress,
        device: Device,
        model: GPT,
        text: TrainingText,
        recorder: Recorder,
    ) -> None:
        self.directory, self.config, self.plan, self.progress = directory, config, plan, progress
        self.settings = config.training
        self.device, self.torch_device = device, torch.device(device.kind)
        self.precision = getattr(torch, device.precision)
        self.model, self.text, self.recorder = model, text, recorder
        self.windows = text.windows
        self.observer = Observer(self)
        self.optimizer = Optimizer(model, self.settings, self._muon_dtype())
        model.gradient_checkpointing = self.settings.gradient_checkpointing
        self.network: Any = _compiled(model) if self.settings.compile else model.loss
        self.controls = Controls(self)
        self.checkpointer = Checkpointer(self)
        self.room = Room(self)
        self.metrics = StepMetrics(self)
        self.thrift = Thrift(self)
        self.updating = False  # whether the optimizer is moving the weights
        self.peak_flops, self.peak_source = peak_flops(device)
        self.doctor = Doctor(self)
        self.bad_updates = BadUpdates(self)
        self.rollback = Rollback(self)

    def _muon_dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.device.kind != "cpu" or self.device.precision == "bfloat16" else torch.float32

    def fit(self) -> int:
        """Train until the plan is done, the target reached, or somebody says stop; return the exit code."""
        self.recorder.on_readings = self.doctor.on_readings
        self.thrift.allowed = True
        try:
            self._begin()
            while self.progress.step < self.progress.last_step:
                try:
                    self._between_steps()
                    self.train_step()
                    self.recorder.enter("training")
                    self._after_step()
                except GoneBad as trouble:
                    self.rollback.carry_out(trouble)
            self._finish("all planned steps done")
        except Ended as end:
            return self._end(end.reason, end.exit_code)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            rescue(self, error)
            return self._end("out of memory", EXIT_FAILED)
        finally:
            self.recorder.on_readings = None
        return self._end("finished", EXIT_DONE)

    def _begin(self) -> None:
        if self.progress.step == 0 and self.progress.best_loss is None:
            self.doctor.look_at_text()
            self.validate()
            self.sample()
        else:
            self.doctor.recall()
            # Killed after the step that ended it early, the run is to end there again.
            self._stop_early()
        self.recorder.enter("compiling" if self.settings.compile else "training")
        self.metrics.begin()

    # One step

    def train_step(self) -> None:
        """Make one update of the weights from the next windows of the text."""
        progress = self.progress
        began = time.perf_counter()
        inputs, targets = self.batch_at(progress.position)
        self.metrics.reading += time.perf_counter() - began
        self.model.train()
        loss = self.thrift.gradients(lambda: self.gradients(inputs, targets))
        grad_norm, finite = self._clip_gradients(loss)
        factor = (
            progress.lr_scale
            * progress.peak
            * rate_factor(self.settings, progress.step - progress.first_step, progress.last_step - progress.first_step)
        )
        self.updating = True
        if self.device.kind != "cpu":
            self.optimizer.step(factor, skip=1.0 - finite.float())
        elif finite:
            self.optimizer.step(factor)
        self.updating = False
        for parameter in self.model.parameters():
            parameter.grad = None
        progress.step += 1
        progress.position += len(inputs)
        self.metrics.add(loss, grad_norm, finite, factor)

    def gradients(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Add up the gradients of a batch, a micro-batch at a time; return its mean loss (nats a token)."""
        loss = torch.zeros((), device=self.torch_device)
        for start in range(0, len(inputs), self.plan.micro_batch_size):
            part = slice(start, start + self.plan.micro_batch_size)
            with self.autocast():
                # The mean over all tokens of the step, however many parts it comes in.
                share = self.network(inputs[part], targets[part]) / inputs.numel()
            (share * self.progress.loss_scale).backward()
            loss += share.detach()
        return loss

    def batch_at(self, position: int) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets of the step that begins at this window, on the device: (windows, time) each."""
        inputs, targets = self.windows.batch(position, self.plan.windows_per_step)
        tensors = torch.from_numpy(inputs), torch.from_numpy(targets)
        if self.device.kind == "cuda":
            return (
                tensors[0].pin_memory().to(self.torch_device, non_blocking=True),
                tensors[1].pin_memory().to(self.torch_device, non_blocking=True),
            )
        return tensors[0].to(self.torch_device), tensors[1].to(self.torch_device)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which the network computes in the run's precision."""
        return torch.autocast(self.device.kind, self.precision, enabled=self.precision != torch.float32)

    def _clip_gradients(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        """Scale gradients down to max_grad_norm; return their norm before, and whether all is finite."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.progress.loss_scale != 1.0:
            torch._foreach_mul_(gradients, 1 / self.progress.loss_scale)
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        if self.settings.max_grad_norm:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.settings.max_grad_norm, norm, foreach=True)
        return norm, torch.isfinite(norm) & torch.isfinite(loss)

    # Between steps

    def _between_steps(self) -> None:
        self.controls.obey()
        self.room.wait_for_events()
        if self.controls.stop_reason:
            self.drain()
            if not self.save(INTERRUPTED) and not self.checkpointer.has_saved_this_step():
                unsaved = self.checkpointer.unsaved_in_words()
                raise Ended(f"{self.controls.stop_reason}, and {unsaved}", EXIT_FAILED)
            raise Ended(f"interrupted ({self.controls.stop_reason})", EXIT_INTERRUPTED)

    def _after_step(self) -> None:
        step, plan = self.progress.step, self.plan
        if step % plan.eval_every == 0 and step < self.progress.last_step:
            self.drain()
            self.validate()
        if step % plan.sample_every == 0 or step == self.progress.last_step:
            self.drain()
            self.sample()
        if names := self.checkpointer.due():
            self.drain()
            self.save_or_wait(*names)
        self._stop_early()

    def _stop_early(self) -> None:
        target, patience = self.settings.target_loss, self.settings.patience
        best = self.progress.best_loss
        if target is not None and best is not None and best <= target:
            self._finish(f"validation loss {best:.4f} reached the target {target:g}")
            raise Ended("target loss reached", EXIT_DONE)
        if patience is not None and self.progress.evaluations_without_gain >= patience:
            self._finish(f"no better validation loss in {patience} evaluations")
            raise Ended("stopped early: no more progress", EXIT_DONE)

    def validate(self) -> bool:
        """Evaluate; return True when these weights are the best yet."""
        self.drain()
        improved = self.observer.validate()
        self.checkpointer.unsaved_best |= improved
        self.restart_clock()
        return improved

    def sample(self, prompt: str | None = None) -> None:
        """Record what the model says to a prompt, or to each of the run's own."""
        self.drain()
        self.observer.sample(prompt)
        self.restart_clock()

    # Ends

    def _finish(self, why: str) -> None:
        """Measure the whole validation split and save the final weights."""
        self.drain()
        # Saved before they are measured: on much text that takes long, and everything can happen meanwhile.
        if not self.save_or_wait(FINAL):
            unsaved = self.checkpointer.unsaved_in_words()
            raise Ended(f"{self.controls.stop_reason} at the end, and {unsaved}", EXIT_FAILED)
        with suppress(OSError):  # older than the final one, and so in nobody's way
            (self.directory / INTERRUPTED).unlink(missing_ok=True)
        self.validate()
        no_best = self.text.validation.tokens < 2 or not (self.directory / BEST).exists()
        if self.checkpointer.unsaved_best or no_best:
            self.save_or_wait(BEST)
        self.doctor.on_end()
        self.observer.validate_whole()
        self.recorder.notice("info", "finished", f"Done: {why}.")
        self.room.wait_for_events()

    def _end(self, reason: str, exit_code: int) -> int:
        self.recorder.event("end", reason=reason, exit_code=exit_code, step=self.progress.step)
        return exit_code

    # For those who steer

    def drain(self) -> None:
        """Fetch the figures of the steps since the last call from the device, and record them."""
        self.metrics.drain()

    def restart_clock(self) -> None:
        """Begin to count tokens a second anew: what came before was not training."""
        self.metrics.restart_clock()

    def save(self, *names: str) -> bool:
        """Write one checkpoint under one or more names; return False, having said why, when the disk refuses."""
        return self.checkpointer.save(*names)

    def save_or_wait(self, *names: str) -> bool:
        """Write one checkpoint, paused until the disk takes it; return False where somebody said stop before."""
        return self.checkpointer.save_or_wait(*names)

    def save_step(self) -> bool:
        """Save now, under the step's name; return whether that worked."""
        self.drain()
        return self.save(STEP.format(self.progress.step))

    def evaluate_now(self) -> None:
        """Evaluate between two steps of the plan, and keep the weights if they are the best yet."""
        if self.validate():
            self.save(BEST)

    def set_cadence(self, name: str, value: int) -> None:
        """Change how often the run evaluates, samples, saves or logs."""
        self.plan = replace(self.plan, **{name: value})
        self.recorder.log_every = self.plan.log_every


def _compiled(model: GPT) -> Any:
    # Without a working C compiler, torch falls back to the plain network with a warning instead of ending the run.
    torch._dynamo.config.suppress_errors = True
    return torch.compile(model.loss)
