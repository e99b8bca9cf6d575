"""Making token shards in a folder that survives a kill: whoever comes next goes on from the last whole shard.

shards/.<key>.building/ holds the tokenizer, the cleaning's decisions, whole shards, and a journal that says how far the
text had been read when the last shard was finished.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from minigpt.errors import UserError
from minigpt.readings import free_disk
from minigpt.tasks import Task
from minigpt.text.counting import utf8_length
from minigpt.text.documents import Document
from minigpt.text.recipes import TokenizerRecipe
from minigpt.text.records import read_json
from minigpt.text.shard_writer import ShardsLost, ShardWriter, WriterState
from minigpt.text.shards import SPLITS
from minigpt.text.splits import SplitPlan
from minigpt.text.storage import shown, write_file
from minigpt.text.tokenizer import Tokenizer
from minigpt.workspace import sync_folder

TOKENIZER_FILE = "tokenizer.json"
JOURNAL = "journal.json"
# Fewer characters a token than any text we met has, so that the disk is judged too small rather than too large.
_CHARACTERS_PER_TOKEN = {"char": 1.0, "word": 3.0, "bpe": 2.5}
_SPARE_BYTES = 16 << 20


class SplitRecord(msgspec.Struct, frozen=True):
    """One split's shards. `bytes` counts the UTF-8 bytes of its text, for bits per byte."""

    files: list[str]
    sizes: list[int]
    tokens: int
    bytes: int


class _Journal(msgspec.Struct):
    """What is safe in the shards: so much of the text's copy (characters of a lone text, else documents)."""

    copy: int = 0
    position: int = 0
    text_bytes: dict[str, int] = {}
    writers: dict[str, WriterState] = {}


@dataclass(frozen=True)
class Dropout:
    """How the training text is cut in further copies of it."""

    share: float = 0.0
    copies: int = 1


@dataclass(frozen=True)
class _Step:
    """Some text on its way into the shards: `length` in characters or documents, its ids and UTF-8 bytes by split."""

    length: int
    parts: list[tuple[str, np.ndarray, int]]


def build(
    folder: Path, plan: SplitPlan, recipe: TokenizerRecipe, dropout: Dropout, task: Task, shard_tokens: int
) -> dict[str, SplitRecord]:
    """Write the shards of a plan into `folder`, going on from what lies there already; return what there is of each.

    Raises UserError when the disk has not enough room, OSError when it fills in the middle.
    """
    _require_room(folder, plan, recipe, dropout)
    tokenizer = _tokenizer(folder, plan, recipe, task)
    journal = _whole_journal(folder, tokenizer.vocab_size, shard_tokens)
    text_bytes: Counter[str] = Counter(journal.text_bytes)
    copies = dropout.copies if dropout.share else 1
    total = plan.corpus.manifest.bytes * (1 + plan.train_fraction * (copies - 1))
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(
                ShardWriter(folder, split, tokenizer.vocab_size, shard_tokens, journal.writers.get(split))
            )
            for split in SPLITS
        }
        task.report("tokenising", sum(text_bytes.values()), total, "bytes")
        for copy in range(journal.copy, copies):
            position = journal.position if copy == journal.copy else 0
            with tokenizer.dropout(dropout.share) if copy else nullcontext():
                for step in _steps(plan, tokenizer, ("train",) if copy else SPLITS, position):
                    finished = 0
                    for split, ids, size in step.parts:
                        finished += writers[split].add(ids)
                        text_bytes[split] += size
                    position += step.length
                    if finished:
                        states = {split: writer.sync() for split, writer in writers.items()}
                        _write_journal(folder, _Journal(copy, position, dict(text_bytes), states))
                    task.report("tokenising", sum(text_bytes.values()), total, "bytes")
    task.report("tokenised", total, total, "bytes")
    return {
        split: SplitRecord(
            files=[path.name for path in writer.paths],
            sizes=[path.stat().st_size for path in writer.paths],
            tokens=writer.tokens,
            bytes=text_bytes[split],
        )
        for split, writer in writers.items()
    }


