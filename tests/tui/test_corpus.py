"""The Corpus pane: its list, its views, and what its keys do with corpora and tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Button

from minigpt.errors import UserError
from minigpt.tasks import Cancelled, TaskProcess
from minigpt.text.sources import add_path
from tests.tui.corpus_app import CorpusApp, answer, dialog, keys, line_of, pane, press, screen, settled, until
from tests.tui.corpus_app import opened as shown
from tests.tui.scene import HARMLESS, HOSTILE, Scene
from tui.corpora.page import Page, TextReader
from tui.corpora.tasks import OWED
from tui.state import UIState

WORDS = ("moon", "river", "winter", "stone")


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr("tui.corpora.desk.POLL_SECONDS", 0.02)
    with Scene(tmp_path) as made:
        made.add_corpus()
        yield made


def stories(scene: Scene, count: int = 120, name: str = "stories") -> None:
    """Add a corpus of many documents, each longer than the one before."""
    source = scene.workspace.root / f"{name}.jsonl"
    rows = [{"text": f"Story {number} of the {WORDS[number % 4]}. " + "word " * number} for number in range(count)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    add_path(scene.workspace, source)


def opened(scene: Scene, corpus: str = "tale", size: tuple[int, int] = (120, 40)):
    return shown(scene.workspace, scene.children, corpus, size)


def state(pilot: Pilot[None]) -> UIState:
    assert isinstance(pilot.app, CorpusApp)
    return pilot.app.state


def task(scene: Scene, label: str, title: str, owed: bool = True) -> TaskProcess:
    """Return a task as a process of `minigpt` would tell of it."""
    directory = scene.workspace.task_directory(f"{label}-20250101-080000")
    directory.mkdir(parents=True)
    if owed:
        (directory / OWED).touch()
    return TaskProcess(directory, title)


# -- the list


@pytest.mark.asyncio
async def test_every_corpus_is_listed_with_size_documents_and_tokens(scene: Scene) -> None:
    stories(scene)
    shards = scene.workspace.data / "stories" / "shards" / "k"
    shards.mkdir(parents=True)
    (shards / "shards.toml").write_text("[splits.train]\ntokens = 12000\n[splits.validation]\ntokens = 345\n")
    async with opened(scene) as pilot:
        assert keys(pilot) == ["sample", "stories", "tale"]
        assert line_of(pilot, "stories").split()[1:6] == ["38.5", "kB", "120", "12.3k", "texts"]
        assert line_of(pilot, "tale").split()[:2] == ["›●", "tale"]


@pytest.mark.asyncio
async def test_advice_is_for_the_chosen_preset_and_warnings_come_first(scene: Scene) -> None:
    async with opened(scene) as pilot:
        assert [asked[:4] for asked in scene.children.asked] == [["corpus", "stats", "tale", "--json"]]
        assert scene.children.asked[0][-2:] == ["--preset", "tiny"]
        text = screen(pilot)
        assert text.index("! 1 kB is too little") < text.index("· It feeds the preset tiny")


@pytest.mark.asyncio
async def test_a_preset_that_is_broken_does_not_hide_the_figures(scene: Scene) -> None:
    ask = scene.children.ask

    def refuse(workspace: object, arguments: list[str], text: str = "") -> object:
        if "--preset" in arguments:
            scene.children.refuse["stats"] = "There is no preset of that name."
        try:
            return ask(workspace, arguments, text)
        finally:
            scene.children.refuse.clear()

    scene.children.ask = refuse  # type: ignore[method-assign, assignment]
    async with opened(scene) as pilot:
        assert "It feeds the preset tiny" in screen(pilot)


@pytest.mark.asyncio
async def test_a_large_text_is_counted_only_when_asked(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.corpora.views.COUNTED_BYTES", 10)
    async with opened(scene) as pilot:
        await press(pilot, "v", "v")
        assert "the key c counts it" in screen(pilot)
        assert not any(asked[1] == "stats" for asked in scene.children.asked)
        await press(pilot, "c")
        assert "different ones" in screen(pilot)


# -- the views


@pytest.mark.asyncio
async def test_v_and_the_arrows_go_through_the_views(scene: Scene) -> None:
    async with opened(scene) as pilot:
        views = pane(pilot).views
        seen = []
        for key in ("v", "right", "v", "right", "left"):
            await press(pilot, key)
            seen.append(views.current)
        assert seen == ["documents", "statistics", "tokens", "facts", "tokens"]


@pytest.mark.asyncio
async def test_a_view_is_chosen_by_a_click_on_its_name(scene: Scene) -> None:
    async with opened(scene) as pilot:
        views = pane(pilot).views
        place = screen(pilot).splitlines()[views.region.y].index("statistics")
        await pilot.click(offset=(place + 1, views.region.y))
        await settled(pilot)
        assert views.current == "statistics"


@pytest.mark.asyncio
async def test_documents_are_listed_and_more_come_when_one_goes_down(scene: Scene) -> None:
    stories(scene)
    async with opened(scene, "stories") as pilot:
        await press(pilot, "v", "tab")
        listing = pane(pilot).views.documents.listing
        assert len(listing.rows) == 50
        await press(pilot, "end")
        assert len(listing.rows) == 100
        await press(pilot, "end", "end")
        assert len(listing.rows) == 120
        assert "120 documents" in screen(pilot)


@pytest.mark.asyncio
async def test_a_search_lists_only_documents_that_hold_the_words(scene: Scene) -> None:
    stories(scene)
    async with opened(scene, "stories") as pilot:
        await press(pilot, "slash", *"MOON", "enter")
        documents = pane(pilot).views.documents
        assert [row.key for row in documents.listing.rows[:3]] == ["0", "4", "8"]
        assert "30 with “MOON”" in screen(pilot)
        await press(pilot, "escape")
        assert len(documents.listing.rows) == 50


@pytest.mark.asyncio
async def test_a_search_in_vain_says_so(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "slash", *"xyz", "enter")
        assert "No document holds these words." in screen(pilot)


@pytest.mark.asyncio
async def test_enter_reads_a_whole_document_and_escape_goes_back_to_it(scene: Scene) -> None:
    stories(scene)
    async with opened(scene, "stories") as pilot:
        await press(pilot, "v", "tab", "down", "enter")
        assert isinstance(pilot.app.screen, TextReader)
        assert "document 1 of stories" in screen(pilot)
        assert "Story 1 of the river. word" in screen(pilot)
        await press(pilot, "escape")
        assert pilot.app.focused is pane(pilot).views.documents.listing


@pytest.mark.asyncio
async def test_documents_that_cannot_be_read_say_why(scene: Scene) -> None:
    scene.children.refuse["documents"] = "documents/x.parquet is damaged: add it again."
    async with opened(scene) as pilot:
        await press(pilot, "v")
        assert "x.parquet is damaged" in screen(pilot)


@pytest.mark.asyncio
async def test_statistics_have_a_bar_for_each_range_of_lengths(scene: Scene) -> None:
    stories(scene)
    async with opened(scene, "stories") as pilot:
        await press(pilot, "v", "v")
        await until(pilot, lambda: "300-999" in screen(pilot))
        bars = {line.count("━") for line in screen(pilot).splitlines() if "━" in line}
        assert len(bars) > 1


@pytest.mark.asyncio
async def test_tokens_are_painted_and_told_apart_without_colours(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "v", "v", "v")
        page = pane(pilot).views.tokens.page
        styles = [segment.style for segment in page.render_line(0) if segment.text.strip()]
        assert {bool(style and style.underline) for style in styles} == {True, False}
        assert len({style.bgcolor for style in styles if style}) == 2
        assert "characters a token (bpe, vocabulary 4,096)" in screen(pilot)
        assert "↵" in screen(pilot)


@pytest.mark.asyncio
async def test_the_tokens_are_those_of_the_document_under_the_cursor(scene: Scene) -> None:
    stories(scene)
    async with opened(scene, "stories") as pilot:
        await press(pilot, "v", "tab", "down", "down", "v", "v")
        assert "document 2:" in screen(pilot)
        assert "Story 2 of the winter" in screen(pilot)


@pytest.mark.asyncio
async def test_a_text_of_ones_own_is_painted(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "left", "slash", *"mine", "enter")
        assert "your text: 1 tokens for 4 characters" in screen(pilot)


@pytest.mark.asyncio
async def test_without_tokens_the_view_says_how_to_make_them(scene: Scene) -> None:
    scene.children.refuse["show"] = "There are no tokens of tale yet."
    async with opened(scene) as pilot:
        await press(pilot, "left")
        assert "There are no tokens of tale yet." in screen(pilot)
        assert "The key p makes tokens" in screen(pilot)


@pytest.mark.parametrize(("view", "action"), [("left", "show"), ("v", "documents"), ("c", "stats")])
@pytest.mark.asyncio
async def test_what_was_refused_is_not_asked_again_and_again(scene: Scene, view: str, action: str) -> None:
    scene.children.refuse[action] = "No."
    async with opened(scene) as pilot:
        await press(pilot, view)
        count = len(scene.children.asked)
        with task(scene, "prepare-far", "prepare far", owed=False) as work:
            for done in range(5):
                work.report(f"phase {done}", done, 5)
                pane(pilot).desk.look()
                await settled(pilot)
        assert len(scene.children.asked) == count


@pytest.mark.asyncio
async def test_hostile_text_is_shown_as_it_is(scene: Scene) -> None:
    scene.add_corpus("evil", HOSTILE * 3)
    async with opened(scene, "evil", (200, 60)) as pilot:
        assert HARMLESS in screen(pilot)
        await press(pilot, "v")
        assert HARMLESS in screen(pilot)
        await press(pilot, "tab", "enter")
        assert HARMLESS in screen(pilot)
        await press(pilot, "escape", "v", "v")
        assert HARMLESS.replace(" ", "")[:20] in screen(pilot).replace(" ", "")


# -- tasks


@pytest.mark.asyncio
async def test_a_task_of_another_session_is_found_and_followed_to_its_end(scene: Scene) -> None:
    async with opened(scene) as pilot:
        with task(scene, "add-far", "add far", owed=False) as work:
            work.report("downloading", 10e6, 40e6, "bytes")
            pane(pilot).shown()
            await until(pilot, lambda: "adding 25%" in screen(pilot))
            pane(pilot).listing.move_to("far")
            await until(pilot, lambda: "10 MB of 40 MB" in screen(pilot))
            scene.add_corpus("far")
        await until(pilot, lambda: "far" not in pane(pilot).desk.works)
        await until(pilot, lambda: "far" in keys(pilot) and "one text" in line_of(pilot, "far"))


@pytest.mark.asyncio
async def test_a_failure_is_told_once_with_what_to_do(scene: Scene) -> None:
    with pytest.raises(UserError), task(scene, "add-far", "add far"):
        raise UserError("example.org did not answer: try again later.")
    async with opened(scene) as pilot:
        await until(pilot, lambda: bool(dialog(pilot)))
        assert dialog(pilot) == "The text was not added: far: example.org did not answer: try again later."
        await answer(pilot, "ok")
        await until(pilot, lambda: not list(scene.workspace.tasks.glob(f"*/{OWED}")))
        pane(pilot).shown()
        await settled(pilot)
        assert dialog(pilot) == ""


@pytest.mark.asyncio
async def test_missing_credentials_tell_the_steps(scene: Scene) -> None:
    class CredentialsMissing(UserError):
        """As the hub's source raises it."""

    with pytest.raises(UserError), task(scene, "add-far", "add far"):
        raise CredentialsMissing("huggingface.co refused it. 1. Make an account. 2. Set HF_TOKEN.")
    async with opened(scene) as pilot:
        await until(pilot, lambda: bool(dialog(pilot)))
        assert dialog(pilot).startswith("An account is needed: ")
        assert "2. Set HF_TOKEN." in dialog(pilot)


