"""A corpus as token shards on disk: `shards.toml`, which says what they are, the shards, and their tokenizer.

prepared = Prepared.open(directory, corpus, "Tokenizer: char, as asked for.")
prepared.split("train").read(0, 1000)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import tomlkit

from minigpt.errors import UserError
from minigpt.text.building import TOKENIZER_FILE, SplitRecord
from minigpt.text.corpus import Corpus
from minigpt.text.records import read_toml
from minigpt.text.shards import TokenSplit
from minigpt.text.storage import shown, write_file
from minigpt.text.tokenizer import Tokenizer

SHARDS_FILE = "shards.toml"


class ShardsManifest(msgspec.Struct, frozen=True):
    """What `shards.toml` says; it is written last. `notes` tell what cleaning left out."""

    splits: dict[str, SplitRecord]
    notes: list[str] = []


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
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, directory: Path, corpus: Corpus, tokenizer_note: str) -> Prepared:
        """Open a folder of shards; raises UserError when it is not whole."""
        manifest = complete_manifest(directory)
        if manifest is None:
            raise UserError(f"The token shards in {shown(directory)} are damaged: remove that folder and start again.")
        return cls(
            directory=directory,
            tokenizer=Tokenizer.load(directory / TOKENIZER_FILE),
            tokenizer_note=tokenizer_note,
            corpus=corpus,
            splits={split: [directory / name for name in record.files] for split, record in manifest.splits.items()},
            tokens={split: record.tokens for split, record in manifest.splits.items()},
            bytes={split: record.bytes for split, record in manifest.splits.items()},
            conversations=corpus.manifest.conversations > 0,
            notes=tuple(manifest.notes),
        )

    def split(self, name: str) -> TokenSplit:
        """Return one split's tokens, memory-mapped."""
        return TokenSplit.open(self.splits[name], name)


def complete_manifest(directory: Path) -> ShardsManifest | None:
    """Return what a folder of shards says of itself, or None when it is not there or not whole."""
    try:
        manifest = read_toml(directory / SHARDS_FILE, ShardsManifest)
        for record in manifest.splits.values():
            for name, size in zip(record.files, record.sizes, strict=True):
                if (directory / name).stat().st_size != size:
                    return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return manifest if (directory / TOKENIZER_FILE).is_file() else None


def write_manifest(directory: Path, manifest: ShardsManifest) -> None:
    """Write what a folder of shards holds, whole or not at all; when the shards themselves are safe on the disk."""
    write_file(directory / SHARDS_FILE, tomlkit.dumps(msgspec.to_builtins(manifest)).encode())
