"""The presets there are, as their files say: those that cannot be used too, with what is wrong."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from minigpt.config import Config
from minigpt.errors import UserError
from minigpt.presets import (
    MAX_FILE_BYTES,
    ConfigError,
    is_builtin,
    preset_paths,
    preset_summary,
    read_file,
    unusual,
)
from minigpt.workspace import Workspace, builtin_presets

Stamps = frozenset[tuple[str, int, int]]


@dataclass(frozen=True)
class Preset:
    """A preset's file as it was read: a configuration, or what is wrong with it."""

    name: str
    path: Path
    own: bool
    summary: str
    text: str
    parameters: int | None = None
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def load_presets(workspace: Workspace) -> list[Preset]:
    """Return all presets: a person's own before the built-in ones, the smaller before the larger."""
    try:
        found = preset_paths(workspace)
    except OSError:
        # The folder of one's own cannot be looked into.
        found = preset_paths(Workspace(builtin_presets()))
    presets = [load_preset_file(name, path, workspace) for name, path in found.items()]
    return sorted(presets, key=lambda preset: (not preset.own, preset.parameters or 0, preset.name))


def load_preset_file(name: str, path: Path, workspace: Workspace) -> Preset:
    """Read one preset; what is wrong with it is part of the answer."""
    own = not is_builtin(path, workspace)
    text = _text(path)
    try:
        config = read_file(path)
    except ConfigError as error:
        return Preset(name, path, own, preset_summary(path), text, problems=tuple(error.problems))
    except UserError as error:
        return Preset(name, path, own, preset_summary(path), text, problems=(str(error),))
    return Preset(name, path, own, preset_summary(path), text, _parameters(workspace, config), tuple(unusual(config)))


def stamps(workspace: Workspace) -> Stamps:
    """Return by what it can be told whether one's own presets were changed: names, times (ns) and sizes (bytes)."""
    found = []
    for path in workspace.configs.glob("*.toml"):
        with suppress(OSError):
            told = path.stat()
            found.append((path.name, told.st_mtime_ns, told.st_size))
    return frozenset(found)


def _parameters(workspace: Workspace, config: Config) -> int | None:
    """Return how many parameters the form tells, or None where a tokenizer that it names cannot be read."""
    # In the thread that reads the files: importing it takes its time.
    from minigpt.planning.outlook import parameters_of

    try:
        return parameters_of(workspace, config)
    except (UserError, OSError):
        return None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
