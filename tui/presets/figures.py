"""What a preset would need and become, in figures, beside the form: from planning, which computes them.

figures.show_prospects(Prospects(outlook, "tale", ()))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import TYPE_CHECKING

from minigpt.errors import printable
from minigpt.narration import duration, size
from tui.figures import short
from tui.presets.lines import EvenRows
from tui.widgets.rows import REMARK, Part, Row

if TYPE_CHECKING:
    from minigpt.planning.outlook import Outlook

KEYS = "p measure   f fit   w sweep"
_LABEL_WIDTH = 11
_LEAST_WRAP = 20
EXPLAIN = (
    "What this preset would need and become on the chosen corpus, worked out anew as you type. Times come from a "
    "short trial on this machine: p makes it."
)


@dataclass(frozen=True)
class Prospects:
    """What is known of a preset on a corpus; `problems` say why nothing can be."""

    corpus: str
    outlook: Outlook | None = None
    problems: tuple[str, ...] = ()
    unusual: tuple[str, ...] = ()
    probing: str = ""  # what a probe of the preset does now
    not_probed: str = ""  # why the last one came to nothing
    toml: str = field(default="", compare=False)


class Figures(EvenRows):
    """The figures as lines; sentences are wrapped to the width there is."""

    DEFAULT_CSS = "Figures { height: 1fr; }"
    explain = EXPLAIN

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.prospects: Prospects | None = None

    def show_prospects(self, prospects: Prospects) -> None:
        self.prospects = prospects
        self._wrap()

    def on_resize(self) -> None:
        super().on_resize()
        self._wrap()

    def _wrap(self) -> None:
        if self.prospects is not None and self.size.width:
            self.show(list(rows_of(self.prospects, self.size.width)))


def rows_of(prospects: Prospects, width: int) -> Iterator[Row]:
    """Yield the lines for a width in columns."""
    yield _row("corpus", "on", printable(prospects.corpus, single_line=True), "  2 changes it")
    yield from _sentences("problem", "✗", prospects.problems, "text-error", width)
    if prospects.outlook is not None:
        yield from _warnings(prospects, width)
        yield from _size(prospects.outlook)
        yield from _memory(prospects.outlook)
        yield from _length(prospects.outlook, prospects.probing)
        yield from _sentences("problem", "✗", _not_measured(prospects), "text-error", width)
        yield from _disk(prospects.outlook)


def _row(key: str, label: str, value: str, remark: str = "", colour: str = "text") -> Row:
    parts: list[Part] = [(f"{label:<{_LABEL_WIDTH}}", "foreground-muted"), (value, colour)]
    return Row(key, (*parts, (remark, REMARK)) if remark else tuple(parts))


def _sentences(key: str, sign: str, sentences: Sequence[str], colour: str, width: int) -> Iterator[Row]:
    for sentence in sentences:
        lines = wrap(printable(sentence, single_line=True), max(_LEAST_WRAP, width - 2))
        for number, line in enumerate(lines):
            yield Row(key, ((sign if number == 0 else " ", f"bold {colour}"), (f" {line}", colour)))


def _warnings(prospects: Prospects, width: int) -> Iterator[Row]:
    assert prospects.outlook is not None
    for warning in prospects.outlook.warnings:
        yield from _sentences(warning.code, "!", (warning.message,), "text-warning", width)
    yield from _sentences("unusual", "!", prospects.unusual, "text-warning", width)
    if not prospects.outlook.warnings and not prospects.unusual:
        yield Row("warnings", (("✓ nothing to warn of", "text-success"),))


def _size(outlook: Outlook) -> Iterator[Row]:
    yield _row("parameters", "parameters", f"{outlook.parameters:,}", colour="bold text")
    for name, count in outlook.parts:
        if count:
            share = count / max(1, outlook.parameters)
            yield Row(
                "parameters",
                (
                    (f"  {printable(name, single_line=True):<18}", "foreground-muted"),
                    (f"{short(count):>7}", "text"),
                    (f" {share:>4.0%}", REMARK),
                ),
            )
    yield _row("flops_per_token", "compute", f"{short(outlook.flops_per_token)} FLOPs a token")


def _memory(outlook: Outlook) -> Iterator[Row]:
    memory = outlook.memory
    free = f" of {size(memory.available)} free" if memory.available is not None else ""
    fits = memory.available is None or memory.total <= memory.available
    yield _row(
        "training_memory", "memory", f"{size(memory.total)}{free}", colour="bold text" if fits else "bold text-error"
    )
    yield _pair("weights", memory.weights, "gradients", memory.gradients)
    yield _pair("optimizer", memory.optimizer, "activations", memory.activations)
    yield _pair("to work in", memory.workspace, "the rest", memory.overhead)
    if outlook.memory_measured is not None:
        yield _row("training_memory", "", f"{size(outlook.memory_measured)} measured")
    yield _row(
        "training.micro_batch_size", "at once", f"{outlook.micro_batch_size} windows of text", f" on {outlook.device}"
    )


def _pair(one: str, amount: float, other: str, other_amount: float) -> Row:
    left = ((f"  {one:<11}", "foreground-muted"), (f"{size(amount):>8}", "text"))
    right = ((f"  {other:<12}", "foreground-muted"), (f"{size(other_amount):>8}", "text"))
    return Row("training_memory", (*left, *right))


def _not_measured(prospects: Prospects) -> list[str]:
    return [f"not measured: {prospects.not_probed}"] if prospects.not_probed else []


def _length(outlook: Outlook, probing: str) -> Iterator[Row]:
    if outlook.train_tokens is None:
        yield _row("tokens_per_parameter", "text", "not there yet: its length is not known")
    else:
        about = "" if outlook.train_tokens_exact else "about "
        each = f"  {outlook.tokens_per_parameter:.3g} a parameter" if outlook.tokens_per_parameter is not None else ""
        yield _row("tokens_per_parameter", "text", f"{about}{short(outlook.train_tokens)} tokens", each)
    if outlook.steps is not None:
        epochs = f" = {outlook.epochs:.3g} epochs" if outlook.epochs is not None else ""
        tokens = f" = {short(outlook.tokens)} tokens" if outlook.tokens is not None else ""
        yield _row("step", "length", f"{outlook.steps:,} steps{epochs}", tokens)
    yield _row("left", "time", _time(outlook, probing))


def _time(outlook: Outlook, probing: str) -> str:
    if probing:
        return f"{probing} …  p stops it"
    if outlook.seconds_per_step is None:
        return "p measures it in five steps"
    each = f"{1000 * outlook.seconds_per_step:,.0f} ms a step"
    return each if outlook.seconds is None else f"about {duration(outlook.seconds)}, {each}"


def _disk(outlook: Outlook) -> Iterator[Row]:
    yield _row("disk", "disk", f"{size(outlook.checkpoint_bytes)} a checkpoint")
    free = f" of {size(outlook.disk_free)} free" if outlook.disk_free is not None else ""
    yield _row("disk", "", f"up to {size(outlook.disk_needed)}{free}")
