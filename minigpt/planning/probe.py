"""How long a step takes on this machine, measured by making five, and remembered.

    probe = cached_probe(workspace, config, "novels")        # None where nobody has measured it yet
    probe = make_probe(workspace, config, "novels", task)    # needs torch

data/.probes/KEY.json, where the key is the hash of all that a step's time depends on: settings, the corpus and what
is in it, machine, torch. It is for those who do not ask for a measurement: `make_probe` always makes one.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from minigpt.config import Config
from minigpt.device import Device
from minigpt.planning.machine import machine_name
from minigpt.planning.reading import chosen, contents
from minigpt.runs import list_runs
from minigpt.summary import LIVE_STATES
from minigpt.tasks import NOBODY, Task, TaskProcess, list_tasks
from minigpt.text.records import read_json
from minigpt.text.storage import write_file
from minigpt.workspace import Workspace

PROBES = ".probes"
# Raised when steps are measured in another way, or become faster.
_VERSION = 2
# Of [training], what neither a step's time nor its memory depends on.
_LENGTH_AND_RATES = {
    "max_epochs", "max_steps", "learning_rate", "muon_learning_rate", "schedule", "warmup_steps", "decay_fraction",
    "min_lr_fraction", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "muon_momentum", "max_grad_norm",
    "max_rollbacks", "target_loss", "patience", "seed", "eval_every", "eval_tokens", "save_every", "sample_every",
    "log_every", "keep_last", "keep_every", "sample_prompts",
}  # fmt: skip


# The states of a run that takes time of others.
_COMPUTING = set(LIVE_STATES) - {"waiting", "paused"}


class Probe(msgspec.Struct, frozen=True):
    """What five steps have shown: seconds, bytes at the peak (see `Forecast`), and the device as torch knows it.

    `beside` names the runs and tasks that were at work meanwhile, and made the steps slower.
    """

    seconds_per_step: float
    memory_measured: int
    vocab_size: int
    device: Device
    made: float  # Unix seconds
    beside: tuple[str, ...] = ()


def cached_probe(workspace: Workspace, config: Config, corpus: str | None) -> Probe | None:
    """Return what was measured of this configuration, on this machine and text, before, if it was; raises UserError."""
    path = _path(workspace, config, corpus)
    try:
        return read_json(path, Probe)
    except (OSError, msgspec.DecodeError):
        return None


def make_probe(workspace: Workspace, config: Config, corpus: str | None, task: Task = NOBODY) -> Probe:
    """Prepare the text, make five steps, and remember what they took; raises UserError, and Cancelled when stopped."""
    from minigpt.text.texts import find_corpora, gather
    from minigpt.training.dryrun import forecast
    from minigpt.training.session import Session

    chosen_config = chosen(config, corpus)
    gather(workspace, find_corpora(workspace, chosen_config), chosen_config, task=task)
    task.report("trying five steps")
    session = Session.new(workspace, chosen_config, say=task.notice)
    beside = _at_work(workspace, task)
    figures = forecast(session)
    beside |= _at_work(workspace, task)
    probe = Probe(
        seconds_per_step=figures.seconds_per_step,
        memory_measured=figures.memory_measured,
        vocab_size=session.model.config.vocab_size,
        device=session.device,
        made=time.time(),
        beside=tuple(sorted(beside)),
    )
    path = _path(workspace, config, corpus)
    with suppress(OSError):  # it is measured again the next time
        path.parent.mkdir(exist_ok=True)
        write_file(path, msgspec.json.encode(probe))
    return probe


def _at_work(workspace: Workspace, task: Task) -> set[str]:
    """Return the runs and tasks that compute now, but for the task of the probe itself."""
    own = task.directory.name if isinstance(task, TaskProcess) else ""
    runs = {run.run for run in list_runs(workspace) if run.state in _COMPUTING}
    return runs | {other.name for other in list_tasks(workspace) if other.state == "running" and other.name != own}


def _path(workspace: Workspace, config: Config, corpus: str | None) -> Path:
    config = chosen(config, corpus)
    training = {k: v for k, v in msgspec.to_builtins(config.training).items() if k not in _LENGTH_AND_RATES}
    sections = [config.corpus, config.tokenizer, config.model]
    known = [_VERSION, machine_name(), *map(msgspec.to_builtins, sections), training, contents(workspace, config)]
    key = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:24]
    return workspace.data / PROBES / f"{key}.json"
