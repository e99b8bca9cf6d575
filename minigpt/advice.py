"""What the figures of a corpus call for, in plain words: what it is, what it means, what to do.

for advice in advise(statistics, parameters=1_100_000, preset="tiny", tokens=250_000, context=128):
    print(advice.severity, advice.message)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Literal, NamedTuple

import msgspec

from minigpt.errors import UserError, printable
from minigpt.model.parameters import parameter_count
from minigpt.presets import read_file
from minigpt.text.statistics import Statistics
from minigpt.workspace import builtin_presets

TOO_LITTLE = 5_000
LITTLE = 50_000
# Two sentences have 100 to 200 characters. Of less than this, the 5 % kept for validation is not even two words, so
# that no number on the screen would mean anything.
TINY = 200

PLENTY_TOKENS = 20.0  # a parameter: about where more text helps no more than a larger network (Chinchilla)
_POOR_TOKENS = 1.0
# The built-in stories with the preset tiny have 0.2, and learn well: below half of that a text is learned by heart.
_HOPELESS_TOKENS = 0.1
# A preset is fed by a text when, in its own number of epochs, it reads so many tokens a parameter.
_FEEDING_TOKENS = 2.0
_BYTES_A_TOKEN = 4

_REPEATED_SHARE = 0.2
_ONE_DOCUMENT_SHARE = 0.1
_ONE_LINE_SHARE = 0.3
_MUCH_SHORTER = 4
_ASCII_KIN = {"ascii", "utf-8", "utf-8-sig", "utf_8", "utf8"}
_MORE_TEXT = "`minigpt corpus catalogue` lists texts to fetch, and the corpus sample is built in"


class Advice(msgspec.Struct, frozen=True):
    """One word of advice. `code` names what it is about, for programs."""

    code: str
    severity: Literal["info", "warning"]
    message: str


class Feeding(NamedTuple):
    """A built-in preset, and how many tokens of text it takes to feed it."""

    tokens: int
    name: str
    parameters: int


def refuse_tiny(characters: int) -> None:
    """Raise UserError for a text that nothing can be learned from."""
    if characters < TINY:
        have = "1 character" if characters == 1 else f"{characters} characters"
        raise UserError(
            f"This text has {have}, about {_sentences(characters)}: a model needs {TINY} to be trained at all and "
            f"{LITTLE:,} to do more than repeat them, so add more text ({_MORE_TEXT})."
        )


def preset_for(size: int) -> str:
    """Return the largest built-in preset that a text of `size` UTF-8 bytes feeds, the smallest where none is fed."""
    return _fed(size // _BYTES_A_TOKEN).name


def advise(
    statistics: Statistics,
    *,
    parameters: int | None = None,
    preset: str = "",
    tokens: int | None = None,
    context: int | None = None,
) -> list[Advice]:
    """Return what the statistics call for, warnings first.

    `parameters`, `tokens` and `context` (max_seq_len) are those of the chosen preset, where one is chosen.
    """
    if statistics.characters == 0:
        return []
    tokens = tokens or max(1, statistics.bytes // _BYTES_A_TOKEN)
    found = [*_amount(statistics), *_repetition(statistics), *_encodings(statistics.encodings)]
    if parameters:
        found += _tokens_per_parameter(tokens, parameters, preset)
    if context:
        found += _short_documents(statistics, tokens, context)
    return sorted(found, key=lambda advice: advice.severity != "warning")


def _amount(statistics: Statistics) -> Iterator[Advice]:
    characters = statistics.characters
    have = f"This is {characters:,} characters, {_pages(characters)}"
    if characters < TOO_LITTLE:
        yield Advice(
            "too_little",
            "warning",
            f"{have}, which is too little: a model learns it by heart and can only give pieces of it back. Use it to "
            f"try things out; for text that is new, add more, at best a million characters ({_MORE_TEXT}).",
        )
    elif characters < LITTLE:
        yield Advice(
            "little",
            "warning",
            f"{have}, which is little: a model picks up words and spelling, and soon repeats whole phrases. Add more "
            f"if you can ({_MORE_TEXT}), or train briefly and keep the checkpoint with the best validation loss.",
        )
    fed = _fed(statistics.bytes // _BYTES_A_TOKEN)
    larger = next((other for other in _ladder() if other.tokens > fed.tokens), None)
    message = f"This much text feeds the preset {fed.name} ({_short(fed.parameters)} parameters)"
    if fed.tokens > statistics.bytes // _BYTES_A_TOKEN:
        message = (
            f"The smallest preset, {fed.name} ({_short(fed.parameters)} parameters), is large enough for this text"
        )
    if larger:
        message += f"; the next one, {larger.name}, wants about {_megabytes(larger.tokens * _BYTES_A_TOKEN)} of text"
    yield Advice("preset", "info", message + ".")


def _repetition(statistics: Statistics) -> Iterator[Advice]:
    documents, most, line = statistics.documents, statistics.most_repeated, statistics.commonest_line
    repeated = statistics.repeated_documents / documents
    often = most.count / documents if most else 0.0
    if most and often >= _ONE_DOCUMENT_SHARE:
        yield Advice(
            "repeated_document",
            "warning",
            f"One document comes {most.count:,} times in {documents:,} ({often:.0%}): “{_quoted(most.text)}”. The "
            "model will say just that again and again; --deduplicate exact keeps one of them.",
        )
    elif repeated >= _REPEATED_SHARE:
        yield Advice(
            "repeated_documents",
            "warning",
            f"{statistics.repeated_documents:,} of {documents:,} documents ({repeated:.0%}) came before, word for "
            "word: the model learns those by heart first. --deduplicate exact keeps one of each.",
        )
    # The line of a document that is all the corpus has was told already.
    told = most is not None and often >= _ONE_DOCUMENT_SHARE and line is not None and line.text in most.text
    if line and line.share >= _ONE_LINE_SHARE and not told:
        yield Advice(
            "one_line",
            "warning",
            f"{line.share:.0%} of the text is one line, over and over: “{_quoted(line.text)}”. The model will mostly "
            "say that line; look whether it is a header, a menu or a mistake in the file, and take it out.",
        )


def _encodings(encodings: Mapping[str, int]) -> Iterator[Advice]:
    kinds: dict[str, int] = {}
    for name, files in encodings.items():
        kind = "utf-8" if name.lower() in _ASCII_KIN else name
        kinds[kind] = kinds.get(kind, 0) + files
    if len(kinds) > 1:
        ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        counts = ", ".join(
            f"{files:,} {'file' if files == 1 else 'files'} as {printable(kind, single_line=True)}"
            for kind, files in ordered
        )
        yield Advice(
            "mixed_encodings",
            "warning",
            f"The files come in several encodings, which were partly guessed ({counts}): a wrong guess turns é into "
            "Ã© and the model learns that. Look at a document of each kind; save odd ones as UTF-8, or use "
            "--fix-unicode true.",
        )


def _tokens_per_parameter(tokens: int, parameters: int, preset: str) -> Iterator[Advice]:
    ratio = tokens / parameters
    chosen = f"the preset {printable(preset, single_line=True)}" if preset else "the chosen model"
    have = f"For {chosen} this is {_ratio(ratio)} tokens of text a parameter"
    severity: Literal["info", "warning"] = "info"
    if ratio >= PLENTY_TOKENS:
        meaning = f"plenty ({PLENTY_TOKENS:.0f} is): one epoch is enough, and a larger preset would learn more from it"
    elif ratio >= _POOR_TOKENS:
        meaning = f"a fair amount ({PLENTY_TOKENS:.0f} is plenty): a few epochs are well spent"
    elif ratio >= _HOPELESS_TOKENS:
        meaning = (
            f"not much ({_POOR_TOKENS:.0f} is still poor, {PLENTY_TOKENS:.0f} is plenty): after some epochs it learns "
            "the text by heart, so watch the validation loss and stop when it rises"
        )
    else:
        severity = "warning"
        fed = _fed(tokens)
        smaller = f"take the preset {fed.name}, " if fed.parameters < parameters and fed.name != preset else ""
        meaning = (
            f"far too few ({_POOR_TOKENS:.0f} is still poor, {PLENTY_TOKENS:.0f} is plenty): it learns the text by "
            f"heart, and the validation loss soon rises; {smaller}add text, or stop early with training.patience"
        )
    yield Advice("tokens_per_parameter", severity, f"{have}, {meaning}.")


def _short_documents(statistics: Statistics, tokens: int, context: int) -> Iterator[Advice]:
    length = max(1, round(statistics.median * tokens / statistics.characters))
    fitting = max(32, 1 << (2 * length - 1).bit_length())
    if statistics.documents > 1 and length * _MUCH_SHORTER < context and fitting < context:
        yield Advice(
            "short_documents",
            "info",
            f"Half of the documents have fewer than {length:,} tokens or so, and the model sees {context:,} at once: "
            f"about {context // length:,} unrelated documents stand in each window, so it cannot learn to look that "
            f"far back; model.max_seq_len = {fitting} trains faster and loses little.",
        )


def _fed(tokens: int) -> Feeding:
    fed = [preset for preset in _ladder() if preset.tokens <= tokens]
    return fed[-1] if fed else _ladder()[0]


@cache
def _ladder() -> tuple[Feeding, ...]:
    """Return our own presets for any text, the smallest first; the others are there to repeat what is known."""
    steps = []
    for path in builtin_presets().glob("*.toml"):
        config = read_file(path)
        if config.tokenizer.kind == "bpe" and config.model.family == "qwen3":
            parameters = parameter_count(config.model, config.tokenizer.vocab_size)
            epochs = config.training.max_epochs
            # A preset of so many steps reads a short text as often as that takes.
            needed = _FEEDING_TOKENS / epochs if epochs else _HOPELESS_TOKENS
            steps.append(Feeding(int(needed * parameters), path.stem, parameters))
    return tuple(sorted(steps, key=lambda step: step.parameters))


def _sentences(characters: int) -> str:
    count = round(characters / 80)
    return f"{count} sentences" if count > 1 else "one sentence"


def _pages(characters: int) -> str:
    pages = round(characters / 2000)
    return f"about {pages:,} pages" if pages > 1 else "about a page" if pages else "less than a page"


def _short(count: int) -> str:
    return f"{count / 1e6:.0f} million" if count >= 9.5e6 else f"{count / 1e6:.1f} million"


def _megabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _ratio(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}" if ratio >= 0.001 else "less than 0.001"


def _quoted(text: str) -> str:
    """Return the beginning of a text that was made printable before."""
    return text if len(text) <= 60 else text[:59] + "…"
