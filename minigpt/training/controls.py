"""How a person steers a run: commands from watchers and signals from the system, obeyed between two steps."""

from __future__ import annotations

import signal
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from minigpt.config import settings
from minigpt.jobs import Command, CommandReader
from minigpt.presets import convert, nearest
from minigpt.training.course import is_rollback, rollback_id
from minigpt.training.ended import GoneBad

if TYPE_CHECKING:
    from minigpt.training.trainer import Trainer

PAUSE_POLL_SECONDS = 0.2

# What `set` may change while a run goes on, beside lr_scale and max_steps.
CHANGEABLE = ("eval_every", "sample_every", "save_every", "log_every", "target_loss", "patience")
# And what changes the memory it takes, but not its result.
OF_MEMORY = ("micro_batch_size", "gradient_checkpointing")
LR_SCALE_RANGE = (1e-4, 100.0)


class Refused(Exception):
    """Why a command was not obeyed, for its acknowledgement."""


class StopSignals:
    """SIGINT and SIGTERM ask for a stop; a hang-up is ignored, so that a dropped link does not end the run.

    To be entered before anybody is told of the run: from then on each of these signals saves everything.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Only a note: the handler may have interrupted the event writer.
        self.reason = signal.Signals(number).name


class Controls:
    """Receives commands and signals, and carries them out when the trainer asks, at a step boundary."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.commands = CommandReader(trainer.directory)
        self.paused = False
        self.signals = StopSignals()
        self._stop_reason: str | None = None
        self.replays: list[dict[str, Any]] = []
        self._waiting: list[Command] = []
        self._told_untrusted = False

    @property
    def stop_reason(self) -> str | None:
        """Why the run is to stop, or None while nobody has asked for it."""
        return self._stop_reason or self.signals.reason

    def obey(self) -> None:
        """Carry out what has been asked for; returns when the run may go on, or is to stop."""
        self._replay()
        self._obey_new()
        if self.paused and not self.stop_reason:
            self.trainer.drain()
            with self.trainer.recorder.during("paused"):
                while self.paused and not self.stop_reason:
                    time.sleep(PAUSE_POLL_SECONDS)
                    self._obey_new()
            self.trainer.restart_clock()

    def _obey_new(self) -> None:
        self._waiting += self.commands.poll()
        while self._waiting:
            command = self._waiting.pop(0)
            try:
                self._acknowledge(command.id, command.command, command.args)
            except GoneBad:
                # The run goes back to a checkpoint first; what was asked of it holds.
                self._waiting.insert(0, command)
                raise
        if self.commands.untrusted and not self._told_untrusted:
            self.trainer.recorder.notice(
                "warning",
                "commands-untrusted",
                f"Commands are not obeyed from {self.trainer.directory / 'commands.jsonl'}: {self.commands.trouble}.",
            )
        self._told_untrusted = self.commands.untrusted

    def _replay(self) -> None:
        """Set again what was set, at this step, in the life of the run that this one repeats."""
        while self.replays and self.replays[0]["step"] <= self.trainer.progress.step:
            event = self.replays.pop(0)
            self._acknowledge(event["id"], "set", event["args"], replayed=True)

    def set_by_trainer(self, args: dict[str, Any]) -> None:
        """Set what the trainer itself has found to be needed, on record as if a person had asked for it."""
        self._acknowledge(uuid.uuid4().hex, "set", args, by="trainer")

    def _acknowledge(self, id: str, name: str, args: dict[str, Any], **more: Any) -> None:
        done, why = True, ""
        try:
            why = self._carry_out(name, args) or ""
        except Refused as refusal:
            done, why = False, str(refusal)
        self.trainer.recorder.event(
            "command", id=id, command=name, args=args, step=self.trainer.progress.step, done=done, why=why, **more
        )

    def _carry_out(self, name: str, args: dict[str, Any]) -> str | None:
        trainer = self.trainer
        if name == "pause":
            self.paused = True
        elif name == "resume":
            self.paused = False
        elif name == "stop":
            self._stop_reason = "stop"
        elif name == "checkpoint":
            if not trainer.save_step():
                raise Refused("the checkpoint could not be written; see the notice")
        elif name == "evaluate":
            trainer.evaluate_now()
            self._require_memory()
        elif name == "sample":
            prompt = args.get("prompt")
            if prompt is not None and not isinstance(prompt, str):
                raise Refused("prompt must be a text")
            trainer.sample(prompt)
            self._require_memory()
        elif name == "set":
            return self._set(args)
        else:
            known = ["pause", "resume", "stop", "checkpoint", "evaluate", "sample", "set"]
            raise Refused(f"there is no command {name!r}.{nearest(name, known)}")
        return None

    def _require_memory(self) -> None:
        if self.trainer.observer.skipped:
            raise Refused("the memory was not enough; see the notice")

    def _set(self, args: dict[str, Any]) -> str:
        known = ["lr_scale", "max_steps", *CHANGEABLE, *OF_MEMORY]
        if not args:
            raise Refused(f"nothing to set: there are {', '.join(known)}")
        for name in args:
            if name not in known:
                raise Refused(
                    f"{name} cannot be changed during a run.{nearest(name, known)} These can: {', '.join(known)}"
                )
        values = {name: self._checked(name, value) for name, value in args.items()}
        for name, value in values.items():
            self._apply(name, value)
        return ", ".join(f"{name} = {value}" for name, value in values.items())

    def _checked(self, name: str, value: Any) -> Any:
        low, high = LR_SCALE_RANGE
        if name == "lr_scale":
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise Refused(f"lr_scale must be a number from {low:g} to {high:g}")
            return float(value)
        try:
            value = convert(settings()[f"training.{name}"], value)
        except ValueError as error:
            raise Refused(f"{name} must be {error}") from error
        if value is None and name not in ("target_loss", "patience"):
            raise Refused(f"{name} needs a number during a run")
        if name == "micro_batch_size" and value > (batch := self.trainer.settings.batch_size):
            raise Refused(f"micro_batch_size must be at most {batch}, the windows of one batch")
        if name == "max_steps" and self.trainer.progress.step >= self.trainer.progress.last_step:
            # Obeyed while the last save waits for room: no step comes after it.
            raise Refused(
                "all planned steps are done: when the run has ended, give it more with --resume RUN --epochs N"
            )
        if name == "max_steps" and value <= self.trainer.progress.step:
            raise Refused(f"max_steps must be above {self.trainer.progress.step}, the steps already done: or stop")
        return value

    def _apply(self, name: str, value: Any) -> None:
        trainer = self.trainer
        if name == "lr_scale":
            trainer.progress.lr_scale = value
            trainer.doctor.on_new_rate()
        elif name == "max_steps":
            trainer.progress.last_step = value
        elif name in ("target_loss", "patience"):
            trainer.settings = msgspec.structs.replace(trainer.settings, **{name: value})
        elif name in OF_MEMORY:
            trainer.thrift.set(name, value)
        else:
            trainer.set_cadence(name, value)


