"""What the events of a session begin with: its facts, and what is worth a notice before the first step."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from minigpt.narration import size
from minigpt.readings import free_disk
from minigpt.text.mixture import remarks
from minigpt.training.diagnosis.doctor import start_extras
from minigpt.training.plan import checkpoints_kept, start_fields
from minigpt.training.resuming import recorded_preset
from minigpt.training.state import environment, environment_changes

if TYPE_CHECKING:
    from minigpt.training.recorder import Recorder
    from minigpt.training.session import Session
    from minigpt.training.trainer import Trainer


def start_event(session: Session, trainer: Trainer) -> dict[str, Any]:
    """Return the fields of a session's `start` event."""
    config, text, device, model = session.config, session.text, session.device, session.model
    return {
        "run": session.directory.name,
        "preset": session.preset or recorded_preset(session.directory),
        "corpus": config.corpus.name,
        "content_hash": text.content_hash,
        "family": config.model.family,
        "parameters": model.parameter_count(),
        "tokens": text.train.tokens,
        "flops_per_token": model.flops_per_token(),
        "device": device.label,
        "peak_flops": trainer.peak_flops,
        "peak_source": trainer.peak_source,
        "precision": device.precision,
        "vocab_size": model.config.vocab_size,
        "resumed_from": session.resumed.step if session.resumed else None,
        "lengthened": session.lengthened,
        "changed": session.changed,
        "forked_from": session.origin.as_fields() if session.origin else None,
        "environment": environment(trainer),
        **start_extras(trainer),
        "pid": os.getpid(),
        "world_size": 1,
        **start_fields(session.plan.with_steps(session.progress.last_step)),
    }


def give_first_notices(session: Session, trainer: Trainer) -> None:
    """Tell what a person should know of a session before its first step."""
    recorder = trainer.recorder
    if session.resumed is not None:
        _compare_environment(session.resumed.training["environment"], trainer)
    for code, message in session.notices:
        recorder.notice("info", code, message)
    for remark in remarks(session.text.windows, session.progress.last_step * session.plan.windows_per_step):
        recorder.notice(*remark)
    if session.text.validation.tokens < 2:
        recorder.notice(
            "warning",
            "no-validation",
            "No text is kept aside for validation, so nothing can tell learning from reciting, and target_loss and "
            "patience have no effect: raise corpus.validation_fraction, or add text.",
        )
    _warn_about_disk(session, recorder)


def _compare_environment(before: dict[str, Any], trainer: Trainer) -> None:
    different = environment_changes(before, environment(trainer))
    if different:
        trainer.recorder.notice(
            "info",
            "environment-changed",
            f"The run goes on in another environment ({'; '.join(different)}): "
            "expect the same quality, not the same digits.",
        )


def _warn_about_disk(session: Session, recorder: Recorder) -> None:
    settings = session.config.training
    needed = session.checkpoint_bytes() * checkpoints_kept(settings, session.progress.last_step)
    free = free_disk(session.directory)
    if free < needed:
        recorder.notice(
            "warning",
            "disk-nearly-full",
            f"The run's checkpoints may take {size(needed)} and {size(free)} are free in {session.directory}: "
            f"make room, or {'raise training.keep_every' if settings.keep_every else 'lower training.keep_last'}.",
        )
