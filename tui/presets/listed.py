"""A preset's line in the list, and what is said of it beside."""

from __future__ import annotations

from pathlib import Path

from textual.content import Content

from minigpt.errors import printable
from tui.figures import short
from tui.presets.files import Preset
from tui.widgets.browser import details
from tui.widgets.listing import MARK, MUTED, Cell, Column, Row

COLUMNS = (
    Column("preset", widest=28),
    Column("parameters", right=True),
    Column("", widest=10, rank=1),
    Column("what it is for", flexible=True, widest=200),
)


def preset_row(preset: Preset, chosen: bool) -> Row:
    """Return the line of a preset in the list."""
    if preset.problems:
        about = Cell(f"✗ cannot be used: {_plain(preset.problems[0], preset.path)}", "$text-error")
    else:
        about = Cell(preset.summary)
    parameters = short(preset.parameters) if preset.parameters else "-"
    origin = Cell("own", "$text-accent") if preset.own else Cell("built in", MUTED)
    return Row(preset.name, (Cell(preset.name, "bold"), Cell(parameters), origin, about), chosen)


def _plain(problem: str, path: Path) -> str:
    """Leave out the path, which is said beside."""
    return problem.removeprefix(f"{path}").lstrip(": ")


def _remarks(preset: Preset) -> list[Content]:
    told = []
    if preset.problems:
        problems = [Content(f"✗ {printable(_plain(problem, preset.path))}") for problem in preset.problems]
        told.append(Content("\n").join([Content.styled("It cannot be used:", "bold $text-error"), *problems]))
    if preset.warnings:
        warnings = [Content(f"! {printable(warning)}") for warning in preset.warnings]
        told.append(Content("\n").join([Content.styled("Unusual in it:", "bold $text-warning"), *warnings]))
    if not told:
        told.append(Content.styled("Nothing in it is unusual.", MUTED))
    return told


def preset_facts(preset: Preset, chosen: bool) -> Content:
    """Return what is known of a preset."""
    pairs = [
        ("parameters", f"about {preset.parameters:,}" if preset.parameters else ""),
        ("from", "your own" if preset.own else "built in"),
        ("file", str(preset.path) if preset.own else preset.path.name),
    ]
    remark = f"{MARK} chosen for the next run" if chosen else ""
    return details(preset.name, pairs, *_remarks(preset), remark=remark)
