"""The loop: batches in, better weights out.

    with Recorder(directory, "cpu", log_every=10) as recorder:
        exit_code = Trainer(..., recorder=recorder).fit()

One step: read the next windows, predict every next token, measure the loss, follow the gradient. Around it, between
two steps: evaluate, sample, save, and obey the person.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minigpt.config import Config
from minigpt.device import Device, peak_flops
from minigpt.model.checkpoint import BEST, EPOCH, FINAL, INTERRUPTED, STEP, save
from minigpt.model.gpt import GPT
from minigpt.narration import duration
from minigpt.text.ladder import Ladder, ladder
from minigpt.text.mixture import Mixture
from minigpt.text.shards import TokenSplit
from minigpt.text.tokenizer import Tokenizer
from minigpt.text.windows import Windows
from minigpt.training.bad_updates import BadUpdates
from minigpt.training.controls import Controls
from minigpt.training.diagnosis.doctor import Doctor, less_memory
from minigpt.training.observer import Observer
from minigpt.training.optimizer import Optimizer, rate_factor
from minigpt.training.plan import Plan
from minigpt.training.recorder import Recorder
from minigpt.training.state import Progress, capture, remove_old_checkpoints

STEPS_TO_JUDGE_BY = 10
FIRST_SAVE_SECONDS = 30
SAVE_SECONDS = 600
# An accelerator works ahead of us: asking for each step's loss would make it wait.
DRAIN_SECONDS = 0.5

EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 3


@dataclass(frozen=True)
class TrainingText:
    """What a run learns from, as tokens, and what it is shown on the way."""

    tokenizer: Tokenizer
    windows: Windows | Mixture
    train: TokenSplit
    validation: TokenSplit
    conversations: bool
    separated: bool  # many documents, rather than one
    prompts: tuple[str, ...]
    content_hash: str

    @cached_property
    def ladder(self) -> Ladder | None:
        """How well the simplest models predict it, to judge losses by."""
        return ladder(self.train, self.validation, self.tokenizer.vocab_size)


class Ended(Exception):
    """The run is over: why, and the exit code."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.reason, self.exit_code = reason, exit_code


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
        self.saved_at = time.monotonic()
        self.saved_once = False
        self.unsaved_best = False
        self._undrained: list[dict[str, Any]] = []
        self._clock = time.monotonic()
        self._first_step, self._began = progress.step, self._clock
        self._reading = 0.0  # seconds that went into batches since the last drain
        self._updating = False
        self._flops_per_token = model.flops_per_token()
        self.peak_flops, self.peak_source = peak_flops(device)
        self.doctor = Doctor(self)
        self.bad_updates = BadUpdates(self)

    def _muon_dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.device.kind != "cpu" or self.device.precision == "bfloat16" else torch.float32

    def fit(self) -> int:
        """Train until the plan is done, the target reached, or somebody says stop; return the exit code."""
        self.recorder.on_readings = self.doctor.on_readings
        try:
            self._begin()
            while self.progress.step < self.progress.last_step:
                self._between_steps()
                self.train_step()
                self.recorder.enter("training")
                self._after_step()
            self._finish("all planned steps done")
        except Ended as end:
            return self._end(end.reason, end.exit_code)
        except (torch.OutOfMemoryError, MemoryError) as error:
            return self._out_of_memory(error)
        except RuntimeError as error:
            # What torch says when the host's memory is not enough has no class of its own.
            if "can't allocate memory" not in str(error):
                raise
            return self._out_of_memory(error)
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
        self.recorder.enter("compiling" if self.settings.compile else "training")
        self._first_step, self._began = self.progress.step, time.monotonic()
        self.restart_clock()

    # One step

    def train_step(self) -> None:
        """Make one update of the weights from the next windows of the text."""
        progress = self.progress
        began = time.perf_counter()
        inputs, targets = self.batch_at(progress.position)
        self._reading += time.perf_counter() - began
        loss = torch.zeros((), device=self.torch_device)
        self.model.train()
        for start in range(0, len(inputs), self.plan.micro_batch_size):
            part = slice(start, start + self.plan.micro_batch_size)
            with self.autocast():
                # The mean over all tokens of the step, however many parts it comes in.
                share = self.network(inputs[part], targets[part]) / inputs.numel()
            (share * progress.loss_scale).backward()
            loss += share.detach()
        grad_norm, finite = self._clip_gradients(loss)
        factor = (
            progress.lr_scale
            * progress.peak
            * rate_factor(self.settings, progress.step - progress.first_step, progress.last_step - progress.first_step)
        )
        self._updating = True
        if self.device.kind != "cpu":
            self.optimizer.step(factor, skip=1.0 - finite.float())
        elif finite:
            self.optimizer.step(factor)
        self._updating = False
        for parameter in self.model.parameters():
            parameter.grad = None
        progress.step += 1
        progress.position += len(inputs)
        self._note_step(loss, grad_norm, finite, factor)

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

    def _note_step(self, loss: Tensor, grad_norm: Tensor, finite: Tensor, factor: float) -> None:
        settings = self.settings
        record: dict[str, Any] = {
            "step": self.progress.step,
            "epoch": self.progress.position / self.windows.count,
            "tokens": self.progress.position * self.plan.tokens_per_window,
            "learning_rate": settings.learning_rate * factor,
            "position": self.progress.position,
            "figures": torch.stack([loss, grad_norm, finite.to(loss.dtype)]),
        }
        if settings.optimizer == "muon":
            record["muon_learning_rate"] = settings.muon_learning_rate * factor
        self._undrained.append(record)
        waits = self.device.kind != "cpu" and self.precision != torch.float16
        if not waits or time.monotonic() - self._clock > DRAIN_SECONDS:
            self.drain()

    def restart_clock(self) -> None:
        """Begin to count tokens a second anew: what came before was not training."""
        self._clock, self._reading = time.monotonic(), 0.0

    def drain(self) -> None:
        """Fetch the figures of the steps since the last call from the device, and record them."""
        if not self._undrained:
            return
        steps, self._undrained = self._undrained, []
        asked = time.monotonic()
        figures = torch.stack([record.pop("figures") for record in steps]).tolist()
        now = time.monotonic()
        seconds, reading = max(now - self._clock, 1e-9), self._reading
        self.restart_clock()
        tokens_per_s = len(steps) * self.plan.tokens_per_step / seconds
        mfu = tokens_per_s * self._flops_per_token / self.peak_flops
        for record, (loss, grad_norm, finite) in zip(steps, figures, strict=True):
            position = record.pop("position")
            record.update(loss=loss, grad_norm=grad_norm, tokens_per_s=tokens_per_s, mfu=mfu)
            self.recorder.event("step", **record)
            if record["step"] == self._first_step + STEPS_TO_JUDGE_BY:
                self._say_how_long(record["step"], now)
            if self.bad_updates.judge(record["step"], position, bool(finite)):
                self.bad_updates.tell_the_end()
                raise Ended("loss or gradient not finite", EXIT_FAILED)
            self.doctor.on_step(record["step"], loss, grad_norm)
        self.doctor.on_time(seconds, len(steps), reading, now - asked)

    def _say_how_long(self, step: int, now: float) -> None:
        seconds = (now - self._began) / STEPS_TO_JUDGE_BY * (self.progress.last_step - step)
        self.recorder.notice(
            "info", "duration", f"At this pace the training takes about {duration(seconds)}, evaluations not counted."
        )

    # Between steps

    def _between_steps(self) -> None:
        self.controls.obey()
        if self.controls.stop_reason:
            self.drain()
            if not self.save(INTERRUPTED):
                raise Ended(f"{self.controls.stop_reason}, but the last steps could not be saved", EXIT_FAILED)
            raise Ended(f"interrupted ({self.controls.stop_reason})", EXIT_INTERRUPTED)

    def _after_step(self) -> None:
        step, plan = self.progress.step, self.plan
        names = []
        if step % plan.eval_every == 0 and step < self.progress.last_step:
            self.drain()
            self.validate()
        if self.unsaved_best:
            names.append(BEST)
        if step % plan.sample_every == 0 or step == self.progress.last_step:
            self.drain()
            self.sample()
        if self._step_save_due():
            names.append(STEP.format(step))
        if epoch := self._epoch_save_due():
            names.append(EPOCH.format(epoch))
        if names:
            self.drain()
            self.save(*names)
        self._stop_early()

    def _step_save_due(self) -> bool:
        if self.progress.step % self.plan.save_every == 0:
            return True
        if self.settings.save_every is not None:
            return False
        waited = time.monotonic() - self.saved_at
        return waited > (SAVE_SECONDS if self.saved_once else FIRST_SAVE_SECONDS)

    def _epoch_save_due(self) -> int | None:
        """Return the number of the epoch that this step completed, if a checkpoint of it is wanted."""
        before = (self.progress.position - self.plan.windows_per_step) // self.windows.count
        epoch = self.progress.position // self.windows.count
        return epoch if epoch > before and epoch % self.plan.epoch_checkpoint_every == 0 else None

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
        self.unsaved_best = self.unsaved_best or improved
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
        if not self.save(FINAL):
            raise Ended("the final weights could not be saved", EXIT_FAILED)
        (self.directory / INTERRUPTED).unlink(missing_ok=True)
        self.validate()
        no_best = self.text.validation.tokens < 2 or not (self.directory / BEST).exists()
        if self.unsaved_best or no_best:
            self.save(BEST)
        self.doctor.on_end()
        self.observer.validate_whole()
        self.recorder.notice("info", "finished", f"Done: {why}.")

    def _end(self, reason: str, exit_code: int) -> int:
        self.recorder.event("end", reason=reason, exit_code=exit_code, step=self.progress.step)
        return exit_code

    def _out_of_memory(self, error: Exception) -> int:
        """Save what is there, say what takes less memory, and end."""
        cure = less_memory(self)
        # The traceback holds every activation.
        error.__traceback__ = None
        for parameter in self.model.parameters():
            parameter.grad = None
        if self.device.kind == "cuda":
            torch.cuda.empty_cache()
        with suppress(torch.OutOfMemoryError, MemoryError, Ended):
            self.drain()
        saved = ""
        # In the middle of an update, some weights have moved and others have not.
        if self.progress.step and not self._updating:
            with suppress(torch.OutOfMemoryError, MemoryError):
                saved = f" The weights so far are in {INTERRUPTED}." if self.save(INTERRUPTED) else ""
        self.recorder.notice(
            "error",
            "out-of-memory",
            f"The memory of the {'machine' if self.device.kind == 'cpu' else 'device'} was not enough: lower "
            "training.micro_batch_size (same result), or model.max_seq_len, or set training.gradient_checkpointing."
            f"{saved}",
            cure=cure,
            step=self.progress.step,
        )
        return self._end("out of memory", EXIT_FAILED)

    def save_step(self) -> bool:
        """Save now, under the step's name; return whether that worked."""
        self.drain()
        return self.save(STEP.format(self.progress.step))

    def evaluate_now(self) -> None:
        """Evaluate between two steps of the plan, and keep the weights if they are the best yet."""
        if self.validate():
            self.save(BEST)

    def save(self, *names: str) -> bool:
        """Write one checkpoint under one or more names; return False, having said why, when the disk refuses."""
        paths = [self.directory / name for name in names]
        with self.recorder.during("saving"):
            try:
                save(paths[0], capture(self), also=tuple(paths[1:]))
            except OSError as error:
                self.recorder.notice(
                    "error",
                    "save-failed",
                    f"Cannot write {paths[0]} ({error.strerror or error}). Checkpoints that were there are untouched. "
                    "Make room or repair the folder: the next save is tried at its time.",
                )
                # Tried again soon.
                self.saved_at, self.saved_once = time.monotonic(), False
                return False
            self.saved_at, self.saved_once = time.monotonic(), True
            # A best that could not be written is gone; the next weights that can be are the nearest to it.
            self.unsaved_best = self.unsaved_best and BEST not in names
            for name in names:
                kind = name.removeprefix("checkpoint_").split("_")[0]
                self.recorder.event("checkpoint", path=name, step=self.progress.step, kind=kind)
            remove_old_checkpoints(self.directory, self.settings.keep_last, self.settings.keep_every)
        self.restart_clock()
        return True

    def set_cadence(self, name: str, value: int) -> None:
        """Change how often the run evaluates, samples, saves or logs."""
        self.plan = replace(self.plan, **{name: value})
        self.recorder.log_every = self.plan.log_every


def _compiled(model: GPT) -> Any:
    # Without a working C compiler, torch falls back to the plain network with a warning instead of ending the run.
    torch._dynamo.config.suppress_errors = True
    return torch.compile(model.loss)