@pytest.mark.asyncio
async def test_what_fails_while_one_is_elsewhere_waits_until_one_is_back(scene: Scene) -> None:
    async with opened(scene) as pilot:
        pane(pilot).hidden()
        with pytest.raises(UserError), task(scene, "add-far", "add far"):
            raise UserError("No.")
        pane(pilot).desk.look()
        await settled(pilot)
        assert dialog(pilot) == ""
        pane(pilot).shown()
        await until(pilot, lambda: "far: No." in dialog(pilot))


@pytest.mark.asyncio
async def test_x_stops_a_task_after_asking(scene: Scene) -> None:
    async with opened(scene) as pilot:
        with task(scene, "prepare-tale", "prepare tale") as work:
            work.report("tokenising", 1, 2, "documents")
            pane(pilot).shown()
            await until(pilot, lambda: "preparing 50%" in screen(pilot))
            await press(pilot, "x")
            assert dialog(pilot).startswith("Stop preparing tale?")
            await answer(pilot, "yes")
            with pytest.raises(Cancelled):
                work.report("tokenising more")
        await until(pilot, lambda: not pane(pilot).desk.works)


@pytest.mark.asyncio
async def test_p_starts_the_preparation_for_the_chosen_preset(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "p")
        (started,) = scene.launched
        assert started[3:8] == ["corpus", "prepare", "tale", "--preset", "tiny"]
        await until(pilot, lambda: "tale" in pane(pilot).desk.works)
        await press(pilot, "p")
        assert dialog(pilot).startswith("One at a time")


