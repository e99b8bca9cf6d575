"""Keys may come while a pane is still being put together: a child of it can have the focus by then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.widget import Widget

from tests.tui.scene import Scene, on_screen, press
from tui.panes.chat import ChatPane
from tui.panes.corpus import CorpusPane
from tui.panes.pane import Pane
from tui.panes.presets import PresetsPane
from tui.panes.runs import RunsPane
from tui.widgets.composer import Composer


@pytest.mark.asyncio
@pytest.mark.parametrize(("key", "kind"), [("2", CorpusPane), ("3", PresetsPane), ("4", ChatPane), ("5", RunsPane)])
async def test_every_key_of_a_pane_may_come_before_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, kind: type[Pane]
) -> None:
    mounted, tried = Widget._on_mount, list[str]()

    async def every_key_at_once(self: Widget, event: Any) -> None:
        mounted(self, event)
        pane = next((node for node in self.ancestors if isinstance(node, kind)), None)
        if pane is not None and not tried:
            assert not pane.is_mounted
            for bindings in pane._bindings.key_to_bindings.values():
                tried.append(bindings[0].action)
                await self.app.run_action(bindings[0].action, pane)

    with Scene(tmp_path) as scene:
        scene.add_corpus()
        async with on_screen(scene) as pilot:
            monkeypatch.setattr(Widget, "_on_mount", every_key_at_once)
            await press(pilot, key)
    assert len(tried) > 5


@pytest.mark.asyncio
async def test_who_comes_back_to_the_chat_can_write_at_once(tmp_path: Path) -> None:
    with Scene(tmp_path) as scene:
        scene.add_corpus()
        async with on_screen(scene) as pilot:
            await press(pilot, "4", "escape", "1", "4")
            assert isinstance(pilot.app.focused, Composer)
