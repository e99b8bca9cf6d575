"""What all tests of the app share: a style sheet is parsed once for all, and what nobody looks at is not painted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.screen import Screen


@pytest.fixture(scope="session", autouse=True)
def parsed_once() -> Iterator[None]:
    """Every test starts an app, and every app would parse the same style sheets: a sixth of the time it takes."""
    parse = Stylesheet._parse_rules
    parsed: dict[Any, list[RuleSet]] = {}

    def parse_rules(
        self: Stylesheet,
        css: str,
        read_from: Any,
        is_default_rules: bool = False,
        tie_breaker: int = 0,
        scope: str = "",
    ) -> list[RuleSet]:
        key = (css, read_from, is_default_rules, tie_breaker, scope, tuple(self._variables.items()))
        if key not in parsed:
            parsed[key] = parse(self, css, read_from, is_default_rules, tie_breaker, scope)
        return parsed[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stylesheet, "_parse_rules", parse_rules)
        yield


@pytest.fixture(autouse=True)
def painted_when_looked_at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the frames between two looks at the screen: they were a third of the time that the app takes in tests.

    Tests that are about what happens in between ask for them: `@pytest.mark.every_frame`.
    """
    if request.node.get_closest_marker("every_frame") is None:
        monkeypatch.setattr(Screen, "_compositor_refresh", _put_off)


def _put_off(screen: Screen) -> None:
    screen._dirty_widgets.clear()
    screen.app._update_mouse_over(screen)
