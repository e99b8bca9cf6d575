"""Configurations as files and flags: TOML in and out, presets by name, every mistake told at once.

config = load_preset("tiny", Workspace.find())
config = with_values(config, {"training.max_steps": "500"}, "command line", from_text=True)
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
import tomli
import tomlkit

from minigpt.config import Config, ModelSettings, SettingItem, settings
from minigpt.errors import UserError, one_line
from minigpt.workspace import Workspace, builtin_presets

MAX_FILE_BYTES = 1_000_000
_SUMMARY_CHARACTERS = 4096


# What is trained where nobody chose.
DEFAULT_PRESET = "tiny"
# The presets that come with MiniGPT.
BUILT_IN = (
    "tiny",
    "small",
    "medium",
    "small-512",
    "gpt2-from-scratch",
    "gpt2-medium-from-scratch",
    "dolma-75m",
    "shakespeare-char",
    "words",
)


class ConfigError(UserError):
    """One or more settings that cannot be used; `problems` has a sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = len(problems)
        super().__init__(
            problems[0] if count == 1 else f"{count} settings cannot be used:\n  - " + "\n  - ".join(problems)
        )


def nearest(name: str, known: list[str]) -> str:
    """Return " Did you mean ...?" for the known name most like `name`, or nothing where none is like it."""
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def convert(item: SettingItem, value: Any, from_text: bool = False) -> Any:
    """Return `value` in the setting's own type; raises ValueError saying what is allowed.

    With `from_text`, strings such as "3" and "true" count as numbers and switches, as on a command line.
    """
    if item.optional and value in ("auto", "none"):
        return None
    list_of_text = item.type == list[str]
    if list_of_text and isinstance(value, str):
        value = [value]
    try:
        result = msgspec.convert(value, item.type, strict=not from_text or list_of_text)
    except msgspec.ValidationError as error:
        raise ValueError(allowed(item)) from error
    low, high = item.about.possible or (float("-inf"), float("inf"))
    if isinstance(result, (int, float)) and not isinstance(result, bool) and not low <= result <= high:
        raise ValueError(allowed(item))
    return result


def allowed(item: SettingItem) -> str:
    """Return in words what a setting accepts: "a whole number from 1 to 256"."""
    kinds = [part for part in (item.type, *get_args(item.type)) if part in (bool, int, float, str)]
    if item.choices:
        words = "one of " + ", ".join(str(choice) for choice in item.choices)
    elif item.type == list[str]:
        words = "a list of texts"
    else:
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kinds[0]]
    if item.about.possible:
        low, high = item.about.possible
        words += f" from {low:g} to {high:,.0f}" if high >= 1e4 else f" from {low:g} to {high:g}"
    if item.optional:
        words += ', or "auto"'
    return words


def from_mapping(data: Mapping[str, Any], where: str) -> Config:
    """Build a configuration from nested tables; raises ConfigError with every problem found, `where` in each."""
    flat: dict[str, Any] = {}
    problems: list[str] = []
    sections = list(Config.__struct_fields__)
    for section, table in data.items():
        if section not in sections:
            hint = _moved(section) or nearest(section, sections)
            problems.append(f"{where}: there is no section [{section}].{hint} Sections are {', '.join(sections)}.")
        elif not isinstance(table, Mapping):
            problems.append(f"{where}: {section} must be a table, written [{section}].")
        else:
            flat.update({f"{section}.{name}": value for name, value in table.items()})
    return with_values(Config(), flat, where, problems=problems)


def with_values(
    config: Config,
    values: Mapping[str, Any],
    where: str,
    from_text: bool = False,
    problems: list[str] | None = None,
) -> Config:
    """Return `config` with settings replaced, `values` being keyed "section.name"; raises ConfigError."""
    problems = list(problems or [])
    changes: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        item = settings().get(key)
        if item is None:
            problems.append(f"{where}: there is no setting {key!r}.{_suggestion(key)}")
            continue
        try:
            changes.setdefault(item.section, {})[item.name] = convert(item, value, from_text)
        except ValueError as error:
            problems.append(f"{where}: {key} = {_shown(value)} is not allowed: it must be {error}.")
    if problems:
        raise ConfigError(problems)
    sections = {name: msgspec.structs.replace(getattr(config, name), **new) for name, new in changes.items()}
    result = msgspec.structs.replace(config, **sections)
    conflicts = [f"{where}: {problem}" for problem in contradictions(result)]
    if conflicts:
        raise ConfigError(conflicts)
    return result


def _suggestion(key: str) -> str:
    known = list(settings())
    name = key.rpartition(".")[2]
    elsewhere = [item.key for item in settings().values() if name in (item.name, *item.about.aliases)]
    return f" Did you mean {elsewhere[0]!r}?" if elsewhere else nearest(key, known)


