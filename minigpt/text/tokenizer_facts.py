"""Which tokenizer a name means, and what there is to know of it: its tokens, and how far they reach in real text.

tokenizer = load_tokenizer(workspace, "first")          # a run, a corpus, or a tokenizer.json
facts = describe(tokenizer)
figures = measure(tokenizer, reference_text(corpus))    # characters a token, share of unknown tokens, ...
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from minigpt.errors import UserError, printable
from minigpt.text.corpus import Corpus
from minigpt.text.manifest import MANIFEST
from minigpt.text.storage import shown
from minigpt.text.tokenizer import Tokenizer
from minigpt.text.tokenizer_training import corpus_texts, spread
from minigpt.workspace import Workspace

TOKENIZER_FILE = "tokenizer.json"
TOKENIZERS = "tokenizers"
# Larger than any tokenizer.json we know: what is larger is another file, named by mistake.
_LARGEST_FILE = 256 << 20

_REFERENCE_CHARACTERS = 1_000_000
_SAMPLE_CHARACTERS = 200_000
# A text is measured by an even sample of its first part, which takes seconds however long it is.
_REFERENCE_PART = 50_000_000
_SHOWN_TOKENS = 10
_SHOWN_SPECIAL_TOKENS = 100
_SHOWN_CHARACTERS = 60


# -- which tokenizer


def load_tokenizer(workspace: Workspace, name_or_path: str) -> Tokenizer:
    """Open the tokenizer that a name means, as `tokenizer_path` finds it; raises UserError."""
    return Tokenizer.load(tokenizer_path(workspace, name_or_path))


def tokenizer_path(workspace: Workspace, name_or_path: str) -> Path:
    """Return the tokenizer.json of that path, of the folder of that path, of that run, or of that corpus.

    A corpus's is that of its newest shards. Of a run and a corpus of one name the run's is meant. Raises UserError
    when there is none.
    """
    # A home folder that does not exist stays as it was written.
    path = Path(os.path.expanduser(name_or_path))  # noqa: PTH111 - Path.expanduser raises there
    if not path.name:
        raise UserError(_advice(workspace, name_or_path, None))
    is_name = path.name == name_or_path
    run, corpus = (workspace.checkpoints / path, workspace.data / path) if is_name else (path, path)
    try:
        if path.is_file():
            return _not_too_large(path)
        found = next((file for file in (run / TOKENIZER_FILE, path / TOKENIZER_FILE) if file.is_file()), None)
        found = found or next(_tokenizers_of(corpus), None)
        is_corpus = (corpus / MANIFEST).is_file()
    except OSError as error:
        raise UserError(f"Cannot look up {shown(path)} ({error.strerror}): give another name or path.") from error
    except ValueError:  # no path may hold a NUL
        found, is_corpus = None, False
    if found is None:
        raise UserError(_advice(workspace, name_or_path, corpus if is_corpus else None))
    return _not_too_large(found)


def _tokenizers_of(corpus: Path) -> Iterator[Path]:
    """Yield the tokenizers of a corpus's token shards, the newest first; else the one that it came with."""
    files = [file for file in corpus.glob(f"shards/*/{TOKENIZER_FILE}") if not file.parent.name.startswith(".")]
    yield from sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)
    if (corpus / TOKENIZER_FILE).is_file():
        yield corpus / TOKENIZER_FILE


def _advice(workspace: Workspace, name: str, corpus: Path | None) -> str:
    told = f"'{printable(name[:_SHOWN_CHARACTERS], single_line=True)}'"
    if corpus is None:
        known = [folder.parent.name for folder in workspace.checkpoints.glob(f"*/{TOKENIZER_FILE}")]
        known += [folder.parent.name for folder in workspace.data.glob(f"*/{MANIFEST}")]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" Did you mean {printable(near[0], single_line=True)!r}?" if near else ""
        return f"{told} is no tokenizer: name a run, a corpus that is prepared, or a tokenizer.json.{hint}"
    made = sorted(corpus.glob(f"{TOKENIZERS}/*.json"))
    other = f", or name the one in {shown(made[0])}" if made else f", or make one with `minigpt tokenizer train {name}`"
    return f"The corpus {name} is not prepared yet: run `minigpt corpus prepare {name}`{other}."


def _not_too_large(path: Path) -> Path:
    if path.stat().st_size > _LARGEST_FILE:
        raise UserError(f"{shown(path)} is too large for a tokenizer.json: name another file, a run or a corpus.")
    return path.absolute()


# -- what there is to know of it


class TokenText(msgspec.Struct, frozen=True):
    """A token as a terminal may see it (its beginning, when it is long), and how many characters it has."""

    id: int
    text: str
    characters: int


