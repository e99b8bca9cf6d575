"""The chart: what it draws, what it repaints, what its cursor reads."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot
from textual.widgets import ContentSwitcher, Label

from tui.widgets.canvas import cleaned, decimate, line_dots
from tui.widgets.chart import Chart, Series, compact_number, smooth
from tui.widgets.figure import Figure
from tui.widgets.scales import log_ticks, nice_range, tick_labels, ticks

BRAILLE = range(0x2801, 0x2900)


class Host(App[None]):
    """One bordered chart, and another page to hide it behind."""

    CSS = "Chart { border: round gray; }"

    def __init__(self) -> None:
        super().__init__()
        self.moves: list[float | None] = []

    def compose(self) -> ComposeResult:
        with ContentSwitcher(initial="chart"):
            yield Chart("loss", id="chart")
            yield Label("elsewhere", id="other")

    def on_chart_cursor_moved(self, message: Chart.CursorMoved) -> None:
        self.moves.append(message.x)


def drive(scenario: Callable[[Pilot[None], Chart], Awaitable[None]], size: tuple[int, int] = (82, 22)) -> None:
    """Run a scenario on a chart in an app of this size."""

    async def main() -> None:
        async with Host().run_test(size=size) as pilot:
            await pilot.pause()
            await scenario(pilot, pilot.app.query_one(Chart))

    asyncio.run(main())


def picture(chart: Chart) -> list[str]:
    """Return the chart's lines as text."""
    return [chart.render_line(y).text for y in range(chart.size.height)]


def curve(count: int, name: str = "train", role: str = "line", **settings: str) -> Series:
    """Return a falling curve over steps 1 to count."""
    x = np.arange(1, count + 1, dtype=float)
    return Series(name, x, 1.5 + 8 * np.exp(-x / 2000) + 0.1 * np.sin(x), role, **settings)


def watch(chart: Chart, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Region, ...]]:
    """Return a list that collects the regions of every repaint; an empty tuple stands for everything."""
    repaints: list[tuple[Region, ...]] = []
    original = chart.refresh

    def refresh(*regions: Region, **settings: bool) -> Chart:
        repaints.append(regions)
        return original(*regions, **settings)

    monkeypatch.setattr(chart, "refresh", refresh)
    return repaints


def drawn(count: int, width: int = 80, height: int = 20, **settings: object) -> list[str]:
    """Return the text of a figure of one raw curve, a smoothed one and points."""
    figure = Figure()
    line = curve(count)
    figure.series = (
        Series("", line.x, line.y, "raw"),
        Series("train", line.x, smooth(line.y, 0.9), "line", value="1.456"),
        Series("val", line.x[99::500], line.y[99::500], "points", "warning", "1.531"),
    )
    for name, value in settings.items():
        setattr(figure, name, value)
    figure.prepare()
    return ["".join(row) for row in figure.draw(width, height).glyphs.tolist()]


# Numbers


def test_smooth_is_the_bias_corrected_average() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    average, expected = 0.0, []
    for count, value in enumerate(values, 1):
        average = 0.97 * average + 0.03 * value
        expected.append(average / (1 - 0.97**count))
    np.testing.assert_allclose(smooth(values, 0.97), expected, rtol=1e-9)


def test_smooth_keeps_gaps_and_skips_them() -> None:
    values = np.array([1.0, np.nan, 3.0, np.inf, 5.0])
    found = smooth(values, 0.5)
    assert np.isnan(found[[1, 3]]).all()
    np.testing.assert_allclose(found[[0, 2, 4]], smooth(np.array([1.0, 3.0, 5.0]), 0.5))


def test_smooth_of_a_constant_is_the_constant() -> None:
    np.testing.assert_allclose(smooth(np.full(100_000, 2.5), 0.999), 2.5)


def test_smooth_accepts_nothing_and_no_weight() -> None:
    assert len(smooth(np.empty(0), 0.9)) == 0
    np.testing.assert_array_equal(smooth(np.array([1.0, 2.0]), 0.0), [1.0, 2.0])


