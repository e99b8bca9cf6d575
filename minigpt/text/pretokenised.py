"""Text that comes as tokens already: llm.c and modded-nanogpt shards, used as they are.

TokenSource([Path("fineweb_train_000001.bin"), Path("fineweb_val_000000.bin")], tokenizer)
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from minigpt.errors import UserError
from minigpt.readings import free_disk
from minigpt.tasks import Task
from minigpt.text.building import TOKENIZER_FILE, SplitRecord
from minigpt.text.corpus import Corpus
from minigpt.text.documents import Document
from minigpt.text.manifest import TOKENIZER, TOKENS, SourceRecord
from minigpt.text.shards import BLOCK_TOKENS, SPLITS, read_shard, shard_header, token_blocks
from minigpt.text.storage import shown
from minigpt.text.tokenizer import Tokenizer


class TokenSource:
    """Token shards; they are linked where the file system allows it, else copied.

    Raises UserError for a file that is no shard, or that holds a token which the tokenizer does not know.
    """

    kind = TOKENS

    def __init__(self, files: Sequence[Path], tokenizer: Tokenizer) -> None:
        self.files = sorted(files)
        self.tokenizer = tokenizer
        self.origin = shown(self.files[0].absolute())
        if len(self.files) > 1:
            self.origin += f" and {len(self.files) - 1} more"
        for path in self.files:
            read_shard(path)

    def write(self, folder: Path, task: Task) -> SourceRecord:
        total = sum(path.stat().st_size for path in self.files)
        done = 0
        for path in self.files:
            for tokens in token_blocks(read_shard(path)):
                if tokens.size and int(tokens.max()) >= self.tokenizer.vocab_size:
                    raise UserError(
                        f"{shown(path)} holds the token {int(tokens.max()):,}, and the tokenizer has "
                        f"{self.tokenizer.vocab_size:,}: name the tokenizer.json that made these shards."
                    )
                done += tokens.nbytes
                task.report("checking tokens", done, total, "bytes")
            link_or_copy(path, folder / path.name)
        # Beside the documents, where the corpus looks for it.
        self.tokenizer.save(folder.parent / TOKENIZER)
        return SourceRecord(self.kind, self.origin, [f"{len(self.files):,} shards, used as they are."])


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; where that is impossible (another disk), copy it if there is room."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        size = source.stat().st_size
        if size > free_disk(target.parent):
            raise UserError(
                f"{shown(source)} ({size / 1e6:,.0f} MB) does not fit into {shown(target.parent)}: make room there."
            ) from None
        shutil.copyfile(source, target)


def token_documents(files: Sequence[Path], tokenizer: Tokenizer) -> Iterator[Document]:
    """Yield the documents of token shards as text, one held in memory at a time."""
    waiting: list[np.ndarray] = []
    for path in files:
        for tokens in token_blocks(read_shard(path)):
            parts = np.split(tokens, np.flatnonzero(tokens == tokenizer.end_of_text))
            for number, part in enumerate(parts):
                if number:
                    yield from _decoded(waiting, tokenizer)
                    waiting, part = [], part[1:]
                waiting.append(part)
                if sum(map(len, waiting)) >= BLOCK_TOKENS:
                    # No end of text in sight: what there is makes a document, so that memory stays bounded.
                    yield from _decoded(waiting, tokenizer)
                    waiting = []
    yield from _decoded(waiting, tokenizer)


def _decoded(parts: Sequence[np.ndarray], tokenizer: Tokenizer) -> Iterator[Document]:
    text = tokenizer.decode(np.concatenate(parts)) if parts else ""
    if text:
        yield Document(text)


def link_shards(
    corpus: Corpus, folder: Path, validation_fraction: float, test_fraction: float, task: Task
) -> dict[str, SplitRecord]:
    """Lay a tokenised corpus's shards out as splits, in `folder`: those with "val" or "test" in their names are these.

    Where the names tell of no validation (or test) shards, the end of the text is cut off for them.
    """
    tokenizer = corpus.tokenizer()
    assert tokenizer is not None
    tokenizer.save(folder / TOKENIZER_FILE)
    named: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for path in corpus.files():
        named[_split_of(path.name)].append(path)
    if not named["train"]:
        named = {"train": corpus.files(), "validation": [], "test": []}
    tokens = sum(len(read_shard(path)) for path in named["train"])
    validation = 0 if named["validation"] else int(tokens * validation_fraction)
    test = 0 if named["test"] else int(tokens * test_fraction)
    ends = [tokens - validation - test, tokens - test, tokens]
    files: dict[str, list[Path]] = {split: [] for split in SPLITS}
    position = 0
    for path in named["train"]:
        length = len(read_shard(path))
        for split, begin, end in zip(SPLITS, [0, *ends], ends, strict=False):
            first, last = max(position, begin) - position, min(position + length, end) - position
            if first < last:
                files[split].append(_laid_out(path, first, last, folder / _name(split, len(files[split]))))
        position += length
    for split in SPLITS[1:]:
        for path in named[split]:
            files[split].append(_laid_out(path, 0, len(read_shard(path)), folder / _name(split, len(files[split]))))
    lengths = tokenizer.token_byte_lengths()
    return {split: _record(paths, lengths, task) for split, paths in files.items()}


def _split_of(name: str) -> str:
    words = set(re.split(r"[^a-z]+", name.lower()))
    return "validation" if words & {"val", "valid", "validation"} else "test" if "test" in words else "train"


def _name(split: str, number: int) -> str:
    return f"{split}_{number:06d}.bin"


def _laid_out(path: Path, first: int, last: int, target: Path) -> Path:
    """Make a shard of tokens first .. last of another: the same file where that is all of it."""
    tokens = read_shard(path)
    target.unlink(missing_ok=True)
    if (first, last) == (0, len(tokens)):
        link_or_copy(path, target)
        return target
    with target.open("wb") as file:
        file.write(shard_header(20240520 if tokens.itemsize == 2 else 20240801, last - first))
        for block in token_blocks(tokens[first:last]):
            file.write(np.ascontiguousarray(block).data)
    return target


def _record(paths: Sequence[Path], lengths: np.ndarray, task: Task) -> SplitRecord:
    tokens = size = 0
    for path in paths:
        for block in token_blocks(read_shard(path)):
            tokens += len(block)
            size += int(lengths[block].sum())
            task.report("counting tokens", tokens, None, "tokens")
    return SplitRecord([path.name for path in paths], [path.stat().st_size for path in paths], tokens, size)
