"""The two lines above the panes: how the run stands, and which panes there are."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.events import Click
from textual.message import Message

from tui.widgets.rows import Part, Row, Rows


class StatusLine(Rows):
    """One line of facts, the clock at its right end; facts that do not fit are left out from the right."""

    DEFAULT_CSS = """
    StatusLine { height: 1; background: $panel; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.can_focus = False
        self._told: tuple[Sequence[Sequence[Part]], str] = ((), "")

    def on_resize(self) -> None:
        self.tell(*self._told)

    def tell(self, facts: Sequence[Sequence[Part]], right: str) -> None:
        """Show the facts, the most important first."""
        self._told = facts, right
        room = self.size.width - cell_len(right) - 2
        parts: list[Part] = [(" ", "")]
        used = 1
        for index, fact in enumerate(facts):
            joined: list[Part] = [(" │ ", "foreground-muted"), *fact] if index else list(fact)
            width = sum(cell_len(text) for text, _ in joined)
            if used + width > room:
                continue
            parts += joined
            used += width
        gap = self.size.width - used - cell_len(right) - 1
        if gap > 0:
            parts += [(" " * gap, ""), (right, "foreground-muted")]
        self.show([Row("state", tuple(parts))])


class TabLine(Rows):
    """The panes' names with their keys; a click goes there."""

    DEFAULT_CSS = """
    TabLine { height: 1; }
    """

    class Chosen(Message):
        """A name was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, names: Sequence[tuple[str, str]], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.can_focus = False
        self.names = list(names)
        self._ends: list[tuple[int, str]] = []

    def choose(self, chosen: str) -> None:
        """Mark one of the names."""
        parts: list[Part] = []
        self._ends, end = [], 0
        narrow = self.app.size.width < sum(len(title) + 6 for _, title in self.names)
        for number, (name, title) in enumerate(self.names, start=1):
            mark = name == chosen
            label = f"[{title}]" if mark else f" {title} "
            text = f" {number}" + ("" if narrow and not mark else label)
            parts.append((text, "bold primary" if mark else "foreground-muted"))
            end += len(text)
            self._ends.append((end, name))
        self.show([Row("tabs", tuple(parts))])

    def on_click(self, event: Click) -> None:
        event.stop()
        name = next((name for end, name in self._ends if event.x < end), None)
        if name is not None:
            self.post_message(self.Chosen(name))
