"""The rounds of a sweep: every candidate trained on to the end of each, and measured there.

    record = Rounds(session, record, directory, task).run()

The schedule of the short runs. A rate is judged by where it leads once it has come down: a high rate looks worse than
it is as long as it stays high. But a run whose rate has come down cannot go on. So each candidate is a trunk at a
constant rate (after a warm-up of a quarter of the first round at most), which every round continues, never repeats; at
the end of a round a branch of it comes down in a line, is measured, and is thrown away, as one does with the wsd
schedule (Haegele et al., Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations, 2024). A preset
with a constant schedule is measured without. All candidates begin with the same weights and read the same batches.
"""

from __future__ import annotations

import gc
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from minigpt.errors import JobFailed, UserError
from minigpt.inference.evaluate import evaluate
from minigpt.model.checkpoint import load, save
from minigpt.model.gpt import GPT
from minigpt.narration import size
from minigpt.planning.halving import RECORD, Candidate, Measure, Record, recommend, survivors
from minigpt.presets import with_values
from minigpt.readings import free_disk
from minigpt.tasks import Cancelled, Task
from minigpt.text.storage import write_file
from minigpt.training.recorder import Recorder
from minigpt.training.session import Session
from minigpt.training.state import Progress, capture, restore
from minigpt.training.trainer import Ended, Trainer

SAVE_SECONDS, RECORD_SECONDS = 60.0, 1.0
POINTS = 100
TRUNK = "trunk.pt"


