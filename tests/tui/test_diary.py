"""The diary: which sample is in view, and how one walks through the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Static

from minigpt.history import SampleText
from tui.widgets.diary import Diary


class Host(App[None]):
    def compose(self) -> ComposeResult:
        yield Diary(id="diary")


def drive(scenario: Callable[[Pilot[None], Diary], Awaitable[None]]) -> None:
    """Run a scenario on a diary that has the focus."""

    async def main() -> None:
        async with Host().run_test(size=(50, 10)) as pilot:
            diary = pilot.app.query_one(Diary)
            diary.focus()
            await pilot.pause()
            await scenario(pilot, diary)

    asyncio.run(main())


def sample(step: int, prompt: str = "The cat", text: str | None = None) -> SampleText:
    return SampleText(step, prompt, f" at {step}" if text is None else text)


def page(diary: Diary) -> str:
    return str(diary.query_one(Static).content)


def test_nothing_yet_is_said_so() -> None:
    async def scenario(pilot: Pilot[None], diary: Diary) -> None:
        diary.show([])
        await pilot.press("left", "right", "up", "down", "home", "end")
        assert diary.current is None and diary.text == ""
        assert "will stand here" in page(diary)

    drive(scenario)


def test_the_newest_is_in_view_as_it_comes() -> None:
    async def scenario(pilot: Pilot[None], diary: Diary) -> None:
        diary.show([sample(0), sample(10)])
        assert diary.text == page(diary) == "The cat at 10"
        diary.show([sample(0), sample(10), sample(20)])
        assert page(diary) == "The cat at 20"
        assert "step 20 (3 of 3)" in str(diary.border_title)

    drive(scenario)


def test_walking_through_the_steps() -> None:
    async def scenario(pilot: Pilot[None], diary: Diary) -> None:
        diary.show([sample(step) for step in (0, 10, 20, 30)])
        seen = []
        for key in ("left", "left", "right", "home", "left", "end", "right"):
            await pilot.press(key)
            assert diary.current is not None
            seen.append(diary.current.step)
        assert seen == [20, 10, 20, 0, 0, 30, 30]

    drive(scenario)


def test_who_went_back_stays_there_and_who_came_forward_follows() -> None:
    async def scenario(pilot: Pilot[None], diary: Diary) -> None:
        steps = [0, 10, 20]
        diary.show([sample(step) for step in steps])
        await pilot.press("left")
        diary.show([sample(step) for step in [*steps, 30]])
        assert page(diary) == "The cat at 10"
        await pilot.press("right", "right")
        diary.show([sample(step) for step in [*steps, 30, 40]])
        assert page(diary) == "The cat at 40"

    drive(scenario)


def test_a_step_that_was_looked_at_twice_is_no_dead_end() -> None:
    async def scenario(pilot: Pilot[None], diary: Diary) -> None:
        diary.show([sample(0), sample(10), sample(20, text=" first"), sample(20, text=" again")])
        assert page(diary) == "The cat again"
        assert "(3 of 3)" in str(diary.border_title)
        await pilot.press("left", "left")
        assert page(diary) == "The cat at 0"

    drive(scenario)


def test_openings_are_walked_through_at_the_same_step() -> None:
    async def scenario(pilot: Pilot[None], diary: Diary) -> None:
        diary.show([sample(step, prompt) for step in (0, 10, 20) for prompt in ("A", "B", "C")])
        await pilot.press("left")
        seen = []
        for key in ("down", "down", "down", "up"):
            await pilot.press(key)
            seen.append(page(diary))
        assert seen == ["B at 10", "C at 10", "A at 10", "C at 10"]
        assert diary.prompts() == ["A", "B", "C"]

    drive(scenario)


def test_a_step_taken_back_by_the_run_is_left_for_the_one_before() -> None:
    async def scenario(pilot: Pilot[None], diary: Diary) -> None:
        diary.show([sample(step) for step in (0, 10, 20, 30)])
        await pilot.press("left")
        diary.show([sample(0), sample(10)])
        assert page(diary) == "The cat at 10"

    drive(scenario)


def test_another_run_with_other_openings() -> None:
    async def scenario(pilot: Pilot[None], diary: Diary) -> None:
        diary.show([sample(0, "A"), sample(0, "B")])
        await pilot.press("down")
        diary.show([sample(5, "X")])
        assert page(diary) == "X at 5"
        await pilot.press("down")
        assert page(diary) == "X at 5"

    drive(scenario)


def test_what_a_model_writes_is_no_markup() -> None:
    async def scenario(pilot: Pilot[None], diary: Diary) -> None:
        diary.show([sample(0, "[red]The[/red]", " [/] $primary [@click=app.quit]x[/]")])
        assert page(diary) == "[red]The[/red] [/] $primary [@click=app.quit]x[/]"

    drive(scenario)


def test_the_same_again_is_not_painted_again() -> None:
    async def scenario(pilot: Pilot[None], diary: Diary) -> None:
        diary.show([sample(0)])
        await pilot.pause()
        shown = diary.query_one(Static).content
        diary.show([sample(0)])
        assert diary.query_one(Static).content is shown

    drive(scenario)