@pytest.mark.parametrize("weight", [-0.1, 1.0, math.nan])
def test_smooth_refuses_a_weight_outside_its_range(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        smooth(np.ones(3), weight)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.4563, "1.456"),
        (5000, "5000"),
        (20_000, "20k"),
        (999_999.9, "1M"),
        (2.4e-4, "2.4e-4"),
        (-1e30, "-1e30"),
        (0, "0"),
        (math.nan, "-"),
    ],
)
def test_compact_number(value: float, text: str) -> None:
    assert compact_number(value) == text


@pytest.mark.parametrize("limits", [(0, 60_000), (0.8, 3.3), (-7, 3), (2e-4, 3.1e-4), (-1e30, 1e30)])
@pytest.mark.parametrize("most", [2, 5, 8])
def test_ticks_are_round_and_inside(limits: tuple[float, float], most: int) -> None:
    found = ticks(*limits, most)
    assert len(found) <= most
    assert all(limits[0] - 1e-6 <= value <= limits[1] * (1 + 1e-6) for value in found)
    steps = np.diff(found)
    leading = {f"{step:.6e}"[0] for step in steps}
    assert leading <= {"1", "2", "5"} and len(leading) <= 1


def test_log_ticks_stand_at_round_values() -> None:
    assert log_ticks(0.1, 1.05, 6) == [2.0, 5.0, 10.0]
    assert log_ticks(-3, 3, 7) == [0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]


def test_log_ticks_are_numbers_at_the_ends_of_what_a_float_can_hold() -> None:
    assert all(
        0 < value < math.inf
        for low, high in ((-324, 191), (-323.5, -322), (300, 309))
        for value in log_ticks(low, high, 2)
    )


def test_tick_labels_share_their_decimals() -> None:
    assert tick_labels([1.0, 1.5, 2.0]) == ["1.0", "1.5", "2.0"]


def test_a_range_moves_only_when_it_must() -> None:
    first = nice_range(1.31, 10.9)
    assert nice_range(1.29, 10.2, first) == first
    assert nice_range(1.3, 3.1, first) != first


# Drawing


def test_a_spike_survives_decimation() -> None:
    y = np.ones(1_000_000)
    y[123_456], y[654_321] = 7.0, -3.0
    _, low, high = decimate(np.arange(1e6), y, (0, 1e6), 200)
    assert high.max() == 7.0 and low.min() == -3.0


def test_decimation_leaves_out_what_lies_outside_the_limits() -> None:
    columns, low, high = decimate(np.arange(10.0), np.arange(10.0), (3, 6), 3)
    assert columns.tolist() == [0, 1, 2]
    assert low.min() == 3 and high.max() == 6


def test_a_line_is_unbroken() -> None:
    dots = line_dots(np.array([0, 3, 4]), np.array([0, 9, 2]), np.array([0, 9, 2]), 12)
    column, row = np.divmod(dots, 12)
    assert sorted(set(column.tolist())) == [0, 1, 2, 3, 4]
    for here in range(4):
        left, right = row[column == here], row[column == here + 1]
        assert left.min() - right.max() <= 1 and right.min() - left.max() <= 1


def test_a_series_out_of_order_is_put_in_order() -> None:
    found = cleaned(Series("a", np.array([3.0, 1.0, 2.0]), np.array([30.0, 10.0, 20.0]), "line"), log=False)
    assert found.y.tolist() == [10.0, 20.0, 30.0]


def test_the_first_row_is_the_legend() -> None:
    assert "train 1.456" in drawn(6000)[0]
    assert "◆ val 1.531" in drawn(6000)[0]


def test_y_labels_are_right_aligned_before_the_axis() -> None:
    labelled = [row.index("┤") for row in drawn(6000) if "┤" in row]
    assert len(labelled) >= 3 and len(set(labelled)) == 1


def test_the_last_row_has_the_x_labels() -> None:
    assert drawn(6000, x_limits=(0, 60_000))[-1].split() == ["0", "20k", "40k", "60k"]


