"""What the person asks about with `?`: the sentence of what has the focus, and the topic that says more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textual.widget import Widget

from minigpt.config import settings
from minigpt.errors import printable
from minigpt.learn import of_kind, sentence
from tui.widgets.rows import Rows


@dataclass(frozen=True)
class Subject:
    """A sentence for a beginner, and the name of a topic where there is one."""

    text: str
    topic: str | None = None


def subject_of(focused: Widget | None, notices: Sequence[Mapping[str, Any]] = ()) -> Subject | None:
    """Return what the widget in focus is about; None where nothing is known of it.

    A widget tells by its attributes `topic` (a name) or `item` (a setting), by its own `explain` or tooltip, or by
    its id; of rows, the one under the cursor counts, which may tell of one of the `notices`.
    """
    if focused is None:
        return None
    if isinstance(focused, Rows):
        row = focused.current
        named = [_notice_in(row.text, notices) if row else "", row.key if row else "", focused.id or ""]
        found = next((name for name in named if name and sentence(name)), None)
        # A form of settings says more than their meaning: what is allowed, what is set.
        own = getattr(focused, "explain", None) if found in settings() else None
        return Subject(own or sentence(found) or "", found) if found else _told(focused, None)
    return _told(focused, _named(focused))


def _notice_in(line: str, notices: Sequence[Mapping[str, Any]]) -> str:
    """Return the code of the notice that a line of the log tells of, or nothing."""
    for notice in reversed(notices):
        words = " ".join(printable(str(notice.get("message") or "")).split())
        if words and words in line:
            return f"notices/{notice.get('code')}"
    return ""


def _named(focused: Widget) -> str | None:
    """Return the topic that the widget, or what it is a part of, stands for."""
    for node in focused.ancestors_with_self:
        name = getattr(node, "topic", None) or getattr(getattr(node, "item", None), "key", None)
        if isinstance(name, str) and sentence(name):
            return name
    own = focused.id or ""
    return own if own and sentence(own) else None


def _told(focused: Widget, topic: str | None) -> Subject | None:
    text = getattr(focused, "explain", None) or (sentence(topic) if topic else None)
    if not text and focused.tooltip:
        text = str(focused.tooltip)
    return Subject(text, topic or _topic_that_says(text)) if text else None


def _topic_that_says(text: str) -> str | None:
    """Return the figure or chart whose sentence a widget shows as its own."""
    return next((found.name for found in of_kind("metrics") if found.sentence == text), None)