def _require_room(folder: Path, plan: SplitPlan, recipe: TokenizerRecipe, dropout: Dropout) -> None:
    kind = recipe.given.kind if recipe.given else recipe.kind
    vocabulary = recipe.given.vocab_size if recipe.given else recipe.vocab_size
    tokens = plan.characters / _CHARACTERS_PER_TOKEN.get(str(kind), 2.0) * (dropout.copies if dropout.share else 1)
    needed = int(tokens) * (2 if vocabulary <= 1 << 16 else 4) + _SPARE_BYTES
    needed -= sum(path.stat().st_size for path in folder.glob("*.bin*"))
    free = free_disk(folder)
    if needed > free:
        raise UserError(
            f"The token shards of {plan.corpus.name} need about {needed / 1e6:,.0f} MB in {shown(folder.parent)}, "
            f"where {free / 1e6:,.0f} MB are free: make room there, or choose another folder with --workspace DIR."
        )


def _tokenizer(folder: Path, plan: SplitPlan, recipe: TokenizerRecipe, task: Task) -> Tokenizer:
    path = folder / TOKENIZER_FILE
    if not path.exists():
        recipe.make([plan], task).save(path)
    return Tokenizer.load(path)


def _read_journal(folder: Path) -> _Journal:
    try:
        return read_json(folder / JOURNAL, _Journal)
    except FileNotFoundError:
        return _Journal()


def _whole_journal(folder: Path, vocab_size: int, shard_tokens: int) -> _Journal:
    """Return how far an earlier process came, or the beginning where its shards are not what it says."""
    try:
        journal = _read_journal(folder)
        for split, state in journal.writers.items():
            ShardWriter(folder, split, vocab_size, shard_tokens, state).leave()
    except (ShardsLost, msgspec.DecodeError):
        (folder / JOURNAL).unlink()
        return _Journal()
    return journal


def _write_journal(folder: Path, journal: _Journal) -> None:
    # The shards that it counts must have their names before it says so.
    sync_folder(folder)
    write_file(folder / JOURNAL, msgspec.json.encode(journal))


def _steps(plan: SplitPlan, tokenizer: Tokenizer, splits: Sequence[str], position: int) -> Iterator[_Step]:
    """Yield the text of some splits from a position on, always in the same order."""
    return (_lone_steps if plan.lone else _document_steps)(plan, tokenizer, splits, position)


def _lone_steps(plan: SplitPlan, tokenizer: Tokenizer, splits: Sequence[str], skip: int) -> Iterator[_Step]:
    parts = _without_first(((split, text) for split, text in plan.lone_parts() if split in splits), skip)
    for split, group in itertools.groupby(parts, key=lambda part: part[0]):
        for text, ids in tokenizer.encode_parts(text for _, text in group):
            yield _Step(len(text), [(split, ids, utf8_length(text))])


def _without_first(parts: Iterable[tuple[str, str]], characters: int) -> Iterator[tuple[str, str]]:
    for split, text in parts:
        if characters < len(text):
            yield split, text[characters:]
        characters = max(0, characters - len(text))


def _document_steps(plan: SplitPlan, tokenizer: Tokenizer, splits: Sequence[str], skip: int) -> Iterator[_Step]:
    # The tokenizer reads ahead: the splits wait here for their documents' ids.
    waiting: deque[int] = deque()

    def documents() -> Iterator[Document]:
        wanted = ((split, document) for split, document in plan.documents() if split in splits)
        for split, document in itertools.islice(wanted, skip, None):
            waiting.append(splits.index(split))
            yield document

    for batch in tokenizer.encode_batches(documents()):
        belongs = np.array([waiting.popleft() for _ in batch.documents])
        sizes = np.array([sum(map(utf8_length, document.texts())) for document in batch.documents])
        of_token = np.repeat(belongs, batch.lengths)
        parts = [
            (split, batch.ids[of_token == number], int(sizes[belongs == number].sum()))
            for number, split in enumerate(splits)
        ]
        yield _Step(len(batch.documents), parts)
