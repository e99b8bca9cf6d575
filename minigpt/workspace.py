"""Where a person's own files lie: `configs/`, `data/` and `checkpoints/` below one folder."""

from __future__ import annotations

import errno
import os
import re
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from minigpt.errors import UserError

ENVIRONMENT_VARIABLE = "MINIGPT_WORKSPACE"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# What file systems say that cannot bring a folder to the disk by itself: some network and FUSE ones.
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


@dataclass(frozen=True)
class Workspace:
    """The folder that holds one person's presets, corpora and runs."""

    root: Path

    @classmethod
    def find(cls, explicit: str | Path | None = None) -> Workspace:
        """Return the workspace asked for, else the one in MINIGPT_WORKSPACE, else the current folder."""
        return cls(Path(explicit or os.environ.get(ENVIRONMENT_VARIABLE) or Path.cwd()).expanduser().absolute())

    @property
    def configs(self) -> Path:
        return self.root / "configs"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def tasks(self) -> Path:
        """Where long work on corpora tells how it goes."""
        return self.data / ".tasks"

    def task_directory(self, task: str) -> Path:
        return self.tasks / checked_name(task, "task")

    def run_directory(self, run: str) -> Path:
        return self.checkpoints / checked_name(run, "run")

    def corpus_directory(self, corpus: str) -> Path:
        return self.data / checked_name(corpus, "corpus")

    def require_writable(self) -> None:
        """Make the folders for corpora and runs; raises UserError where that is not allowed."""
        for folder in (self.data, self.checkpoints):
            try:
                make_folder(folder)
                with tempfile.TemporaryFile(dir=folder):
                    pass
            except OSError as error:
                raise UserError(
                    f"Cannot write in {folder} ({error.strerror}): choose another folder with --workspace DIR "
                    f"or {ENVIRONMENT_VARIABLE}, or make this one writable."
                ) from error


def checked_name(name: str, what: str) -> str:
    """Return `name` if it is safe as a folder's name; raises UserError otherwise."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} cannot be the name of a {what}: use 1 to 100 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit."
        )
    return name


def new_file(folder: Path, prefix: str = "", suffix: str = "") -> tuple[int, Path]:
    """Make a file of a name that is not taken and return it open: tempfile.mkstemp, but with the user's umask."""
    while True:
        path = folder / f"{prefix}{secrets.token_hex(4)}{suffix}"
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), path
        except FileExistsError:
            continue


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, so that none of them is gone after a power loss."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Bring to the disk which files a folder has; nothing where its file system cannot do that. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that one may write in and not look into
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def builtin_presets() -> Path:
    """Return the folder of the presets that come with MiniGPT, in a checkout and in an installed wheel alike."""
    installed = Path(__file__).parent / "builtin_presets"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "configs"
