"""Rows of text: what they show, what they repaint, how the cursor and the view move."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.containers import Vertical
from textual.geometry import Region
from textual.pilot import Pilot
from textual.widgets import Input

from tui.widgets.rows import REMARK, Part, Row, Rows, fitted


class Host(App[None]):
    """A box of rows of fixed height, rows that grow with their number, and something else to focus."""

    AUTO_FOCUS = None
    CSS = """
    #fixed { height: 7; width: 32; border: round gray; }
    #log { height: 5; width: 30; }
    #box { height: auto; max-height: 6; width: 30; }
    #auto { max-height: 4; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.selected: list[str] = []

    def compose(self) -> ComposeResult:
        yield Rows(id="fixed")
        yield Rows(id="log", follow_end=True)
        with Vertical(id="box"):
            yield Rows(id="auto")
        yield Input(id="input")

    def on_rows_selected(self, event: Rows.Selected) -> None:
        self.selected.append(event.row.text)


def drive(scenario: Callable[[Pilot[None], Rows], Awaitable[None]], which: str = "fixed") -> None:
    """Run a scenario on one of the host's rows."""

    async def main() -> None:
        async with Host().run_test(size=(40, 24)) as pilot:
            await pilot.pause()
            await scenario(pilot, pilot.app.query_one(f"#{which}", Rows))

    asyncio.run(main())


def row(text: str, *more: Part) -> Row:
    return Row("key", ((text, "foreground"), *more))


def numbered(count: int, begin: int = 0) -> list[Row]:
    return [row(f"line {number}") for number in range(begin, begin + count)]


def picture(rows: Rows) -> list[str]:
    return [rows.render_line(y).text.rstrip() for y in range(rows.size.height)]


def marked(rows: Rows) -> list[str]:
    """Return the lines drawn in reverse."""
    strips = [rows.render_line(y) for y in range(rows.size.height)]
    return [strip.text.rstrip() for strip in strips if any(part.style and part.style.reverse for part in strip)]


def watch(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Region, ...]]:
    """Return a list that collects the regions of every repaint; an empty tuple stands for everything."""
    repaints: list[tuple[Region, ...]] = []
    original = rows.refresh

    def refresh(*regions: Region, **settings: bool) -> Rows:
        repaints.append(regions)
        return original(*regions, **settings)

    monkeypatch.setattr(rows, "refresh", refresh)
    return repaints


# What is repainted


def test_the_same_again_repaints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show(numbered(3))
        repaints = watch(rows, monkeypatch)
        rows.show(numbered(3))
        assert repaints == []

    drive(scenario)


def test_of_a_line_that_changed_only_the_change_is_repainted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show([row("step "), row("loss ", ("1.456", "bold foreground"), (" nats", REMARK))])
        repaints = watch(rows, monkeypatch)
        rows.show([row("step "), row("loss ", ("1.433", "bold foreground"), (" nats", REMARK))])
        assert repaints == [(Region(8, 1, 2, 1),)]

    drive(scenario)


def test_a_colour_that_changed_is_repainted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show([row("state ", ("ok", "success"))])
        repaints = watch(rows, monkeypatch)
        rows.show([row("state ", ("ok", "error"))])
        assert repaints == [(Region(6, 0, 2, 1),)]

    drive(scenario)


def test_a_text_that_grew_shorter_leaves_no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show([row("12,345")])
        repaints = watch(rows, monkeypatch)
        rows.show([row("12")])
        assert repaints == [(Region(2, 0, 4, 1),)]
        rows.show([])
        assert repaints[1:] == [(Region(0, 0, 2, 1),)]

    drive(scenario)


def test_beside_wide_characters_the_whole_line_is_repainted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show([row("日本 1"), row("x")])
        repaints = watch(rows, monkeypatch)
        rows.show([row("日本 2"), row("x")])
        assert repaints == [(Region(0, 0, 30, 1),)]

    drive(scenario)


