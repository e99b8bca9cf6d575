"""From a configuration, or a checkpoint, to a run that trains: everything that happens before the first step.

session = Session.new(Workspace.find(), load_preset("tiny", workspace), preset="tiny")
exit_code = session.train()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch

from minigpt.config import Config
from minigpt.device import Device, choose, tune_process
from minigpt.errors import UserError
from minigpt.events import outline
from minigpt.jobs import RunLock
from minigpt.model.checkpoint import BEST, INTERRUPTED, Checkpoint, load
from minigpt.model.gpt import GPT, GPTConfig
from minigpt.presets import to_toml
from minigpt.runs import CONFIG, fork_name, new_run_name, summarise
from minigpt.text.storage import write_file
from minigpt.text.texts import gather
from minigpt.training.controls import StopSignals, acknowledged_sets
from minigpt.training.forking import Origin
from minigpt.training.material import TrainingText, require_unchanged, resolved, told_corpora, training_text
from minigpt.training.opening import give_first_notices, start_event
from minigpt.training.optimizer import warmup_of
from minigpt.training.plan import Plan, checkpoint_bytes, make_plan
from minigpt.training.recorder import Listener, Recorder
from minigpt.training.resuming import (
    RESUMABLE,
    checkpoint_to_resume,
    directory_to_go_on_in,
    events_bytes,
    tell_if_untold,
    with_memory,
)
from minigpt.training.state import Progress, require_form, restore
from minigpt.training.trainer import Trainer
from minigpt.training.turns import Turn
from minigpt.workspace import Workspace, make_folder

Say = Callable[[str], None]

FP16_LOSS_SCALE = 65536.0
# After a schedule has run out, its peak would undo what the low rates at the end have gained.
REWARMED_PEAK = 0.5
TOKENIZER_FILE = "tokenizer.json"


@dataclass
class Session:
    """A run that is ready to train."""

    workspace: Workspace
    config: Config
    device: Device
    text: TrainingText
    model: GPT
    plan: Plan
    progress: Progress
    directory: Path
    preset: str = ""
    resumed: Checkpoint | None = None  # until the training begins, as is the origin
    resumed_file: Path | None = None
    origin: Origin | None = None
    notices: list[tuple[str, str]] = field(default_factory=list)
    lengthened: bool = False
    changed: dict[str, Any] = field(default_factory=dict)  # what a person wants of its memory, from here on
    told: int | None = None  # bytes of its events, when the checkpoint to go on from was chosen

    @classmethod
    def new(
        cls,
        workspace: Workspace,
        config: Config,
        *,
        preset: str = "",
        run: str | None = None,
        origin: Origin | None = None,
        say: Say = print,
    ) -> Session:
        """Prepare text, network and plan of a new run; raises UserError for whatever cannot work.

        A fork begins with the weights and the tokenizer of its `origin`, and with nothing else of it.
        """
        workspace.require_writable()
        if origin is not None:
            origin.require_fitting(config)
        if run is not None and (workspace.run_directory(run) / CONFIG).exists():
            raise UserError(
                f"There is a run {run!r} already: choose another --run name, or go on with it by --resume {run}."
            )
        tokenizer = None if origin is None else origin.checkpoint.tokenizer
        texts = gather(workspace, told_corpora(workspace, config, say), config, tokenizer)
        for note in texts.notes:
            say(note)
        settings = config.training
        device = choose(settings.device, settings.precision, settings.threads)
        tune_process(device)
        torch.manual_seed(settings.seed)
        shape = origin.shape(config) if origin else GPTConfig.from_settings(config.model, texts.tokenizer.vocab_size)
        config = resolved(workspace, config, texts, shape)
        windows = texts.windows(config, shape.max_seq_len)
        plan = make_plan(config, shape, windows.count, device)
        text = training_text(texts, config, windows, plan)
        model = origin.network(shape, device.kind) if origin else GPT(shape).to(device.kind)
        loss_scale = FP16_LOSS_SCALE if device.precision == "float16" else 1.0
        if run is None:
            own = f"{preset or 'custom'}-{texts.name}"
            run = fork_name(workspace, origin.name) if origin else new_run_name(workspace, own)
        directory = workspace.run_directory(run)
        progress = Progress(last_step=plan.steps, loss_scale=loss_scale)
        return cls(workspace, config, device, text, model, plan, progress, directory, preset, origin=origin)

    @classmethod
    def resume(
        cls,
        workspace: Workspace,
        target: str | None,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        memory: Mapping[str, Any] | None = None,
        run: str | None = None,
        say: Say = print,
        turn: Turn | None = None,
    ) -> Session:
        """Prepare to go on with a run (by name, or by a checkpoint file; without either the last interrupted one).

        With `epochs` or `steps` the run gets a new, later end, and its learning rate climbs again. `memory` holds the
        training settings that change what it takes of that and nothing else (micro_batch_size,
        gradient_checkpointing). A file may go on as a new run called `run`. A run that waited for its `turn` is locked
        already. Raises UserError.
        """
        workspace.require_writable()
        path = checkpoint_to_resume(workspace, target, turn)
        told = events_bytes(path.parent)
        checkpoint = load(path)
        directory = directory_to_go_on_in(workspace, path, checkpoint.step, say, run)
        if not checkpoint.training:
            raise UserError(
                f"{path} has weights but no optimizer state (it was imported or exported): it cannot be resumed."
            )
        try:
            session = cls._resume(workspace, with_memory(checkpoint, memory or {}), directory, epochs, steps, say)
        except (KeyError, AttributeError, msgspec.ValidationError) as error:
            raise UserError(f"{path} is damaged ({error}): choose another checkpoint of the run.") from error
        if memory:
            wanted = {**memory, "micro_batch_size": session.plan.micro_batch_size}
            session.changed = {name: wanted[name] for name in memory}
        session.told = told if directory == path.parent else None
        session.resumed_file = path if directory == path.parent else None
        return session

    @classmethod
    def replay(cls, workspace: Workspace, path: Path, directory: Path, say: Say = print) -> Session:
        """Prepare to repeat, in a directory of its own, what a run did after one of its checkpoints. Raises UserError.

        Nothing of the run's own directory is touched.
        """
        checkpoint = load(path)
        if not checkpoint.training:
            raise UserError(f"{path} has weights but no optimizer state: no training that followed can be repeated.")
        try:
            session = cls._resume(workspace, checkpoint, path.parent, None, None, say)
        except (KeyError, AttributeError, msgspec.ValidationError) as error:
            raise UserError(f"{path} is damaged ({error}): choose another checkpoint of the run.") from error
        session.directory = directory
        return session

    @classmethod
    def _resume(
        cls,
        workspace: Workspace,
        checkpoint: Checkpoint,
        directory: Path,
        epochs: int | None,
        steps: int | None,
        say: Say,
    ) -> Session:
        state, config = checkpoint.training, checkpoint.config
        require_form(state)
        before = state["environment"]
        corpora = told_corpora(workspace, config, say)
        require_unchanged(corpora, state["corpus"], directory)
        texts = gather(workspace, corpora, config, checkpoint.tokenizer)
        device = choose(config.training.device, before["precision"], before["threads"])
        tune_process(device)
        windows = texts.windows(config, checkpoint.model_config.max_seq_len)
        plan = make_plan(config, checkpoint.model_config, windows.count, device)
        plan = msgspec.convert({**plan.__dict__, **state["plan"]}, Plan)
        text = training_text(texts, config, windows, plan)
        progress = msgspec.convert(state["progress"], Progress)
        session = cls(workspace, config, device, text, checkpoint.build_model(device.kind), plan, progress, directory)
        session.resumed = checkpoint
        session._extend(epochs, steps, say)
        return session

    def _extend(self, epochs: int | None, steps: int | None, say: Say) -> None:
        progress = self.progress
        self.lengthened = not (epochs is None and steps is None)
        if not self.lengthened:
            # Killed after its last step, a run has still to be measured.
            if progress.step >= progress.last_step and summarise(self.directory).state not in RESUMABLE:
                run = self.directory.name
                raise UserError(
                    f"The run {run} is finished: give it more with --resume {run} --epochs N, "
                    f"N above {self.plan.epochs:.3g}."
                )
            return
        changes: dict[str, Any] = {"max_epochs": epochs, "max_steps": steps}
        training = msgspec.structs.replace(self.config.training, **changes)
        planned = make_plan(
            msgspec.structs.replace(self.config, training=training),
            self.model.config,
            self.plan.windows_per_epoch,
            self.device,
        ).steps
        if planned <= progress.step:
            raise UserError(
                f"This run has done {progress.step:,} steps already, and what was asked for ends at step {planned:,}: "
                "ask for more."
            )
        self.config = msgspec.structs.replace(self.config, training=training)
        progress.peak = REWARMED_PEAK
        progress.first_step, progress.last_step = progress.step, planned
        progress.evaluations_without_gain = 0
        warmup = warmup_of(training, planned - progress.step)
        message = (
            f"New end: step {planned:,}. The learning rate climbs again over {warmup} steps "
            f"to {REWARMED_PEAK:.0%} of its peak; the {self.config.training.schedule} schedule starts anew from there."
        )
        self.notices.append(("rewarmed", message))
        say(message)

    def train(self, listeners: tuple[Listener, ...] = (), turn: Turn | None = None) -> int:
        """Train to the end, whichever it is; return the exit code. A run that waited for its `turn` has its lock."""
        make_folder(self.directory)
        lock = RunLock(self.directory) if turn is None else turn.lock
        if turn is None and not lock.acquire():
            raise UserError(f"Another process is training the run {self.directory.name} right now.")
        try:
            if self.resumed is None and (self.directory / CONFIG).exists():
                raise UserError(f"Another process has made {self.directory.name} meanwhile: choose another --run.")
            if turn is None and self.told is not None and self.told != events_bytes(self.directory):
                raise UserError(f"Another process has trained the run {self.directory.name} meanwhile: try again.")
            for leftover in (*self.directory.glob(".*.part"), *self.directory.glob(".*.link")):  # of a killed process
                leftover.unlink(missing_ok=True)
            write_file(self.directory / CONFIG, to_toml(self.config).encode())
            write_file(self.directory / TOKENIZER_FILE, self.text.tokenizer.to_json().encode())
            with (
                StopSignals() as signals,
                Recorder(self.directory, self.device.kind, self.plan.log_every, listeners) as recorder,
            ):
                if turn is not None:
                    turn.hand_over()
                try:
                    return self._train(recorder, signals, turn)
                except BaseException as error:
                    # Whatever it was, those who watch should not have to guess.
                    recorder.event("end", reason=f"{type(error).__name__}: {error}", exit_code=1)
                    raise
        finally:
            lock.release()

    def _train(self, recorder: Recorder, signals: StopSignals, turn: Turn | None) -> int:
        trainer = self.trainer(recorder)
        trainer.controls.signals = signals
        if turn is not None:
            # Somebody may have asked for something while this process got ready.
            trainer.controls.commands = turn.commands
        start = {**start_event(self, trainer), "queued_behind": [] if turn is None else turn.behind}
        trainer.rollback.start = start
        recorder.event("start", **start)
        if self.resumed is not None:
            restore(trainer, self.resumed.training)
            trainer.controls.replays = acknowledged_sets(outline(self.directory), self.resumed.step)
            if self.resumed_file is not None:
                tell_if_untold(self.resumed_file, self.resumed.step, recorder)
            trainer.rollback.clear()
        give_first_notices(self, trainer)
        if self.origin is not None:
            # A fork's first weights are trained, and what comes may be worse.
            trainer.save(BEST)
        if self.lengthened:
            # No file has the new end yet: killed before the next save, the run would have forgotten it.
            trainer.save(INTERRUPTED)
        # As long as their tensors are there, so are their files, though they were removed.
        self.resumed = self.origin = None
        return trainer.fit()

    def trainer(self, recorder: Recorder) -> Trainer:
        return Trainer(
            directory=self.directory,
            config=self.config,
            plan=self.plan,
            progress=self.progress,
            device=self.device,
            model=self.model,
            text=self.text,
            recorder=recorder,
        )

    def checkpoint_bytes(self) -> int:
        """Estimate the size of one checkpoint: weights, optimizer, tokenizer."""
        config = self.config
        numbers = checkpoint_bytes(config.model, self.model.config.vocab_size, config.training)
        return numbers + len(self.text.tokenizer.to_json())
