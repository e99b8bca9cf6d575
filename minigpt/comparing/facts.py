"""What a run was made of and how it did, read from its folder for a comparison."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from minigpt.comparing.noise import standard_error
from minigpt.config import Config
from minigpt.digest import is_judged
from minigpt.errors import UserError
from minigpt.events import EVENTS, EventReader, open_file
from minigpt.presets import read_file
from minigpt.text.records import read_toml
from minigpt.workspace import Workspace

if TYPE_CHECKING:
    from minigpt.digest import RunDigest
    from minigpt.summary import RunSummary

_HEAD_BYTES = 1 << 18
_MAX_BLOCKS = 1024
# Of [corpus], these change what is learned from and not what is evaluated on.
_FOR_TRAINING = ("name", "mixture", "bpe_dropout", "bpe_dropout_copies", "shuffle_documents", "random_offsets")


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation on the validation split; `loss` and its standard error in nats a token, `accuracy` a share."""

    step: int
    loss: float
    perplexity: float
    bits_per_byte: float | None = None
    accuracy: float | None = None
    evaluated_tokens: int | None = None
    loss_error: float | None = None
    blocks: tuple[tuple[int, float], ...] = ()

    @property
    def bits_error(self) -> float | None:
        """The standard error of the bits per byte, the length of tokens in bytes taken as known."""
        if self.loss_error is None or self.bits_per_byte is None or self.loss <= 0:
            return None
        return self.loss_error * self.bits_per_byte / self.loss


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One run in a comparison. `seconds` are those at work, `tokens_per_s` is over all of them; `text` and `tokenizer`
    are equal where it was the same.
    """

    run: str
    state: str
    preset: str | None
    corpus: str | None
    device: str | None
    parameters: int | None
    vocab_size: int | None
    steps: int
    tokens: int | None
    seconds: float | None
    tokens_per_s: float | None
    best: Measured | None
    last: Measured | None
    whole: Measured | None  # the last look at all of the split, where the others took a part of it
    text: str
    tokenizer: str
    forked_from: str | None = None
    note: str = ""


def facts_of(workspace: Workspace, known: RunDigest, config: Config | None) -> RunFacts:
    """Return what a comparison tells of one run."""
    summary, directory = known.summary, workspace.checkpoints / known.summary.run
    start = first_start(directory)
    told = known.validations
    wholes = [event for event in known.evaluations if event.get("whole") and is_judged({**event, "whole": False})]
    best = min(told, key=lambda event: event["loss"], default=None)
    return RunFacts(
        run=summary.run,
        state=summary.state,
        preset=summary.preset,
        corpus=summary.corpus,
        device=summary.device,
        parameters=summary.parameters,
        vocab_size=_whole(start.get("vocab_size")),
        steps=summary.step,
        tokens=summary.tokens,
        seconds=summary.seconds or None,
        tokens_per_s=_tokens_per_s(summary, start),
        best=None if best is None else measured(best),
        last=measured(told[-1]) if told else None,
        whole=measured(wholes[-1]) if wholes else None,
        text=_text_of(workspace, start, config, summary.corpus),
        tokenizer=_tokenizer_of(directory, start, config),
        forked_from=_origin(summary.forked_from),
        note=known.note,
    )


def _tokens_per_s(summary: RunSummary, start: Mapping[str, Any]) -> float | None:
    """Return the tokens read a second at work, without those read before what the events tell of."""
    if not summary.tokens or not summary.step or summary.seconds <= 0:
        return None
    # Every step uses the same number of tokens.
    steps = summary.step - (_whole(start.get("resumed_from")) or 0)
    return summary.tokens * steps / summary.step / summary.seconds if steps > 0 else None


def measured(event: Mapping[str, Any]) -> Measured:
    """Return what an `eval` event tells; its step and loss are there."""
    blocks = _blocks(event.get("blocks"))
    loss = float(event["loss"])
    return Measured(
        step=int(event["step"]),
        loss=loss,
        perplexity=math.exp(loss) if loss < 700 else math.inf,
        bits_per_byte=_number(event.get("bits_per_byte")),
        accuracy=_number(event.get("accuracy")),
        evaluated_tokens=_whole(event.get("tokens")),
        loss_error=standard_error(blocks),
        blocks=blocks,
    )


def config_of(directory: Path) -> Config | None:
    """Return a run's configuration, or None where it cannot be read."""
    file = directory / "config.toml"
    try:
        return read_file(file) if file.is_file() else None  # not from a pipe, which keeps us waiting
    except (UserError, OSError):
        return None


def first_start(directory: Path) -> dict[str, Any]:
    """Return a run's first `start` event; nothing where its beginning cannot be read."""
    try:
        with EventReader(directory / EVENTS) as reader:
            # Line by line: it is among the first, and what follows is long.
            events = (event for line in reader.poll_lines(_HEAD_BYTES) for event in reader.decode([line]))
            return next((event for event in events if event.get("type") == "start"), {})
    except OSError:
        return {}


def _text_of(workspace: Workspace, start: Mapping[str, Any], config: Config | None, corpus: str | None) -> str:
    """Return what is equal for two runs that were evaluated on the same text, as far as can be told."""
    content = start.get("content_hash")
    if not isinstance(content, str):
        content = _content_now(workspace, config) or f"called {corpus}"
    if config is None:
        return content
    kept = {name: value for name, value in msgspec.to_builtins(config.corpus).items() if name not in _FOR_TRAINING}
    return f"{content} {sorted(kept.items())}"


def _content_now(workspace: Workspace, config: Config | None) -> str | None:
    """Return the content hash of the corpora that a configuration names, joined as in checkpoints."""
    if config is None:
        return None
    # What lies behind takes as long to import as all the rest, and is seldom needed.
    from minigpt.text.manifest import MANIFEST

    names = [entry.rpartition(":")[0] for entry in config.corpus.mixture] or [config.corpus.name]
    # Not opened as a corpus: that counts it anew where somebody has edited it.
    found = [_hash_in(workspace.data / name / MANIFEST) for name in names]
    return "+".join(map(str, found)) if all(found) else None


class _Hashed(msgspec.Struct):
    content_hash: str | None = None


def _hash_in(manifest: Path) -> str | None:
    try:
        return read_toml(manifest, _Hashed).content_hash
    except (OSError, msgspec.DecodeError):
        return None


def _tokenizer_of(directory: Path, start: Mapping[str, Any], config: Config | None) -> str:
    try:
        with open_file(directory / "tokenizer.json") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return f"{config.tokenizer.kind if config else 'unknown'} of {start.get('vocab_size')}"


def _origin(told: Mapping[str, Any] | None) -> str | None:
    if not told:
        return None
    step = f" at step {told['step']}" if "step" in told else ""
    return f"{told.get('run', 'another run')}{step}"


def _blocks(value: object) -> tuple[tuple[int, float], ...]:
    rows: Sequence[Any] = value if isinstance(value, (list, tuple)) else ()
    blocks = [
        (row[0], float(row[1]))
        for row in rows[:_MAX_BLOCKS]
        if isinstance(row, (list, tuple)) and len(row) == 2 and _whole(row[0]) and _number(row[1]) is not None
    ]
    # What is not whole was written by nobody of ours, and pairs with nothing.
    return tuple(blocks) if len(blocks) == len(rows) else ()


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