class Facts(msgspec.Struct, frozen=True):
    """What a tokenizer is. `kind`: char, word, bpe or other; `model`: the make, such as BPE or Unigram.

    `vocab_size` is the largest id plus one; `merges` are the first that were learned, as (left, right).
    """

    kind: str
    model: str
    vocab_size: int
    special_tokens: list[str]
    special_count: int
    longest_tokens: list[TokenText]
    merges: list[tuple[str, str]]


class Frequent(msgspec.Struct, frozen=True):
    """A token and its share of all tokens of a text (0 to 1)."""

    id: int
    text: str
    share: float


class Figures(msgspec.Struct, frozen=True):
    """How a tokenizer does on a text; the ratios are None where it has no tokens. `unknown_rate` is from 0 to 1."""

    measured_on: str
    characters: int
    bytes: int
    tokens: int
    characters_per_token: float | None
    bytes_per_token: float | None
    unknown_rate: float
    most_frequent: list[Frequent]


@dataclass(frozen=True)
class ReferenceText:
    """What tokenizers are measured on: texts, and in words what they are."""

    name: str
    texts: list[str]


def describe(tokenizer: Tokenizer) -> Facts:
    """Return what a tokenizer is, by its vocabulary alone."""
    special = [i for i in range(tokenizer.vocab_size) if tokenizer.is_special(i)]
    model: dict[str, Any] = json.loads(tokenizer.to_json())["model"]
    return Facts(
        kind=tokenizer.kind,
        model=str(model["type"]),
        vocab_size=tokenizer.vocab_size,
        special_tokens=[_short(tokenizer.token_text(i)) for i in special[:_SHOWN_SPECIAL_TOKENS]],
        special_count=len(special),
        longest_tokens=_longest_tokens(tokenizer),
        merges=[(_short(left), _short(right)) for left, right in _first_merges(tokenizer, model)],
    )


def measure(tokenizer: Tokenizer, reference: ReferenceText) -> Figures:
    """Cut a text into tokens and return the figures."""
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    for text in reference.texts:
        ids = tokenizer.encode_array(text)
        counts += np.bincount(ids, minlength=tokenizer.vocab_size)
    tokens = int(counts.sum())
    characters = sum(map(len, reference.texts))
    size = sum(len(text.encode("utf-8", "replace")) for text in reference.texts)
    commonest = [int(i) for i in np.argsort(-counts, kind="stable")[:_SHOWN_TOKENS] if counts[i]]
    return Figures(
        measured_on=reference.name,
        characters=characters,
        bytes=size,
        tokens=tokens,
        characters_per_token=characters / tokens if tokens else None,
        bytes_per_token=size / tokens if tokens else None,
        unknown_rate=0.0 if tokenizer.unknown is None or not tokens else float(counts[tokenizer.unknown] / tokens),
        most_frequent=[Frequent(i, _short(tokenizer.token_text(i)), float(counts[i] / tokens)) for i in commonest],
    )


def reference_text(corpus: Corpus | None = None) -> ReferenceText:
    """Return up to a million characters of a corpus, spread evenly, else some of the built-in sample."""
    if corpus is None:
        from minigpt.text import sample  # its word lists are not needed for other texts

        documents = sample.documents(_SAMPLE_CHARACTERS, seed=1)
        return ReferenceText("the built-in sample text", [text for made in documents for text in made.texts()])
    part = min(corpus.manifest.characters, _REFERENCE_PART)
    texts = _first_characters(corpus_texts(corpus), part)
    return ReferenceText(f"the corpus {corpus.name}", list(spread(texts, part, _REFERENCE_CHARACTERS)))


def _first_characters(texts: Iterator[str], characters: int) -> Iterator[str]:
    for text in texts:
        yield text[:characters]
        characters -= len(text)
        if characters <= 0:
            return


def _longest_tokens(tokenizer: Tokenizer) -> list[TokenText]:
    lengths = [len(tokenizer.token_bytes(i).decode("utf-8", "replace")) for i in range(tokenizer.vocab_size)]
    longest = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))[:_SHOWN_TOKENS]
    return [TokenText(i, _short(tokenizer.token_text(i)), lengths[i]) for i in longest if lengths[i]]


def _first_merges(tokenizer: Tokenizer, model: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for merge in islice(model.get("merges") or (), _SHOWN_TOKENS):
        # Written as a list by new versions of the library, as "left right" by old ones.
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield tokenizer.token_text(model["vocab"][left]), tokenizer.token_text(model["vocab"][right])


def _short(text: str) -> str:
    text = printable(text, single_line=True)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
