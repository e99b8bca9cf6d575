"""Long texts in pieces that a tokenizer can work on side by side, with the same tokens as the whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
# No piece is longer: a text without any place to cut is not held whole, and the library needs 200 bytes a character.
LONGEST_PIECE = 4 * PIECE

# Where a text may be cut without changing its tokens: after newlines with a non-space on both sides (GPT-2's pattern
# allows only a single one), or, where none comes, between a letter and a space that a letter follows.
Cuts = tuple[re.Pattern[str], ...]
# Patterns that begin with a plain character are found seventy times as fast.
_SPACE_CUT = re.compile(r"[A-Za-z](?= [A-Za-z])")
OUR_CUTS: Cuts = (re.compile(r"\n(?<=\S\n)\n*(?=\S)"), _SPACE_CUT)
GPT2_CUTS: Cuts = (re.compile(r"\n(?<=\S\n)(?=\S)"), _SPACE_CUT)

# Where a text is cut that has no such place for LONGEST_PIECE characters, best first; each finds its last place.
# Before a space: most tokenizers keep it with the word that follows. Before a letter: never inside a composed one.
_FORCED_CUTS = tuple(re.compile(rf"(?s:.*){place}") for place in (r"\S(?= \S)", r"\n(?=\S)", r"(?=\w)"))

# How much of one word, one row of symbols or one stretch of blanks is learned from at a time.
_LONGEST_WORD = 1000
_LONG_WORD = re.compile(rf"[^\W\d_]{{{_LONGEST_WORD}}}|(?:_|[^\w\s]){{{_LONGEST_WORD}}}|\s{{{_LONGEST_WORD}}}")
_LONG_BLANK = re.compile(rf"\s{{{_LONGEST_WORD}}}")

T = TypeVar("T")
Result = TypeVar("Result")


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
    """Yield a text that comes in blocks in pieces; their borders have nothing to do with the blocks'.

    The tokens of the pieces are those of the whole, but where a text has no place to cut for LONGEST_PIECE characters
    (or the tokenizer is one for which no place is known to be safe). There it is cut before the last space, else after
    the last newline, else before the last letter or digit: a word or a run of letters may then be split into other
    tokens on both sides of that one place, and a tokenizer that begins every text with a mark puts one there too.
    """
    rest = ""
    for block in _gathered(blocks):
        text, start = rest + without_surrogates(block), 0
        while end := _cut_position(text, start, cuts):
            yield text[start:end]
            start = end
        rest = text[start:]
    if rest:
        yield rest


def _gathered(blocks: Iterable[str]) -> Iterator[str]:
    """Join small blocks, so that a text without places to cut is not searched anew with each of them."""
    waiting: list[str] = []
    size = 0
    for block in blocks:
        waiting.append(block)
        size += len(block)
        if size >= LONGEST_PIECE:
            yield "".join(waiting)
            waiting, size = [], 0
    yield "".join(waiting)


def _cut_position(text: str, start: int, cuts: Cuts) -> int | None:
    """Return where the piece that begins at `start` may end, or None where there is no such place yet."""
    smallest, largest = start + PIECE, start + LONGEST_PIECE
    # Look nearby first: the first kind of cut may be missing in all of a long text.
    for furthest in (smallest + PIECE, largest):
        for pattern in cuts:
            if match := pattern.search(text, smallest, furthest):
                return match.end()
    if len(text) <= largest:
        return None
    forced = (pattern.match(text, smallest, largest) for pattern in _FORCED_CUTS)
    return next((match.end() for match in forced if match and match.end() > smallest), largest)


def without_long_words(text: str) -> Iterator[str]:
    """Yield a text to learn tokens from, what is not made of words (a row of a million letters) in short parts.

    The time to learn from one word grows with the square of its length.
    """
    start = 0
    if max(map(len, text.split()), default=0) >= _LONGEST_WORD or _LONG_BLANK.search(text):
        for match in _LONG_WORD.finditer(text):
            yield text[start : match.end()]
            start = match.end()
    yield text[start:]


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


def ahead(items: Iterable[T], work: Callable[[T], Result]) -> Iterator[Result]:
    """Yield what `work` makes of each item; one is worked on in a thread while the one before is made use of."""
    with ThreadPoolExecutor(1, "ahead") as thread:
        waiting: Future[Result] | None = None
        for item in items:
            started = thread.submit(work, item)
            if waiting is not None:
                yield waiting.result()
            waiting = started
        if waiting is not None:
            yield waiting.result()
