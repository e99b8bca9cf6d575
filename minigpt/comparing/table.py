"""Two or more runs beside one another: results, what differed in settings and text, and what to believe of it.

comparison = compare(workspace, ["tiny-sample-1", "tiny-sample-2"])
for row in result_rows(comparison):
    print(row.name, *row.values)
print(*comparison.verdicts, *comparison.cautions, sep="\\n")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from minigpt.comparing.curves import Axis, RunCurve, curve_of
from minigpt.comparing.facts import Measured, RunFacts, config_of, facts_of
from minigpt.comparing.steering import steered
from minigpt.comparing.verdict import Verdict, cautions, judge
from minigpt.config import Config
from minigpt.digest import RunDigest, digest
from minigpt.errors import UserError
from minigpt.narration import duration, number
from minigpt.runs import find_run
from minigpt.workspace import Workspace

_OF_THE_TEXT = "corpus."


class Difference(msgspec.Struct, frozen=True):
    """Something that is not the same in all runs: its name, and the value in each, in their order."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs beside one another, in the order asked for. `figure` is what their models are compared by."""

    runs: tuple[RunFacts, ...]
    settings: tuple[Difference, ...]
    corpora: tuple[Difference, ...]
    figure: str
    verdicts: tuple[Verdict, ...]
    cautions: tuple[str, ...]
    digests: tuple[RunDigest, ...]

    def curves(self, axis: Axis) -> list[RunCurve]:
        """Return the curves of all runs over an axis."""
        return [curve_of(known, axis) for known in self.digests]


class ResultRow(NamedTuple):
    """One line of the table of results: a figure's name and its value for each run, as people read it."""

    name: str
    values: tuple[str, ...]


def compare(workspace: Workspace, names: Sequence[str]) -> Comparison:
    """Compare runs by name; raises UserError for fewer than two, one named twice, or one that is not there."""
    if len(names) < 2:
        raise UserError("To compare takes two runs or more: name them, as `minigpt runs list` shows them.")
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise UserError(f"The run {twice!r} is named twice: name each run once.")
    directories = [find_run(workspace, name) for name in names]
    digests = [digest(directory) for directory in directories]
    configs = [config_of(directory) for directory in directories]
    facts = [facts_of(workspace, known, config) for known, config in zip(digests, configs, strict=True)]
    settings = _differences(configs) + [Difference(name, values) for name, values in steered(digests).items()]
    figure, verdicts = judge(facts)
    of_text = [found for found in settings if found.key.startswith(_OF_THE_TEXT)]
    others = [found for found in settings if not found.key.startswith(_OF_THE_TEXT)]
    return Comparison(
        tuple(facts),
        tuple(others),
        (*_told_corpora(facts), *of_text),
        figure,
        tuple(verdicts),
        tuple(cautions(facts, verdicts, [found.key for found in settings])),
        tuple(digests),
    )


def result_rows(comparison: Comparison) -> list[ResultRow]:
    """Return the table of results, leaving out what no run can tell."""
    runs = comparison.runs
    best, last = [run.best for run in runs], [run.last for run in runs]
    rows = [
        ("state", [run.state for run in runs]),
        ("best val loss", [_loss(found) for found in best]),
        ("  at step", [f"{found.step:,}" if found else "-" for found in best]),
        ("  perplexity", [number(found.perplexity, 2) if found else "-" for found in best]),
        ("  bits per byte", [number(found.bits_per_byte, 4) if found else "-" for found in best]),
        ("  accuracy", [_share(found) for found in best]),
        ("last val loss", [_loss(found) for found in last]),
        ("on the whole split", [_loss(run.whole) for run in runs]),
        ("  bits per byte", [number(run.whole.bits_per_byte, 4) if run.whole else "-" for run in runs]),
        ("steps", [f"{run.steps:,}" for run in runs]),
        ("tokens read", [_count(run.tokens) for run in runs]),
        ("time", [duration(run.seconds) if run.seconds is not None else "-" for run in runs]),
        ("tokens/s", [_count(run.tokens_per_s) for run in runs]),
        ("parameters", [_count(run.parameters) for run in runs]),
        ("vocabulary", [_count(run.vocab_size) for run in runs]),
        ("forked from", [run.forked_from or "-" for run in runs]),
        ("note", [run.note or "-" for run in runs]),
    ]
    return [ResultRow(name, tuple(values)) for name, values in rows if any(value != "-" for value in values)]


def said(value: object) -> str:
    """Return a setting's value as people read it."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Return everything but the curves as plain values for JSON."""
    names = [run.run for run in comparison.runs]
    return {
        "figure": comparison.figure,
        "runs": [_plain(run) for run in comparison.runs],
        **{
            kind: [{"key": found.key, "values": dict(zip(names, found.values, strict=True))} for found in differences]
            for kind, differences in (("settings", comparison.settings), ("corpora", comparison.corpora))
        },
        "verdicts": msgspec.to_builtins(comparison.verdicts),
        "cautions": list(comparison.cautions),
    }


def _plain(run: RunFacts) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(run)
    for name in ("best", "last", "whole"):
        # For machines they stand in the events.
        if told[name] is not None:
            del told[name]["blocks"]
    return told


def _differences(configs: Sequence[Config | None]) -> list[Difference]:
    """Return the settings that are not the same in all configurations that could be read."""
    tables = [_flat(config) for config in configs]
    keys = dict.fromkeys(key for table in tables for key in table)
    readable = [table for table in tables if table]
    different = [key for key in keys if any(table[key] != readable[0][key] for table in readable)]
    return [Difference(key, tuple(table.get(key, "?") for table in tables)) for key in different]


def _flat(config: Config | None) -> dict[str, Any]:
    sections = msgspec.to_builtins(config) if config is not None else {}
    return {f"{section}.{name}": value for section, table in sections.items() for name, value in table.items()}


def _told_corpora(facts: Sequence[RunFacts]) -> list[Difference]:
    """Return what differs in text beyond settings: the content that a name stood for."""
    contents = [run.text.partition(" ")[0][:12] for run in facts]
    return [Difference("content", tuple(contents))] if len(set(contents)) > 1 else []


def _loss(found: Measured | None) -> str:
    if found is None:
        return "-"
    return number(found.loss, 4) + (f" ± {found.loss_error:.4f}" if found.loss_error is not None else "")


def _share(found: Measured | None) -> str:
    return f"{found.accuracy:.1%}" if found is not None and found.accuracy is not None else "-"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