def test_moving_the_cursor_repaints_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show(numbered(5))
        rows.focus()
        await pilot.pause()
        repaints = watch(rows, monkeypatch)
        await pilot.press("down")
        assert repaints == [(Region(0, 0, 30, 1), Region(0, 1, 30, 1))]

    drive(scenario)


def test_rows_that_became_more_where_there_is_no_room_for_more_are_painted_right() -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show(numbered(10))
        await pilot.pause()
        rows.show([row("other"), *numbered(10, 1)])
        await pilot.pause()
        repaints = watch(rows, pytest.MonkeyPatch())
        # Back to what was painted before the number of rows changed: it is no longer on the screen.
        rows.show([row("line 0"), *numbered(10, 1)])
        assert repaints == [(Region(0, 0, 6, 1),)]

    drive(scenario, "auto")


# What is shown


def test_rows_grow_with_their_number() -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        for count in (1, 3, 2):
            rows.show(numbered(count))
            await pilot.pause()
            assert picture(rows) == [f"line {number}" for number in range(count)]

    drive(scenario, "auto")


def test_rows_that_became_fewer_are_all_in_view() -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show(numbered(20))
        await pilot.pause()
        rows.focus()
        await pilot.press("end")
        rows.show(numbered(6))
        await pilot.pause()
        assert picture(rows) == ["line 2", "line 3", "line 4", "line 5"]

    drive(scenario, "auto")


def test_from_no_room_to_room_all_rows_are_there() -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        box = pilot.app.query_one("#box")
        box.styles.height = 0
        await pilot.pause()
        rows.show(numbered(4))
        await pilot.pause()
        box.styles.height = "auto"
        await pilot.pause()
        assert picture(rows) == ["line 0", "line 1", "line 2", "line 3"]

    drive(scenario, "auto")


def test_a_log_from_no_room_to_room_shows_its_end() -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.styles.height = 0
        await pilot.pause()
        rows.show(numbered(9))
        rows.styles.height = 3
        await pilot.pause()
        assert picture(rows) == ["line 6", "line 7", "line 8"]
        rows.styles.height = 12
        await pilot.pause()
        assert picture(rows)[:9] == [f"line {number}" for number in range(9)]

    drive(scenario, "log")


def test_markup_in_a_row_is_text() -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show([row("[red]x[/red] [/]")])
        assert picture(rows)[0] == "[red]x[/red] [/]"

    drive(scenario)


def test_every_line_has_the_width_of_the_widget() -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show([row("日" * 40), row("x" * 29 + "日"), row("short"), row("e\u0301" * 40)])
        assert {rows.render_line(y).cell_length for y in range(rows.size.height)} == {30}

    drive(scenario)


@pytest.mark.parametrize("name", ["no-such-colour", "bold", "", "auto 60%"])
def test_a_colour_that_no_theme_knows_is_plain(name: str) -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show([Row("key", (("text", name),))])
        assert picture(rows)[0] == "text"

    drive(scenario)


# The cursor and the view


def test_the_view_follows_the_cursor() -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show(numbered(12))
        rows.focus()
        seen = []
        for keys in (["down"] * 4, ["down"], ["pagedown"], ["end"], ["up"] * 4, ["up"], ["pageup"], ["home"], ["up"]):
            await pilot.press(*keys)
            seen.append((rows.current.text if rows.current else "", picture(rows)[0], marked(rows)))
        assert seen == [
            ("line 4", "line 0", ["line 4"]),
            ("line 5", "line 1", ["line 5"]),
            ("line 9", "line 5", ["line 9"]),
            ("line 11", "line 7", ["line 11"]),
            ("line 7", "line 7", ["line 7"]),
            ("line 6", "line 6", ["line 6"]),
            ("line 2", "line 2", ["line 2"]),
            ("line 0", "line 0", ["line 0"]),
            ("line 0", "line 0", ["line 0"]),
        ]

    drive(scenario)


