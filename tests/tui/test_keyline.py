"""The keys at the foot are made anew when they change, and only then; a digit answers a question and no more."""

from __future__ import annotations

import gc
import weakref
from typing import ClassVar

import pytest
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Button
from textual.widgets._footer import FooterKey

from tui.widgets.dialogs import Choice
from tui.widgets.keyline import KeyLine

pytestmark = pytest.mark.asyncio


class Keys(App[None]):
    """Two things to focus, and two keys, one of which comes and goes."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("a", "ask", "Ask"), Binding("3", "count", "Count")]
    counted, able = 0, False

    def compose(self) -> ComposeResult:
        yield Button("one")
        yield Button("two")
        yield KeyLine()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:
        return action != "count" or self.able

    def action_ask(self) -> None:
        self.push_screen(Choice("Which?", "", [("x", "1", "default"), ("y", "2", "default"), ("z", "3", "default")]))

    def action_count(self) -> None:
        self.counted += 1

    @property
    def shown(self) -> list[Widget]:
        return list(self.query(FooterKey))


async def test_the_keys_are_made_anew_only_when_they_change() -> None:
    async with Keys().run_test() as pilot:
        app = pilot.app
        assert isinstance(app, Keys)
        await pilot.pause()
        before = app.shown
        assert [key.description for key in before if isinstance(key, FooterKey)] == ["Ask", "palette"]
        await pilot.press("tab", "tab")
        await pilot.pause()
        assert app.focused is not None and app.shown == before
        app.able = True
        app.refresh_bindings()
        await pilot.pause()
        assert [key.description for key in app.shown if isinstance(key, FooterKey)] == ["Ask", "Count", "palette"]


async def test_keys_that_are_gone_are_not_held() -> None:
    async with Keys().run_test() as pilot:
        app = pilot.app
        assert isinstance(app, Keys)
        made: weakref.WeakSet[Widget] = weakref.WeakSet()
        for turn in range(12):
            app.able = turn % 2 == 0
            app.refresh_bindings()
            await pilot.pause()
            made.update(app.shown)
        gc.collect()
        assert len(made) <= 3 * len(app.shown)


async def test_a_digit_that_answers_a_question_is_no_key_of_what_stands_behind_it() -> None:
    async with Keys().run_test() as pilot:
        app = pilot.app
        assert isinstance(app, Keys)
        app.able = True
        await pilot.press("a")
        assert isinstance(app.screen, Choice)
        await pilot.press("3")
        await pilot.pause()
        assert not isinstance(app.screen, Choice) and app.counted == 0
