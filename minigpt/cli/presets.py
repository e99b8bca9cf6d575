"""`minigpt presets list|show|check|diff|new|fit|sweep`."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Any

from minigpt.cli.common import add_setting_flags, given_settings, workspace_of, write_json
from minigpt.cli.main import say
from minigpt.config import settings
from minigpt.errors import UserError, printable
from minigpt.planning.outlook import parameters_of
from minigpt.preset_files import configuration_of, create, diff, duplicate, text_of
from minigpt.presets import (
    DEFAULT_PRESET,
    ConfigError,
    convert,
    is_builtin,
    load_preset,
    preset_paths,
    preset_summary,
    read_file,
    to_mapping,
    unusual,
    with_values,
)
from minigpt.workspace import Workspace

SECTIONS = ("corpus", "tokenizer", "model", "training", "generation")


def add_presets_arguments(parser: argparse.ArgumentParser) -> None:
    from minigpt.cli.presets_check import add_check
    from minigpt.cli.sweep import add_fit, add_sweep

    actions = parser.add_subparsers(dest="action", metavar="list|show|check|diff|new|fit|sweep", required=True)
    listing = actions.add_parser("list", help="every preset, in a line each")
    showing = actions.add_parser("show", help="one preset's file")
    showing.add_argument("name", metavar="PRESET")
    add_check(actions)
    comparing = actions.add_parser("diff", help="the settings in which two presets differ")
    comparing.add_argument("one", metavar="PRESET", help="a preset, a run, or a file")
    comparing.add_argument("other", metavar="OTHER", help="what to compare it with")
    making = actions.add_parser("new", help="a preset of your own, as a copy of another with changes")
    making.add_argument("name", metavar="NAME", help="what to call it")
    making.add_argument(
        "--from", dest="source", metavar="PRESET", default=DEFAULT_PRESET, help="a preset, a run, or a file to copy"
    )
    add_setting_flags(making, SECTIONS)
    add_fit(actions)
    add_sweep(actions)
    for action, run in ((listing, run_list), (showing, run_show), (comparing, run_diff), (making, run_new)):
        action.add_argument("--json", action="store_true", help="write JSON")
        action.set_defaults(run=run)


def run_presets(options: argparse.Namespace) -> int:
    return int(options.run(options))


def run_list(options: argparse.Namespace) -> int:
    workspace = workspace_of(options)
    rows = [_listed(name, path, workspace) for name, path in preset_paths(workspace).items()]
    if options.json:
        write_json(rows)
        return 0
    names = [printable(row["preset"], single_line=True) for row in rows]
    width = max(map(len, names))
    for name, row in zip(names, rows, strict=True):
        problems = row["problems"]
        told = row["summary"] if not problems else "cannot be used: " + (problems[0] if len(problems) == 1 else "")
        whose, parameters = ("yours" if row["own"] else "built-in"), _short(row["parameters"])
        print(f"{name:<{width}}  {whose:<8}  {parameters:>6}  {printable(told.rstrip(), single_line=True)}")
        for problem in problems if len(problems) > 1 else ():
            print(f"  - {printable(problem, single_line=True)}")
    return 0


def _listed(name: str, path: Path, workspace: Workspace) -> dict[str, Any]:
    parameters, problem, problems = None, "", []
    try:
        config = read_file(path)
        with suppress(UserError):  # its text is what cannot be used
            parameters = parameters_of(workspace, config)
    except ConfigError as error:
        problem, problems = str(error), error.problems
    except UserError as error:
        problem, problems = str(error), [str(error)]
    own, summary = not is_builtin(path, workspace), preset_summary(path)
    return {
        "preset": name,
        "own": own,
        "parameters": parameters,
        "summary": summary,
        "path": str(path),
        "problem": problem,
        "problems": problems,
    }


def _short(count: int | None) -> str:
    """Return a number of parameters in few letters: 840k, 1.3M, 124M."""
    if count is None:
        return "-"
    size, unit = next(((size, unit) for size, unit in ((1e9, "B"), (1e6, "M")) if count >= size), (1e3, "k"))
    return f"{count / size:.3g}{unit}"


def run_show(options: argparse.Namespace) -> int:
    workspace = workspace_of(options)
    config = load_preset(options.name, workspace)
    if options.json:
        write_json(to_mapping(config))
    else:
        print(printable(preset_paths(workspace)[options.name].read_text(encoding="utf-8-sig")), end="")
    return 0


def run_diff(options: argparse.Namespace) -> int:
    workspace = workspace_of(options)
    found = diff(configuration_of(options.one, workspace), configuration_of(options.other, workspace))
    if options.json:
        write_json([difference._asdict() for difference in found])
        return 0
    if not found:
        say(f"{options.one} and {options.other} do not differ in any setting.")
        return 0
    told = [("", options.one, options.other), *((key, _shown(one), _shown(other)) for key, one, other in found)]
    rows = [[printable(cell, single_line=True) for cell in row] for row in told]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for row in rows:
        print(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}")
    return 0


def _shown(value: Any) -> str:
    if value is None:
        return "auto"
    return str(value).lower() if isinstance(value, bool) else str(value)


def run_new(options: argparse.Namespace) -> int:
    workspace = workspace_of(options)
    path = make_preset(options.name, options.source, workspace, _converted(given_settings(options)))
    config = read_file(path)
    for warning in unusual(config):
        say(f"Note: {warning}")
    if options.json:
        write_json({"preset": path.stem, "path": str(path), "settings": to_mapping(config)})
    else:
        print(printable(str(path)))
        say(f"Train it with `minigpt train --preset {path.stem}`.")
    return 0


def make_preset(name: str, source: str, workspace: Workspace, values: dict[str, Any]) -> Path:
    """Copy a preset with its comments, or write down the settings of a run or a file; raises UserError."""
    if source in preset_paths(workspace):
        return duplicate(source, name, workspace, values, "command line")
    config = configuration_of(source, workspace)
    changes = {key: "auto" if value is None else value for key, value in values.items()}
    text = text_of(with_values(config, changes, "command line"))
    return create(name, text, workspace, f"{name}: the settings of {source}.")


def _converted(given: dict[str, Any]) -> dict[str, Any]:
    """Return settings given as text in their own types; one limit of the run's length clears the other.

    Raises ConfigError with each that is not allowed.
    """
    problems, values = [], {}
    for key, text in given.items():
        item = settings().get(key)
        try:
            values[key] = text if item is None else convert(item, text, from_text=True)
        except ValueError as error:
            problems.append(f"command line: {key} = {text!r} is not allowed: it must be {error}.")
    if problems:
        raise ConfigError(problems)
    limits = {"training.max_epochs", "training.max_steps"}
    if len(limits & values.keys()) == 1:
        values[(limits - values.keys()).pop()] = None
    return values
