"""Presets as files that people write: changed without losing a comment, copied, and compared.

path = duplicate("tiny", "mine", workspace)
save_values(path, {"training.learning_rate": 0.005})
for difference in diff(load_preset("tiny", workspace), read_file(path)):
    print(difference.key, difference.one, difference.other)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from minigpt.config import Config, settings
from minigpt.errors import UserError, one_line
from minigpt.presets import MAX_FILE_BYTES, nearest, parse, preset_paths, read_file, to_mapping, with_values
from minigpt.workspace import Workspace, checked_name, new_file

# How a file says that a setting is left to be chosen.
LEFT_OUT = "auto"


class Difference(NamedTuple):
    """A setting with its value in two configurations."""

    key: str
    one: Any
    other: Any


def diff(one: Config, other: Config) -> list[Difference]:
    """Return the settings in which two configurations differ, in the order of their definition."""
    pairs = (Difference(item.key, item.value_in(one), item.value_in(other)) for item in settings().values())
    return [pair for pair in pairs if pair.one != pair.other]


def edited(text: str, changes: Mapping[str, Any], where: str = "the preset", asked: str | None = None) -> str:
    """Return a preset's text with settings replaced, keyed "section.name"; all else stays as it was.

    None leaves a setting to be chosen. Raises UserError where the text is not TOML, or is written in a way in which
    the change cannot be made: what is wrong with the text is said of `where`, with the changes of `asked`.
    """
    # A file from Windows begins with a mark that TOML does not know.
    text = text.removeprefix("\ufeff")
    plain = {key: LEFT_OUT if value is None else value for key, value in changes.items()}
    wanted = with_values(parse(text, where), plain, asked or where)
    try:
        document = tomlkit.parse(text)
        for key, value in changes.items():
            _put(document, key, value)
        result = tomlkit.dumps(document)
    except (TOMLKitError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{where} cannot be changed here ({error}): change it in an editor.") from error
    if parse(result, where) != wanted:
        raise UserError(f"{where} is written in a way that cannot be changed here: change it in an editor.")
    return result


def _put(document: tomlkit.TOMLDocument, key: str, value: Any) -> None:
    section, _, name = key.partition(".")
    table = document.get(section)
    if table is None:
        if value is None:
            return
        table = tomlkit.table()
        document.add(section, table)
    assert isinstance(table, MutableMapping)
    if name in table:
        table[name] = LEFT_OUT if value is None else value
    elif value is not None:
        _append(table, name, value)


def _append(table: MutableMapping[str, Any], name: str, value: Any) -> None:
    """Put a new setting behind the last one of its section: the comments that follow belong to what comes next."""
    if not isinstance(table, Table):
        table[name] = value
        return
    body = table.value.body
    following: list[Any] = []
    while body and body[-1][0] is None:
        following.insert(0, body.pop())
    table.append(name, value)
    body.extend(following)


def save_values(path: Path, changes: Mapping[str, Any]) -> Config:
    """Change settings in a preset's file and return what it then says; comments stay, and the file is never half
    written. Raises UserError, ConfigError among them, with the file as it was.
    """
    text = edited(_read(path), changes, one_line(path))
    config = parse(text, one_line(path))
    _write(path, text)
    return config


def duplicate(
    source: str, name: str, workspace: Workspace, changes: Mapping[str, Any] | None = None, asked: str | None = None
) -> Path:
    """Copy a preset, its comments too, into a new file of one's own; returns its path. Raises UserError, in which
    mistakes in the changes are those of `asked`, such as the command line.
    """
    paths = preset_paths(workspace)
    if source not in paths:
        hint = nearest(source, list(paths))
        raise UserError(f"There is no preset {source!r}.{hint} Presets are: {one_line(', '.join(sorted(paths)))}.")
    text = edited(_read(paths[source]), changes or {}, one_line(paths[source]), asked or name)
    return create(
        name, text, workspace, f"{name}: {source} with changes of your own.", f"What follows was said of {source}."
    )


def create(name: str, text: str, workspace: Workspace, *comments: str) -> Path:
    """Write a new preset of one's own below some lines of comment; returns its path.

    Raises UserError where the name is taken or the text is no configuration.
    """
    path = own_path(name, workspace)
    parse(text, one_line(path))
    _write(path, "".join(f"# {line}\n#\n" for line in comments) + text)
    return path


def own_path(name: str, workspace: Workspace) -> Path:
    """Return where a new preset of this name would lie; raises UserError where there is one already."""
    if name.endswith(".toml"):
        name = name.removesuffix(".toml")
    path = workspace.configs / f"{checked_name(name, 'preset')}.toml"
    if name in preset_paths(workspace):
        raise UserError(f"There is a preset {name!r} already: choose another name.")
    return path


def free_name(source: str, taken: Iterable[str]) -> str:
    """Return a name for a copy that nobody has yet: tiny-2 for tiny."""
    names, stem, number = set(taken), source, 2
    head, dash, tail = source.rpartition("-")
    # A number that the source's own name ends in is counted on: small-512 is no second small.
    if dash and tail.isdecimal() and int(tail) < 100:
        stem, number = head, int(tail) + 1
    while f"{stem}-{number}" in names:
        number += 1
    return f"{stem}-{number}"


def delete_preset(path: Path) -> None:
    """Delete a preset's file; raises UserError."""
    try:
        path.unlink()
    except OSError as error:
        raise UserError(f"Cannot delete {one_line(path)}: {error.strerror}.") from error


def configuration_of(name: str, workspace: Workspace) -> Config:
    """Return the configuration of a preset, of a file, or of a run; raises UserError where there is none."""
    paths = preset_paths(workspace)
    if name in paths:
        return read_file(paths[name])
    file = Path(name).expanduser()
    if file.suffix.lower() in (".toml", ".json"):
        return read_file(file)
    run = workspace.checkpoints / name / "config.toml"
    if Path(name).name == name and run.is_file():
        return read_file(run)
    hint = nearest(name, list(paths))
    named = one_line(", ".join(sorted(paths)))
    raise UserError(f"There is no preset, run or file {name!r}.{hint} Presets are: {named}.")


def text_of(config: Config) -> str:
    """Return a configuration as the text of a preset: what differs from the usual, and nothing else."""
    usual = to_mapping(Config())
    document = tomlkit.document()
    for section, values in to_mapping(config).items():
        changed = {name: value for name, value in values.items() if value != usual[section].get(name)}
        if changed:
            document.add(section, tomlkit.item(changed))
    return tomlkit.dumps(document)


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"Cannot read the preset {one_line(path)}: {reason}.") from error
    if len(text) > MAX_FILE_BYTES:
        raise UserError(f"{one_line(path)} is too large for a preset: settings take a few kilobytes.")
    return text


def _write(path: Path, text: str) -> None:
    """Write a file beside its place and rename it, so that it is there whole or not at all."""
    temporary = None
    try:
        # What a link points to is replaced, not the link.
        target = path.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = new_file(target.parent, f".{path.stem}-", ".tmp")
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            if target.exists():
                os.fchmod(file.fileno(), target.stat().st_mode & 0o777)
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise UserError(
            f"Cannot write {one_line(path)} ({error.strerror}): is the folder yours, and the disk not full?"
        ) from error
