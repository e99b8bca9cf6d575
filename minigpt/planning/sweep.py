"""A sweep of learning rates: short runs by successive halving, one at a time, that go on where they were stopped.

    record = sweep(workspace, config, preset="tiny", rates=[0.01, 0.02, 0.04], steps=200, task=task)
    print(record.recommendation.text)

Everything lies in data/.sweeps/KEY, where the key is the hash of all that decides the outcome: the same sweep started
again goes on there, whatever has ended it, and one that was done is read rather than done again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import torch

from minigpt.config import Config, settings
from minigpt.errors import JobFailed, UserError
from minigpt.jobs import RunLock, is_running
from minigpt.planning.halving import Candidate, Record, least_steps, main_rate, rate_settings, read_record, rung_steps
from minigpt.planning.rounds import Rounds
from minigpt.presets import to_mapping, with_values
from minigpt.tasks import NOBODY, Task
from minigpt.text.texts import find_corpora, gather
from minigpt.training.plan import FEWEST_EVALUATED_TOKENS
from minigpt.training.session import Session
from minigpt.workspace import Workspace

Say = Callable[[str], None]

COOLDOWN = 0.2
WARMUP_SHARE = 0.25
# Of a full run; a sweep of seven rates then costs about a fifth of it.
SHARE_OF_A_RUN = 0.05
FEWEST_STEPS, MOST_STEPS = 100, 1000
# An evaluation costs a third of training on as many tokens.
EVALUATED_SHARE = 1 / 16
_KEPT_SWEEPS = 10
_VERSION = 1


def sweep(
    workspace: Workspace,
    config: Config,
    *,
    preset: str,
    rates: list[float],
    steps: int | None = None,
    task: Task = NOBODY,
    say: Say = print,
    announce: Callable[[Path], None] = lambda directory: None,
    fresh: bool = False,
) -> Record:
    """Try the rates; return the record with its recommendation. `steps` is how far the last two train.

    `announce` is told where the record can be read meanwhile. With `fresh`, nothing done before is reused. Raises
    Cancelled when it is to stop (what is done stays), UserError, and JobFailed when every rate diverged.
    """
    task.report("preparing the text")
    gather(workspace, find_corpora(workspace, config), config, task=task)
    session = Session.new(workspace, config, preset=preset, say=say)
    steps = steps or max(default_steps(session.plan.steps), least_steps(len(rates)))
    plan = _plan(session, config, preset, rates, steps)
    short = _short(config, plan)
    session = Session.new(workspace, short, preset=preset, say=lambda message: None)
    if session.text.validation.tokens < 2:
        raise UserError("A sweep is decided by validation loss: raise corpus.validation_fraction, or add text.")
    # Each candidate gets its own: this one is wanted for its shape alone, and needs no memory.
    session.model.to("meta")
    directory = workspace.data / ".sweeps" / _key(session, plan)
    _forget_old(directory)
    if fresh and not is_running(directory):
        shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    lock = RunLock(directory)
    if not lock.acquire():
        raise UserError("This very sweep is at work already: watch it in the app, or stop it first.")
    try:
        announce(directory)
        record = read_record(directory) or plan
        record.preset = preset
        return Rounds(session, record, directory, task).run()
    except torch.OutOfMemoryError as error:
        raise JobFailed(
            f"The device ran out of memory: find the batch that fits with `minigpt presets fit {preset}`."
        ) from error
    finally:
        lock.release()


def default_steps(planned: int) -> int:
    """Return how far the last two of a sweep train, of a run of so many steps."""
    return min(planned, MOST_STEPS, max(FEWEST_STEPS, int(planned * SHARE_OF_A_RUN)))


def _plan(session: Session, config: Config, preset: str, rates: list[float], steps: int) -> Record:
    """Return the record of a sweep that has not begun."""
    rate = main_rate(config)
    per_step = session.plan.tokens_per_step
    return Record(
        preset=preset,
        corpus=session.config.corpus.name,
        setting=rate,
        own_rate=float(settings()[rate].value_in(config)),
        rungs=rung_steps(len(rates), steps),
        cooldown=0.0 if config.training.schedule == "constant" else COOLDOWN,
        tokens_per_step=per_step,
        eval_tokens=max(2 * FEWEST_EVALUATED_TOKENS, int(steps * per_step * EVALUATED_SHARE)),
        candidates=[Candidate(rate, rate_settings(config, rate)) for rate in rates],
    )


def _short(config: Config, record: Record) -> Config:
    """Return the configuration that all candidates share."""
    changes: dict[str, Any] = {
        "training.schedule": "constant",
        "training.warmup_steps": min(config.training.warmup_steps, int(WARMUP_SHARE * record.rungs[0])),
        "training.max_steps": record.rungs[-1],
        "training.max_epochs": None,
        "training.eval_tokens": record.eval_tokens,
        # Compiling each of them anew takes longer than it saves.
        "training.compile": False,
    }
    return with_values(config, changes, "sweep")


def _key(session: Session, record: Record) -> str:
    """Return the hash of all that decides how a sweep comes out."""
    decides = [
        _VERSION,
        to_mapping(session.config),
        record.rungs,
        record.cooldown,
        [candidate.settings for candidate in record.candidates],
        session.text.content_hash,
        session.device.label,
    ]
    return hashlib.sha256(msgspec.json.encode(decides, order="deterministic")).hexdigest()[:16]


def _forget_old(directory: Path) -> None:
    """Remove the sweeps of long ago, but for this one and those at work."""
    with suppress(OSError):
        others = [path for path in directory.parent.iterdir() if path.is_dir() and path != directory]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in others[_KEPT_SWEEPS - 1 :]:
            if not is_running(path):
                shutil.rmtree(path, ignore_errors=True)
