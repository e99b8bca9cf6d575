"""The three kinds of tokenizer as objects of the `tokenizers` library: how they are made, told apart and chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from minigpt.errors import UserError
from minigpt.text.pieces import OUR_CUTS, QWEN2_PATTERN, cut, split_patterns, without_long_words

SPECIAL_TOKENS: tuple[str, ...] = ("<|endoftext|>", "<|unk|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>")
BYTE_ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
SMALLEST_BPE = len(SPECIAL_TOKENS) + len(BYTE_ALPHABET)

Kind = Literal["char", "word", "bpe"]
KINDS: tuple[Kind, ...] = ("char", "word", "bpe")

# Below this many characters a text is learned best by character.
_TINY_CORPUS = 2_000_000
# A BPE token should occur often enough to be learned: one vocabulary entry for so many characters of text.
_CHARACTERS_PER_BPE_TOKEN = 256

# A word with the space before it, one digit, one other character: every character belongs to exactly one of them.
_WORD = r" ?[\p{L}\p{M}]+(?:['’]\p{L}+)*| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]|\s"

# So many code points and their ids stay in the processor's cache while they are looked up.
_CODE_POINTS = 16_384


def choose_kind(kind: str, characters: int) -> tuple[Kind, str]:
    """Return the kind of tokenizer for a text of so many characters, and why in one sentence."""
    for known in KINDS:
        if kind == known:
            return known, f"Tokenizer: {known}, as asked for."
    assert kind == "auto", kind
    if characters < _TINY_CORPUS:
        return "char", f"Tokenizer: char, because {characters:,} characters are too few to learn longer tokens from."
    return "bpe", f"Tokenizer: bpe, because {characters:,} characters are enough to learn longer tokens from."


def fitting_vocab_size(asked: int, characters: int) -> int:
    """Return the BPE vocabulary for a text: what was asked for, or less where its tokens would be too rare."""
    fitting = max(2 * len(BYTE_ALPHABET), characters // _CHARACTERS_PER_BPE_TOKEN // 64 * 64)
    return min(asked, fitting)


def trained_core(kind: Kind, texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Return a tokenizer of a kind, learned from texts; raises UserError when `vocab_size` is too small for it."""
    special_tokens = [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    if kind == "char":
        return _char_core(texts, special_tokens)
    smallest = SMALLEST_BPE if kind == "bpe" else len(SPECIAL_TOKENS) + 1
    if vocab_size < smallest:
        raise UserError(f"A {kind} tokenizer needs a vocabulary of at least {smallest}: raise tokenizer.vocab_size.")
    core = _bpe_core() if kind == "bpe" else _word_core()
    trainer = (
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=special_tokens,
            initial_alphabet=BYTE_ALPHABET,
            show_progress=False,
        )
        if kind == "bpe"
        else trainers.WordLevelTrainer(vocab_size=vocab_size, special_tokens=special_tokens, show_progress=False)
    )
    pieces = (part for text in texts for piece in cut([text], OUR_CUTS) for part in without_long_words(piece))
    core.train_from_iterator(pieces, trainer)
    return core


def _char_core(texts: Iterable[str], special_tokens: list[AddedToken]) -> tokenizers.Tokenizer:
    tokens = [*SPECIAL_TOKENS, *map(chr, _occurring(texts))]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    # BPE without merges: each character is its own token.
    core = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<|unk|>", fuse_unk=False))
    core.decoder = decoders.Fuse()
    core.add_special_tokens(special_tokens)
    return core


def _word_core() -> tokenizers.Tokenizer:
    core = tokenizers.Tokenizer(models.WordLevel(unk_token="<|unk|>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD), "isolated")
    core.decoder = decoders.Fuse()
    return core


def _bpe_core() -> tokenizers.Tokenizer:
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    return core


def kind_of(description: dict[str, Any]) -> str:
    model, decoder = description["model"], (description.get("decoder") or {}).get("type")
    if model["type"] == "BPE" and decoder == "ByteLevel":
        return "bpe"
    if model["type"] == "BPE" and decoder == "Fuse" and not model["merges"] and model.get("unk_token") == "<|unk|>":
        return "char" if description.get("pre_tokenizer") is None else "other"
    if model["type"] == "WordLevel" and split_patterns(description) == [_WORD]:
        return "word"
    return "other"


def foreign_unknown(model: dict[str, Any], vocabulary: dict[str, int]) -> int | None:
    """Return the id that another's tokenizer puts where it knows no token: by name, in Unigram by number."""
    unknown = model.get("unk_id") if model["type"] == "Unigram" else vocabulary.get(model.get("unk_token") or "")
    return None if unknown is None else int(unknown)


def _occurring(texts: Iterable[str]) -> list[int]:
    """Return all code points of some texts, sorted."""
    occurs = np.zeros(0x110000, dtype=bool)
    known = b""
    for text in texts:
        try:
            # Most text has few characters: to strike the known ones out is faster than to mark each.
            if new := text.encode("latin-1").translate(None, known):
                known += bytes(set(new))
        except UnicodeEncodeError:
            for codes in code_points(text):
                occurs[codes] = True
    occurs[list(known)] = True
    return np.flatnonzero(occurs).tolist()


def code_points(text: str) -> Iterator[np.ndarray]:
    """Yield a text's code points part by part: uint8 where they fit, else uint32; half characters count as "?"."""
    for start in range(0, len(text), _CODE_POINTS):
        part = text[start : start + _CODE_POINTS]
        try:
            yield np.frombuffer(part.encode("latin-1"), np.uint8)
        except UnicodeEncodeError:
            yield np.frombuffer(part.encode("utf-32-le", "replace"), np.uint32)
