"""What `minigpt corpus stats` says, as it is shown: figures, a histogram of lengths, advice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from textual.content import Content

from minigpt.errors import printable
from minigpt.narration import size
from tui.widgets.browser import details
from tui.widgets.listing import MUTED

_SHOWN = 160


class Bin(msgspec.Struct):
    """Documents of at least `low` and fewer than `high` characters."""

    low: int
    high: int
    count: int


class Repeated(msgspec.Struct):
    """The document that comes most often."""

    text: str
    count: int


class CommonLine(msgspec.Struct):
    """The line that makes most of the text, and its share of it."""

    text: str
    share: float


class Statistics(msgspec.Struct):
    """Lengths are in characters, `bytes` in UTF-8, `encodings` in files."""

    documents: int = 0
    conversations: int = 0
    characters: int = 0
    bytes: int = 0
    shortest: int = 0
    median: int = 0
    longest: int = 0
    histogram: list[Bin] = []
    repeated_documents: int = 0
    most_repeated: Repeated | None = None
    commonest_line: CommonLine | None = None
    distinct_characters: int = 0
    encodings: Mapping[str, int] = {}


class Advice(msgspec.Struct):
    """What a figure means for training, in words; `severity` is info or warning."""

    code: str
    severity: str
    message: str


class Survey(msgspec.Struct):
    """The answer of `minigpt corpus stats NAME --json`."""

    name: str
    statistics: Statistics
    advice: list[Advice] = []


def survey_of(answer: Any) -> Survey:
    """Return what a child process answered; raises msgspec.ValidationError."""
    return msgspec.convert(answer, Survey)


def advice_lines(advice: Sequence[Advice]) -> list[Content]:
    """Return each piece of advice with its sign, warnings first."""
    ordered = sorted(advice, key=lambda word: word.severity != "warning")
    return [
        Content.styled(f"! {printable(word.message)}", "$text-warning")
        if word.severity == "warning"
        else Content(f"· {printable(word.message)}")
        for word in ordered
    ]


def figures(survey: Survey) -> Content:
    """Return the figures as lines."""
    found = survey.statistics
    talks = f", {found.conversations:,} of them conversations" if found.conversations else ""
    pairs = [
        ("documents", f"{found.documents:,}{talks}"),
        ("characters", f"{found.characters:,} ({size(found.bytes)}), {found.distinct_characters:,} different ones"),
        ("shortest", f"{found.shortest:,} characters"),
        ("median", f"{found.median:,} characters"),
        ("longest", f"{found.longest:,} characters"),
    ]
    if found.documents == 1:
        pairs = pairs[:2]
    pairs.append(("files", ", ".join(f"{name} in {count:,}" for name, count in found.encodings.items())))
    pairs.append(
        ("repeated", f"{found.repeated_documents:,} documents came before" if found.repeated_documents else "")
    )
    if found.most_repeated is not None:
        pairs.append(("most often", f"{found.most_repeated.count:,} times: {_short(found.most_repeated.text)}"))
    if found.commonest_line is not None:
        line = found.commonest_line
        pairs.append(("usual line", f"{line.share:.1%} of the text: {_short(line.text)}"))
    return details(survey.name, pairs)


def _short(text: str) -> str:
    return printable(text if len(text) <= _SHOWN else text[:_SHOWN] + " …", single_line=True)


def histogram(bins: Sequence[Bin], width: int) -> Content:
    """Return a bar a line for each range of lengths; one document has no distribution."""
    if sum(part.count for part in bins) < 2:
        return Content("")
    labels = [_range(part) for part in bins]
    counts = [f"{part.count:,}" for part in bins]
    left, right = max(map(len, [*labels, "characters"])), max(map(len, [*counts, "documents"]))
    room = max(4, width - left - right - 4)
    most = max(part.count for part in bins)
    lines = [Content.styled(f"{'characters':>{left}}  {'':{room}}  {'documents':>{right}}", f"bold {MUTED}")]
    for label, count, part in zip(labels, counts, bins, strict=True):
        # Something, however little, is more than nothing.
        halves = max(1, round(2 * room * part.count / most)) if part.count else 0
        drawn = "━" * (halves // 2) + "╸" * (halves % 2)
        lines.append(
            Content.assemble((f"{label:>{left}}", MUTED), "  ", (f"{drawn:<{room}}", "$primary"), f"  {count:>{right}}")
        )
    return Content("\n").join(lines)


def _range(part: Bin) -> str:
    return f"{part.low:,}" if part.high - part.low <= 1 else f"{part.low:,}-{part.high - 1:,}"