def test_curves_are_braille_and_points_are_marks() -> None:
    plot = "".join(drawn(6000)[1:])
    assert any(ord(glyph) in BRAILLE for glyph in plot)
    assert plot.count("◆") >= 5


def test_points_become_a_line_in_a_flat_plot() -> None:
    assert "◆" not in "".join(drawn(6000, height=7)[1:])


def test_without_braille_nothing_is_braille() -> None:
    text = "".join(drawn(6000, braille=False))
    assert not any(ord(glyph) in BRAILLE for glyph in text)
    assert set(text) & set("▀▄▌▐▖▗▘▝▚▞█")


def test_the_steep_start_does_not_flatten_the_rest() -> None:
    x = np.arange(1.0, 10_001)
    y = np.where(x < 300, 1000.0, 2 + np.cos(x / 500))
    figure = Figure()
    figure.series = (Series("train", x, y, "line"),)
    figure.prepare()
    rows = figure.draw(80, 20).glyphs[1:-2, 10:]
    occupied = [any(ord(glyph) in BRAILLE for glyph in row) for row in rows.tolist()]
    assert sum(occupied) > len(occupied) / 2


def test_a_log_axis_is_the_same_in_every_frame() -> None:
    figure = Figure()
    figure.log, figure.series = True, (curve(5000),)
    figure.prepare()
    frames = [figure.draw(80, 20).glyphs.tolist() for _ in range(4)]
    assert all(frame == frames[0] for frame in frames)


def test_a_log_axis_drops_what_has_no_logarithm() -> None:
    figure = Figure()
    figure.log = True
    figure.series = (Series("train", np.arange(4.0), np.array([-1.0, 0.0, 10.0, 1000.0]), "line"),)
    figure.prepare()
    text = ["".join(row) for row in figure.draw(60, 16).glyphs.tolist()]
    assert [row.split("┤")[0].strip() for row in text if "┤" in row] == ["1000", "100", "10"]


def test_nothing_to_draw_shows_the_message_in_the_middle() -> None:
    rows = drawn(0, message="no steps yet")
    assert [row.strip() for row in rows if row.strip()] == ["no steps yet"]
    assert rows[9].strip()


@pytest.mark.parametrize(("width", "height"), [(19, 10), (60, 4)])
def test_a_tiny_chart_shows_the_values_alone(width: int, height: int) -> None:
    rows = drawn(6000, width, height)
    assert "train 1.456" in rows[0]
    assert not "".join(rows[1:]).strip()


def test_points_with_a_mark_of_their_own_stay_points() -> None:
    figure = Figure()
    x = np.arange(1.0, 41)
    figure.series = (curve(100, name="train"), Series("other", x, 1 + x / 10, "points", "warning", mark="B"))
    figure.prepare()
    rows = ["".join(row) for row in figure.draw(60, 7).glyphs.tolist()]
    assert "B other" in rows[0]
    assert "".join(rows[1:]).count("B") >= 3


def test_the_legend_tells_four_lines_apart() -> None:
    figure = Figure()
    figure.series = tuple(curve(100, name=name) for name in "abcd")
    figure.prepare()
    legend = "".join(figure.draw(80, 12).glyphs[0].tolist())
    assert [legend[legend.index(f" {name}") - 2 : legend.index(f" {name}")] for name in "abcd"] == [
        "━━",
        "╍╍",
        "┉┉",
        "━╍",
    ]


