"""The keys at the foot of the screen."""

from __future__ import annotations

from typing import Any

from textual.widgets import Footer


class KeyLine(Footer):
    """Textual's footer, made anew only when there are other keys to show: it is asked whenever the focus moves."""

    def __init__(self) -> None:
        super().__init__(compact=True)
        self._made_of: list[tuple[Any, ...]] | None = None

    async def recompose(self) -> None:
        if not self.is_attached:
            return  # asked for before its screen was closed
        found = self._found()
        if found != self._made_of:
            self._made_of = found
            await super().recompose()
            # Textual binds each key to this value, and lets go of those it has removed only when the value is set.
            self.mutate_reactive(Footer.compact)

    def _found(self) -> list[tuple[Any, ...]]:
        """Return all that the keys are made of."""
        palette = self.app.COMMAND_PALETTE_BINDING
        return [
            (binding, self.app.get_key_display(binding), enabled, tooltip)
            for name, (_, binding, enabled, tooltip) in self.screen.active_bindings.items()
            if binding.show or name == palette
        ]
