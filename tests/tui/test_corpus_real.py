"""The Corpus pane with the real `minigpt` behind it."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import events

from minigpt.workspace import Workspace
from tests.conftest import tale
from tests.tui.corpus_app import answer, dialog, keys, line_of, opened, pane, press, screen, until
from tui.corpora.children import Children


@pytest.mark.slow
@pytest.mark.asyncio
async def test_text_is_pasted_prepared_looked_into_removed_and_brought_back(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.require_writable()
    async with opened(workspace, Children(), "sample") as pilot:
        await press(pilot, "a", "1")
        pilot.app.post_message(events.Paste(tale(20_000)))
        await until(pilot, lambda: "the-cat-sees-the" in screen(pilot))
        await press(pilot, "ctrl+s")
        await until(pilot, lambda: "one text" in screen(pilot))
        assert keys(pilot) == ["sample", "the-cat-sees-the"]
        name = keys(pilot)[1]
        await until(pilot, lambda: pane(pilot).listing.key == name and "tokens of" in screen(pilot))
        await press(pilot, "p")
        await until(pilot, lambda: "k  one text" in line_of(pilot, name))
        await press(pilot, "left")
        await until(pilot, lambda: "characters a token (" in screen(pilot))
        await press(pilot, "v", "v")
        await until(pilot, lambda: "The cat sees" in pane(pilot).views.documents.listing.render_line(1).text)
        await press(pilot, "d")
        await answer(pilot, "yes")
        await until(pilot, lambda: keys(pilot) == ["sample"])
        await press(pilot, "u")
        await until(pilot, lambda: keys(pilot) == ["sample", name])
        assert not list((workspace.checkpoints / ".app" / "incoming").iterdir())


@pytest.mark.asyncio
async def test_two_sentences_are_refused_with_what_to_do(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.require_writable()
    async with opened(workspace, Children(), "sample") as pilot:
        await press(pilot, "a", "1")
        pilot.app.post_message(events.Paste("I have a cat. It sleeps."))
        await until(pilot, lambda: "24 characters: too little" in screen(pilot))
        await press(pilot, "ctrl+s")
        await until(pilot, lambda: bool(dialog(pilot)))
        assert dialog(pilot).startswith("The text was not added: i-have-a-cat: This text has 24 characters")
        await answer(pilot, "ok")
        assert keys(pilot) == ["sample"]