def test_wide_characters_take_two_cells() -> None:
    figure = Figure()
    figure.series = (curve(100, name="訓練", value="1.5"),)
    figure.prepare()
    rows = figure.draw(60, 12).glyphs
    assert "".join(rows[0]).rstrip().endswith("訓練 1.5")
    assert sum(glyph == "" for glyph in rows[0]) == 2


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(0, 130),
    height=st.integers(0, 30),
    values=st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=40),
    start=st.sampled_from([0.0, -5.0, 1e12, 1e-9]),
    step=st.sampled_from([0.0, 1.0, 1e-6, 1e9]),
    role=st.sampled_from(["raw", "line", "points", "ghost"]),
    log=st.booleans(),
    braille=st.booleans(),
    limits=st.sampled_from([None, (0.0, 10.0), (5.0, 5.0), (7.0, 1e6), (0.0, math.nan)]),
    cursor=st.sampled_from([None, 0.0, 3.0, 1e12]),
)
def test_no_size_and_no_data_raise(
    width: int,
    height: int,
    values: list[float],
    start: float,
    step: float,
    role: str,
    log: bool,
    braille: bool,
    limits: tuple[float, float] | None,
    cursor: float | None,
) -> None:
    figure = Figure()
    x = start + step * np.arange(len(values))
    figure.log, figure.braille, figure.x_limits, figure.cursor = log, braille, limits, cursor
    figure.series = (Series("a", x, np.array(values), role), curve(3, role="line"))
    figure.prepare()
    assert figure.draw(width, height).glyphs.shape == (height, width)
    figure.stops()


# Repainting


def test_the_same_data_repaint_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(pilot: Pilot[None], chart: Chart) -> None:
        chart.show([curve(3000, value="1.5")], x_limits=(0, 6000))
        await pilot.pause()
        repaints = watch(chart, monkeypatch)
        chart.show([curve(3000, value="1.5")], x_limits=(0, 6000))
        assert repaints == []

    drive(scenario)


def test_some_points_more_repaint_few_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(pilot: Pilot[None], chart: Chart) -> None:
        chart.show([curve(3000, value="1.512")], x_limits=(0, 6000))
        await pilot.pause()
        repaints = watch(chart, monkeypatch)
        chart.show([curve(3100, value="1.509")], x_limits=(0, 6000))
        regions = [region for repaint in repaints for region in repaint]
        assert regions and () not in repaints
        assert sum(region.area for region in regions) < 30

    drive(scenario)


def test_what_is_on_screen_after_few_repaints_is_the_whole_picture() -> None:
    async def scenario(pilot: Pilot[None], chart: Chart) -> None:
        for count in range(100, 6000, 700):
            chart.show([curve(count, value=str(count))], x_limits=(0, 6000))
            await pilot.pause()
        # render_lines reads what Textual keeps of the lines that were not repainted; render_line draws afresh.
        kept = [line.text[1:-1] for line in chart.render_lines(chart.outer_size.region)[1:-1]]
        assert kept == picture(chart)

    drive(scenario)


def test_a_hidden_chart_waits_and_catches_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(pilot: Pilot[None], chart: Chart) -> None:
        chart.show([curve(100, value="old")])
        await pilot.pause()
        switcher = pilot.app.query_one(ContentSwitcher)
        switcher.current = "other"
        await pilot.pause()
        repaints = watch(chart, monkeypatch)
        chart.show([curve(100, value="new")])
        assert repaints == []
        switcher.current = "chart"
        await pilot.pause()
        assert "new" in picture(chart)[0]

    drive(scenario)


def test_the_same_title_repaints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(pilot: Pilot[None], chart: Chart) -> None:
        repaints = watch(chart, monkeypatch)
        chart.title = "loss"
        assert repaints == []
        chart.title = "loss [b]"
        assert repaints and chart.title == "loss [b]"

    drive(scenario)


def test_it_follows_the_size() -> None:
    async def scenario(pilot: Pilot[None], chart: Chart) -> None:
        chart.show([curve(3000, value="1.5")])
        for size in [(40, 10), (21, 8), (20, 5), (3, 3), (1, 1), (120, 40)]:
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert all(len(row) == chart.size.width for row in picture(chart))
        assert any(ord(glyph) in BRAILLE for row in picture(chart) for glyph in row)

    drive(scenario)


# Colours


def test_every_segment_has_a_style_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def scenario(pilot: Pilot[None], chart: Chart) -> None:
        chart.show([curve(3000, value="1.5"), curve(3000, name="val", role="points")])
        await pilot.press("end")
        await pilot.pause()
        lines = [chart.render_line(y) for y in range(chart.size.height)]
        assert all(segment.style is not None for line in lines for segment in line)

    drive(scenario)


