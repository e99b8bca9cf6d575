"""A setting as a person reads and types it: its value as text, what is wrong with it, and its help.

value_text(item, None), parsed(item, "0.01"), verdict(item, 5.0), explanation(item)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import tomli

from minigpt.config import SettingItem, settings
from minigpt.errors import printable
from minigpt.presets import allowed, convert

AUTO = "auto"
BAD, UNUSUAL, FINE = "✗", "!", "✓"
SIGN_COLOURS = {BAD: "text-error", UNUSUAL: "text-warning", FINE: "text-success"}


@dataclass(frozen=True)
class Verdict:
    """What is to be said of a value: BAD, UNUSUAL or FINE, and why."""

    sign: str
    words: str

    @property
    def text(self) -> str:
        return f"{self.sign} {self.words}"


def value_text(item: SettingItem, value: Any) -> str:
    """Return a value as it is shown and typed."""
    if value is None:
        return AUTO
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False) if value else ""
    return printable(str(value), single_line=True)


def parsed(item: SettingItem, text: str) -> Any:
    """Return what somebody typed as a value; raises ValueError saying what is allowed."""
    text = text.strip()
    if item.type == list[str]:
        return _parsed_list(item, text)
    if item.optional and not text:
        return None
    return convert(item, text, from_text=True)


def _parsed_list(item: SettingItem, text: str) -> list[str]:
    if not text.startswith("["):
        return [text] if text else []
    try:
        return list(convert(item, tomli.loads(f"list = {text}")["list"]))
    except (tomli.TOMLDecodeError, RecursionError) as error:
        raise ValueError('a list of texts, as in ["one", "two"]') from error


def verdict(item: SettingItem, text: str) -> Verdict:
    """Judge what somebody has typed so far: possible, and usual?"""
    try:
        value = parsed(item, text)
    except ValueError as error:
        return Verdict(BAD, f"must be {error}")
    words = unusual_words(item, value)
    return Verdict(UNUSUAL, words) if words else Verdict(FINE, "as usual" if item.about.usual else "allowed")


def unusual_words(item: SettingItem, value: Any) -> str:
    """Return in a few words how a value is outside the usual range and what that does; nothing where it is not."""
    about = item.about
    if about.usual is None or value is None or value == about.off:
        return ""
    low, high = about.usual
    if low <= value <= high:
        return ""
    effect = about.too_low if value < low else about.too_high
    side = f"below the usual {low:g}" if value < low else f"above the usual {high:g}"
    return f"{side}: {effect}" if effect else side


def can_turn(item: SettingItem) -> bool:
    """Whether the arrow keys go through the values of a setting."""
    return bool(turns(item))


def turns(item: SettingItem) -> list[Any]:
    """Return the values that the arrow keys go through: of settings that have few."""
    values: list[Any] = list(item.choices)
    if not values and item.type in (bool, bool | None):
        values = [False, True]
    return [None, *values] if values and item.optional else values


def ranges(item: SettingItem) -> str:
    """Return in short what is possible and what is usual."""
    about = item.about
    words = allowed(item)
    if about.unit:
        words += f", in {about.unit}"
    return words + (f"; usual: {about.usual[0]:g} to {about.usual[1]:g}" if about.usual else "")


def good_start(item: SettingItem) -> str:
    """Return where to begin with a setting: its default, and what that means."""
    if item.default is None or (item.about.auto and not item.default):
        return f"{AUTO}: {item.about.auto}" if item.about.auto else AUTO
    return value_text(item, item.default)


def explanation(key: str) -> str:
    """Return all there is to say of a setting in a few sentences, for `?`."""
    item = settings()[key]
    about = item.about
    text = f"{key}: {about.meaning}\n\n{ranges(item)[0].upper()}{ranges(item)[1:]}."
    for word, effect in (("Too low", about.too_low), ("Too high", about.too_high)):
        text += f"\n{word}: {effect}." if effect else ""
    return f"{text}\nA good start: {good_start(item)}."
