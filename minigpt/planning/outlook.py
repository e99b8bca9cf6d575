"""What a configuration will take, told before training: size, memory, text, length, time, disk, and warnings.

    found = outlook(workspace, load_preset("small", workspace), "novels", cached_probe(workspace, config, "novels"))
    found.memory.total, found.steps, [warning.message for warning in found.warnings]

By arithmetic alone, without torch, in milliseconds; only the time needs a probe (planning/probe.py).
"""

from __future__ import annotations

import msgspec

from minigpt.config import Config
from minigpt.model.memory import Memory, Placement, memory_of
from minigpt.model.parameters import flops_per_token, parameter_count, parameter_parts
from minigpt.planning.machine import available_memory, likely_device, plain_attention_length
from minigpt.planning.probe import Probe, cached_probe
from minigpt.planning.reading import Reading, chosen, reading_of, usual_vocab_size
from minigpt.planning.warnings import Warning, warnings_of
from minigpt.readings import free_disk
from minigpt.training.plan import checkpoint_bytes, checkpoints_kept, micro_batch, planned_steps
from minigpt.workspace import Workspace


class Outlook(msgspec.Struct, frozen=True):
    """Sizes in bytes, times in seconds. What depends on a text that is not there yet, or on a probe, is None.

    `train_tokens` are those of the text, once; `tokens` those of the run. `memory_measured` is the probe's peak,
    `measured` its Unix time, and `measured_beside` names the runs and tasks that were at work meanwhile.
    """

    parameters: int
    parts: tuple[tuple[str, int], ...]
    flops_per_token: int
    vocab_size: int
    device: str
    micro_batch_size: int
    memory: Memory
    corpus: str
    train_tokens: int | None
    train_tokens_exact: bool
    tokens_per_parameter: float | None
    steps: int | None
    epochs: float | None
    tokens: int | None
    seconds_per_step: float | None
    seconds: float | None
    memory_measured: int | None
    checkpoint_bytes: int
    disk_needed: int
    disk_free: int | None
    warnings: tuple[Warning, ...] = ()
    measured: float | None = None
    measured_beside: tuple[str, ...] = ()


def parameters_of(workspace: Workspace, config: Config) -> int:
    """Return how many parameters a model has with the vocabulary that its configuration asks for. Raises UserError.

    Where the text decides on the tokenizer it is what `outlook` tells of the configuration's own corpus.
    """
    if config.tokenizer.kind in ("bpe", "word") and not config.tokenizer.file:
        return parameter_count(config.model, usual_vocab_size(config))
    vocab_size = _vocab_size(config, reading_of(workspace, config), cached_probe(workspace, config, None))
    return parameter_count(config.model, vocab_size)


def _vocab_size(config: Config, reading: Reading | None, probe: Probe | None) -> int:
    if reading is not None and (reading.exact or probe is None):
        return reading.vocab_size
    return probe.vocab_size if probe else usual_vocab_size(config)


def outlook(workspace: Workspace, config: Config, corpus: str | None, probe: Probe | None = None) -> Outlook:
    """Return what training by this configuration will take here; raises UserError where it cannot be used."""
    config = chosen(config, corpus)
    model, training = config.model, config.training
    reading = reading_of(workspace, config)
    vocab_size = _vocab_size(config, reading, probe)
    device = probe.device if probe else likely_device(training)
    plain = model.max_seq_len <= plain_attention_length(device)
    windows = micro_batch(model, vocab_size, training, device, plain)
    windows_per_step = training.batch_size * training.gradient_accumulation_steps
    memory = memory_of(
        model, vocab_size, training, Placement(device.kind, device.precision, windows, windows_per_step, plain)
    )
    parts = parameter_parts(model, vocab_size)
    parameters = sum(parts.values())
    steps, epochs = _length(config, reading)
    checkpoint = checkpoint_bytes(model, vocab_size, training)
    found = Outlook(
        parameters=parameters,
        parts=tuple(parts.items()),
        flops_per_token=flops_per_token(model, vocab_size),
        vocab_size=vocab_size,
        device=device.label,
        micro_batch_size=windows,
        memory=msgspec.structs.replace(memory, available=available_memory(device)),
        corpus=reading.corpus if reading else config.corpus.name,
        train_tokens=reading.train_tokens if reading else None,
        train_tokens_exact=bool(reading and reading.exact),
        tokens_per_parameter=reading.train_tokens / parameters if reading else None,
        steps=steps,
        epochs=epochs,
        tokens=None if steps is None else steps * windows_per_step * model.max_seq_len,
        seconds_per_step=probe.seconds_per_step if probe else None,
        seconds=probe.seconds_per_step * steps if probe and steps is not None else None,
        memory_measured=probe.memory_measured if probe else None,
        checkpoint_bytes=checkpoint,
        disk_needed=checkpoint * checkpoints_kept(training, steps or 0),
        disk_free=_free_disk(workspace),
        measured=probe.made if probe else None,
        measured_beside=probe.beside if probe else (),
    )
    warnings = warnings_of(config, found, reading.document_tokens if reading else None)
    return msgspec.structs.replace(found, warnings=warnings)


def _length(config: Config, reading: Reading | None) -> tuple[int | None, float | None]:
    """Return steps and epochs; without a text, the steps that are asked for."""
    training = config.training
    windows = (reading.train_tokens - 1) // config.model.max_seq_len if reading else 0
    if windows < 1:
        return (training.max_steps if reading is None else None), None
    steps = planned_steps(training, windows)
    return steps, steps * training.batch_size * training.gradient_accumulation_steps / windows


def _free_disk(workspace: Workspace) -> int | None:
    try:
        return free_disk(workspace.root)
    except OSError:
        return None