@pytest.mark.parametrize("theme", ["textual-light", "ansi-dark", "textual-dark"])
def test_colours_follow_the_theme(theme: str) -> None:
    async def scenario(pilot: Pilot[None], chart: Chart) -> None:
        chart.show([curve(3000, value="1.5")])
        pilot.app.theme = "dracula"
        await pilot.pause()
        before = chart.render_line(0)
        pilot.app.theme = theme
        await pilot.pause()
        assert chart.render_line(0).text == before.text
        assert chart.render_line(0) != before

    drive(scenario)


def test_two_lines_differ_in_more_than_colour() -> None:
    def plot(lines: int) -> list[str]:
        figure = Figure()
        x = np.arange(1.0, 101)
        figure.series = tuple(Series(str(level), x, np.full(100, level), "line") for level in (1.0, 2.0)[:lines])
        figure.prepare()
        return ["".join(row) for row in figure.draw(60, 16).glyphs.tolist()[1:-2]]

    shapes = {row.strip("│┤┈ 012.")[:8] for row in plot(2) if any(ord(glyph) in BRAILLE for glyph in row)}
    assert len(shapes) == 2


# The cursor


def test_keys_move_the_cursor_and_escape_removes_it() -> None:
    async def scenario(pilot: Pilot[None], chart: Chart) -> None:
        x = np.arange(0.0, 1001, 100)
        chart.show([Series("train", x, x / 100, "line")])
        chart.focus()
        for key, place in [("left", 1000), ("left", 900), ("right", 1000), ("home", 0), ("shift+right", 1000)]:
            await pilot.press(key)
            assert chart.cursor_x == place, key
        await pilot.press("shift+left", "end", "escape")
        assert chart.cursor_x is None
        assert isinstance(pilot.app, Host)
        assert pilot.app.moves == [1000, 900, 1000, 0, 1000, 0, 1000, None]

    drive(scenario)


def test_the_legend_reads_values_at_the_cursor() -> None:
    async def scenario(pilot: Pilot[None], chart: Chart) -> None:
        x = np.arange(0.0, 12_400 + 1)
        chart.show(
            [
                Series("train", x, x / 1000, "line", value="latest"),
                Series("val", np.array([5000.0, 12_400.0]), np.array([1.25, 1.531]), "points", "warning"),
            ]
        )
        chart.focus()
        await pilot.press("end")
        assert "step 12,400" in picture(chart)[0]
        assert "train 12.4" in picture(chart)[0]
        assert "val 1.531" in picture(chart)[0]
        await pilot.press("home")
        assert "val 1.25 @5,000" in picture(chart)[0]
        assert any(row.count("│") == 2 for row in picture(chart)[1:])
        await pilot.press("escape")
        assert "train latest" in picture(chart)[0]

    drive(scenario)


def test_the_cursor_stays_at_its_step_while_data_come() -> None:
    async def scenario(pilot: Pilot[None], chart: Chart) -> None:
        chart.show([curve(1000)])
        chart.focus()
        await pilot.press("end")
        chart.show([curve(5000)])
        assert chart.cursor_x == 1000
        assert "step 1,000" in picture(chart)[0]

    drive(scenario)


def test_a_click_puts_the_cursor() -> None:
    async def scenario(pilot: Pilot[None], chart: Chart) -> None:
        x = np.arange(0.0, 1001, 100)
        chart.show([Series("train", x, x, "line")], x_limits=(0, 1000))
        await pilot.click(Chart, offset=(chart.size.width // 2 + 3, 8))
        assert chart.cursor_x == 500

    drive(scenario)


def test_keys_on_an_empty_chart_do_nothing() -> None:
    async def scenario(pilot: Pilot[None], chart: Chart) -> None:
        chart.show([], message="nothing yet")
        chart.focus()
        await pilot.press("left", "home", "end", "shift+right", "escape")
        await pilot.click(Chart)
        assert chart.cursor_x is None

    drive(scenario)
