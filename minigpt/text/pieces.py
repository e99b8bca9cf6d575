"""Long texts in pieces that a tokenizer can work on side by side, with the same tokens as the whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

# How text is split before the merges. Ours is Qwen2's (and so known to llama.cpp): digits one by one, newlines joined
# with the punctuation before them. The other is Llama 3's.
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_PATTERN = QWEN2_PATTERN.replace(r"\p{N}|", r"\p{N}{1,3}|")

# Pieces of this many characters are fastest; one long string takes ten times as long.
PIECE = 65_536
BATCH = 32 * PIECE

# Where a text may be cut without changing its tokens: after newlines with a non-space on both sides (GPT-2's pattern
# allows only a single one), or, where none comes, between a letter and a space that a letter follows.
Cuts = tuple[re.Pattern[str], ...]
_SPACE_CUT = re.compile(r"[A-Za-z](?= [A-Za-z])")
OUR_CUTS: Cuts = (re.compile(r"\S\n+(?=\S)"), _SPACE_CUT)
GPT2_CUTS: Cuts = (re.compile(r"\S\n(?=\S)"), _SPACE_CUT)

T = TypeVar("T")


def safe_cuts(kind: str, description: dict[str, Any]) -> Cuts:
    """Return the cuts that leave the tokens of a tokenizer.json as they are: none for one that we do not know."""
    if kind == "word":
        return OUR_CUTS
    normalizer = description.get("normalizer") or {"type": "NFC"}
    if kind != "bpe" or normalizer["type"] != "NFC":
        return ()
    byte_levels = [step for step in _pre_tokenizers(description) if step["type"] == "ByteLevel"]
    if len(byte_levels) != 1 or byte_levels[0]["add_prefix_space"]:
        return ()
    patterns = split_patterns(description)
    if byte_levels[0]["use_regex"]:
        return () if patterns else GPT2_CUTS
    return OUR_CUTS if len(patterns) == 1 and patterns[0] in (QWEN2_PATTERN, LLAMA3_PATTERN) else ()


def split_patterns(description: dict[str, Any]) -> list[str | None]:
    """Return the regular expressions by which a tokenizer.json splits text."""
    return [step["pattern"].get("Regex") for step in _pre_tokenizers(description) if step["type"] == "Split"]


def _pre_tokenizers(description: dict[str, Any]) -> list[dict[str, Any]]:
    step = description.get("pre_tokenizer") or {"type": None}
    return step["pretokenizers"] if step["type"] == "Sequence" else [step]


def cut(blocks: Iterable[str], cuts: Cuts) -> Iterator[str]:
    """Yield a text that comes in blocks in pieces; their borders have nothing to do with the blocks'."""
    rest = ""
    for block in blocks:
        text, start = rest + without_surrogates(block), 0
        while end := _cut_position(text, start, cuts):
            yield text[start:end]
            start = end
        rest = text[start:]
    if rest:
        yield rest


def _cut_position(text: str, start: int, cuts: Cuts) -> int | None:
    """Return where the piece that begins at `start` may end, or None where there is no such place."""
    smallest = start + PIECE
    # Look nearby first: the first kind of cut may be missing in all of a long text.
    for furthest in (smallest + PIECE, len(text)):
        for pattern in cuts:
            if match := pattern.search(text, smallest, furthest):
                return match.end()
    return None


def batches(items: Iterable[T], characters: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield items in lists of some millions of characters, so that memory stays bounded."""
    batch: list[T] = []
    size = 0
    for item in items:
        batch.append(item)
        size += characters(item)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def without_surrogates(text: str) -> str:
    """Return text that has a UTF-8 form: half characters (from undecodable arguments) become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
