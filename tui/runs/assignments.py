"""Settings as a person writes them down, one a line: `learning_rate = 0.001`. Judged as they are written.

judgement = judge(config, "lr = 0.001\ndropuot = 0.1")
judgement.values        # {"training.learning_rate": "0.001"}
judgement.problems      # ["There is no setting 'dropuot'. Did you mean 'dropout'?"]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from minigpt.config import Config, SettingItem, settings
from minigpt.errors import UserError
from minigpt.presets import ConfigError, allowed, convert, nearest, unusual, with_values

LIMITS = {"training.max_epochs", "training.max_steps"}
# What of the network does not change the weights; learned positions are weights, one for each place in the context.
_FREE = {"model.dropout", "model.max_seq_len"}
_WHERE = "fork"


@dataclass(frozen=True)
class Judgement:
    """What lines of settings amount to: `values` as written by key; each change, warning and problem in words."""

    values: dict[str, str]
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def judge(config: Config, text: str) -> Judgement:
    """Say what the settings in `text` change in a configuration, and what is wrong with them."""
    values: dict[str, str] = {}
    changes, problems = [], []
    for name, value in _assignments(text):
        try:
            item = find_setting(name)
            if value is None:
                raise UserError(f"{item.key} has no value yet: {item.key}={_told(item.value_in(config))} is as it was.")
            if belongs_to_weights(config, item):
                raise UserError(f"{item.key} belongs to the weights, which a fork keeps: start a new run for that.")
            after = _converted(item, value)
        except UserError as error:
            problems.append(str(error))
            continue
        values[item.key] = value
        before = item.value_in(config)
        same = " (as it was)" if before == after else f", was {_told(before)}"
        changes.append(f"{item.key} = {_told(after)}{same}")
    warnings: list[str] = []
    if values:
        try:
            changed = with_values(config, _with_one_limit(values), _WHERE, from_text=True)
            warnings = [warning for warning in unusual(changed) if warning not in unusual(config)]
        except ConfigError as error:
            problems += [problem.removeprefix(f"{_WHERE}: ") for problem in error.problems]
    return Judgement(values, tuple(changes), tuple(warnings), tuple(problems))


def find_setting(name: str) -> SettingItem:
    """Return the setting that is meant by its key, name, flag or alias; raises UserError naming the nearest."""
    wanted = name.lower().lstrip("-").replace("-", "_")
    if wanted in settings():
        return settings()[wanted]
    found = [item for item in settings().values() if wanted in _names(item)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{name!r} may be {' or '.join(item.key for item in found)}: write which.")
    known = [*settings(), *(item.name for item in settings().values())]
    beginning = [item.key for item in settings().values() if wanted and wanted in item.key]
    hint = f" There is {', '.join(beginning[:6])}." if 0 < len(beginning) <= 6 else nearest(wanted, known)
    raise UserError(f"There is no setting {name!r}.{hint}")


def belongs_to_weights(config: Config, item: SettingItem) -> bool:
    """Whether weights trained with one value of a setting do not fit another."""
    learned = (config.model.position or config.model.family) in ("learned", "gpt2")
    free = item.key in _FREE and not (learned and item.name == "max_seq_len")
    return item.section in ("model", "tokenizer") and not free


def meaning(config: Config, line: str) -> str:
    """Return what the setting on a line means and accepts, and what it is now; nothing where none is named."""
    try:
        item = find_setting(line.partition("=")[0].strip())
    except UserError:
        return ""
    usual = f", usually {item.about.usual[0]:g} to {item.about.usual[1]:g}" if item.about.usual else ""
    return f"{item.about.meaning} It is {allowed(item)}{usual}; now {_told(item.value_in(config))}."


def _names(item: SettingItem) -> set[str]:
    return {item.name, *(flag.lstrip("-").replace("-", "_") for flag in item.flags)}


def _assignments(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield the name and the value of each line that is neither empty nor a remark; None where there is no value."""
    for line in text.splitlines():
        name, equals, value = line.partition("#")[0].partition("=")
        if name.strip() or equals:
            yield name.strip(), value.strip().strip("\"'") if equals and value.strip() else None


def _converted(item: SettingItem, value: str) -> Any:
    try:
        return convert(item, value, from_text=True)
    except ValueError as error:
        raise UserError(f"{item.key} = {value} is not allowed: it must be {error}.") from error


def _with_one_limit(values: dict[str, str]) -> dict[str, str]:
    """Return settings in which one limit of the run's length clears the other, as on the command line."""
    given = LIMITS & values.keys()
    return {**values, (LIMITS - given).pop(): "auto"} if len(given) == 1 else values


def _told(value: Any) -> str:
    if value is None:
        return "auto"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
