"""What the app is framed by: the lowest screen, the command palette, a high-contrast theme, signals, general help."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import ClassVar

from textual._styles_cache import StylesCache
from textual.command import CommandPalette
from textual.events import Resize
from textual.screen import Screen
from textual.theme import Theme

HIGH_CONTRAST = Theme(
    name="high-contrast",
    primary="#ffff00",
    secondary="#00ffff",
    warning="#ffaf00",
    error="#ff5f5f",
    success="#00ff00",
    accent="#ff87ff",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#262626",
    dark=True,
    variables={"text-muted": "#d0d0d0", "foreground-muted": "#d0d0d0", "footer-key-foreground": "#ffff00"},
)


class MainScreen(Screen[None]):
    """The screen below all dialogs; its classes say how low it is, each less high one on top of the others."""

    HEIGHTS: ClassVar[dict[str, int]] = {"-short": 30, "-low": 18, "-lower": 16, "-lowest": 10}

    def on_resize(self, event: Resize) -> None:
        for name, height in self.HEIGHTS.items():
            self.set_class(event.size.height < height, name)
        self.set_class(event.size.height >= self.HEIGHTS["-short"], "-tall")

    def on_screen_resume(self) -> None:
        # A cache of Textual's holds the last thousand widgets with all their lines: a few pages of help are 50 MB.
        StylesCache.get_inner_outer.cache_clear()
        # Text fields look out for another theme, and what they look at holds them when they have long been removed.
        for looking in getattr(self.app, "__watchers", {}).values():
            looking[:] = [(node, callback) for node, callback in looking if node.is_attached]


class Palette(CommandPalette):
    """Textual's command palette, but for a slip of it."""

    def _action_command_list(self, action: str) -> None:
        try:
            super()._action_command_list(action)
        except KeyError:  # Page Up before the list has been laid out: it looks for lines that are not there yet
            return


def handle_signals(leave: Callable[[], object]) -> None:
    """Leave the terminal clean when the system asks us to go. SIGHUP keeps its default: the terminal is gone."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, leave)
        except (NotImplementedError, RuntimeError, ValueError):  # not the main thread: under test
            return


GENERAL_HELP = """

**Everywhere**

| key | what it does |
|---|---|
| 1-5, F2-F6 | Train, Corpus, Presets, Chat, Runs |
| Tab, Shift+Tab | from one thing to the next |
| ? | explain what has the focus; Enter there reads on |
| Ctrl+P | all commands by name, and the colour themes |
| Esc | leave a text field |
| q | leave; training goes on |

Keys and theme can be set in `{settings}`: `theme = "textual-light"`, `braille = false` where the font lacks
those dots, and a table `[keys]` with lines such as `"train.start" = "s"`.
"""
