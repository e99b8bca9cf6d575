"""Which run to go on with, from which checkpoint, and where."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from minigpt.errors import UserError, one_line
from minigpt.jobs import EVENTS, EventReader, is_running
from minigpt.runs import (
    CONFIG,
    best_checkpoint,
    find_checkpoint,
    find_run,
    list_runs,
    new_run_name,
    resume_checkpoint,
)
from minigpt.runs.checkpoints import kind_of
from minigpt.training.course import Course
from minigpt.training.turns import Turn
from minigpt.workspace import Workspace

if TYPE_CHECKING:
    from minigpt.model.checkpoint import Checkpoint
    from minigpt.training.recorder import Recorder

RESUMABLE = ("interrupted", "crashed", "failed")


def run_to_resume(workspace: Workspace, target: str | None, turn: Turn | None = None) -> Path:
    """Return the directory of the run to go on with; raises UserError when there is none or it is training.

    A run that has waited for its `turn` is locked by this process.
    """
    if target is not None and is_file(target):
        directory = Path(target).expanduser().absolute().parent
    elif target is not None:
        directory = find_run(workspace, target)
    else:
        runs = (workspace.run_directory(run.run) for run in list_runs(workspace) if run.state in RESUMABLE)
        newest = next((run for run in runs if resume_checkpoint(run) is not None), None)
        if newest is None:
            raise UserError("No run was interrupted: name the one to go on with, --resume RUN (`minigpt runs list`).")
        directory = newest
    if is_running(directory) and (turn is None or turn.directory != directory):
        raise UserError(
            f"The run {one_line(directory.name)} is training right now: watch it with "
            f"`minigpt runs watch {one_line(directory.name)}`."
        )
    return directory


def is_file(target: str) -> bool:
    """Whether what is to be resumed, or begun from, is a checkpoint file rather than a run."""
    return target.endswith(".pt") or Path(target).is_file()


def checkpoint_to_resume(workspace: Workspace, target: str | None, turn: Turn | None = None) -> Path:
    """Return the checkpoint to go on from: the one named, or the run's that is furthest on. Raises UserError."""
    directory = run_to_resume(workspace, target, turn)
    if target is not None and is_file(target):
        return Path(target).expanduser().absolute()
    checkpoint = resume_checkpoint(directory)
    if checkpoint is None:
        raise UserError(
            f"The run {one_line(directory.name)} ended before its first checkpoint: start anew with "
            f"{fork_command(directory)}."
        )
    return checkpoint


def directory_to_go_on_in(
    workspace: Workspace, path: Path, step: int, say: Callable[[str], None], name: str | None = None
) -> Path:
    """Return the checkpoint's own run; a new one where that would overwrite a later part of the run, or is no run.

    With a `name` it is a new run of that name. Raises UserError where there is one already.
    """
    from minigpt.model.checkpoint import load  # torch is not needed to know which run is meant

    directory = path.parent
    if name is not None and (workspace.run_directory(name) / CONFIG).exists():
        raise UserError(f"There is a run {name} already: choose another --run name.")
    if name is None and (directory / EVENTS).exists():
        latest = resume_checkpoint(directory)
        if latest is None or latest.samefile(path) or load(latest).step <= step:
            return directory
    stem = directory.name if (directory / EVENTS).exists() else path.stem
    own = workspace.run_directory(name or new_run_name(workspace, stem))
    if own != directory:  # one that has waited for its turn has its own copy
        say(f"Going on from step {step:,} in a new run, {own.name}: {one_line(directory.name)} stays as it is.")
    return own


def checkpoint_to_fork(workspace: Workspace, target: str) -> Path:
    """Return the checkpoint that RUN, RUN:CHECKPOINT or a file's name means; a run alone means its best one.

    Raises UserError where there is none.
    """
    run, colon, name = target.partition(":")
    if (is_file(target) and not colon) or Path(target).is_file():
        return Path(target).expanduser().absolute()
    directory = find_run(workspace, run)
    if colon:
        return find_checkpoint(directory, name)
    checkpoint = best_checkpoint(directory)
    if checkpoint is None:
        raise UserError(
            f"The run {one_line(directory.name)} has no checkpoint to begin from: start anew with "
            f"{fork_command(directory)}."
        )
    return checkpoint


def events_bytes(directory: Path) -> int:
    """Return how much a run has told so far."""
    try:
        return (directory / EVENTS).stat().st_size
    except OSError:
        return 0


def with_memory(checkpoint: Checkpoint, changes: Mapping[str, Any]) -> Checkpoint:
    """Return a checkpoint, the run of which takes another part of its batch at once or keeps other activations."""
    if not changes:
        return checkpoint
    training = msgspec.structs.replace(checkpoint.config.training, **changes)
    state = checkpoint.training
    if (windows := training.micro_batch_size) and "micro_batch_size" in changes:
        state = {**state, "plan": {**state["plan"], "micro_batch_size": min(windows, training.batch_size)}}
    return replace(checkpoint, config=msgspec.structs.replace(checkpoint.config, training=training), training=state)


def tell_if_untold(path: Path, step: int, recorder: Recorder) -> None:
    """Have the checkpoint that a run goes on from on record, where a process was killed before it could tell of it.

    It would be taken for one that was given up.
    """
    kind = kind_of(path.name)
    if kind != "other" and Course(path.parent).saved.get(path.name) != step:
        recorder.event("checkpoint", path=path.name, step=step, kind=kind)


@contextmanager
def kept(path: Path, directory: Path) -> Iterator[Path]:
    """Keep a checkpoint in a directory, under a hidden name, for as long as the block takes: its run may remove it.

    Raises UserError where that cannot be.
    """
    # By its ending, a trainer knows what a killed process has left, and removes it when it begins.
    own = directory / f".{path.name}.{os.getpid()}.link"
    try:
        _keep(path, own)
        yield own
    finally:
        own.unlink(missing_ok=True)


def _keep(path: Path, own: Path) -> None:
    own.unlink(missing_ok=True)
    try:
        try:
            os.link(path, own)
        except FileNotFoundError:
            raise
        except OSError:  # on another disk, or on one without hard links
            shutil.copyfile(path, own)
    except FileNotFoundError as error:
        raise UserError(f"{one_line(path)} was removed a moment ago: name another checkpoint to begin from.") from error
    except OSError as error:
        raise UserError(
            f"Cannot keep a copy of {one_line(path)} in {own.parent} until the run begins ({error.strerror}): make "
            "room there, or begin without --after."
        ) from error


def run_of(path: Path) -> str:
    """Return the name of the run that a checkpoint is of, or the file's own where it lies in no run's folder."""
    return path.parent.name if (path.parent / CONFIG).is_file() else path.stem


def fork_command(directory: Path) -> str:
    """Return the command that starts a new run with the settings of this one."""
    return f"`minigpt train --config {shlex.quote(str(directory / CONFIG))}`"


def recorded_preset(directory: Path) -> str:
    """Return the preset that the run was started with, or nothing where it does not tell."""
    with EventReader(directory / EVENTS) as reader:
        for event in reader.poll():
            if event.get("type") == "start":
                return str(event.get("preset") or "")
    return ""
