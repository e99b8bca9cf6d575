"""A list that stands before everything else until one of its rows is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option


class Pick(ModalScreen[tuple[str, int] | None]):
    """Choose a row; gives ("open", index) or, where rows can be changed, ("delete" or "rename", index)."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Close", id="pick.close", tooltip="Close without choosing"),
        Binding("d,delete", "change('delete')", "Delete", id="pick.delete", tooltip="Delete this one; asks first"),
        Binding("r", "change('rename')", "Rename", id="pick.rename", tooltip="Give this one another name"),
    ]
    DEFAULT_CSS = """
    Pick { align: center middle; }
    Pick > Vertical {
        width: 90%; max-width: 90; height: auto; max-height: 90%;
        border: round $primary; padding: 0 1; background: $surface;
    }
    Pick OptionList { height: auto; max-height: 1fr; border: none; padding: 0; background: transparent; }
    Pick .hint { color: $foreground-muted; height: auto; }
    """

    def __init__(self, title: str, rows: Sequence[Content], empty: str, changeable: bool = False) -> None:
        super().__init__()
        self.title_text, self.rows, self.empty, self.changeable = title, list(rows), empty, changeable

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Content(self.title_text)
            rows = OptionList(*(Option(row) for row in self.rows), compact=True)
            rows.display = bool(self.rows)
            yield rows
            yield Static(Content(self._hint()), classes="hint")

    def _hint(self) -> str:
        if not self.rows:
            return f"{self.empty}  Esc closes."
        return "Enter opens" + (", d deletes, r renames" if self.changeable else "") + ", Esc closes."

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()
        if self.rows:
            self.query_one(OptionList).highlighted = 0

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(("open", event.option_index))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self.changeable and bool(self.rows) if action == "change" else True

    def action_change(self, what: str) -> None:
        index = self.query_one(OptionList).highlighted
        if index is not None:
            self.dismiss((what, index))
