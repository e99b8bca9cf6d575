"""From a corpus to token shards, once: `resolve` finds the corpus, `prepare` tokenises it or finds it done.

The shards lie in `data/<corpus>/shards/<key>/`, where the key is the hash of all that they depend on; `shards.toml`
says what they are, and the tokenizer.json beside them is the one that made them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import tomlkit

from minigpt.config import Config
from minigpt.errors import UserError
from minigpt.text.corpus import MANIFEST, Corpus, CorpusExists
from minigpt.text.documents import Document
from minigpt.text.shards import ShardWriter, TokenSplit
from minigpt.text.sources import DocumentSource, add_path
from minigpt.text.splits import SPLITS, SplitPlan
from minigpt.text.storage import atomic_directory, shown, write_file
from minigpt.text.tokenizer import Tokenizer, choose_kind, fitting_vocab_size
from minigpt.workspace import Workspace

SAMPLE = "sample"
TOKENIZER_FILE = "tokenizer.json"
SHARDS_FILE = "shards.toml"
# Raised whenever the same settings give other shards than before.
_FORMAT_VERSION = 1

# A BPE or word tokenizer learns from so many characters at most, taken evenly from all of the training split.
_TRAINING_CHARACTERS = 100_000_000
Progress = Callable[[str, float], None]


class SplitRecord(msgspec.Struct, frozen=True):
    """One split's shards. `bytes` counts the UTF-8 bytes of its text, for bits per byte."""

    files: list[str]
    sizes: list[int]
    tokens: int
    bytes: int


class ShardsManifest(msgspec.Struct, frozen=True):
    """What `shards.toml` says; it is written last."""

    splits: dict[str, SplitRecord]


@dataclass(frozen=True)
class Prepared:
    """A tokenised corpus. `splits`, `tokens` and `bytes` have the keys train, validation and test."""

    directory: Path
    tokenizer: Tokenizer
    tokenizer_note: str
    corpus: Corpus
    splits: dict[str, list[Path]]
    tokens: dict[str, int]
    bytes: dict[str, int]
    conversations: bool

    def split(self, name: str) -> TokenSplit:
        """Return one split's tokens, memory-mapped."""
        return TokenSplit.open(self.splits[name], name)


def resolve(workspace: Workspace, name_or_path: str) -> Corpus:
    """Return the corpus of that name, or the one of a file or folder, which is added when it is not there yet.

    "sample" is the built-in corpus, made on first use. The corpus's note says what was done. Raises UserError when
    there is nothing of that name or it holds no text.
    """
    if name_or_path == SAMPLE:
        return _sample(workspace)
    if not name_or_path or "\0" in name_or_path:
        raise UserError(f"{name_or_path!r} is no corpus: give a name, a file, a folder, or {SAMPLE}.")
    path = Path(name_or_path).expanduser()
    candidates = [workspace.data / path, path] if path.name == name_or_path else [path]
    try:
        directory = next((folder for folder in candidates if (folder / MANIFEST).is_file()), None)
    except OSError as error:
        raise UserError(f"Cannot look up {shown(path)} ({error.strerror}): give another name or path.") from error
    return add_path(workspace, path) if directory is None else Corpus.open(directory)


def create_sample(workspace: Workspace, name: str, characters: int, seed: int) -> Corpus:
    """Make a sample corpus of about so many characters; raises CorpusExists when the name is taken."""
    from minigpt.text import sample  # its word lists are not needed for other corpora

    origin = f"built in, {characters} characters, seed {seed}"
    return Corpus.create(workspace, name, DocumentSource("sample", origin, sample.documents(characters, seed)))


def _sample(workspace: Workspace) -> Corpus:
    from minigpt.text import sample

    directory = workspace.corpus_directory(SAMPLE)
    if (directory / MANIFEST).is_file():
        return Corpus.open(directory)
    try:
        corpus = create_sample(workspace, SAMPLE, sample.DEFAULT_CHARACTERS, 0)
    except CorpusExists:
        return Corpus.open(directory)  # made by another process meanwhile
    return corpus.with_note(f"Made the built-in corpus: {corpus.manifest.characters:,} characters.")


