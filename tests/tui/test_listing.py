"""The list that all choosing panes have: what is drawn again, where the cursor stays, which columns leave."""

from __future__ import annotations

import pytest
from textual.app import App, ComposeResult
from textual.content import Content
from textual.strip import Strip

from tui.widgets.browser import Browser
from tui.widgets.listing import Cell, Column, Listing, Row


class Painted(Listing):
    """Notes which lines are drawn."""

    lines: list[int] = []  # noqa: RUF012 - set anew by the test

    def render_line(self, y: int) -> Strip:
        self.lines.append(y)
        return super().render_line(y)


class ListApp(App[None]):
    def __init__(self, *columns: Column) -> None:
        super().__init__()
        self.listing = Painted(columns, "Nothing here.")
        self.chosen: list[str] = []

    def compose(self) -> ComposeResult:
        yield self.listing

    def on_listing_chosen(self, event: Listing.Chosen) -> None:
        self.chosen.append(event.key)


def rows(*keys: str, **cells: str) -> list[Row]:
    return [Row(key, (Cell(key), Cell(cells.get(key, "0")))) for key in keys]


NAMES = (Column("name", flexible=True), Column("figure", right=True))


@pytest.mark.every_frame
@pytest.mark.asyncio
async def test_only_a_row_that_changed_is_drawn_again() -> None:
    app = ListApp(*NAMES)
    async with app.run_test(size=(40, 12)) as pilot:
        app.listing.set_rows(rows("a", "b", "c"))
        await pilot.pause()
        app.listing.lines = []
        app.listing.set_rows(rows("a", "b", "c"))
        await pilot.pause()
        assert app.listing.lines == []
        app.listing.set_rows(rows("a", "b", "c", b="1"))
        await pilot.pause()
        assert app.listing.lines == [2]


@pytest.mark.asyncio
async def test_the_cursor_stays_on_its_row_when_others_come_and_go() -> None:
    app = ListApp(*NAMES)
    async with app.run_test(size=(40, 8)) as pilot:
        app.listing.set_rows(rows(*"abcdefghij"))
        app.listing.focus()
        await pilot.press("end", "up")
        app.listing.set_rows(rows(*"xyzabcdefghij"))
        await pilot.pause()
        assert app.listing.key == "i"
        assert any("i" in app.listing.render_line(y).text for y in range(1, 6))
        app.listing.set_rows(rows(*"abc"))
        assert app.listing.key == "c"
        app.listing.set_rows([])
        assert app.listing.key is None


@pytest.mark.asyncio
async def test_columns_leave_by_rank_and_every_line_fits() -> None:
    columns = (Column("name", flexible=True), Column("figure", rank=1), Column("remark", rank=2))
    app = ListApp(*columns)
    async with app.run_test(size=(60, 8)) as pilot:
        app.listing.set_rows([Row("k", (Cell("a long name with 漢字 in it"), Cell("12345678"), Cell("a remark")))])
        for width, titles in ((60, "name figure remark"), (34, "name figure"), (20, "name"), (8, "na")):
            await pilot.resize_terminal(width, 8)
            await pilot.pause()
            lines = [app.listing.render_line(y) for y in range(3)]
            assert {line.cell_length for line in lines} == {app.listing.scrollable_content_region.width}
            header = lines[0].text.split()
            assert all(word.startswith(start) for word, start in zip(header, titles.split(), strict=True))


@pytest.mark.asyncio
async def test_a_click_moves_the_cursor_and_a_second_one_chooses() -> None:
    app = ListApp(*NAMES)
    async with app.run_test(size=(40, 12)) as pilot:
        app.listing.set_rows(rows("a", "b", "c"))
        await pilot.pause()
        await pilot.click(Painted, offset=(5, 3))
        assert (app.listing.key, app.chosen) == ("b", [])
        await pilot.click(Painted, offset=(5, 4), times=2)
        assert (app.listing.key, app.chosen) == ("c", ["c"])


@pytest.mark.asyncio
async def test_details_that_did_not_change_are_left_alone() -> None:
    class Alone(App[None]):
        def compose(self) -> ComposeResult:
            yield Browser(NAMES, "Things", "None.")

    app = Alone()
    async with app.run_test() as pilot:
        browser = app.query_one(Browser)
        browser.show_details(Content("facts"), Content("more"))
        await pilot.pause()
        facts = browser.details.query_one(".facts")
        before = facts.visual  # type: ignore[attr-defined]
        browser.show_details(Content("facts"), Content("other"))
        assert facts.visual is before  # type: ignore[attr-defined]
