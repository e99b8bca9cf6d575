"""What a run would read: how many tokens a corpus gives, from its shards where they are made, else by estimate.

reading = reading_of(workspace, config)
reading.train_tokens, reading.exact
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from pathlib import Path

import msgspec

from minigpt.config import Config
from minigpt.errors import UserError, printable
from minigpt.presets import with_values
from minigpt.text.building import TOKENIZER_FILE
from minigpt.text.corpus import Corpus
from minigpt.text.manifest import MANIFEST, Manifest
from minigpt.text.mixture import parse_mixture
from minigpt.text.prepare import shards_directory
from minigpt.text.prepared import complete_manifest
from minigpt.text.recipes import TokenizerRecipe
from minigpt.text.records import read_json, read_toml
from minigpt.text.sources import SAMPLE
from minigpt.text.tokenizer import Tokenizer
from minigpt.text.tokenizer_facts import tokenizer_path
from minigpt.text.tokenizer_kinds import SPECIAL_TOKENS
from minigpt.workspace import Workspace

# Of English text, roughly: a word and the space before it; and how a byte-pair token grows with the vocabulary
# (GPT-2's 50,257 tokens have about 4.4 bytes, 1,024 about 2.8).
_CHARACTERS_A_WORD = 4.5
_BYTES_A_TOKEN_SLOPE, _BYTES_A_TOKEN_START = 0.43, -0.2
_DISTINCT_CHARACTERS = 100
_STATISTICS = "statistics.json"


class Reading(msgspec.Struct, frozen=True):
    """The text of a run. `document_tokens` is the length of a usual document, None for a lone text."""

    corpus: str
    train_tokens: int
    exact: bool
    vocab_size: int
    document_tokens: int | None = None


class _Statistics(msgspec.Struct):
    median: int = 0
    distinct_characters: int = 0


class _Cached(msgspec.Struct):
    content_hash: str
    statistics: _Statistics


def chosen(config: Config, corpus: str | None) -> Config:
    """Return the configuration with this corpus in place of its own, as `--corpus` puts it there."""
    return config if corpus is None else with_values(config, {"corpus.name": corpus, "corpus.mixture": []}, "corpus")


def contents(workspace: Workspace, config: Config) -> list[str]:
    """Return hashes of what a run would read: of each corpus ("" where it is not there), and of a given tokenizer.

    Raises UserError as `reading_of` does.
    """
    corpora = (_open(workspace, name) for name in _names(config))
    found = [corpus.manifest.content_hash if corpus else "" for corpus in corpora]
    if config.tokenizer.file:
        path = tokenizer_path(workspace, config.tokenizer.file)
        try:
            found.append(hashlib.sha256(path.read_bytes()).hexdigest())
        except OSError:
            Tokenizer.load(path)  # which says what is wrong
    return found


def _names(config: Config) -> list[str]:
    mixture = config.corpus.mixture
    return [name for name, _ in parse_mixture(mixture)] if mixture else [config.corpus.name]


def usual_vocab_size(config: Config) -> int:
    """Return how many tokens to expect where nothing is known of the text."""
    if config.tokenizer.kind == "char":
        return _DISTINCT_CHARACTERS + len(SPECIAL_TOKENS)
    return config.tokenizer.vocab_size


def reading_of(workspace: Workspace, config: Config) -> Reading | None:
    """Return what a configuration would read; None where a corpus is not there yet. Changes nothing.

    Raises UserError where the configuration names a tokenizer or mixture that cannot be.
    """
    names = _names(config)
    corpora = [_open(workspace, name) for name in names]
    found = [corpus for corpus in corpora if corpus is not None]
    if len(found) < len(names):
        return None
    given = _load(tokenizer_path(workspace, config.tokenizer.file)) if config.tokenizer.file else None
    if len(found) == 1 and given is None and (exact := _from_shards(found[0], config)):
        return exact
    parts = [_estimated(corpus, config, given) for corpus in found]
    return Reading(
        corpus="+".join(part.corpus for part in parts),
        train_tokens=sum(part.train_tokens for part in parts),
        exact=False,
        vocab_size=max(part.vocab_size for part in parts),
        document_tokens=max((part.document_tokens for part in parts if part.document_tokens), default=None),
    )


def _open(workspace: Workspace, name: str) -> Corpus | None:
    """Return a corpus as its manifest has it: what was edited since is not counted again."""
    path = Path(name).expanduser()
    try:
        for folder in (workspace.data / path, path):
            if (folder / MANIFEST).is_file():
                return Corpus(folder, read_toml(folder / MANIFEST, Manifest))
        if name == SAMPLE:
            return Corpus(workspace.data / SAMPLE, _sample_to_be())
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise UserError(
            f"Cannot read the corpus {printable(name, single_line=True)} ({error}): remove it and add it again."
        ) from error
    return None


def _sample_to_be() -> Manifest:
    from minigpt.text import sample  # its word lists are not needed for other corpora

    size = sample.DEFAULT_CHARACTERS
    return Manifest(SAMPLE, "", [], documents=0, conversations=0, characters=size, bytes=size, content_hash="")


def _from_shards(corpus: Corpus, config: Config) -> Reading | None:
    directory, _ = shards_directory(corpus, config)
    manifest = complete_manifest(directory)
    if manifest is None:
        return None
    tokens = sum(split.tokens for split in manifest.splits.values())
    train = manifest.splits["train"].tokens
    vocab_size = _load(directory / TOKENIZER_FILE).vocab_size
    copies = config.corpus.bpe_dropout_copies if config.corpus.bpe_dropout else 1
    held_out = tokens - train
    a_character = (held_out + train / copies) / max(1, corpus.manifest.characters)
    return Reading(corpus.name, train, True, vocab_size, _document_tokens(corpus, a_character))


def _load(path: Path) -> Tokenizer:
    try:
        return _loaded(path, path.stat().st_mtime_ns)
    except OSError:
        return Tokenizer.load(path)  # which says what is wrong


@lru_cache(maxsize=8)
def _loaded(path: Path, changed: int) -> Tokenizer:
    return Tokenizer.load(path)


def _estimated(corpus: Corpus, config: Config, given: Tokenizer | None) -> Reading:
    settings, manifest = config.corpus, corpus.manifest
    given = given or corpus.tokenizer()
    recipe = TokenizerRecipe.choose(given, config.tokenizer.kind, config.tokenizer.vocab_size, manifest.characters)
    kind, vocab_size = (given.kind if given else recipe.kind), recipe.vocab_size
    if kind == "char":
        tokens = float(manifest.characters)
        statistics = _statistics(corpus)
        distinct = statistics.distinct_characters if statistics else _DISTINCT_CHARACTERS
        vocab_size = vocab_size or distinct + len(SPECIAL_TOKENS)
    elif kind == "word":
        tokens = manifest.characters / _CHARACTERS_A_WORD
    else:
        tokens = manifest.bytes / max(1.0, _BYTES_A_TOKEN_SLOPE * math.log(vocab_size) + _BYTES_A_TOKEN_START)
    kept = 1 - settings.validation_fraction - settings.test_fraction
    copies = settings.bpe_dropout_copies if settings.bpe_dropout else 1
    a_character = tokens / max(1, manifest.characters)
    train = int(tokens * kept * copies)
    return Reading(corpus.name, train, False, vocab_size, _document_tokens(corpus, a_character))


def _document_tokens(corpus: Corpus, tokens_a_character: float) -> int | None:
    """Return the length of the middle document where it was counted, else of the average one."""
    documents = corpus.manifest.documents
    if documents < 2:
        return None
    statistics = _statistics(corpus)
    characters = statistics.median if statistics else corpus.manifest.characters / documents
    return max(1, round(characters * tokens_a_character))


def _statistics(corpus: Corpus) -> _Statistics | None:
    """Return what `minigpt corpus stats` has left beside the corpus, where it is of this content."""
    try:
        cached = read_json(corpus.directory / _STATISTICS, _Cached)
    except (OSError, msgspec.DecodeError):
        return None
    return cached.statistics if cached.content_hash == corpus.manifest.content_hash else None