class Rounds:
    """The rounds of one sweep, as its record plans them."""

    def __init__(self, session: Session, record: Record, directory: Path, task: Task) -> None:
        self.session, self.record, self.directory, self.task = session, record, directory, task
        self._recorded_at = -math.inf
        self._done = 0  # steps, cooldowns included
        self._phase = ""

    def run(self) -> Record:
        """Do what is not done yet of all rounds."""
        record, alive = self.record, self.record.candidates
        if record.recommendation is None:
            self._require_room()
        before = 0
        for number, until in enumerate(record.rungs, 1):
            record.round = number
            for candidate in alive:
                if candidate.measure(until) is None and candidate.state != "diverged":
                    self._phase = f"round {number} of {len(record.rungs)}: {len(alive)} rates to step {until:,}"
                    self._work(candidate, until)
                self._done += until - before + self._cooldown(until)
            going_on = survivors(alive, until) if until != record.rungs[-1] else alive
            for candidate in alive:
                if candidate.state != "diverged":
                    candidate.state = "in" if candidate in going_on else "out"
                if candidate not in going_on or candidate.state == "diverged":
                    shutil.rmtree(self._place(candidate), ignore_errors=True)
            alive, before = going_on, until
        record.recommendation = recommend(record)
        for candidate in record.candidates:
            shutil.rmtree(self._place(candidate), ignore_errors=True)
        self._write()
        if record.recommendation is None:
            raise JobFailed("Every rate diverged: try lower ones, with --low and --high.")
        return record

    def _require_room(self) -> None:
        each, count = self.session.checkpoint_bytes(), len(self.record.candidates)
        free = free_disk(self.directory)
        if free < each * (count + 1):
            raise UserError(
                f"The sweep keeps {count} unfinished models of {size(each)}, and {size(free)} are free in "
                f"{self.directory}: make room, or try fewer rates with --count."
            )

    def _place(self, candidate: Candidate) -> Path:
        return self.directory / f"rate-{candidate.rate:g}"

    def _cooldown(self, until: int) -> int:
        return math.ceil(self.record.cooldown * until)

    def _work(self, candidate: Candidate, until: int) -> None:
        """Bring one candidate to the end of the round, and measure it; a diverged one is marked as such."""
        candidate.state = "training"
        try:
            with self._trainer(candidate, until) as trainer:
                self._train(trainer, candidate, until)
                measure = self._measured(trainer, candidate, until)
        except Ended:
            measure = None
        if measure is None or not math.isfinite(measure.loss):
            candidate.state = "diverged"
        else:
            candidate.state = "waiting"
            candidate.measures.append(measure)
        self._write()
        # Trainers hold one another by cycles; the next model needs their memory.
        gc.collect()

    @contextmanager
    def _trainer(self, candidate: Candidate, until: int) -> Iterator[Trainer]:
        """Have the candidate's trainer, at the step that its trunk was saved at."""
        session, directory = self.session, self._place(candidate)
        directory.mkdir(exist_ok=True)
        path, kind = directory / TRUNK, session.device.kind
        trunk = load(path) if path.exists() else None
        config = with_values(session.config, candidate.settings, "sweep")
        if trunk is None:
            torch.manual_seed(config.training.seed)
            model = GPT(session.model.config).to(kind)
            progress = Progress(last_step=self.record.rungs[-1], loss_scale=session.progress.loss_scale)
        else:
            model = trunk.build_model(kind)
            progress = msgspec.convert(trunk.training["progress"], Progress)
        candidate.step = progress.step
        candidate.curve = [point for point in candidate.curve if point[0] <= progress.step]
        own = replace(session, config=config, model=model, progress=progress, directory=directory)
        # Nobody watches this run: its curve is in the record.
        for leftover in directory.glob("events.jsonl"):
            leftover.unlink()
        curve = _Curve(candidate, until, max(1, self.record.rungs[-1] // POINTS))
        with Recorder(directory, kind, 10**9, (curve.take,)) as recorder:
            trainer = own.trainer(recorder)
            if trunk is not None:
                restore(trainer, trunk.training)
            yield trainer

    def _train(self, trainer: Trainer, candidate: Candidate, until: int) -> None:
        """Train the trunk; whatever ends that, it is saved as far as it came."""
        saved, begin = time.monotonic(), trainer.progress.step
        round_began = max((step for step in self.record.rungs if step < until), default=0)
        trainer.restart_clock()
        try:
            while trainer.progress.step < until:
                self._tell(self._done + trainer.progress.step - round_began)
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._save(trainer)
                    saved = time.monotonic()
                trainer.train_step()
                candidate.step = trainer.progress.step
        except (Cancelled, KeyboardInterrupt):
            if trainer.progress.step > begin:
                self._save(trainer)
            raise
        if trainer.progress.step > begin:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        trainer.drain()
        save(trainer.directory / TRUNK, capture(trainer))
        self._write()

    def _measured(self, trainer: Trainer, candidate: Candidate, until: int) -> Measure:
        """Let the rate come down, on a branch that is thrown away, and return the validation loss."""
        steps, floor = self._cooldown(until), trainer.settings.min_lr_fraction
        round_began = max((step for step in self.record.rungs if step < until), default=0)
        trainer.progress.last_step = until + steps
        for step in range(steps):
            self._tell(self._done + until - round_began + step)
            trainer.progress.lr_scale = floor + (1 - floor) * (1 - step / steps)
            trainer.train_step()
        trainer.drain()
        result = evaluate(
            trainer.model,
            self.session.text.validation.shards,
            max_tokens=self.record.eval_tokens,
            precision=trainer.precision,
        )
        return Measure(until, result.loss, list(result.blocks))

    def _tell(self, done: int) -> None:
        self.task.report(self._phase, done, self._total(), "steps")
        if time.monotonic() - self._recorded_at > RECORD_SECONDS:
            self._write()

    def _total(self) -> int:
        """Return the steps of all rounds, as far as can be told: one more than half may go on."""
        record, before, total = self.record, 0, 0
        count = len(record.candidates)
        for until in record.rungs:
            total += count * (until - before + self._cooldown(until))
            before, count = until, math.ceil(count / 2)
        return max(total, self._done)

    def _write(self) -> None:
        self._recorded_at = time.monotonic()
        write_file(self.directory / RECORD, msgspec.json.encode(self.record))


class _Curve:
    """Collects the training loss of a candidate's trunk, a point for each few steps; no further than `until`."""

    def __init__(self, candidate: Candidate, until: int, every: int) -> None:
        self.candidate, self.until, self.every = candidate, until, every
        self._sum, self._count = 0.0, 0

    def take(self, event: dict[str, Any]) -> None:
        if event["type"] != "step" or event["step"] > self.until:
            return
        loss = event.get("loss")
        if loss is None or not math.isfinite(loss):
            return
        self._sum, self._count = self._sum + loss, self._count + 1
        if event["step"] % self.every == 0:
            self.candidate.curve.append((event["step"], self._sum / self._count))
            self._sum, self._count = 0.0, 0
