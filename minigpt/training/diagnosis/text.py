"""What the text tells before the first step: too little of it, no order in it, the same again and again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minigpt.advice import preset_for
from minigpt.errors import printable
from minigpt.text.ladder import entropies, pieces
from minigpt.text.shards import TokenSplit
from minigpt.text.tokenizer import Tokenizer
from minigpt.training.diagnosis.finding import Finding

# The built-in stories with the preset tiny have 0.2 tokens a parameter and learn well; half of it is too little when
# the text is read more often than four times, up to which reading again is nearly as good as new text
# (Muennighoff et al., 2023).
POOR_TOKENS_A_PARAMETER = 0.1
_GOOD_EPOCHS = 4.0

# Order is looked for in bytes, so that it does not depend on the tokenizer: of English, pairs of bytes predict by a
# fifth better than single ones, of random characters not at all.
_LOOKED_AT_TOKENS = 200_000
_FEWEST_BYTES = 20_000
_NO_ORDER = 0.03
# Nats of a dozen equally frequent letters. Codes with fewer (genomes) have their order further apart.
_FEW_LETTERS = 2.5

# A passage of so many tokens does not come twice by chance.
PASSAGE = 64
_REPEATED_SHARE = 0.4
_FEWEST_REPEATS_TOKENS = 4 * PASSAGE
_SHOWN = 60

_DOCUMENTS_IN_CONTEXT = 4
_FEWEST_DOCUMENTS = 20


def look_at_text(
    tokenizer: Tokenizer, train: TokenSplit, *, parameters: int, epochs: float, context: int, separated: bool
) -> Iterator[Finding]:
    """Yield what a glance at a part of the training tokens finds; takes a fraction of a second."""
    sample = pieces(train, _LOOKED_AT_TOKENS)
    if not sample:
        return
    texts = [tokenizer.decode(piece.tolist()).encode() for piece in sample]
    size = train.tokens * sum(map(len, texts)) // sum(map(len, sample))
    yield from _amount(train.tokens, size, parameters, epochs)
    yield from _order(b"".join(texts))
    yield from _repetition(tokenizer, sample)
    if separated:
        yield from _documents(tokenizer, sample, context)


def _amount(tokens: int, size: int, parameters: int, epochs: float) -> Iterator[Finding]:
    ratio = tokens / parameters
    if ratio >= POOR_TOKENS_A_PARAMETER or epochs <= _GOOD_EPOCHS:
        return
    yield Finding(
        "too-little-data",
        f"{tokens:,} tokens of text for {parameters:,} parameters are {ratio:.2g} a parameter, and the run reads them "
        f"{epochs:,.0f} times: it will learn them by heart. Add text, or take a smaller model (the preset "
        f"{preset_for(size)}); else let the run end when the loss on text kept aside gets no better.",
        {"label": "end when the validation loss gets no better", "command": "set", "args": {"patience": 3}},
    )


def _order(sample: bytes) -> Iterator[Finding]:
    text = np.frombuffer(sample, np.uint8).astype(np.int64)
    half = len(text) // 2
    if half < _FEWEST_BYTES:
        return
    unigram, bigram = entropies([text[:half]], text[half:], 256)
    if bigram < (1 - _NO_ORDER) * unigram or unigram < _FEW_LETTERS:
        return
    yield Finding(
        "gibberish",
        f"No letter of this text says anything of the next one (knowing it, the next costs {bigram:.2f} nats instead "
        f"of {unigram:.2f}; in any language it is a fifth less): most probably it is random, encrypted, packed or "
        "encoded, and there is nothing to learn but how often each character comes. Look at the corpus, and take the "
        "file itself rather than an archive or an encoding of it.",
    )


def _repetition(tokenizer: Tokenizer, sample: list[np.ndarray]) -> Iterator[Finding]:
    hashes = np.concatenate([_passages(piece) for piece in sample])
    if len(hashes) < _FEWEST_REPEATS_TOKENS:
        return
    found, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    repeated = 1 - len(found) / len(hashes)
    if repeated < _REPEATED_SHARE:
        return
    most = int(np.argmax(counts))
    place = int(first[most])
    for piece in sample:
        passages = max(0, len(piece) - PASSAGE + 1)
        if place < passages:
            break
        place -= passages
    passage = " ".join(tokenizer.decode(piece[place : place + PASSAGE].tolist()).split())
    yield Finding(
        "repeated-text",
        f"{repeated:.0%} of the text has come before, word for word; one passage comes {int(counts[most]):,} times in "
        f"what was looked at: “{printable(passage[:_SHOWN], single_line=True)}…”. The model will say just that, and "
        "the loss on text kept aside means little, for the same stands there too. Set corpus.deduplicate to exact, or "
        "take the copies out, and train on what is left.",
        {"label": "keep one of each document, in a new run", "settings": {"corpus.deduplicate": "exact"}},
    )


def _passages(tokens: np.ndarray) -> np.ndarray:
    """Return a hash of the PASSAGE tokens that begin at each place: uint64 (n - PASSAGE + 1,)."""
    if len(tokens) < PASSAGE:
        return np.empty(0, np.uint64)
    # Polynomials modulo 2^64, of twice as many tokens each time; small ids are spread out first.
    hashes = (tokens.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    hashes ^= hashes >> np.uint64(29)
    base, length = 0xBF58476D1CE4E5B9, 1
    while length < PASSAGE:
        hashes = hashes[:-length] * np.uint64(base) + hashes[length:]
        base, length = base * base % 2**64, 2 * length
    return hashes


def _documents(tokenizer: Tokenizer, sample: list[np.ndarray], context: int) -> Iterator[Finding]:
    if tokenizer.end_of_text is None:
        return
    # Between two ends in one piece lies a whole document.
    lengths = np.concatenate([np.diff(np.flatnonzero(piece == tokenizer.end_of_text)) for piece in sample])
    if len(lengths) < _FEWEST_DOCUMENTS:
        return
    median = int(np.median(lengths))
    fitting = max(32, 1 << (2 * median - 1).bit_length())
    if median * _DOCUMENTS_IN_CONTEXT >= context or fitting >= context:
        return
    yield Finding(
        "short-documents",
        f"Half of the documents are shorter than {median:,} tokens, and the model sees {context:,} at once: some "
        f"{context // max(1, median):,} unrelated documents stand in each window, so it cannot learn to look that far "
        f"back. model.max_seq_len = {fitting} trains faster and loses little.",
        {"label": f"a context of {fitting}, in a new run", "settings": {"model.max_seq_len": fitting}},
    )
