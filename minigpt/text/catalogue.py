"""Good first corpora by short name, as `catalogue.toml` beside this file lists them.

entry("tinystories").source     # "hf:roneneldan/TinyStories"
"""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path

import msgspec

from minigpt.errors import UserError, printable

_FILE = Path(__file__).with_name("catalogue.toml")


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One corpus: where it lies, about how large it is, what it is good for; sources as `corpus add` takes them."""

    name: str = ""
    title: str
    source: str
    config: str | None = None
    split: str = "train"
    field: str = ""
    fallbacks: list[str] = []
    stands_for: list[str] = []  # data sets that cannot be opened by their own name, of which this is a copy
    size: str
    bytes: int  # of text
    tokens: int  # of a BPE vocabulary of some 50,000
    target_tokens: str = "all"  # how many to take unless told otherwise, as --target-tokens has it
    licence: str
    good_for: str
    presets: list[str]
    how: str


@cache
def _entries() -> tuple[Entry, ...]:
    read = msgspec.toml.decode(_FILE.read_bytes(), type=dict[str, Entry])
    return tuple(msgspec.structs.replace(found, name=name) for name, found in read.items())


def catalogue() -> list[Entry]:
    """Return all entries, the smallest first."""
    return list(_entries())


def entry(name: str) -> Entry:
    """Return the entry of that name; raises UserError naming those nearest to it."""
    by_name = {found.name: found for found in _entries()}
    if name.lower() in by_name:
        return by_name[name.lower()]
    near = difflib.get_close_matches(name.lower(), by_name, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UserError(
        f"The catalogue has no corpus {printable(name, single_line=True)!r}: {hint}It has {', '.join(by_name)}."
    )
