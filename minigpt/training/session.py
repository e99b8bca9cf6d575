"""From a configuration, or a checkpoint, to a run that trains: everything that happens before the first step.

session = Session.new(Workspace.find(), load_preset("tiny", workspace), preset="tiny")
exit_code = session.train()
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch

from minigpt.config import Config
from minigpt.device import Device, choose, tune_process
from minigpt.errors import UserError
from minigpt.jobs import EVENTS, EventReader, RunLock, is_running
from minigpt.model.checkpoint import Checkpoint, load
from minigpt.model.gpt import GPT, GPTConfig
from minigpt.narration import size
from minigpt.presets import to_toml
from minigpt.readings import free_disk
from minigpt.runs import find_run, list_runs, new_run_name, resume_checkpoint
from minigpt.text.corpus import Corpus
from minigpt.text.prepare import Prepared, prepare_for, resolve
from minigpt.text.shards import Windows
from minigpt.text.storage import write_file
from minigpt.text.tokenizer import Tokenizer
from minigpt.training.controls import acknowledged_sets
from minigpt.training.optimizer import warmup_of
from minigpt.training.plan import Plan, make_plan, start_fields
from minigpt.training.recorder import Listener, Recorder
from minigpt.training.state import Progress, environment, restore
from minigpt.training.trainer import Trainer, TrainingText
from minigpt.workspace import Workspace

Say = Callable[[str], None]

FP16_LOSS_SCALE = 65536.0
# After a schedule has run out, its peak would undo what the low rates at the end have gained.
REWARMED_PEAK = 0.5
RESUMABLE = ("interrupted", "crashed", "failed")
CONFIG_FILE, TOKENIZER_FILE = "config.toml", "tokenizer.json"


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
    resumed: Checkpoint | None = None
    notices: list[tuple[str, str]] = field(default_factory=list)
    lengthened: bool = False

    @classmethod
    def new(
        cls, workspace: Workspace, config: Config, *, preset: str = "", run: str | None = None, say: Say = print
    ) -> Session:
        """Prepare text, network and plan of a new run; raises UserError for whatever cannot work."""
        workspace.require_writable()
        if run is not None and (workspace.run_directory(run) / CONFIG_FILE).exists():
            raise UserError(
                f"There is a run {run!r} already: choose another --run name, or go on with it by --resume {run}."
            )
        corpus = _corpus(workspace, config, say)
        prepared = prepare_for(corpus, config)
        say(f"{prepared.tokenizer_note} Vocabulary: {prepared.tokenizer.vocab_size:,} tokens.")
        settings = config.training
        device = choose(settings.device, settings.precision, settings.threads)
        tune_process(device)
        torch.manual_seed(settings.seed)
        shape = GPTConfig.from_settings(config.model, prepared.tokenizer.vocab_size)
        config = _resolved(workspace, config, corpus, prepared.tokenizer, shape)
        text = _training_text(prepared, config)
        plan = _plan(config, shape, text, device)
        model = GPT(shape).to(device.kind)
        loss_scale = FP16_LOSS_SCALE if device.precision == "float16" else 1.0
        directory = workspace.run_directory(run or new_run_name(workspace, f"{preset or 'custom'}-{corpus.name}"))
        progress = Progress(last_step=plan.steps, loss_scale=loss_scale)
        return cls(workspace, config, device, text, model, plan, progress, directory, preset)

    @classmethod
    def resume(
        cls,
        workspace: Workspace,
        target: str | None,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        say: Say = print,
    ) -> Session:
        """Prepare to go on with a run (by name, or by a checkpoint file; without either the last interrupted one).

        With `epochs` or `steps` the run gets a new, later end, and its learning rate climbs again. Raises UserError.
        """
        workspace.require_writable()
        path = _checkpoint_to_resume(workspace, target)
        checkpoint = load(path)
        directory = _directory_to_go_on_in(workspace, path, checkpoint.step, say)
        if not checkpoint.training:
            raise UserError(
                f"{path} has weights but no optimizer state (it was imported or exported): it cannot be resumed."
            )
        try:
            return cls._resume(workspace, checkpoint, directory, epochs, steps, say)
        except (KeyError, msgspec.ValidationError) as error:
            raise UserError(f"{path} is damaged ({error}): choose another checkpoint of the run.") from error

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
        before = state["environment"]
        corpus = _corpus(workspace, config, say)
        if corpus.manifest.content_hash != state["corpus"]:
            raise UserError(
                f"The corpus {corpus.name} has changed since this run was saved, so it cannot go on as if nothing had "
                f"happened: bring the old text back, or start anew with {_fork_command(directory)}."
            )
        prepared = prepare_for(corpus, config, checkpoint.tokenizer)
        device = choose(config.training.device, before["precision"], before["threads"])
        tune_process(device)
        text = _training_text(prepared, config)
        plan = _plan(config, checkpoint.model_config, text, device)
        plan = msgspec.convert({**plan.__dict__, **state["plan"]}, Plan)
        progress = msgspec.convert(state["progress"], Progress)
        session = cls(workspace, config, device, text, checkpoint.build_model(device.kind), plan, progress, directory)
        session.resumed = checkpoint
        session._extend(epochs, steps, say)
        return session

    def _extend(self, epochs: int | None, steps: int | None, say: Say) -> None:
        progress = self.progress
        self.lengthened = not (epochs is None and steps is None)
        if not self.lengthened:
            if progress.step >= progress.last_step:
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

    def train(self, listeners: tuple[Listener, ...] = ()) -> int:
        """Train to the end, whichever it is; return the exit code."""
        self.directory.mkdir(parents=True, exist_ok=True)
        lock = RunLock(self.directory)
        if not lock.acquire():
            raise UserError(f"Another process is training the run {self.directory.name} right now.")
        try:
            if self.resumed is None and (self.directory / CONFIG_FILE).exists():
                raise UserError(f"Another process has made {self.directory.name} meanwhile: choose another --run.")
            for leftover in (*self.directory.glob(".*.part"), *self.directory.glob(".*.link")):  # of a killed process
                leftover.unlink(missing_ok=True)
            write_file(self.directory / CONFIG_FILE, to_toml(self.config).encode())
            write_file(self.directory / TOKENIZER_FILE, self.text.tokenizer.to_json().encode())
            with Recorder(self.directory, self.device.kind, self.plan.log_every, listeners) as recorder:
                try:
                    return self._train(recorder)
                except BaseException as error:
                    # Whatever it was, those who watch should not have to guess.
                    recorder.event("end", reason=f"{type(error).__name__}: {error}", exit_code=1)
                    raise
        finally:
            lock.release()

    def _train(self, recorder: Recorder) -> int:
        trainer = self.trainer(recorder)
        recorder.event("start", **self._start_fields(trainer))
        if self.resumed is not None:
            restore(trainer, self.resumed.training)
            trainer.controls.replays = acknowledged_sets(
                _all_events(self.directory), self.resumed.step, () if not self.lengthened else ("max_steps",)
            )
            self._compare_environment(trainer)
        for code, message in self.notices:
            recorder.notice("info", code, message)
        if self.text.validation.tokens < 2:
            recorder.notice(
                "warning",
                "no-validation",
                "No text is kept aside for validation, so nothing can tell learning from reciting, and target_loss and "
                "patience have no effect: raise corpus.validation_fraction, or add text.",
            )
        self._warn_about_disk(recorder)
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

    def _start_fields(self, trainer: Trainer) -> dict[str, Any]:
        plan = self.plan.with_steps(self.progress.last_step)
        return {
            "run": self.directory.name,
            "preset": self.preset or _recorded_preset(self.directory),
            "corpus": self.config.corpus.name,
            "family": self.config.model.family,
            "parameters": self.model.parameter_count(),
            "tokens": self.text.train.tokens,
            "flops_per_token": self.model.flops_per_token(),
            "device": self.device.label,
            "peak_flops": trainer.peak_flops,
            "peak_source": trainer.peak_source,
            "precision": self.device.precision,
            "vocab_size": self.model.config.vocab_size,
            "resumed_from": self.resumed.step if self.resumed else None,
            "environment": environment(trainer),
            **_process(),
            **start_fields(plan),
        }

    def _compare_environment(self, trainer: Trainer) -> None:
        assert self.resumed is not None
        before, now = self.resumed.training["environment"], environment(trainer)
        different = [f"{key} was {before.get(key)}, is {now[key]}" for key in now if before.get(key) != now[key]]
        different = [text for text in different if not text.startswith("memory")]
        if different:
            trainer.recorder.notice(
                "info",
                "environment-changed",
                f"The run goes on in another environment ({'; '.join(different)}): "
                "expect the same quality, not the same digits.",
            )

    def _warn_about_disk(self, recorder: Recorder) -> None:
        needed = self.checkpoint_bytes() * (2 * self.config.training.keep_last + 3)
        free = free_disk(self.directory)
        if free < needed:
            recorder.notice(
                "warning",
                "disk-nearly-full",
                f"The run's checkpoints may take {size(needed)} and {size(free)} are free in {self.directory}: "
                "make room, or lower training.keep_last.",
            )

    def checkpoint_bytes(self) -> int:
        """Estimate the size of one checkpoint: weights and optimizer."""
        parameters = self.model.parameter_count()
        by_muon = sum(weight.numel() for weight, _ in self.model.matrices())
        numbers = 3 * parameters - (by_muon if self.config.training.optimizer == "muon" else 0)
        return 4 * numbers + len(self.text.tokenizer.to_json())


def _process() -> dict[str, Any]:
    return {"pid": os.getpid(), "world_size": 1}


def _corpus(workspace: Workspace, config: Config, say: Say) -> Corpus:
    corpus = resolve(workspace, config.corpus.name)
    if corpus.note:
        say(corpus.note)
    return corpus


def _resolved(workspace: Workspace, config: Config, corpus: Corpus, tokenizer: Tokenizer, shape: GPTConfig) -> Config:
    """Return the configuration with everything decided that was left open: enough to repeat the run."""
    corpus_name = corpus.name if corpus.directory.parent == workspace.data else str(corpus.directory.absolute())
    return msgspec.structs.replace(
        config,
        corpus=msgspec.structs.replace(config.corpus, name=corpus_name),
        tokenizer=msgspec.structs.replace(config.tokenizer, kind=tokenizer.kind),
        model=shape.to_settings(),
    )


def _training_text(prepared: Prepared, config: Config) -> TrainingText:
    lone = prepared.corpus.is_lone_text
    return TrainingText(
        tokenizer=prepared.tokenizer,
        train=prepared.split("train"),
        validation=prepared.split("validation"),
        conversations=prepared.conversations,
        separated=not lone,
        prompts=tuple(config.training.sample_prompts) or _prompts(prepared),
        content_hash=prepared.corpus.manifest.content_hash,
    )


def _prompts(prepared: Prepared) -> tuple[str, ...]:
    """Return beginnings to sample from: the built-in corpus has its own, other text gives its first words."""
    from minigpt.text import sample

    if any(source.kind == "sample" for source in prepared.corpus.manifest.sources):
        return sample.prompts()
    split = prepared.split("validation")
    if split.tokens < 2:
        split = prepared.split("train")
    opening = prepared.tokenizer.decode(split.read(0, 64)).strip()
    return (" ".join(opening.split()[:4]) or opening,)


def _plan(config: Config, shape: GPTConfig, text: TrainingText, device: Device) -> Plan:
    windows = Windows(text.train, shape.max_seq_len, config.training.seed)
    return make_plan(config, shape, windows.count, device)


def run_to_resume(workspace: Workspace, target: str | None) -> Path:
    """Return the directory of the run to go on with; raises UserError when there is none or it is training."""
    if target is not None and (target.endswith(".pt") or Path(target).is_file()):
        directory = Path(target).expanduser().absolute().parent
    elif target is not None:
        directory = find_run(workspace, target)
    else:
        runs = (workspace.run_directory(run.run) for run in list_runs(workspace) if run.state in RESUMABLE)
        newest = next((run for run in runs if resume_checkpoint(run) is not None), None)
        if newest is None:
            raise UserError("No run was interrupted: name the one to go on with, --resume RUN (`minigpt runs list`).")
        directory = newest
    if is_running(directory):
        raise UserError(
            f"The run {directory.name} is training right now: watch it with `minigpt runs watch {directory.name}`."
        )
    return directory


def _checkpoint_to_resume(workspace: Workspace, target: str | None) -> Path:
    directory = run_to_resume(workspace, target)
    if target is not None and (target.endswith(".pt") or Path(target).is_file()):
        return Path(target).expanduser().absolute()
    checkpoint = resume_checkpoint(directory)
    if checkpoint is None:
        raise UserError(
            f"The run {directory.name} ended before its first checkpoint: start anew with {_fork_command(directory)}."
        )
    return checkpoint


def _directory_to_go_on_in(workspace: Workspace, path: Path, step: int, say: Say) -> Path:
    """Return the checkpoint's own run; a new one where that would overwrite a later part of the run, or is no run."""
    directory = path.parent
    if (directory / EVENTS).exists():
        latest = resume_checkpoint(directory)
        if latest is None or latest.samefile(path) or load(latest).step <= step:
            return directory
    stem = directory.name if (directory / EVENTS).exists() else path.stem
    own = workspace.run_directory(new_run_name(workspace, stem))
    say(f"Going on from step {step:,} in a new run, {own.name}: {directory.name} stays as it is.")
    return own


def _fork_command(directory: Path) -> str:
    return f"`minigpt train --config {shlex.quote(str(directory / CONFIG_FILE))}`"


def _all_events(directory: Path) -> list[dict[str, Any]]:
    found = []
    with EventReader(directory / EVENTS) as reader:
        while True:
            found += [event for event in reader.poll() if event.get("type") == "command"]
            if reader.at_end:
                return found


def _recorded_preset(directory: Path) -> str:
    with EventReader(directory / EVENTS) as reader:
        for event in reader.poll():
            if event.get("type") == "start":
                return str(event.get("preset") or "")
    return ""
