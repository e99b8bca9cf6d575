"""Every pane looks as it did when somebody last looked at it.

MINIGPT_UPDATE_SNAPSHOTS=1 writes what is shown now to tests/tui/snapshots: read the difference before it is committed.
"""

from __future__ import annotations

import asyncio
from functools import cache

import pytest

from tests.tui.screens import (
    LARGE,
    MIDDLE,
    PANES,
    SIZES,
    SMALL,
    SNAPSHOTS,
    choose_theme,
    differences,
    opened,
    resize,
    screen_dump,
    text_of,
)

DARK, LIGHT, SIXTEEN = "tokyo-night", "textual-light", "ansi-dark"
LIMIT_BYTES = 400_000


@cache
def pictures(pane: str, theme: str) -> dict[tuple[int, int], str]:
    """Return what a pane shows in a theme by size; one app is enough for them all."""

    async def take() -> dict[tuple[int, int], str]:
        taken = {}
        async with opened(pane) as pilot:
            await choose_theme(pilot, theme)
            for size in SIZES if theme == DARK else SIZES[::-1]:
                await resize(pilot, size)
                taken[size] = screen_dump(pilot, styles=size == SMALL)
        return taken

    return asyncio.run(take())


@pytest.mark.parametrize("theme", [DARK, pytest.param(LIGHT, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pane", PANES)
def test_a_small_screen_looks_as_it_did(pane: str, theme: str) -> None:
    changed = differences(f"{pane}-80x24-{theme}", pictures(pane, theme)[SMALL])
    assert not changed, changed


@pytest.mark.parametrize("size", [MIDDLE, pytest.param(LARGE, marks=pytest.mark.slow)], ids=["120x40", "200x60"])
@pytest.mark.parametrize("pane", PANES)
def test_a_larger_screen_tells_what_it_did(pane: str, size: tuple[int, int]) -> None:
    changed = differences(f"{pane}-{size[0]}x{size[1]}", text_of(pictures(pane, DARK)[size]))
    assert not changed, changed


@pytest.mark.slow
@pytest.mark.parametrize("pane", PANES)
def test_a_theme_changes_colours_alone(pane: str) -> None:
    for size in SIZES:
        assert text_of(pictures(pane, LIGHT)[size]) == text_of(pictures(pane, DARK)[size])


def test_without_colours_a_run_is_shown_in_greys() -> None:
    async def take() -> str:
        async with opened("train-board", colours=False) as pilot:
            return screen_dump(pilot)

    taken = asyncio.run(take())
    assert text_of(taken) == text_of(pictures("train-board", DARK)[SMALL])
    changed = differences("train-board-80x24-no-color", taken)
    assert not changed, changed


def test_sixteen_colours_show_a_run_too() -> None:
    async def take() -> str:
        async with opened("train-board") as pilot:
            await choose_theme(pilot, SIXTEEN)
            return screen_dump(pilot)

    changed = differences("train-board-80x24-sixteen-colours", asyncio.run(take()))
    assert not changed, changed


def test_the_pictures_stay_small() -> None:
    assert sum(path.stat().st_size for path in SNAPSHOTS.glob("*.txt")) < LIMIT_BYTES