def test_without_the_focus_no_line_is_marked() -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show(numbered(3))
        rows.focus()
        await pilot.pause()
        assert marked(rows) == ["line 0"]
        pilot.app.query_one(Input).focus()
        await pilot.pause()
        assert marked(rows) == []

    drive(scenario)


def test_without_rows_keys_do_nothing() -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.focus()
        await pilot.press("down", "up", "pagedown", "home", "end", "enter")
        assert rows.current is None and pilot.app.selected == []  # type: ignore[attr-defined]

    drive(scenario)


def test_fewer_rows_keep_the_cursor_on_one() -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show(numbered(9))
        rows.focus()
        await pilot.press("end")
        rows.show(numbered(2))
        assert rows.current == row("line 1")
        rows.show([])
        assert rows.current is None

    drive(scenario)


def test_a_log_follows_its_end_until_the_cursor_goes_up() -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show(numbered(10))
        assert picture(rows)[-1] == "line 9"
        rows.show(numbered(11))
        assert picture(rows)[-1] == "line 10"
        rows.focus()
        await pilot.press("up")
        rows.show(numbered(20))
        assert (picture(rows)[-1], marked(rows)) == ("line 10", ["line 9"])
        await pilot.press("end")
        rows.show(numbered(21))
        assert (picture(rows)[-1], marked(rows)) == ("line 20", ["line 20"])

    drive(scenario, "log")


def test_enter_selects_the_line_under_the_cursor() -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show(numbered(3))
        rows.focus()
        await pilot.press("down", "enter")
        assert pilot.app.selected == ["line 1"]  # type: ignore[attr-defined]

    drive(scenario)


def test_a_click_moves_the_cursor_to_the_line_under_the_mouse() -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show(numbered(4))
        # The border is the first line of the widget.
        await pilot.click(rows, offset=(3, 3))
        assert rows.current == row("line 2")
        await pilot.click(rows, offset=(3, 0))
        await pilot.click(rows, offset=(3, 5))
        assert rows.current == row("line 2")
        assert pilot.app.selected == []  # type: ignore[attr-defined]

    drive(scenario)


def test_two_clicks_select() -> None:
    async def scenario(pilot: Pilot[None], rows: Rows) -> None:
        rows.show(numbered(4))
        await pilot.click(rows, offset=(3, 3), times=2)
        assert pilot.app.selected == ["line 2"]  # type: ignore[attr-defined]

    drive(scenario)


# What fits


def texts(parts: tuple[Part, ...]) -> str:
    return "".join(text for text, _ in parts)


FIGURE = (("loss  ", REMARK), ("1.456", "bold foreground"), ("  best 1.400", REMARK), (" @120", REMARK))


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (40, "loss  1.456  best 1.400 @120"),
        (28, "loss  1.456  best 1.400 @120"),
        (27, "loss  1.456  best 1.400"),
        (22, "loss  1.456"),
        (11, "loss  1.456"),
        (10, "loss  1.4…"),
        (7, "loss  …"),
        (6, "loss …"),
        (1, "…"),
        (0, ""),
    ],
)
def test_remarks_give_way_first_then_an_ellipsis_tells_of_what_is_cut(width: int, text: str) -> None:
    assert texts(fitted(FIGURE, width)) == text


def test_wide_characters_are_cut_whole() -> None:
    assert texts(fitted((("日本語", ""),), 5)) == "日本…"
    assert texts(fitted((("日本語", ""),), 4)) == "日 …"


letters = st.text(st.sampled_from("ab日e\u0301…─"), max_size=8)
parts = st.lists(st.tuples(letters, st.sampled_from([REMARK, "foreground"])), max_size=5).map(tuple)


@given(parts, st.integers(0, 30))
def test_what_is_fitted_fits_and_says_when_something_is_missing(given_parts: tuple[Part, ...], width: int) -> None:
    shown, whole = texts(fitted(given_parts, width)), texts(given_parts)
    assert cell_len(shown) <= width
    if cell_len(whole) <= width:
        assert shown == whole
    elif not whole.startswith(shown):
        assert shown.endswith("…") and cell_len(shown) == width
