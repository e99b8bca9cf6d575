"""`minigpt runs compare`: two or more runs beside one another."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minigpt.cli.common import workspace_of, write_json
from minigpt.errors import printable
from minigpt.narration import duration, number

if TYPE_CHECKING:
    from minigpt.comparing.curves import RunCurve
    from minigpt.comparing.table import Comparison, Difference

AXES = ("step", "tokens", "time")
_WIDEST_NAME, _WIDEST_VALUE = 32, 40


def add_compare(actions: Any) -> None:
    """Add `compare` to the actions of `minigpt runs`."""
    parser = actions.add_parser("compare", help="two or more runs beside one another: results, settings, noise")
    parser.add_argument("names", nargs="+", metavar="RUN", help="two runs or more")
    parser.add_argument(
        "--by",
        choices=AXES,
        default="step",
        metavar="|".join(AXES),
        help="what the losses on the way are compared at: optimizer steps, tokens read, or time at work",
    )
    parser.add_argument("--json", action="store_true", help="write JSON")


def run_compare(options: argparse.Namespace) -> int:
    from minigpt.comparing.table import compare, to_json

    comparison = compare(workspace_of(options), options.names)
    curves = comparison.curves(options.by)
    if options.json:
        write_json({**to_json(comparison), "by": options.by, "curves": [_curve_as_json(curve) for curve in curves]})
        return 0
    _print_results(comparison)
    _print_on_the_way(comparison, curves, options.by)
    _print_differences("settings that differ", comparison.settings)
    _print_differences("text that differs", comparison.corpora)
    print()
    for sentence in (*(verdict.message for verdict in comparison.verdicts), *comparison.cautions):
        print(sentence)
    return 0


def _curve_as_json(curve: RunCurve) -> dict[str, Any]:
    validation = {"x": curve.val_x, "loss": curve.val_loss, "bits_per_byte": curve.val_bits}
    return {
        "run": curve.run,
        "x": _plain(curve.x),
        "loss": _plain(curve.loss),
        "validation": {name: _plain(values) for name, values in validation.items()},
    }


def _plain(values: Any) -> list[float | None]:
    # JSON has no word for what is not a number.
    return [value if abs(value) < float("inf") else None for value in values.tolist()]


def _print_results(comparison: Comparison) -> None:
    from minigpt.comparing.table import result_rows

    names = [run.run for run in comparison.runs]
    _print_table([("", *names), *((row.name, *row.values) for row in result_rows(comparison))])


def _print_on_the_way(comparison: Comparison, curves: Sequence[RunCurve], by: str) -> None:
    from minigpt.comparing.curves import shared_places

    places = shared_places(curves)
    bits = comparison.figure == "bits_per_byte"
    if not places:
        return
    print(f"\n{'bits per byte' if bits else 'validation loss'} by {by}, as far as all of them came")
    rows = [(_place(place, by), *(number(curve.validation_at(place, bits), 4) for curve in curves)) for place in places]
    _print_table([("", *(run.run for run in comparison.runs)), *rows])
    if any("-" in row for row in rows):
        print("-: not evaluated near there")


def _place(place: float, by: str) -> str:
    return duration(place) if by == "time" else f"{place:,.0f}"


def _print_differences(title: str, differences: Sequence[Difference]) -> None:
    from minigpt.comparing.table import said

    if differences:
        print(f"\n{title}")
        _print_table([(found.key, *map(said, found.values)) for found in differences])


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of as many cells: the first to the left, the others to the right."""
    shown = [[_cell(cell, _WIDEST_VALUE if place else _WIDEST_NAME) for place, cell in enumerate(row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for first, *others in shown:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([f"{first:<{widths[0]}}", *cells]).rstrip())


def _cell(text: str, widest: int) -> str:
    shown = printable(text, single_line=True)
    return shown if len(shown) <= widest else shown[: widest - 1] + "…"
