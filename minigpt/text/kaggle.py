"""Data sets at Kaggle: fetched whole into kagglehub's own folder, and their text files added like any folder.

KaggleSource("OWNER/NAME").write(folder, task)
KaggleSource("OWNER/NAME/stories.csv").write(folder, task)      # one file of it
"""

from __future__ import annotations

import os
import re
import tarfile
import time
import zipfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec

from minigpt.errors import JobFailed, UserError, printable
from minigpt.reserve import is_full
from minigpt.tasks import Task
from minigpt.text.hub_choice import CredentialsMissing, SourceUnavailable
from minigpt.text.hub_open import EXTRA
from minigpt.text.hub_parts import require_room
from minigpt.text.manifest import SourceRecord
from minigpt.text.reading import Reading
from minigpt.text.sources import PathSource
from minigpt.text.storage import shown
from minigpt.text.waiting import Worker

_NAME = re.compile(r"(?P<handle>[\w-]+/[\w.-]+(/versions/\d+)?)(/(?P<file>[^\x00-\x1f]+))?", re.ASCII)

_MEASURE_SECONDS = 1.0
_NAMED = 5

# Set before the library is first imported: no bars and no log over the screen.
_ENVIRONMENT = {"TQDM_DISABLE": "1", "KAGGLEHUB_VERBOSITY": "error"}

_STEPS = (
    "Log in at https://www.kaggle.com (the account is free) and open https://www.kaggle.com/settings.",
    "Under API choose Create New Token: the browser saves kaggle.json.",
    "Put it on the machine where this runs as ~/.kaggle/kaggle.json and run `chmod 600 ~/.kaggle/kaggle.json`; or set "
    "KAGGLE_USERNAME and KAGGLE_KEY to what it holds.",
    "Start again.",
)


class KaggleSource:
    """A data set at Kaggle, OWNER/NAME[/versions/N][/FILE]; all its text files, or one of its files."""

    def __init__(self, name: str, reading: Reading | None = None) -> None:
        """Raises UserError when the name cannot be one. `reading` is guessed from the files when not given."""
        parts = _NAME.fullmatch(name.strip("/"))
        if parts is None or ".." in name.split("/"):
            raise UserError(
                f"{printable(name, single_line=True)!r} is no data set of Kaggle: write kaggle:OWNER/NAME, as in the "
                "address of its page, or kaggle:OWNER/NAME/FILE."
            )
        self.kind = "kaggle"
        self.origin = f"kaggle:{printable(name.strip('/'), single_line=True)}"
        self._handle, self._file = parts["handle"], parts["file"]
        self._reading = reading

    def write(self, folder: Path, task: Task) -> SourceRecord:
        """Fetch the data set and copy its text files.

        Raises CredentialsMissing when Kaggle wants an account or refuses the one there is, SourceUnavailable when there
        is no such data set or no way to Kaggle, UserError when it holds no text.
        """
        kagglehub = _library()
        path = Path(self._fetched(kagglehub, task))
        try:
            source = PathSource(path, self._reading, kind=self.kind, origin=self.origin)
        except UserError as error:
            raise UserError(f"{self.origin} holds no text that can be read, only {_contents(path)}.") from error
        record = source.write(folder, task)
        where = f"What Kaggle sent is kept in {shown(path)}."
        return msgspec.structs.replace(record, notes=[*record.notes, where])

    def _fetched(self, kagglehub: Any, task: Task) -> str:
        cache = self._cache()
        growth = _Growth(cache)

        def report() -> None:
            task.report("downloading", growth.measure(), None, "bytes")

        errors: tuple[type[Exception], ...] = (
            OSError,
            ValueError,
            tarfile.TarError,
            zipfile.BadZipFile,
            *_own_errors(kagglehub),
        )
        with closing(Worker()) as worker:
            try:
                return str(worker.call(lambda: kagglehub.dataset_download(self._handle, self._file), report))
            except errors as error:
                raise self._reason(error) from error

    def _cache(self) -> Path:
        """Return where kagglehub puts this data set."""
        root = Path(os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache" / "kagglehub")
        owner, name = self._handle.split("/")[:2]
        return root / "datasets" / owner / name

    def _reason(self, error: Exception) -> UserError | JobFailed:
        status = getattr(getattr(error, "response", None), "status_code", None)
        said = printable(next(iter(str(error).strip().splitlines()), "")[:200]) or type(error).__name__
        if type(error).__name__ in ("UnauthenticatedError", "CredentialError") or "credentials" in said.lower():
            return CredentialsMissing(f"Kaggle gives {self.origin} only to those with an account ({said}).", _STEPS)
        if status in (401, 403):
            return CredentialsMissing(
                f"Kaggle refused {self.origin} (it answered {status}): the name is wrong, its conditions are not "
                "accepted yet, or the account is missing.",
                _STEPS,
            )
        if status == 404 or type(error).__name__ == "NotFoundError":
            return SourceUnavailable(
                f"There is no {self.origin}: check the name at https://www.kaggle.com/datasets/{self._handle}."
            )
        if status:
            return SourceUnavailable(f"Kaggle could not give {self.origin} (it answered {status}): try later.")
        if isinstance(error, OSError) and is_full(error):
            return JobFailed(
                f"The disk is full: {self.origin} does not fit into {shown(self._cache())}; free some space."
            )
        if isinstance(error, (tarfile.TarError, zipfile.BadZipFile)) or type(error).__name__ == "DataCorruptionError":
            return JobFailed(f"{self.origin} arrived damaged ({said}): start again.")
        if isinstance(error, ConnectionError) or type(error).__module__.split(".")[0] in ("requests", "urllib3"):
            return SourceUnavailable(f"Kaggle cannot be reached for {self.origin}: check the network, or try later.")
        return SourceUnavailable(f"{self.origin} cannot be fetched ({said}).")


def _library() -> Any:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import kagglehub
    except ImportError as error:
        raise UserError(f"Data sets of Kaggle need the library `kagglehub`: {EXTRA}") from error
    return kagglehub


def _own_errors(kagglehub: Any) -> tuple[type[Exception], ...]:
    """Return the library's own exceptions, those that are neither OSError nor ValueError."""
    module = kagglehub.exceptions
    names = ("CredentialError", "UnauthenticatedError", "NotFoundError", "BackendError", "DataCorruptionError")
    return tuple(getattr(module, name) for name in names if hasattr(module, name))


class _Growth:
    """By how many bytes a folder has grown; measured once a second, for it may hold many files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = _size(folder)
        self._grown, self._measured = 0, time.monotonic()

    def measure(self) -> int:
        """Raises JobFailed when the disk is nearly full."""
        if time.monotonic() - self._measured > _MEASURE_SECONDS:
            require_room(self._folder, 0)
            self._grown = max(0, _size(self._folder) - self._before)
            self._measured = time.monotonic()
        return self._grown


def _contents(path: Path) -> str:
    """Name the first few files below a path, for a sentence."""
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()) or [path.name]
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return printable(", ".join(names[:_NAMED]), single_line=True) + more


def _size(folder: Path) -> int:
    """Return the bytes of all files below a folder, which may be changing."""
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                total += (Path(root) / name).lstat().st_size
    return total