def _moved(name: str) -> str:
    homes = [item.section for item in settings().values() if item.name == name]
    return f" The setting {name} belongs below [{homes[0]}]." if homes else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def contradictions(config: Config) -> list[str]:
    """Return a sentence for each pair of settings that cannot stand together."""
    found = []
    model = config.model
    heads, kv_heads = model.n_heads, model.n_kv_heads or model.n_heads
    rotated = (model.position or ("learned" if model.family == "gpt2" else "rope")) == "rope"
    if model.head_dim is None and model.d_model % heads:
        found.append(
            f"model.n_heads = {heads} does not divide model.d_model = {model.d_model}: each head takes an equal "
            f"share of the width, so choose {_head_counts(model, rotated)}."
        )
    elif rotated and (model.head_dim or model.d_model // heads) % 2:
        choose = f"choose {_head_counts(model, rotated)}" if model.head_dim is None else "choose an even model.head_dim"
        width = model.head_dim or model.d_model // heads
        found.append(f"heads of width {width} cannot be rotated in pairs (RoPE): {choose}.")
    if heads % kv_heads:
        found.append(
            f"model.n_kv_heads = {kv_heads} does not divide model.n_heads = {heads}: choose a divisor of {heads}."
        )
    if config.corpus.validation_fraction + config.corpus.test_fraction >= 1:
        found.append(
            "corpus.validation_fraction and corpus.test_fraction leave nothing to learn from: keep their sum below 1."
        )
    return found


def _head_counts(model: ModelSettings, rotated: bool) -> str:
    """Return in words the numbers of heads nearest to the one asked for that the width can be cut into."""
    fitting = [
        n
        for n in range(1, 257)
        if model.d_model % n == 0 and not (rotated and model.d_model // n % 2) and n % (model.n_kv_heads or n) == 0
    ]
    if not fitting:
        step = model.n_heads * (2 if rotated else 1)
        width = max(8, step, model.d_model // step * step)
        return f"a model.d_model that is a multiple of {step}, such as {-(-width // step) * step}"
    close = sorted(sorted(fitting, key=lambda n: abs(n - model.n_heads))[:3])
    return f"model.n_heads = {' or '.join(map(str, close))}"


def unusual(config: Config) -> list[str]:
    """Return a word of warning for each setting outside its usual range."""
    warnings = []
    for item in settings().values():
        value = item.value_in(config)
        about = item.about
        if about.usual is None or value is None or value == about.off:
            continue
        if item.key == "training.muon_learning_rate" and config.training.optimizer != "muon":
            continue
        low, high = about.usual
        if value < low or value > high:
            effect = about.too_low if value < low else about.too_high
            warnings.append(
                f"{item.key} = {value:g} is {'below' if value < low else 'above'} the usual {low:g} to {high:g}"
                + (f": {effect}." if effect else ".")
            )
    return warnings


def read_file(path: Path) -> Config:
    """Read a TOML or JSON configuration; raises UserError when it cannot be read or used."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MAX_FILE_BYTES + 1)
        if len(text) > MAX_FILE_BYTES:
            raise UserError(f"{one_line(path)} is too large for a configuration: settings take a few kilobytes.")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"Cannot read the configuration {one_line(path)}: {reason}.") from error
    return parse(text, one_line(path), json_format=path.suffix.lower() == ".json")


def parse(text: str, where: str, json_format: bool = False) -> Config:
    """Build a configuration from the text of a TOML (or JSON) file; raises UserError."""
    try:
        data = json.loads(text) if json_format else tomli.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid {'JSON' if json_format else 'TOML'}: {error}.") from error
    if not isinstance(data, dict):
        raise UserError(f"{where} must hold an object with the sections {', '.join(Config.__struct_fields__)}.")
    return from_mapping(data, where)


def to_mapping(config: Config) -> dict[str, dict[str, Any]]:
    """Return the configuration as nested plain values; what is left to be chosen is left out."""
    return {
        section: {name: value for name, value in table.items() if value is not None}
        for section, table in msgspec.to_builtins(config).items()
    }


def to_toml(config: Config) -> str:
    """Return the configuration as TOML, each setting with its meaning beside it."""
    document = tomlkit.document()
    for section, values in to_mapping(config).items():
        table = tomlkit.table()
        for name, value in values.items():
            entry = tomlkit.item(value)
            entry.comment(settings()[f"{section}.{name}"].about.meaning)
            table.add(name, entry)
        document.add(section, table)
    return tomlkit.dumps(document)


def preset_paths(workspace: Workspace) -> dict[str, Path]:
    """Return every preset file by name: the user's own first, then those that come with MiniGPT."""
    found: dict[str, Path] = {}
    for folder in (builtin_presets(), workspace.configs):
        if folder.is_dir():
            found.update({path.stem: path for path in sorted(folder.glob("*.toml")) if not _keeps_waiting(path)})
    return found


def _keeps_waiting(path: Path) -> bool:
    """Whether a path is a pipe or a device, at which whoever reads may wait for ever."""
    return path.is_fifo() or path.is_char_device() or path.is_block_device() or path.is_socket()


def is_builtin(path: Path, workspace: Workspace) -> bool:
    """Return whether a preset's file came with MiniGPT: such a file is copied, never changed.

    In a checkout one's own presets lie in the same folder: there the name tells.
    """
    folder = builtin_presets()
    if path.parent != folder:
        return False
    return path.stem in BUILT_IN or workspace.configs != folder


def load_preset(name: str, workspace: Workspace) -> Config:
    """Read a preset by name; raises UserError naming the nearest when there is none of that name."""
    paths = preset_paths(workspace)
    if name not in paths:
        hint = nearest(name, list(paths))
        raise UserError(f"There is no preset {name!r}.{hint} Presets are: {one_line(', '.join(sorted(paths)))}.")
    return read_file(paths[name])


def preset_summary(path: Path) -> str:
    """Return the first comment line of a preset: what it is for, in a sentence."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            first = file.read(_SUMMARY_CHARACTERS).lstrip().partition("\n")[0]
    except OSError:
        return ""
    return first.lstrip("# ").strip() if first.startswith("#") else ""
