"""Which corpora there are: found by name or path, made when they are not there yet, removed and brought back.

corpus = resolve(workspace, "sample")
removed = remove(workspace, "novels")
restore(workspace, removed)
"""

from __future__ import annotations

import glob
import shutil
import time
from pathlib import Path

from minigpt.config import Config
from minigpt.errors import UserError, printable
from minigpt.presets import read_file
from minigpt.start import running_runs
from minigpt.tasks import NOBODY, Task
from minigpt.text.corpus import Corpus, CorpusExists
from minigpt.text.manifest import MANIFEST
from minigpt.text.sources import SAMPLE, DocumentSource, add_path
from minigpt.text.storage import remove_all_abandoned, shown
from minigpt.workspace import Workspace

REMOVED = ".removed"
# Between a corpus's name and the time of its removal; no name has it.
_MARK = "@"


def resolve(workspace: Workspace, name_or_path: str, task: Task = NOBODY) -> Corpus:
    """Return the corpus of that name, or the one of a file or folder, which is added when it is not there yet.

    "sample" is the built-in corpus, made on first use. The corpus's note says what was done. Raises UserError when
    there is nothing of that name or it holds no text.
    """
    if name_or_path == SAMPLE:
        return _sample(workspace, task)
    if not name_or_path or "\0" in name_or_path:
        raise UserError(f"{name_or_path!r} is no corpus: give a name, a file, a folder, or {SAMPLE}.")
    path = Path(name_or_path).expanduser()
    candidates = [workspace.data / path, path] if path.name == name_or_path else [path]
    try:
        directory = next((folder for folder in candidates if (folder / MANIFEST).is_file()), None)
    except OSError as error:
        raise UserError(f"Cannot look up {shown(path)} ({error.strerror}): give another name or path.") from error
    return add_path(workspace, path, task) if directory is None else Corpus.open(directory)


def list_corpora(workspace: Workspace) -> tuple[list[Corpus], list[str]]:
    """Return all corpora by name, and in words what is wrong with those that cannot be opened."""
    folders = sorted(workspace.data.iterdir()) if workspace.data.is_dir() else []
    found: list[Corpus] = []
    damaged: list[str] = []
    for folder in folders:
        if not folder.name.startswith(".") and (folder / MANIFEST).is_file():
            try:
                found.append(Corpus.open(folder))
            except UserError as error:
                damaged.append(str(error))
    return found, damaged


def create_sample(workspace: Workspace, name: str, characters: int, seed: int, task: Task = NOBODY) -> Corpus:
    """Make a sample corpus of about so many characters; raises CorpusExists when the name is taken."""
    return Corpus.create(workspace, name, sample_source(characters, seed), task)


def sample_source(characters: int | None = None, seed: int = 0) -> DocumentSource:
    """Return the built-in stories and conversations as a source, of the usual size or another."""
    from minigpt.text import sample  # its word lists are not needed for other corpora

    characters = characters or sample.DEFAULT_CHARACTERS
    origin = f"built in, {characters} characters, seed {seed}"
    return DocumentSource("sample", origin, sample.documents(characters, seed))


def _sample(workspace: Workspace, task: Task) -> Corpus:
    directory = workspace.corpus_directory(SAMPLE)
    if (directory / MANIFEST).is_file():
        return Corpus.open(directory)
    try:
        corpus = Corpus.create(workspace, SAMPLE, sample_source(), task)
    except CorpusExists:
        return Corpus.open(directory)  # made by another process meanwhile
    return corpus.with_note(f"Made the built-in corpus: {corpus.manifest.characters:,} characters.")


def used_by(workspace: Workspace, name: str) -> list[str]:
    """Return the names of the runs at work on a corpus."""
    return [run for run in running_runs(workspace) if name in _corpora_of(workspace.run_directory(run))]


def _corpora_of(run: Path) -> list[str]:
    try:
        config: Config = read_file(run / "config.toml")
    except UserError:
        return []
    mixed = [entry.rpartition(":")[0] for entry in config.corpus.mixture]
    return mixed or [config.corpus.name]


def remove(workspace: Workspace, name: str) -> str:
    """Put a corpus out of sight; return the id by which `restore` brings it back. Raises UserError if there is none."""
    directory = workspace.corpus_directory(name)
    if not directory.is_dir():
        raise UserError(f"There is no corpus {name!r} to remove: `minigpt corpus list` shows those that are there.")
    removed = f"{name}{_MARK}{time.time_ns()}"
    target = workspace.data / REMOVED / removed
    target.parent.mkdir(exist_ok=True)
    # A run at work keeps its shards open: they live until it ends.
    directory.rename(target)
    return removed


def restore(workspace: Workspace, removed: str) -> Corpus:
    """Bring back what `remove` put out of sight, by its id or its name.

    Raises UserError when it is gone or its name is taken.
    """
    source = workspace.data / REMOVED / removed
    name = removed.rpartition(_MARK)[0]
    if not name:
        # Of several with that name, the one that was removed last.
        name = removed
        source = max(source.parent.glob(f"{glob.escape(removed)}{_MARK}*"), default=source)
    if source.parent != workspace.data / REMOVED or not source.is_dir():
        raise UserError(f"There is no removed corpus {printable(removed)!r}: it was purged, or brought back already.")
    directory = workspace.corpus_directory(name)
    if directory.exists():
        raise UserError(f"The name {name} is taken by another corpus: remove or rename that one first.")
    source.rename(directory)
    return Corpus.open(directory)


def purge(workspace: Workspace, removed: str | None = None) -> list[str]:
    """Delete removed corpora (or the one of that id) from the disk, and what killed additions left; name them."""
    folder = workspace.data / REMOVED
    found = sorted(path for path in folder.iterdir() if removed in (None, path.name)) if folder.is_dir() else []
    for path in found:
        shutil.rmtree(path)
    names = [path.name.rpartition(_MARK)[0] for path in found]
    if removed is None and (count := remove_all_abandoned(workspace.data)):
        names.append(f"{count} unfinished")
    return names
