"""A preset while it is being changed: what its file says, what is to be changed, and what is wrong with that.

draft = Draft.read("tiny", path, workspace)
draft.put("training.learning_rate", 0.005)
draft.config, draft.problems, draft.toml()
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli

from minigpt.config import Config, settings
from minigpt.preset_files import LEFT_OUT, edited
from minigpt.presets import MAX_FILE_BYTES, ConfigError, is_builtin, read_file, with_values
from minigpt.workspace import Workspace
from tui.presets.fields import parsed, value_text


@dataclass
class Draft:
    """Values by "section.name": those of the file, and the changes that are not saved yet."""

    name: str
    path: Path
    builtin: bool
    text: str
    base: Config
    written: frozenset[str]  # what the file says itself; all else is as usual
    changes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str, path: Path, workspace: Workspace) -> Draft:
        """Read a preset's file; raises UserError where it cannot be used."""
        base = read_file(path)
        text = _text(path)
        written = frozenset(f"{section}.{name}" for section, table in tomli.loads(text).items() for name in table)
        return cls(name, path, is_builtin(path, workspace), text, base, written)

    def value(self, key: str) -> Any:
        """Return what a setting would be if the changes were saved."""
        return self.changes[key] if key in self.changes else self.saved(key)

    def saved(self, key: str) -> Any:
        """Return what a setting is in the file."""
        return settings()[key].value_in(self.base)

    def put(self, key: str, value: Any) -> None:
        """Change a setting; as it is in the file, it is no change."""
        if value == self.saved(key):
            self.changes.pop(key, None)
        else:
            self.changes[key] = value

    def put_typed(self, changes: Mapping[str, str]) -> None:
        """Change settings to what was typed in another session; what is no setting or value any more is left out."""
        for key in changes.keys() & settings().keys():
            with suppress(ValueError):
                self.put(key, parsed(settings()[key], changes[key]))

    def typed(self) -> dict[str, str]:
        """Return the changes as they would be typed."""
        return {key: value_text(settings()[key], value) for key, value in self.changes.items()}

    def is_outdated(self) -> bool:
        """Whether the file says something else than when it was read; one that is gone or unreadable does not."""
        try:
            return _text(self.path) != self.text
        except (OSError, UnicodeDecodeError):
            return False

    def flags(self) -> list[str]:
        """Return the changes as options of `minigpt presets check`: all but lists, which no step's time depends on."""
        plain = {key: value for key, value in self.changes.items() if not isinstance(value, list)}
        return [word for key, value in plain.items() for word in ("--set", f"{key}={_flag(value)}")]

    @property
    def config(self) -> Config | None:
        """The configuration with the changes; None where they contradict one another."""
        return self._made()[0]

    @property
    def problems(self) -> list[str]:
        """What keeps the changes from being saved, a sentence each."""
        return self._made()[1]

    def _made(self) -> tuple[Config | None, list[str]]:
        changes = {key: "auto" if value is None else value for key, value in self.changes.items()}
        try:
            return with_values(self.base, changes, ""), []
        except ConfigError as error:
            return None, [problem.lstrip(": ") for problem in error.problems]

    def toml(self) -> str:
        """Return the file as it would be saved; raises UserError where it cannot be."""
        return edited(self.text, self.changes, self.path.name)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES).decode("utf-8-sig")


def _flag(value: Any) -> str:
    if value is None:
        return LEFT_OUT
    return str(value).lower() if isinstance(value, bool) else str(value)
