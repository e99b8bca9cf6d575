"""The help beside a field: what the setting means, what is possible and usual, what too much and too little do."""

from __future__ import annotations

from textual.content import Content

from minigpt.config import SettingItem
from tui.presets.fields import FINE, SIGN_COLOURS, Verdict, can_turn, good_start, ranges
from tui.presets.rows import NOTES
from tui.widgets.listing import MUTED


def field_help(item: SettingItem, verdict: Verdict, typed: bool) -> Content:
    """Return the help for a setting; while a value is typed, what is to be said of it comes first."""
    about = item.about
    lines = []
    if typed or verdict.sign != FINE:
        lines.append(Content.styled(verdict.text, f"bold ${SIGN_COLOURS[verdict.sign]}"))
    lines.append(Content.assemble((item.name, "bold"), f"  {about.meaning}"))
    lines.append(_line("Allowed", ranges(item)))
    lines += [
        _line(label, words) for label, words in (("Too low", about.too_low), ("Too high", about.too_high)) if words
    ]
    lines.append(_line("A good start", f"{good_start(item)}  ({_keys(item, typed)})"))
    return Content("\n").join(lines)


def _keys(item: SettingItem, typed: bool) -> str:
    if can_turn(item):
        return "← → change it"
    return "Enter takes it, Esc leaves it as it was" if typed else "Enter changes it"


def section_help(section: str) -> Content:
    """Return what a section is about."""
    return Content.assemble((f"[{section}]", "bold"), f"  {NOTES[section][0].upper()}{NOTES[section][1:]}.")


def _line(label: str, words: str) -> Content:
    return Content.assemble((f"{label}: ", MUTED), words)