def acknowledged_sets(events: Iterable[Mapping[str, Any]], step: int) -> list[dict[str, Any]]:
    """Return the acknowledged `set` commands from `step` on, each once, in the order of their steps.

    `events` are the run's own, its starts among them. Where it went back by itself, that set its lr_scale, and what had
    been set of that further on is left out; so is the end of before, where it got a new one.
    """
    found: dict[str, dict[str, Any]] = {}
    rollbacks = 0
    for event in events:
        at = event.get("resumed_from" if event.get("type") == "start" else "step")
        if not isinstance(at, int):
            continue
        if event.get("type") == "start" and event.get("lengthened"):
            _override(found, at, "max_steps")
        if event.get("type") == "start" and not is_rollback(event) and isinstance(event.get("changed"), dict):
            for name in event["changed"]:
                _override(found, at, name)
            found[f"start-{len(found)}"] = {"id": f"start-{len(found)}", "step": at, "args": event["changed"]}
        elif event.get("type") == "start" and is_rollback(event):
            _override(found, at, "lr_scale")
            # Its own acknowledgement follows, unless the process was killed in between.
            rollbacks += 1
            id = rollback_id(rollbacks)
            found[id] = {"id": id, "step": at, "args": {"lr_scale": event.get("lr_scale")}}
        elif event.get("command") == "set" and event.get("done") and isinstance(event.get("args"), dict):
            id = str(event.get("id"))
            found.setdefault(id, {**event, "id": id})
    wanted = [event for event in found.values() if event["step"] >= step and event["args"]]
    return sorted(wanted, key=lambda event: event["step"])


def _override(found: dict[str, dict[str, Any]], step: int, name: str) -> None:
    """Take out of the sets from `step` on what they set of this name."""
    for id, event in found.items():
        if event["step"] >= step:
            found[id] = {**event, "args": {key: value for key, value in event["args"].items() if key != name}}
