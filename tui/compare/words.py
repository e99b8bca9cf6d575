"""What stands below the chart of a comparison: results, verdicts and differences as text."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from minigpt.comparing.facts import RunFacts
from minigpt.comparing.table import Comparison, Difference, result_rows, said
from minigpt.errors import printable
from minigpt.narration import duration, number
from tui.compare.overlay import letter
from tui.figures import short
from tui.widgets.listing import MUTED, Cell, Column, Row

COLUMNS = (
    Column("run", flexible=True, widest=48),
    Column("best loss", right=True),
    Column("bits/byte", right=True),
    Column("±", right=True, rank=2),
    Column("ppl", right=True, rank=5),
    Column("accuracy", right=True, rank=6),
    Column("steps", right=True, rank=1),
    Column("tokens", right=True, rank=3),
    Column("time", right=True, rank=4),
    Column("tok/s", right=True, rank=8),
    Column("params", right=True, rank=7),
)
_WIDEST = 24


def rows_of(comparison: Comparison) -> list[Row]:
    """Return a line for each run."""
    return [_row(place, run) for place, run in enumerate(comparison.runs)]


def _row(place: int, run: RunFacts) -> Row:
    best = run.best
    error = f"{best.loss_error:.4f}" if best is not None and best.loss_error is not None else "-"
    accuracy = f"{best.accuracy:.1%}" if best is not None and best.accuracy is not None else "-"
    cells = (
        Cell(f"{letter(place)} {run.run}", "bold"),
        Cell(number(best.loss if best else None, 4)),
        Cell(number(best.bits_per_byte if best else None, 4)),
        Cell(error, MUTED),
        Cell(number(best.perplexity if best else None, 2)),
        Cell(accuracy),
        Cell(f"{run.steps:,}"),
        Cell(_short(run.tokens)),
        Cell(duration(run.seconds) if run.seconds is not None else "-"),
        Cell("-" if run.tokens_per_s is None else f"{run.tokens_per_s:,.0f}"),
        Cell(_short(run.parameters)),
    )
    return Row(run.run, cells)


def _short(value: float | None) -> str:
    return "-" if value is None else short(value)


def sentences(comparison: Comparison) -> Content:
    """Return the verdicts and what to keep in mind."""
    verdicts = [
        Content.assemble((_sign(verdict.certain), "bold"), " ", verdict.message) for verdict in comparison.verdicts
    ]
    warnings = [Content.assemble(("!", "$text-warning"), " ", caution) for caution in comparison.cautions]
    return Content("\n").join([*verdicts, *warnings])


def _sign(certain: bool | None) -> str:
    return {True: "✓", False: "≈", None: "?"}[certain]


def differences(comparison: Comparison) -> Content:
    """Return the settings and the texts that are not the same, a line each, and all results under the letters."""
    letters = [letter(place) for place in range(len(comparison.runs))]
    results = [(row.name, row.values) for row in result_rows(comparison)]
    blocks = [
        *_block("settings that differ", letters, _told(comparison.settings), "none: the same configuration"),
        *(_block("text that differs", letters, _told(comparison.corpora), "") if comparison.corpora else []),
        *_block("results", letters, results, ""),
    ]
    return Content("\n").join(blocks)


def _told(found: Sequence[Difference]) -> list[tuple[str, tuple[str, ...]]]:
    return [(difference.key, tuple(map(said, difference.values))) for difference in found]


def _block(
    title: str, letters: Sequence[str], rows: Sequence[tuple[str, tuple[str, ...]]], empty: str
) -> list[Content]:
    """Return a table of values under the runs' letters; `empty` is said where there is none."""
    if not rows:
        return [Content(f"{title}: {empty}"), Content("")]
    shown = [(_cut(name), *map(_cut, values)) for name, values in rows]
    widths = [max(map(len, column)) for column in zip((title, *letters), *shown, strict=True)]
    lines = [Content.styled(_line((title, *letters), widths), MUTED)]
    return [*lines, *(Content(_line(row, widths)) for row in shown), Content("")]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = f"{cells[0]:<{widths[0]}}"
    return "  ".join([first, *(f"{cell:>{width}}" for cell, width in zip(cells[1:], widths[1:], strict=True))])


def _cut(text: str) -> str:
    shown = printable(text, single_line=True)
    return shown if len(shown) <= _WIDEST else shown[: _WIDEST - 1] + "…"
