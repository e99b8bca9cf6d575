"""At every size the panes share the screen without getting into each other's way, and survive any other size."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import combinations

import pytest
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Footer

from tests.tui.scene import app_of
from tests.tui.screens import LARGE, PANES, SIZES, opened, resize, screen_dump

# Across every width and height at which the layout changes.
SMALLER = (LARGE, (159, 31), (99, 29), (80, 24), (61, 17), (40, 9), (20, 5))
LARGER = ((70, 20), (120, 40), LARGE)


def shown(pilot: Pilot[None]) -> set[Widget]:
    """Return the widgets that are on the screen, but those that Textual puts on top of all others."""
    found = pilot.app.screen._compositor.visible_widgets
    return {widget for widget in found if not (widget.id or "").startswith("textual-")}


def overlaps(pilot: Pilot[None]) -> Iterator[str]:
    """Yield every pair of siblings that lay claim to the same cell."""
    visible = shown(pilot)
    for parent in visible:
        children = [child for child in parent.children if child in visible]
        for one, other in combinations(children, 2):
            if one.layer == other.layer and one.region.overlaps(other.region):
                yield f"{one!r} {one.region} and {other!r} {other.region}"


def outside(pilot: Pilot[None]) -> Iterator[str]:
    """Yield every widget that is cut off by the screen or its parent, where nobody can scroll to the rest."""
    for widget in shown(pilot):
        parent = widget.parent
        if not isinstance(parent, Widget) or parent not in shown(pilot) | {pilot.app.screen}:
            continue
        room, region = parent.region, widget.region
        across = room.x <= region.x and region.right <= room.right
        down = room.y <= region.y and region.bottom <= room.bottom
        # The keys at the foot could be scrolled, but nobody would look for them.
        aside = parent.allow_horizontal_scroll and not isinstance(parent, Footer)
        if not ((across or aside) and (down or parent.allow_vertical_scroll)):
            yield f"{widget!r} {region} in {parent!r} {room}"


@pytest.mark.parametrize("pane", PANES)
def test_nothing_overlaps_and_nothing_is_cut_off(pane: str) -> None:
    async def run() -> None:
        async with opened(pane) as pilot:
            for size in SIZES:
                await resize(pilot, size)
                assert len(shown(pilot)) > 3
                assert not list(overlaps(pilot)), size
                assert not list(outside(pilot)), size

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.parametrize("pane", PANES)
def test_a_window_may_become_tiny_and_large_again(pane: str) -> None:
    async def run() -> None:
        async with opened(pane, LARGE) as pilot:
            before = screen_dump(pilot, styles=False)
            for size in (*SMALLER, *LARGER):
                await resize(pilot, size)
                assert app_of(pilot).is_running and app_of(pilot).failure is None, size
                lines = screen_dump(pilot, styles=False).splitlines()
                assert len(lines) <= size[1]
                assert max(map(len, lines)) <= size[0]
            assert screen_dump(pilot, styles=False) == before

    asyncio.run(run())
