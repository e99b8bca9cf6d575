"""What several commands share: finding models, reading settings from flags, writing JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from minigpt.cli.main import say
from minigpt.config import Config, SettingItem, settings
from minigpt.errors import UserError, one_line, safe_json
from minigpt.events import encode_line
from minigpt.presets import allowed, with_values
from minigpt.runs import best_checkpoint, find_run
from minigpt.workspace import Workspace

if TYPE_CHECKING:
    from minigpt.inference.generate import LoadedModel


def workspace_of(options: argparse.Namespace) -> Workspace:
    return Workspace.find(options.workspace)


def write_json(value: Any) -> None:
    """Write one JSON document to stdout; undecodable bytes of names become \\udc80 and so on, as JSON has none."""
    try:
        data = msgspec.json.encode(value)
    except UnicodeEncodeError:
        data = encode_line(msgspec.to_builtins(value))
    sys.stdout.write(safe_json(msgspec.json.format(data.strip(), indent=2).decode()) + "\n")


def add_setting_flags(parser: argparse.ArgumentParser, sections: Collection[str]) -> None:
    """Add a flag for every setting of some sections, its help made from the setting's own definition."""
    for section in sections:
        group = parser.add_argument_group(f"[{section}]")
        for item in settings().values():
            if item.section == section:
                _add_flag(group, item, list(item.flags))
    group = parser.add_argument_group("any setting")
    group.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="set one by its name")


def _add_flag(group: argparse._ArgumentGroup, item: SettingItem, flags: list[str]) -> None:
    arguments: dict[str, Any] = {"dest": f"setting:{item.key}", "default": None, "help": flag_help(item)}
    if item.type == list[str]:
        arguments.update(action="append", metavar="TEXT")
    elif item.type is bool or item.type == bool | None:
        arguments.update(nargs="?", const="true", metavar="true|false")
    else:
        arguments.update(metavar="|".join(map(str, item.choices)) or ("TEXT" if item.type is str else "N"))
    group.add_argument(*flags, **arguments)


def flag_help(item: SettingItem) -> str:
    """Return a setting's meaning, what it accepts, and what is usual."""
    about = item.about
    parts = [about.meaning]
    if item.type is not str and item.type != list[str]:
        parts.append(f"[{allowed(item)}" + (f"; unit: {about.unit}" if about.unit else "") + "]")
    if about.usual:
        parts.append(f"Usual: {about.usual[0]:g} to {about.usual[1]:g}.")
    if about.auto:
        parts.append(f"Left out: {about.auto}.")
    return " ".join(parts).replace("%", "%%")


def given_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings given by flags and --set, by key; flags count more."""
    values: dict[str, Any] = {}
    for assignment in options.set:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise UserError(f"--set {assignment!r} has no value: write --set section.key=value.")
        values[key.strip()] = value.strip()
    for name, value in vars(options).items():
        if name.startswith("setting:") and value is not None:
            values[name.removeprefix("setting:")] = value
    return values


def with_given(config: Config, options: argparse.Namespace) -> Config:
    """Return `config` with what the command line sets; one limit of the run's length clears the other."""
    values = given_settings(options)
    limits = {"training.max_epochs", "training.max_steps"}
    given = limits & values.keys()
    if len(given) == 1:
        values[(limits - given).pop()] = "auto"
    return with_values(config, values, "command line", from_text=True)


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="a run's name or a checkpoint file (default: the newest run's best)"
    )
    parser.add_argument("--checkpoint", "--run", dest="model_flag", metavar="MODEL", help="the same, as an option")


def names_a_file(name: str) -> bool:
    """Whether a person means a file by this, rather than a run."""
    try:
        return name.endswith(".pt") or Path(name).is_file()
    except OSError:  # longer than any path
        return False


def find_model(options: argparse.Namespace) -> Path:
    """Return the checkpoint file that the command line names; says which it is where none was named."""
    name = options.model_flag or options.model
    if name is not None and names_a_file(name):
        return Path(name).expanduser()
    directory = find_run(workspace_of(options), name)
    path = best_checkpoint(directory)
    if path is None:
        raise UserError(
            f"The run {one_line(directory.name)} has no checkpoint yet: wait for its first one, or ask for one with "
            f"`minigpt control {one_line(directory.name)} checkpoint`."
        )
    if name is None:
        say(f"Model: {one_line(directory.name)}, {path.name}")
    return path


def open_model(path: Path, device: str) -> LoadedModel:
    """Load a checkpoint, and have this process compute as fast as the trainer does."""
    import minigpt
    from minigpt.device import choose, tune_process

    tune_process(choose(device))
    return minigpt.load(path, device)
