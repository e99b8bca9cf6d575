"""The app's panes with something in each, and what a screen shows, written down as text.

`MINIGPT_UPDATE_SNAPSHOTS=1 pytest tests/tui/test_snapshots.py` writes the pictures anew.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from rich.cells import cell_len
from rich.style import Style
from textual.color import Color
from textual.pilot import Pilot
from textual.strip import Strip
from textual.widgets import TextArea

from tests.tui.scene import Scene, app_of, on_screen, press, screen, settled, until

SNAPSHOTS = Path(__file__).parent / "snapshots"
UPDATE = "MINIGPT_UPDATE_SNAPSHOTS"
PANES = ("train-ready", "train-board", "corpus", "presets", "runs", "chat")
SMALL, MIDDLE, LARGE = (80, 24), (120, 40), (200, 60)
SIZES = (SMALL, MIDDLE, LARGE)
STYLES_BELOW = "-- styles: line: from-to colour on background, attributes --"
ATTRIBUTES = ("bold", "dim", "italic", "underline", "reverse", "strike")
RUN = "tiny-sample-1"


# Panes


@contextmanager
def furnished(pane: str) -> Iterator[Scene]:
    """Have a workspace with what a pane needs to show something."""
    with TemporaryDirectory() as root, Scene(Path(root)) as scene:
        scene.use_presets()
        if pane == "train-board":
            scene.run(RUN)
            scene.work(RUN)
        if pane == "corpus":
            scene.add_corpus()
        if pane == "runs":
            _add_runs(scene)
        yield scene


def _add_runs(scene: Scene) -> None:
    """One run of every kind, each older than the one before."""
    now = scene.now
    scene.run(RUN)
    scene.work(RUN)
    scene.checkpoint(RUN)
    for hours, (name, steps, ended) in enumerate((("done-1", 600, 0), ("broken-1", 40, 1), ("killed-1", 150, None)), 1):
        scene.now = now - hours * 3700
        scene.run(name, steps=steps, ended=ended)
        scene.checkpoint(name)
    scene.now = now


@asynccontextmanager
async def opened(pane: str, size: tuple[int, int] = SMALL, colours: bool = True) -> AsyncIterator[Pilot[None]]:
    """Run the app with a pane of `PANES` in front; without `colours`, as with NO_COLOR."""
    with furnished(pane) as scene, pytest.MonkeyPatch.context() as patch:
        # The line at the top tells of a run at the clock's next tick, unless the Train pane is in front.
        patch.setattr("tui.app.CLOCK_SECONDS", 0.02)
        # On the Linux console charts have no braille.
        patch.setenv("TERM", "xterm-256color")
        if not colours:
            patch.setenv("NO_COLOR", "1")
        app = scene.app()
        if not pane.startswith("train"):
            app.state.pane = pane
        async with on_screen(scene, size, app=app) as pilot:
            if pane == "presets":
                await press(pilot, "end")
            if pane in ("train-board", "runs"):
                await until(pilot, lambda: RUN in screen(pilot).splitlines()[0])
            await still(pilot)
            yield pilot


async def still(pilot: Pilot[None]) -> None:
    """Have nothing on the screen that comes and goes by itself."""
    for field in pilot.app.screen.query(TextArea):
        field.cursor_blink = False
    await settled(pilot)


async def resize(pilot: Pilot[None], size: tuple[int, int]) -> None:
    await pilot.resize_terminal(*size)
    await settled(pilot)


async def choose_theme(pilot: Pilot[None], name: str) -> None:
    pilot.app.theme = name
    await settled(pilot)


# What they show


def screen_dump(pilot: Pilot[None], styles: bool = True) -> str:
    """Return the lines of the screen and, below, how every line is styled."""
    strips = app_of(pilot).screen._compositor.render_strips()
    lines = [strip.text.rstrip() for strip in strips]
    if styles:
        lines += ["", STYLES_BELOW]
        lines += [f"{number}: {'; '.join(_runs(strip))}" for number, strip in enumerate(strips, 1)]
    return "\n".join(lines) + "\n"


def text_of(dump: str) -> str:
    """Return a dump's text without its styles."""
    return dump.partition(f"\n{STYLES_BELOW}")[0]


def _runs(strip: Strip) -> list[str]:
    """Return the stretches of cells that look alike; a blank has no colour but that of its background."""
    runs: list[tuple[int, int, str, str]] = []
    end = 0
    for text, style, _ in strip:
        for blank, part in _parts(text):
            begin, end = end, end + cell_len(part)
            look = _look(style, blank=False), _look(style, blank=True)
            if runs and look[1] == runs[-1][3] and (blank or look[0] == runs[-1][2]):
                runs[-1] = (runs[-1][0], end, *runs[-1][2:])
            elif runs and runs[-1][2] == runs[-1][3] == look[1]:
                # Blanks before it take its colour.
                runs[-1] = (runs[-1][0], end, *look)
            else:
                runs.append((begin, end, look[1] if blank else look[0], look[1]))
    return [f"{begin}-{end} {look}" for begin, end, look, _ in runs]


def _parts(text: str) -> Iterator[tuple[bool, str]]:
    """Yield the blank and the visible parts of a text."""
    core = text.strip(" ")
    if not core:
        yield True, text
        return
    before, after = text[: text.index(core[0])], text[len(text.rstrip(" ")) :]
    for blank, part in ((True, before), (False, core), (True, after)):
        if part:
            yield blank, part


def _look(style: Style | None, blank: bool) -> str:
    if style is None:
        return "plain"
    attributes = [name for name in ATTRIBUTES if getattr(style, name)]
    if blank:
        attributes = [name for name in attributes if name in ("underline", "reverse", "strike")]
    fore = "" if blank and not attributes else _colour(style.color)
    return " ".join(word for word in (fore, f"on {_colour(style.bgcolor)}", *attributes) if word)


def _colour(colour: object) -> str:
    """Return a colour in as few characters as it can be told: a name of the sixteen, or three pairs of digits."""
    if colour is None:
        return "default"
    name = getattr(colour, "name", "")
    if getattr(colour, "triplet", None) is None:
        return name
    return Color.from_rich_color(colour).hex6.lower()  # type: ignore[arg-type]


# Compared with what they showed


def differences(name: str, dump: str) -> str:
    """Return how a picture differs from the stored one, its text first; nothing where it does not."""
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get(UPDATE):
        path.parent.mkdir(exist_ok=True)
        path.write_text(dump, encoding="utf-8")
    if not path.is_file():
        return f"{path.name} is missing: run with {UPDATE}=1 and look at what it writes"
    stored = path.read_text(encoding="utf-8")
    if dump == stored:
        return ""
    if text_of(dump) != text_of(stored):
        return f"{path.name}: other text\n{_diff(text_of(stored), text_of(dump))}"
    return f"{path.name}: the same text in other colours\n{_diff(stored, dump)}"


def _diff(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "stored", "now", lineterm="", n=0)
    return "\n".join(lines)
