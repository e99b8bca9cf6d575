"""Asks all detectors, and says what they find: each thing once, and again only after something was done about it.

doctor = Doctor(trainer)
doctor.look_at_text()
doctor.on_step(step=1, loss=4.17, grad_norm=0.8)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from minigpt.events import all_events
from minigpt.host import oom_kills
from minigpt.notices import NOTICES, Cure
from minigpt.training.diagnosis.curve import LossCurve
from minigpt.training.diagnosis.falling import NotFalling, Plateau, Rising
from minigpt.training.diagnosis.finding import Detector, Evaluated, Finding, Situation
from minigpt.training.diagnosis.gradients import ExplodingGradients
from minigpt.training.diagnosis.machine import Shortage
from minigpt.training.diagnosis.splits import Overfitting, Underfitting
from minigpt.training.diagnosis.text import look_at_text
from minigpt.training.diagnosis.time_spent import WaitingForData, unsaved
from minigpt.training.optimizer import warmup_of
from minigpt.training.plan import checkpoint_bytes

if TYPE_CHECKING:
    from minigpt.training.trainer import Trainer

# The curve is looked at once in so many steps, so that it costs little where a step takes milliseconds.
LOOK_EVERY = 25
# What a change of the learning rate may cure, and what is to be said again when it has not.
OF_THE_RATE = ("rate-too-low", "rate-too-high", "diverging", "plateau", "exploding-gradients")
# Who has raised the rate on our word should not be told to lower it for what came before, nor to lower it twice.
_SAID_IT_ALL = {
    "rate-too-low": {"rate-too-high", "diverging"},
    "rate-too-high": {"rate-too-low", "diverging"},
    "diverging": {"rate-too-high"},
}
# A resumed run takes in so many of its earlier steps again.
RECALLED_STEPS = 50_000


class _Step(msgspec.Struct):
    step: int
    loss: float | None = None
    grad_norm: float | None = None


class _Evaluation(msgspec.Struct):
    step: int
    split: str
    loss: float | None = None
    tokens: int | None = None
    blocks: list[tuple[int, float | None]] | None = None


class _Command(msgspec.Struct):
    step: int
    args: dict[str, Any] | None = None


class _Notice(msgspec.Struct):
    step: int
    code: str


# The events that are recalled, and what they must be like: anything may stand in a file.
_RECALLED: dict[str, type[msgspec.Struct]] = {
    "step": _Step,
    "eval": _Evaluation,
    "command": _Command,
    "notice": _Notice,
}


def start_extras(trainer: Trainer) -> dict[str, Any]:
    """Return what the diagnosis adds to a run's `start` event: the ladder of losses, nats a token, and `oom_kills`.

    By that, who finds the run gone before its first readings can tell whether the kernel has ended it.
    """
    rungs, kills = trainer.text.ladder, oom_kills()
    return {
        "ladder": None if rungs is None else rungs._asdict(),
        "oom_kills": None if kills is None else msgspec.structs.asdict(kills),
    }


class Doctor:
    """Watches one run for its trainer."""

    def __init__(self, trainer: Trainer, before: Doctor | None = None) -> None:
        """Judge anew what the training does; of the machine goes on knowing what the one `before` has told."""
        self.trainer = trainer
        self.curve = LossCurve()
        self.overfitting = Overfitting()
        self.detectors: list[Detector] = [
            # Whoever had begun to learn diverges: of both, that is the truer word.
            Rising(),
            NotFalling(),
            Plateau(),
            ExplodingGradients(),
            self.overfitting,
            Underfitting(),
        ]
        self.waiting = WaitingForData()
        self.said: set[str] = set()
        self._muted = False
        self._saved_at, self._unsaved_seconds = trainer.checkpointer.saved_at, 0.0
        needed = checkpoint_bytes(trainer.config.model, trainer.model.config.vocab_size, trainer.settings)
        self._shortage: Shortage = Shortage(needed, less_memory_now(trainer)) if before is None else before._shortage

    @property
    def situation(self) -> Situation:
        trainer, progress = self.trainer, self.trainer.progress
        return Situation(
            settings=trainer.settings,
            uniform=math.log(trainer.model.config.vocab_size),
            ladder=trainer.text.ladder,
            first_step=progress.first_step,
            last_step=progress.last_step,
            warmup=warmup_of(trainer.settings, progress.last_step - progress.first_step),
            lr_scale=progress.lr_scale,
            too_high=bool({"rate-too-high", "diverging"} & self.said),
        )

    def look_at_text(self) -> None:
        """Say what the text itself tells, before the first step."""
        trainer = self.trainer
        for finding in look_at_text(
            trainer.text.tokenizer,
            trainer.text.train,
            parameters=trainer.model.parameter_count(),
            epochs=trainer.plan.with_steps(trainer.progress.last_step).epochs,
            context=trainer.model.config.max_seq_len,
            separated=trainer.text.separated,
        ):
            self.say(finding)

    # What the trainer tells

    def on_step(self, step: int, loss: float | None, grad_norm: float | None) -> None:
        """Take in the figures of a step."""
        self.curve.add(loss, grad_norm)
        if step % LOOK_EVERY == 0 and not self._muted:
            situation = self.situation
            for detector in self.detectors:
                self._say_if(detector.on_steps(self.curve, situation))

    def on_evaluation(self, event: Mapping[str, Any]) -> None:
        """Take in an `eval` event; the last one of the whole split compares with none before."""
        if event.get("whole"):
            return
        loss = event.get("loss")
        evaluated = Evaluated(
            str(event.get("split")),
            int(event["step"]),
            math.nan if loss is None else float(loss),
            int(event.get("tokens") or 0),
            [(int(tokens), float(mean)) for tokens, mean in event.get("blocks") or () if mean is not None],
        )
        best = self.overfitting.best
        situation = self.situation
        for detector in self.detectors:
            self._say_if(detector.on_evaluation(evaluated, situation))
        if self.overfitting.best is not best:
            self.said.discard("overfitting")

    def on_new_rate(self) -> None:
        """Judge the curve anew: the learning rate was changed at this step."""
        # Who raises the rate is told when the gradients go up with it; what was said of them is to be looked at afresh.
        self.curve = LossCurve(None if "exploding-gradients" in self.said else self.curve.norms)
        self.said.difference_update(OF_THE_RATE)

    def on_time(self, seconds: float, steps: int, reading: float, results: float) -> None:
        """Take in how long steps took, and how much of it reading the text and waiting for the device did (seconds)."""
        self._say_if(self.waiting.add(seconds, steps, reading, results))
        trainer = self.trainer
        if trainer.checkpointer.saved_at != self._saved_at:
            self._saved_at, self._unsaved_seconds = trainer.checkpointer.saved_at, 0.0
            self.said.discard("no-checkpoint")
        # Of training alone: while a run is paused there is nothing new to lose.
        self._unsaved_seconds += seconds
        if "no-checkpoint" not in self.said:
            every = trainer.plan.save_every
            to_next = every - trainer.progress.step % every
            self._say_if(unsaved(self._unsaved_seconds, to_next, seconds / max(1, steps)))

    def on_readings(self, readings: Mapping[str, Any]) -> None:
        """Look at the machine. Called from the recorder's side thread."""
        if self.trainer.device.kind == "cuda" and "memory" in readings:
            # Torch keeps what it has freed: what is in use now says little of what is needed.
            others = max(0, readings["memory"] - torch.cuda.memory_reserved())
            readings = {**readings, "memory_peak": others + torch.cuda.max_memory_allocated()}
        # What it takes may have been changed since.
        self._shortage.device_cure = less_memory_now(self.trainer)
        for finding in self._shortage.on_readings(readings, self.trainer.directory):
            severity = NOTICES[finding.code].severity
            self.trainer.recorder.notice(severity, finding.code, finding.message, cure=finding.cure, aside=True)

    def on_end(self) -> None:
        """Look back, when all planned steps are done."""
        situation = self.situation
        for detector in self.detectors:
            self._say_if(detector.on_end(situation))

    # What it says

    def say(self, finding: Finding) -> None:
        """Give notice of a finding, unless it was said already."""
        if finding.code in self.said or _SAID_IT_ALL.get(finding.code, set()) & self.said:
            return
        self.said.add(finding.code)
        if not self._muted:
            severity, step = NOTICES[finding.code].severity, self.trainer.progress.step
            self.trainer.recorder.notice(severity, finding.code, finding.message, cure=finding.cure, step=step)

    def _say_if(self, finding: Finding | None) -> None:
        if finding is not None:
            self.say(finding)

    # What it remembers of the part of the run before a resumption

    def recall(self) -> None:
        """Take in the run's own events up to where it is resumed, so that it goes on as if never stopped."""
        progress = self.trainer.progress
        self._muted = True
        try:
            for event in _events_until(self.trainer, progress.first_step, progress.step):
                self._recall(event)
        finally:
            self._muted = False

    def _recall(self, event: Mapping[str, Any]) -> None:
        kind = event.get("type")
        if kind == "step":
            self.on_step(int(event["step"]), event.get("loss"), event.get("grad_norm"))
        elif kind == "eval":
            self.on_evaluation(event)
        elif kind == "command" and event.get("done") and "lr_scale" in (event.get("args") or {}):
            self.on_new_rate()
        elif kind == "notice" and event["code"] != "no-checkpoint":  # that was about another session's time
            self.said.add(event["code"])