# -- removal


@pytest.mark.asyncio
async def test_a_corpus_is_removed_after_asking_and_brought_back_by_one_key(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "d")
        assert dialog(pilot).startswith("Remove this corpus?")
        assert pilot.app.screen.query(Button).first().id == "no"
        await answer(pilot, "yes")
        assert keys(pilot) == ["sample"]
        assert "u brings it back" in screen(pilot)
        assert state(pilot).corpus == "sample"
        await press(pilot, "u")
        assert keys(pilot) == ["sample", "tale"]
        assert state(pilot).corpus == "tale"
    assert scene.children.left == []


@pytest.mark.asyncio
async def test_what_is_not_brought_back_is_deleted_when_the_app_closes(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "d")
        await answer(pilot, "yes")
    assert scene.children.left == [["corpus", "purge", "id-tale"]]


@pytest.mark.asyncio
async def test_a_running_run_that_uses_it_is_named(scene: Scene) -> None:
    scene.run("tiny-tale-1", corpus="tale")
    scene.work("tiny-tale-1")
    async with opened(scene) as pilot:
        await press(pilot, "d")
        assert "The run tiny-tale-1 learns from it now" in dialog(pilot)


@pytest.mark.asyncio
async def test_a_removal_that_fails_says_why(scene: Scene) -> None:
    scene.children.refuse["remove"] = "data/tale cannot be moved (Read-only file system)."
    async with opened(scene) as pilot:
        await press(pilot, "d")
        await answer(pilot, "yes")
        assert "Read-only" in dialog(pilot)
        assert keys(pilot) == ["sample", "tale"]


@pytest.mark.asyncio
async def test_leaving_does_not_wait_for_a_child(scene: Scene) -> None:
    async with opened(scene) as pilot:
        scene.children.wait.clear()
        await pilot.press("v", "v")
        await pilot.pause()
        assert pane(pilot).views.current == "statistics"


@pytest.mark.asyncio
async def test_a_search_is_marked_in_the_text_that_is_read(scene: Scene) -> None:
    scene.add_corpus("hay", "line\n" * 100 + "here is the needle, see\n" + "line\n" * 100)
    async with opened(scene, "hay") as pilot:
        await press(pilot, "slash", *"NEEDLE", "enter", "enter")
        page = pilot.app.screen.query_one(Page)
        lines = [page.render_line(y) for y in range(page.size.height)]
        assert [part.text for line in lines for part in line if part.style and part.style.bold] == ["needle"]