def prepare(
    corpus: Corpus,
    *,
    tokenizer_kind: str,
    vocab_size: int,
    validation_fraction: float,
    test_fraction: float,
    tokenizer: Tokenizer | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Return the corpus's token shards, making them when they are not there or anything they depend on changed.

    A lone text is split by position: train first, then validation, then test, without joins. Several documents are
    split by a hash of what each says, so that a document stays in its split when others are added. Without a
    `tokenizer` one is trained: char on the whole corpus (so that no character of the validation part is unknown), word
    and bpe on the train split. `progress` is called with a phase and how much of it is done (0 to 1). Raises UserError
    when the fractions leave nothing to train on or the vocabulary is too small.
    """
    if not (validation_fraction >= 0 and test_fraction >= 0 and validation_fraction + test_fraction < 1):
        raise UserError(
            f"validation_fraction {validation_fraction} and test_fraction {test_fraction} leave nothing to train on: "
            "choose fractions from 0 to 1 that add up to less than 1."
        )
    plan = SplitPlan(corpus, validation_fraction, test_fraction)
    recipe = _TokenizerRecipe.choose(tokenizer, tokenizer_kind, vocab_size, corpus.manifest.characters)
    directory = corpus.directory / "shards" / _key(corpus, validation_fraction, test_fraction, recipe)
    if _complete_manifest(directory) is None:
        try:
            _build(directory, plan, recipe, _throttled(progress))
        except FileExistsError:
            pass  # another process made the same shards meanwhile
    return _open(directory, corpus, recipe.note)


def prepare_for(
    corpus: Corpus, config: Config, tokenizer_json: str | None = None, progress: Progress | None = None
) -> Prepared:
    """Tokenise a corpus as a configuration says, with a tokenizer of its own or (its JSON) that of a model."""
    settings, fractions = config.tokenizer, (config.corpus.validation_fraction, config.corpus.test_fraction)
    tokenizer = None
    if tokenizer_json is not None:
        # The shards that the model was trained on are under the key of a trained tokenizer, if they are here.
        recipe = _TokenizerRecipe.choose(None, settings.kind, settings.vocab_size, corpus.manifest.characters)
        directory = corpus.directory / "shards" / _key(corpus, *fractions, recipe)
        if _complete_manifest(directory) is not None:
            found = _open(directory, corpus, recipe.note)
            if found.tokenizer.to_json() == tokenizer_json:
                return found
        tokenizer = Tokenizer.from_json(tokenizer_json)
    return prepare(
        corpus,
        tokenizer_kind=settings.kind,
        vocab_size=settings.vocab_size,
        validation_fraction=fractions[0],
        test_fraction=fractions[1],
        tokenizer=tokenizer,
        progress=progress,
    )


@dataclass(frozen=True)
class _TokenizerRecipe:
    """A tokenizer that is given, or how to train one."""

    given: Tokenizer | None
    kind: str
    vocab_size: int
    note: str

    @classmethod
    def choose(cls, given: Tokenizer | None, kind: str, vocab_size: int, characters: int) -> _TokenizerRecipe:
        if given is not None:
            return cls(given, given.kind, given.vocab_size, f"Tokenizer: {given.kind}, as given.")
        chosen, note = choose_kind(kind, characters)
        if chosen == "char":
            return cls(None, chosen, 0, note)
        fitting = fitting_vocab_size(vocab_size, characters) if chosen == "bpe" else vocab_size
        if fitting < vocab_size:
            note += f" Its vocabulary is {fitting:,} instead of {vocab_size:,}, because rarer tokens are not learned."
        return cls(None, chosen, fitting, note)

    def make(self, plan: SplitPlan, progress: Progress) -> Tokenizer:
        if self.given is not None:
            return self.given
        characters = plan.corpus.manifest.characters
        if self.kind == "char":
            texts = _watched(plan.texts(SPLITS), characters, "reading characters", progress)
            return Tokenizer.train("char", texts, 0)
        texts = _watched(plan.texts(("train",)), characters * plan.train_fraction, "training the tokenizer", progress)
        sample = _every_nth(texts, -(-characters // _TRAINING_CHARACTERS))
        return Tokenizer.train("bpe" if self.kind == "bpe" else "word", sample, self.vocab_size)


def _watched(texts: Iterable[str], expected: float, phase: str, progress: Progress) -> Iterator[str]:
    done = 0
    for text in texts:
        done += len(text)
        progress(phase, min(1.0, done / expected))
        yield text


def _throttled(progress: Progress | None) -> Progress:
    """Pass on what a watcher can see: the beginning of a phase and each further percent."""
    last = ("", 0.0)

    def report(phase: str, done: float) -> None:
        nonlocal last
        news = phase != last[0] or done >= last[1] + 0.01 or done == 1 > last[1]
        if progress and news:
            last = (phase, done)
            progress(phase, done)

    return report


def _every_nth(texts: Iterable[str], n: int) -> Iterator[str]:
    """Yield every n-th part of the texts, in slices small enough to be spread evenly."""
    slices = (text[i : i + 65_536] for text in texts for i in range(0, len(text), 65_536)) if n > 1 else iter(texts)
    return itertools.islice(slices, 0, None, n)


def _key(corpus: Corpus, validation_fraction: float, test_fraction: float, recipe: _TokenizerRecipe) -> str:
    given = recipe.given.to_json() if recipe.given else [recipe.kind, recipe.vocab_size]
    settings = [_FORMAT_VERSION, corpus.manifest.content_hash, validation_fraction, test_fraction, given]
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]


def _build(directory: Path, plan: SplitPlan, recipe: _TokenizerRecipe, progress: Progress) -> None:
    if directory.exists() and _complete_manifest(directory) is None:
        shutil.rmtree(directory)  # shards get their name when they are whole: these were damaged later
    with atomic_directory(directory) as building:
        tokenizer = recipe.make(plan, progress)
        tokenizer.save(building / TOKENIZER_FILE)
        text_bytes: Counter[str] = Counter()
        with ExitStack() as stack:
            writers = {
                split: stack.enter_context(ShardWriter(building, split, tokenizer.vocab_size)) for split in SPLITS
            }
            encode = _encode_lone_text if plan.corpus.is_lone_text else _encode_documents
            for split, ids in encode(plan, tokenizer, text_bytes):
                writers[split].add(ids)
                progress("tokenising", sum(text_bytes.values()) / plan.corpus.manifest.bytes)
        records = {
            split: SplitRecord(
                files=[path.name for path in writer.paths],
                sizes=[path.stat().st_size for path in writer.paths],
                tokens=writer.tokens,
                bytes=text_bytes[split],
            )
            for split, writer in writers.items()
        }
        manifest = ShardsManifest(records)
        write_file(building / SHARDS_FILE, tomlkit.dumps(msgspec.to_builtins(manifest)).encode())


def _encode_lone_text(
    plan: SplitPlan, tokenizer: Tokenizer, text_bytes: Counter[str]
) -> Iterator[tuple[str, np.ndarray]]:
    def counted(split: str, parts: Iterable[tuple[str, str]]) -> Iterator[str]:
        for _, text in parts:
            text_bytes[split] += len(text.encode())
            yield text

    for split, parts in itertools.groupby(plan.lone_parts(), key=lambda part: part[0]):
        for ids in tokenizer.encode_stream(counted(split, parts)):
            yield split, ids


def _encode_documents(
    plan: SplitPlan, tokenizer: Tokenizer, text_bytes: Counter[str]
) -> Iterator[tuple[str, np.ndarray]]:
    # The tokenizer reads ahead: the splits wait here for their documents' ids.
    splits: deque[str] = deque()

    def documents() -> Iterator[Document]:
        for split, document in plan.documents():
            splits.append(split)
            text_bytes[split] += sum(len(text.encode()) for text in document.texts())
            yield document

    for ids in tokenizer.encode_documents(documents()):
        yield splits.popleft(), ids


def _complete_manifest(directory: Path) -> ShardsManifest | None:
    """Return what a folder of shards says of itself, or None when it is not there or not whole."""
    try:
        manifest = msgspec.toml.decode((directory / SHARDS_FILE).read_bytes(), type=ShardsManifest)
        for record in manifest.splits.values():
            for name, size in zip(record.files, record.sizes, strict=True):
                if (directory / name).stat().st_size != size:
                    return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return manifest if (directory / TOKENIZER_FILE).is_file() else None


def _open(directory: Path, corpus: Corpus, tokenizer_note: str) -> Prepared:
    manifest = _complete_manifest(directory)
    if manifest is None:
        raise UserError(f"The token shards in {shown(directory)} are damaged: remove that folder and start again.")
    return Prepared(
        directory=directory,
        tokenizer=Tokenizer.load(directory / TOKENIZER_FILE),
        tokenizer_note=tokenizer_note,
        corpus=corpus,
        splits={split: [directory / name for name in record.files] for split, record in manifest.splits.items()},
        tokens={split: record.tokens for split, record in manifest.splits.items()},
        bytes={split: record.bytes for split, record in manifest.splits.items()},
        conversations=corpus.manifest.conversations > 0,
    )
