"""The settings of a preset as lines with a cursor, and the one field in which a value is typed.

All settings are one widget that paints what is in view: opening it costs the same whatever their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

from minigpt.config import Config, SettingItem, settings
from tui.presets.draft import Draft
from tui.presets.fields import AUTO, UNUSUAL, can_turn, explanation, unusual_words, value_text
from tui.presets.lines import EvenRows
from tui.widgets.rows import REMARK, Part, Row

CHANGED = "●"
# How an empty text or list is shown.
NONE = "none"
NAME_WIDTH = max(len(item.name) for item in settings().values()) + 1
# Two signs and a blank before the name.
VALUE_COLUMN = 3 + NAME_WIDTH
_VALUE_WIDTH = 11
_HEAD = "section:"
# What each section is about, as its class says: "how text becomes numbers".
NOTES = {
    name: (getattr(Config(), name).__doc__ or "").partition(": ")[2].rstrip(".") for name in Config.__struct_fields__
}


def section_of(row: Row) -> str:
    """Return the section that a heading is of; nothing for a setting."""
    return row.key.removeprefix(_HEAD) if row.key.startswith(_HEAD) else ""


def field_rows(draft: Draft) -> Iterator[Row]:
    """Yield a line for each section and for each setting."""
    section = ""
    for key, item in settings().items():
        if item.section != section:
            section = item.section
            yield Row(_HEAD + section, ((f"[{section}]", "bold text-accent"), (f"  {NOTES[section]}", REMARK)))
        yield Row(key, tuple(_parts(draft, item)))


def _parts(draft: Draft, item: SettingItem) -> Iterator[Part]:
    value = draft.value(item.key)
    # Without Muon its rate is not used: no word about that.
    idle = item.key == "training.muon_learning_rate" and draft.value("training.optimizer") != "muon"
    changed, unusual = item.key in draft.changes, "" if idle else unusual_words(item, value)
    text = value_text(item, value) or NONE
    own = changed or item.key in draft.written
    yield f"{CHANGED if changed else ' '}", "text-accent"
    yield f"{UNUSUAL if unusual else ' '} ", "text-warning"
    yield f"{item.name:<{NAME_WIDTH}}", "bold text" if own else "foreground-muted"
    yield f"{text:<{_VALUE_WIDTH}}", "bold text-accent" if changed else "text" if own else "foreground-muted"
    if changed:
        yield f" was {value_text(item, draft.saved(item.key)) or NONE}", "text-accent"
    if unusual:
        yield f"{', ' if changed else ' '}{unusual}", "text-warning"
    elif text in (AUTO, NONE) and item.about.auto:
        yield f" {item.about.auto}", REMARK
    elif not changed and item.about.unit:
        yield f" {item.about.unit}", REMARK


class FieldRows(EvenRows):
    """Every setting; Enter asks for a value to be typed, the arrow keys go through those that have few."""

    DEFAULT_CSS = "FieldRows { height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Change", id="fields.change", tooltip="Type another value for this setting"),
        Binding("right,space", "turn(1)", "Next", show=False, id="fields.next", tooltip="The next of a few values"),
        Binding("left", "turn(-1)", "Before", show=False, id="fields.before", tooltip="The value before"),
        Binding(
            "right_square_bracket", "section(1)", "Section", show=False, id="fields.down", tooltip="The next section"
        ),
        Binding(
            "left_square_bracket", "section(-1)", "Section", show=False, id="fields.up", tooltip="The section before"
        ),
    ]

    class Turned(Message):
        """An arrow key asks for another of a setting's few values."""

        def __init__(self, key: str, by: int) -> None:
            super().__init__()
            self.key, self.by = key, by

    @property
    def explain(self) -> str:
        """What `?` says of the line under the cursor."""
        row = self.current
        if row is None:
            return "The settings of a preset, all of them."
        section = section_of(row)
        return f"[{section}]: {NOTES[section]}" if section else explanation(row.key)

    @property
    def setting(self) -> str:
        """The key of the setting under the cursor; nothing on a heading."""
        row = self.current
        return row.key if row is not None and not section_of(row) else ""

    def _scroll(self) -> None:
        super()._scroll()
        # The heading of the first setting in view comes along where there is room.
        above = self.top - 1
        if above >= 0 and section_of(self.rows[above]) and self.cursor - above < self.size.height:
            self.top = above

    def go_to(self, key: str) -> None:
        """Put the cursor on a line."""
        keys = [row.key for row in self.rows]
        if key in keys:
            self._go(keys.index(key))

    def action_turn(self, by: int) -> None:
        if self.setting and can_turn(settings()[self.setting]):
            self.post_message(self.Turned(self.setting, by))

    def action_section(self, by: int) -> None:
        heads = [index for index, row in enumerate(self.rows) if section_of(row)]
        further = [index for index in heads[::by] if (index - self.cursor) * by > 0]
        if further:
            # With as much of the section in view as there is room for.
            self.top = further[0]
            self._go(further[0])


class ValueField(Input):
    """Where a value is typed, on top of its line; there only while it is."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    ValueField { layer: field; display: none; height: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Take it", id="value.take", tooltip="Take the value"),
        Binding("escape", "leave", "As it was", id="value.leave", tooltip="Leave the value as it was"),
        Binding("up", "take(-1)", "Up", show=False, id="value.up", tooltip="Take the value and go a line up"),
        Binding("down", "take(1)", "Down", show=False, id="value.down", tooltip="Take the value and go a line down"),
        Binding("tab", "take(1)", "Next", show=False, id="value.next", tooltip="Take the value and go to the next"),
    ]
    explain = "Type a value; what is wrong with it is said below as you type. Enter takes it, Esc leaves it as it was."

    class Done(Message):
        """The value is to be taken, and the cursor to go on by so many lines."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    class Left(Message):
        """The value is to be as it was."""

    def __init__(self) -> None:
        super().__init__(compact=True, id="value")

    def begin(self, text: str) -> None:
        """Show the field with a value that the first letter typed replaces."""
        with self.prevent(Input.Changed):
            self.value = text
        self.display = True
        self.focus()
        self.select_all()

    def action_take(self, by: int) -> None:
        self.post_message(self.Done(by))

    def action_leave(self) -> None:
        self.post_message(self.Left())

    async def action_submit(self) -> None:
        self.post_message(self.Done(0))
