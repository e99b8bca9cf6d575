"""What the five panes have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.containers import Container
from textual.widget import Widget
from textual.worker import Worker

if TYPE_CHECKING:
    from tui.app import MiniGPTApp


def in_view(widget: Widget | None) -> bool:
    """Whether a widget is there and neither it nor what it is a part of is hidden."""
    return widget is not None and all(node.display for node in widget.ancestors_with_self)


class Pane(Container):
    """One of the app's five rooms, mounted when it is first shown."""

    TITLE: ClassVar[str] = ""
    HELP: ClassVar[str] = ""  # Markdown: what the pane is for and how it is used

    @property
    def minigpt(self) -> MiniGPTApp:
        """The app, by its own type."""
        return cast("MiniGPTApp", self.app)

    def shown(self) -> None:
        """Called each time the pane comes to the front, the first time included."""

    def hidden(self) -> None:
        """Called when another pane comes to the front."""

    def asks_to_leave(self, leave: Callable[[], object]) -> bool:
        """Ask about what is not saved, and `leave` once that is answered; False where there is nothing to ask."""
        return False

    def in_thread(self, work: Callable[[], Any], group: str) -> Worker[Any]:
        """Run `work` off the event loop; a later one of the same group cancels an earlier."""
        return self.run_worker(work, name=group, group=group, thread=True, exclusive=True, exit_on_error=False)
