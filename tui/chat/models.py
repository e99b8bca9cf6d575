"""Which models one may talk to, which of them is newer, and what to say to them first. All of it reads files."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from minigpt.runs import best_checkpoint, list_runs, newest_run, resume_checkpoint
from minigpt.text.documents import Document, Message, is_jsonl
from minigpt.text.manifest import DOCUMENTS, document_files
from minigpt.workspace import Workspace
from tui.chat.conversations import CONVERSATION

MAX_MODELS = 500
STARTERS = 3
_KINDS = {"best_model": "best", "final_model": "final", "interrupted_checkpoint": "interrupted"}
_READ_BYTES = 1 << 18
_READ_FILES = 8
_READ_SUFFIXES = (".txt", ".md", ".jsonl")
_MAX_PROMPT = 100
_FIRST_WORDS = 4


@dataclass(frozen=True)
class ModelChoice:
    """A checkpoint that one may talk to; `kind` says in a word which of its run's it is."""

    path: Path
    run: str
    kind: str
    step: int | None = None
    loss: float | None = None
    training: bool = False


def choice_of(path: Path) -> ModelChoice:
    """Return a checkpoint file as a choice, by its names alone."""
    return ModelChoice(path, path.parent.name or path.stem, _KINDS.get(path.stem, path.stem.replace("_", " ")))


def default_model(workspace: Workspace) -> ModelChoice | None:
    """Return the newest run's best model; where it has none yet, that of the newest run that has."""
    newest = newest_run(workspace)
    path = best_checkpoint(newest) if newest is not None else None
    if newest is None or path is not None:
        return choice_of(path) if path is not None else None
    found = (best_checkpoint(workspace.checkpoints / summary.run) for summary in list_runs(workspace))
    return next((choice_of(path) for path in found if path is not None), None)


def list_models(workspace: Workspace, training_run: str | None) -> list[ModelChoice]:
    """Return the checkpoints there are: the newest one of the run in training, then run by run, the best first."""
    found: list[ModelChoice] = []
    for summary in list_runs(workspace):
        directory = workspace.checkpoints / summary.run
        events = {Path(event["path"]).name: event for event in summary.saved_files()}
        paths = sorted(path for path in directory.glob("*.pt") if path.is_file() and not path.name.startswith("."))
        choices = []
        for path in paths:
            plain = choice_of(path)
            best = plain.kind == "best"
            step = events[path.name]["step"] if path.name in events else summary.best_step if best else None
            loss = summary.best_val_loss if best else None
            choices.append(ModelChoice(path, summary.run, plain.kind, step, loss))
        choices.sort(key=lambda one: (one.kind != "best", -(one.step or 0)))
        if summary.run == training_run and (newest := resume_checkpoint(directory)) is not None:
            step = next((one.step for one in choices if one.path == newest), None)
            found.insert(0, ModelChoice(newest, summary.run, "newest", step, training=True))
        found += choices
    return found[:MAX_MODELS]


def stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file is written anew; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def newer_checkpoint(path: Path, opened: tuple[int, int] | None, training: bool) -> Path | None:
    """Return a later checkpoint of the same run: the file written anew or, in training, the newest of its folder."""
    now = stamp(path)
    if opened is None or (now is not None and now != opened):
        return path if now is not None else None
    if not training:
        return None
    stamps = ((stamp(other), other) for other in path.parent.glob("*.pt") if not other.name.startswith("."))
    later = [(found, other) for found, other in stamps if found is not None and found[0] > opened[0]]
    # A file under two names is no news.
    later = [(found, other) for found, other in later if found[1] != opened[1]]
    return max(later)[1] if later else None


def starters(workspace: Workspace, corpus: str, mode: str) -> list[str]:
    """Return a few prompts from a corpus: first questions of its conversations, or first words of its texts.

    Reads a bounded part of a bounded number of files; what cannot be read gives no prompts.
    """
    directory = workspace.data / corpus  # an absolute path stays as it is
    try:
        files = document_files(directory / DOCUMENTS)[:_READ_FILES]
        documents = [document for path in files for document in _first_documents(path)]
    except (OSError, ValueError):
        return []
    prompts = dict.fromkeys(prompt for document in documents if (prompt := _prompt(document, mode)))
    return _spread(list(prompts))


def _first_documents(path: Path) -> Iterator[Document]:
    if path.suffix.lower() not in _READ_SUFFIXES:
        return  # tables, pages and packed files are for a process of their own
    with path.open("rb") as file:
        text = codecs.getincrementaldecoder("utf-8-sig")("ignore").decode(file.read(_READ_BYTES))
    if not is_jsonl(path):
        # A long text offers the beginnings of its parts.
        yield from (Document(text=part) for part in text.replace("\r\n", "\n").split("\n\n"))
        return
    for line in text.splitlines():
        try:
            found = msgspec.json.decode(line, type=_Line)
        except (msgspec.DecodeError, RecursionError):  # the last one may be cut
            continue
        yield Document(found.text or "", tuple(found.messages or ()))


class _Line(msgspec.Struct):
    text: str | None = None
    messages: list[Message] | None = None


def _prompt(document: Document, mode: str) -> str:
    if mode == CONVERSATION:
        first = next((message.content for message in document.messages if message.role == "user"), "")
        line = first.strip().partition("\n")[0]
        return line if len(line) <= _MAX_PROMPT else ""
    words = next((text for text in document.texts() if text.strip()), "").strip().partition("\n")[0].split(" ")
    return " ".join(words[:_FIRST_WORDS])[:_MAX_PROMPT].strip()


def _spread(prompts: list[str]) -> list[str]:
    """Return some from all over, not just the first."""
    count = min(STARTERS, len(prompts))
    return [prompts[index * len(prompts) // count] for index in range(count)]
