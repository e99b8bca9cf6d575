"""Lines whose cursor is one even bar."""

from __future__ import annotations

from tui.widgets.rows import Part, Rows


class EvenRows(Rows):
    """Rows in many colours: under the cursor they have one, reversed they would make a patchwork."""

    def _line(self, y: int, width: int, focused: bool) -> tuple[tuple[Part, ...], bool]:
        parts, marked = super()._line(y, width, focused)
        return ((("".join(text for text, _ in parts), "text"),), True) if marked else (parts, False)
