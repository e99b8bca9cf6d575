"""The list of corpora: what it shows of each, and what it survives."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from minigpt.text.corpora import resolve
from minigpt.text.prepare import prepare
from minigpt.workspace import Workspace
from tests.conftest import tale
from tests.tui.choosing.pane import (
    HARMLESS,
    HOSTILE,
    Harness,
    asked,
    line_of,
    listed,
    on_screen,
    press,
    put_cursor,
    settled,
    shown,
)
from tui.panes.corpus import CorpusPane


@pytest.mark.asyncio
async def test_the_sample_is_there_before_it_is_made(workspace: Workspace) -> None:
    async with on_screen(CorpusPane(), workspace) as pilot:
        assert listed(pilot) == ["sample"]
        assert "built in, made on first use" in line_of(pilot, "sample")
        assert "This is the story about" in shown(pilot)
    assert list(workspace.data.iterdir()) == []


@pytest.mark.asyncio
async def test_a_corpus_shows_its_statistics_its_tokens_and_how_it_begins(workspace: Workspace) -> None:
    (workspace.root / "novel.txt").write_text(f"{HOSTILE}\n{tale()}")
    corpus = resolve(workspace, str(workspace.root / "novel.txt"))
    for kind in ("bpe", "char"):
        prepare(corpus, tokenizer_kind=kind, vocab_size=300, validation_fraction=0.1, test_fraction=0)
    async with on_screen(CorpusPane(), workspace, (200, 60)) as pilot:
        await put_cursor(pilot, "novel")
        text = shown(pilot)
        assert f"{corpus.manifest.characters:,} characters" in text
        assert "char, vocabulary" in text
        assert "bpe, vocabulary" in text
        assert HARMLESS in text


@pytest.mark.asyncio
async def test_conversations_are_shown_turn_by_turn(workspace: Workspace) -> None:
    turns = [{"role": "user", "content": "Hi [b]there"}, {"role": "assistant", "content": "Hello!"}]
    (workspace.root / "talk.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    resolve(workspace, str(workspace.root / "talk.jsonl"))
    async with on_screen(CorpusPane(), workspace) as pilot:
        await put_cursor(pilot, "talk")
        assert "conversations" in line_of(pilot, "talk")
        assert "user: Hi [b]there" in shown(pilot)
        assert "assistant: Hello!" in shown(pilot)


@pytest.mark.asyncio
async def test_a_damaged_corpus_is_listed_and_cannot_be_chosen(workspace: Workspace) -> None:
    (workspace.data / "bad").mkdir()
    (workspace.data / "bad" / "corpus.toml").write_bytes(os.urandom(500))
    async with on_screen(CorpusPane(), workspace) as pilot:
        await put_cursor(pilot, "bad")
        assert "cannot be used" in line_of(pilot, "bad")
        await press(pilot, "enter")
        assert [entry[1] for entry in asked(pilot)] == ["This corpus cannot be used"]


@pytest.mark.asyncio
async def test_corpora_that_vanish_do_no_harm(workspace: Workspace) -> None:
    for name in ("one", "two"):
        (workspace.root / f"{name}.txt").write_text(tale() + name)
        resolve(workspace, str(workspace.root / f"{name}.txt"))
    pane = CorpusPane()
    async with on_screen(pane, workspace) as pilot:
        shutil.rmtree(workspace.data)
        await put_cursor(pilot, "two")
        pane.shown()
        await settled(pilot)
        assert listed(pilot) == ["sample"]


@pytest.mark.asyncio
async def test_a_chosen_corpus_that_is_gone_says_so(workspace: Workspace) -> None:
    app = Harness(CorpusPane(), workspace)
    app.state.corpus = HOSTILE
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert HARMLESS in line_of(pilot, HOSTILE)
        assert "There is no corpus of that name" in shown(pilot)
