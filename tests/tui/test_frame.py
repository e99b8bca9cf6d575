"""What has been on the screen and is gone is not held in memory by what is still there."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
from textual.widgets import TextArea

from tests.tui.scene import Scene, app_of, on_screen, press


@pytest.mark.asyncio
async def test_a_text_field_is_gone_when_the_next_dialog_has_been_open(tmp_path: Path) -> None:
    with Scene(tmp_path) as scene:
        scene.add_corpus()
        fields: list[weakref.ref[TextArea]] = []
        async with on_screen(scene) as pilot:
            await press(pilot, "2")
            for _ in range(2):
                await press(pilot, "a", "1")
                fields.append(weakref.ref(app_of(pilot).screen.query_one(TextArea)))
                await press(pilot, "escape", "escape")
            gc.collect()
            assert fields[0]() is None
