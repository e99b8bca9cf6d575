"""What was asked of trainers, on its way to them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from minigpt.errors import UserError, printable

if TYPE_CHECKING:
    from tui.panes.pane import Pane
    from tui.watch import Watcher


class Outbox:
    """Sends commands to trainers off the event loop, in the order in which they were asked for."""

    def __init__(self, pane: Pane) -> None:
        self._pane = pane
        self._waiting: deque[tuple[Watcher, str, dict[str, Any]]] = deque()
        self._sending = threading.Lock()

    def send(self, watcher: Watcher, command: str, arguments: Mapping[str, Any]) -> None:
        """Ask the trainer of a watched run for something; the run's log tells that it was asked for."""
        self._waiting.append((watcher, command, dict(arguments)))
        # Not exclusive: a key pressed soon after must not cancel what was asked before.
        self._pane.run_worker(
            self._send_waiting, name="send command", group="send command", thread=True, exit_on_error=False
        )

    def _send_waiting(self) -> None:
        from minigpt.jobs import send_command

        with self._sending:
            while self._waiting:
                watcher, command, arguments = self._waiting.popleft()
                try:
                    send_command(watcher.directory, command, dict(arguments), by="app")
                except UserError as error:
                    self._pane.minigpt.tell_from_thread("Not sent", str(error))
                    continue
                asked = " ".join([command, *(f"{name} {_told(value)}" for name, value in arguments.items())])
                with watcher.lock:
                    watcher.history.note(f"asked for: {asked}")
                watcher.version += 1


def _told(value: object) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else printable(str(value), single_line=True)
