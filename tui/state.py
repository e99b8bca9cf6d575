"""What the app remembers from one session to the next: saved when it changes, because a hang-up gives no warning.

Per workspace: `checkpoints/.app/state.json` and `checkpoints/.app/conversations/`.
Per person: `settings.toml` in the configuration folder, with the theme and the keys.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
import tomli

from minigpt.errors import UserError, printable
from minigpt.events import encode_line
from minigpt.workspace import Workspace

APP_FOLDER = ".app"
SETTINGS = "settings.toml"


class UIState(msgspec.Struct):
    """Where a person left off in one workspace."""

    pane: str = "train"
    preset: str = "tiny"
    corpus: str = "sample"
    run: str | None = None
    # How far each run had come when it was last looked at: for the account of what happened since.
    seen_steps: dict[str, int] = {}
    seen_time: float = 0.0
    attached: bool = False  # whether the run was at work then
    theme: str | None = None
    below: str = "log"
    log_filter: str = "all"
    chart: str = "loss"
    log_axis: bool = False
    smoothing: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.9
    x_axis: str = "step"
    recent: bool = False
    runs_order: str = ""  # the column by which the Runs pane is in order, and whether the largest come first
    runs_falling: bool = True
    chat_draft: str = ""
    # A preset whose changes are not saved, and these as they would be typed, by "section.name".
    preset_draft: str = ""
    preset_changes: dict[str, str] = {}
    conversation: str | None = None


class PersonalSettings(msgspec.Struct, forbid_unknown_fields=True):
    """What a person chose for all workspaces; `keys` maps the id of a binding to keys, separated by commas."""

    theme: str = "tokyo-night"
    braille: bool = True
    keys: dict[str, str] = {}


def app_folder(workspace: Workspace) -> Path:
    """Return the folder of the app's own files in a workspace."""
    return workspace.checkpoints / APP_FOLDER


def load_state(workspace: Workspace) -> UIState:
    """Return the remembered state; a file that is missing or damaged counts as none."""
    try:
        return msgspec.json.decode((app_folder(workspace) / "state.json").read_bytes(), type=UIState)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return UIState()


def save_state(workspace: Workspace, state: UIState) -> None:
    """Write the state whole or not at all; where it cannot be written, the next session starts afresh."""
    try:
        # A run or a corpus may have a name that JSON cannot hold.
        write_whole(app_folder(workspace) / "state.json", msgspec.json.format(encode_line(msgspec.to_builtins(state))))
    except OSError:
        return


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def settings_path() -> Path:
    """Return where a person's own settings lie."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "minigpt" / SETTINGS


def load_settings() -> PersonalSettings:
    """Return the person's settings; raises UserError for a file that does not make sense."""
    path = settings_path()
    try:
        return msgspec.convert(tomli.loads(path.read_text(encoding="utf-8")), PersonalSettings)
    except FileNotFoundError:
        return PersonalSettings()
    except (OSError, UnicodeDecodeError, tomli.TOMLDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise UserError(
            f"{printable(str(path))} was not used ({printable(str(error), single_line=True)}): it may hold "
            'theme = "NAME", braille = true or false, and a table [keys] with lines such as start = "s".'
        ) from error
