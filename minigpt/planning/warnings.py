"""What to be warned of before a run begins, in plain words: what it is, what it means, what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from minigpt.config import Config
from minigpt.errors import printable
from minigpt.narration import size

if TYPE_CHECKING:
    from minigpt.planning.outlook import Outlook

# Below so many tokens of text a parameter a text is learned by heart: as `minigpt.advice` says of a corpus.
TOO_FEW_TOKENS = 0.1
# A window of more than so many documents holds mostly what has nothing to do with its end.
MUCH_SHORTER = 4
_SHORTEST_CONTEXT = 32


class Warning(msgspec.Struct, frozen=True):
    """One word of warning; `code` names what it is about, for programs."""

    code: str
    message: str


def warnings_of(config: Config, outlook: Outlook, document_tokens: int | None) -> tuple[Warning, ...]:
    """Return what an outlook gives reason to warn of, the worst first."""
    return (
        *_memory(config, outlook),
        *_text(config, outlook),
        *_disk(outlook),
        *_warmup(config, outlook),
        *_context(config, document_tokens),
    )


def _memory(config: Config, outlook: Outlook) -> Iterator[Warning]:
    memory = outlook.memory
    if memory.available is None or memory.total <= memory.available:
        return
    have = f"Training takes about {size(memory.total)} of memory, and {size(memory.available)} are free on this device"
    windows = outlook.micro_batch_size
    with_one_window = memory.total - memory.activations * (windows - 1) // windows
    if with_one_window <= memory.available:
        advice = (
            f"lower training.micro_batch_size from {windows}, which changes no result (`minigpt presets fit` finds the "
            "largest that fits)"
        )
    elif not config.training.gradient_checkpointing:
        advice = (
            "one window at a time does not fit either, so set training.gradient_checkpointing to true, lower "
            "model.max_seq_len, or choose a smaller model.d_model or model.n_layers"
        )
    else:
        advice = "lower model.max_seq_len, or choose a smaller model.d_model or model.n_layers"
    yield Warning("does-not-fit", f"{have}: {advice}.")


def _text(config: Config, outlook: Outlook) -> Iterator[Warning]:
    tokens, context = outlook.train_tokens, config.model.max_seq_len
    if tokens is None:
        name = printable(config.corpus.name, single_line=True)
        yield Warning(
            "no-corpus",
            f"There is no corpus {name} yet, so how long the run is cannot be told: add it with "
            "`minigpt corpus add`, or choose another.",
        )
        return
    about = "" if outlook.train_tokens_exact else "about "
    if tokens <= context:
        yield Warning(
            "text-too-short",
            f"The text has {about}{tokens:,} tokens to learn from, and one window takes {context + 1:,}: choose a "
            "shorter model.max_seq_len, or add text.",
        )
    elif tokens < TOO_FEW_TOKENS * outlook.parameters:
        yield Warning(
            "little-data",
            f"The text has {about}{tokens:,} tokens for {outlook.parameters:,} parameters, "
            f"{tokens / outlook.parameters:.2g} a parameter: the model learns it by heart and then gets worse on new "
            "text. Choose a smaller model, add text, or stop early with training.patience.",
        )


def _disk(outlook: Outlook) -> Iterator[Warning]:
    if outlook.disk_free is not None and outlook.disk_needed > outlook.disk_free:
        yield Warning(
            "disk-too-small",
            f"The run's checkpoints may take {size(outlook.disk_needed)} and {size(outlook.disk_free)} are free: make "
            "room, or lower training.keep_last or raise training.keep_every.",
        )


def _warmup(config: Config, outlook: Outlook) -> Iterator[Warning]:
    warmup, steps = config.training.warmup_steps, outlook.steps
    if steps is None or warmup <= steps // 2:
        return
    length = f"{steps:,} step{'' if steps == 1 else 's'}"
    than = f"longer than the run of {length}" if warmup >= steps else f"more than half of the run of {length}"
    yield Warning(
        "warmup-longer-than-run",
        f"training.warmup_steps = {warmup:,} is {than}, so warmup is cut to half of the run, {steps // 2:,} steps: "
        f"only then is the full learning rate reached. Try {steps // 20:,}.",
    )


def _context(config: Config, document_tokens: int | None) -> Iterator[Warning]:
    context = config.model.max_seq_len
    if document_tokens is None:
        return
    fitting = max(_SHORTEST_CONTEXT, 1 << (2 * document_tokens - 1).bit_length())
    if document_tokens * MUCH_SHORTER < context and fitting < context:
        yield Warning(
            "context-longer-than-documents",
            f"A usual document has about {document_tokens:,} tokens, and the model sees {context:,} at once: about "
            f"{context // document_tokens:,} unrelated documents stand in each window, so it cannot learn to look that "
            f"far back. model.max_seq_len = {fitting} trains faster and loses little.",
        )
