"""What a person does to a run that is not at work: give it another name, or remove it."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from minigpt.errors import UserError, printable
from minigpt.jobs import RunLock
from minigpt.workspace import checked_name

DELETED = ".deleted-"


def rename_run(directory: Path, name: str) -> Path:
    """Give a run another name; return its new directory. Raises UserError for one at work, and for names taken."""
    before = printable(directory.name, single_line=True)
    checked_name(name, "run")
    target = directory.with_name(name)
    if target == directory:
        return directory
    if directory.is_symlink():
        raise UserError(f"The run {before} is a link to {printable(str(directory.readlink()))}: rename it by hand.")
    if target.exists() or target.is_symlink():
        raise UserError(f"There is a run {name} already: choose another name.")
    lock = RunLock(directory)
    try:
        # Held while the name changes, so that nobody begins to train there meanwhile.
        if not lock.acquire():
            raise UserError(f"The run {before} is at work: rename it when it has ended, or stop it first.")
        directory.rename(target)
    except OSError as error:
        raise UserError(f"Cannot rename the run {before} ({error.strerror}): it keeps its name.") from error
    finally:
        lock.release()
    return target


def delete_run(directory: Path) -> None:
    """Remove a run and all its files; raises UserError for one at work and where the files cannot be removed.

    It loses its name first, so that no half-deleted run is ever seen. What a killed deletion left goes too.
    """
    name = printable(directory.name, single_line=True)
    if directory.is_symlink():
        raise UserError(f"The run {name} is a link to {printable(str(directory.readlink()))}: remove it by hand.")
    doomed = directory.with_name(f"{DELETED}{uuid.uuid4().hex}")
    lock = RunLock(directory)
    try:
        # Held while the name goes, so that nobody begins to train there meanwhile.
        if not lock.acquire():
            raise UserError(
                f"The run {name} is at work: stop it first with `minigpt control {name} stop`, then delete it."
            )
        directory.rename(doomed)
    except OSError as error:
        raise UserError(f"Cannot delete the run {name} ({error.strerror}): nothing was removed.") from error
    finally:
        lock.release()
    for leftover in directory.parent.glob(f"{DELETED}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if doomed.exists():
        raise UserError(
            f"The run {name} is off the list, but not all its files could be removed: remove {printable(str(doomed))}."
        )