def _events_until(trainer: Trainer, first: int, last: int) -> Iterable[dict[str, Any]]:
    """Return the steps, evaluations, commands and notices from step `first` to `last`, as far as the run keeps them."""
    kept: list[dict[str, Any]] = []
    steps = 0
    for event in all_events(trainer.directory):
        if event.get("type") == "start":
            resumed = event.get("resumed_from")
            after = resumed if isinstance(resumed, int) else 0
            kept = [known for known in kept if known["step"] <= after]
        elif _can_be_recalled(event) and first <= event["step"] <= last:
            kept.append(event)
            steps += event["type"] == "step"
            if steps > 2 * RECALLED_STEPS:
                oldest = event["step"] - RECALLED_STEPS
                kept = [known for known in kept if known["type"] != "step" or known["step"] > oldest]
                steps = sum(known["type"] == "step" for known in kept)
    return kept


def _can_be_recalled(event: Mapping[str, Any]) -> bool:
    shape = _RECALLED.get(str(event.get("type")))
    if shape is None:
        return False
    try:
        msgspec.convert(event, shape)
    except msgspec.ValidationError:
        return False
    return True


def less_memory(trainer: Trainer) -> Cure:
    """Return the settings with which the same run takes less of its device's memory."""
    batch, settings = trainer.plan.micro_batch_size, trainer.settings
    if batch > 1:
        half = batch // 2
        return {"label": f"a micro-batch of {half}, in a new run", "settings": {"training.micro_batch_size": half}}
    if not settings.gradient_checkpointing:
        return {"label": "recompute activations, in a new run", "settings": {"training.gradient_checkpointing": True}}
    return _shorter_context(trainer)


def less_memory_now(trainer: Trainer) -> Cure:
    """Return what has a run that goes on take less of its device's memory."""
    batch, settings = trainer.plan.micro_batch_size, trainer.settings
    if batch > 1:
        half = batch // 2
        return {"label": f"a micro-batch of {half}", "command": "set", "args": {"micro_batch_size": half}}
    if not settings.gradient_checkpointing:
        return {"label": "recompute activations", "command": "set", "args": {"gradient_checkpointing": True}}
    return _shorter_context(trainer)


def _shorter_context(trainer: Trainer) -> Cure:
    context = trainer.model.config.max_seq_len // 2
    return {"label": f"a context of {context}, in a new run", "settings": {"model.max_seq_len": context}}
