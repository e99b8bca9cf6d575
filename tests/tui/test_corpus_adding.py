"""The dialogs that add text: what they ask, what they check, and what they have `minigpt` do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Button, Checkbox, Input, Select, Static, TextArea

from minigpt.errors import UserError
from tests.tui.corpus_app import opened as shown
from tests.tui.corpus_app import press, screen, settled, until
from tests.tui.scene import HARMLESS, HOSTILE, Scene
from tui.corpora import paste
from tui.corpora.adding import AddForm, stem_of, suggested_name
from tui.corpora.files import FileTree
from tui.corpora.hub import amount

PASTE, FILES, URL, HUGGING_FACE, KAGGLE, CATALOGUE, SAMPLE = "1234567"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with Scene(tmp_path) as made:
        made.add_corpus()
        yield made


def opened(scene: Scene, size: tuple[int, int] = (120, 40)) -> AbstractAsyncContextManager[Pilot[None]]:
    return shown(scene.workspace, scene.children, size=size)


def form(pilot: Pilot[None]) -> AddForm:
    assert isinstance(pilot.app.screen, AddForm)
    return pilot.app.screen


def put(pilot: Pilot[None], **values: str) -> None:
    """Fill fields by their ids."""
    for name, value in values.items():
        form(pilot).query_one(f"#{name}", Input).value = value


async def add(pilot: Pilot[None]) -> None:
    await press(pilot, "ctrl+s")


def problem(pilot: Pilot[None]) -> str:
    return str(form(pilot).query_one(".problem", Static).content)


def started(scene: Scene) -> list[str]:
    """Return what `minigpt` was started with, without where and for whom."""
    (arguments,) = scene.launched
    return arguments[3 : arguments.index("--workspace")]


# -- paste


@pytest.mark.asyncio
async def test_pasted_text_is_written_off_to_a_file_and_added(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "a", PASTE)
        pilot.app.post_message(events.Paste("The old Moon\rrose."))
        await until(pilot, lambda: "18 characters: too little" in screen(pilot))
        assert form(pilot).value("name") == "the-old-moon-rose"
        await add(pilot)
    *words, file, flag, origin = started(scene)
    assert words == ["corpus", "add", "the-old-moon-rose"]
    assert Path(file).read_text() == "The old Moon\nrose."
    assert (flag, origin) == ("--origin", paste.ORIGIN)


@pytest.mark.asyncio
async def test_a_megabyte_never_enters_the_field(scene: Scene) -> None:
    text = "Once upon a midnight dreary.\n" * 40_000
    async with opened(scene) as pilot:
        await press(pilot, "a", PASTE)
        pilot.app.post_message(events.Paste(text))
        await until(pilot, lambda: "1.16 MB" in screen(pilot) and "Once upon a midnight" in screen(pilot))
        assert form(pilot).query_one(TextArea).text == ""
        await add(pilot)
    assert Path(started(scene)[3]).read_text() == text


@pytest.mark.asyncio
async def test_no_text_is_not_added(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "a", PASTE)
        put(pilot, name="nothing")
        await add(pilot)
        assert "There is no text yet" in problem(pilot)
    assert scene.launched == []


# -- what all share


@pytest.mark.parametrize(("name", "word"), [("tale", "already"), ("../up", "cannot be the name"), ("", "cannot be")])
@pytest.mark.asyncio
async def test_a_name_that_cannot_be_is_refused_in_the_dialog(scene: Scene, name: str, word: str) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "a", SAMPLE)
        put(pilot, name=name)
        await add(pilot)
        assert word in problem(pilot)
    assert scene.launched == []


@pytest.mark.asyncio
async def test_the_split_is_chosen_and_asks_for_its_field(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "a", FILES)
        field = form(pilot).query_one("#field")
        assert not field.parent.display  # type: ignore[union-attr]
        form(pilot).query_one(Select).value = "field"
        await settled(pilot)
        assert field.parent.display  # type: ignore[union-attr]
        put(pilot, path="/books/x.jsonl", field="story")
        await settled(pilot)
        await add(pilot)
    assert started(scene) == ["corpus", "add", "x", "/books/x.jsonl", "--split", "field", "--field=story"]


@pytest.mark.asyncio
async def test_escape_adds_nothing(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "a", SAMPLE, "escape")
        assert len(pilot.app.screen_stack) == 1
    assert scene.launched == []


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("/books/Moby Dick.txt", "Moby Dick"),
        ("data/rows.jsonl.gz", "rows"),
        ("https://en.wikipedia.org/wiki/Moon?x=1#top", "Moon"),
        ("roneneldan/TinyStories/", "TinyStories"),
    ],
)
def test_a_name_comes_from_the_last_part_of_where_text_lies(path: str, stem: str) -> None:
    assert stem_of(path) == stem


def test_a_suggested_name_is_free_and_fit_for_a_folder() -> None:
    assert suggested_name("Das Schloß: Kafka!", set()) == "Das-Schlo-Kafka"
    assert suggested_name("tale", {"tale", "tale-2"}) == "tale-3"
    assert suggested_name("月", set()) == ""


# -- files


@pytest.mark.asyncio
async def test_the_tree_opens_folders_and_fills_in_the_path(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = scene.workspace.root / "library"
    (folder / "novels").mkdir(parents=True)
    (folder / "novels" / "one.txt").write_text("x" * 2000)
    (folder / "picture.png").write_bytes(b"")
    (folder / f"{HOSTILE.replace('/', '')}.md").write_text("x")
    monkeypatch.chdir(folder)
    async with opened(scene) as pilot:
        await press(pilot, "a", FILES)
        assert "minigpt corpus add NAME -" in screen(pilot)
        assert HARMLESS.replace("/", "") in screen(pilot)
        assert "picture" not in screen(pilot)
        await press(pilot, "down", "enter", "down", "enter")
        assert "one.txt  2 kB" in screen(pilot)
        assert form(pilot).value("name") == "one"
        assert pilot.app.focused is form(pilot).query_one("#name")
        await press(pilot, "enter")
    assert started(scene) == ["corpus", "add", "one", str(folder / "novels" / "one.txt")]


@pytest.mark.asyncio
async def test_token_shards_come_with_their_tokenizer(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = scene.workspace.root / "shards"
    shards.mkdir()
    monkeypatch.chdir(scene.workspace.root)
    async with opened(scene) as pilot:
        await press(pilot, "a", FILES)
        form(pilot).query_one("#path", Input).value = str(shards)
        form(pilot).query_one("#tokenizer", Input).value = "my-run"
        form(pilot).query_one("#name", Input).focus()
        await press(pilot, "enter")
    assert started(scene) == ["corpus", "add", "shards", str(shards), "--tokenizer-file", "my-run"]


@pytest.mark.asyncio
async def test_a_folder_that_cannot_be_read_says_why(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    (scene.workspace.root / "gone").mkdir()
    monkeypatch.chdir(scene.workspace.root)
    async with opened(scene) as pilot:
        await press(pilot, "a", FILES)
        (scene.workspace.root / "gone").rmdir()
        tree = form(pilot).query_one(FileTree)
        next(node for node in tree.root.children if "gone" in str(node.label)).expand()
        await settled(pilot)
        assert "No such file" in screen(pilot)


@pytest.mark.parametrize("path", ["~nobody-of-that-name/x", "a\0b"])
@pytest.mark.asyncio
async def test_a_path_that_is_none_is_told(scene: Scene, path: str) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "a", FILES)
        put(pilot, path=path, name="x")
        await add(pilot)
        assert "no path" in problem(pilot)
    assert scene.launched == []


# -- the web


@pytest.mark.asyncio
async def test_a_page_is_shown_before_it_is_kept(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "a", URL)
        put(pilot, url="https://example.org/moon")
        form(pilot).query_one("#as_is", Checkbox).value = True
        await press(pilot, "enter")
        asked = next(asked for asked in scene.children.asked if asked[1] == "preview")
        assert asked[:4] == ["corpus", "preview", "https://example.org/moon", "--as-is"]
        assert "The Moon: 12,800 characters" in screen(pilot)
        assert "The moon rose over the village." in screen(pilot)
        assert scene.launched == []
        assert form(pilot).value("name") == "the-moon"
        await press(pilot, "enter")
    *words, file, origin = started(scene)
    assert words == ["corpus", "add", "the-moon"]
    assert origin == "--origin=https://example.org/moon"
    assert Path(file).read_text() == scene.children.page


@pytest.mark.asyncio
async def test_another_address_is_fetched_anew_and_not_kept_as_the_first(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "a", URL)
        put(pilot, url="https://example.org/moon")
        await add(pilot)
        put(pilot, url="https://example.org/sun")
        await settled(pilot)
        assert str(form(pilot).query_one("#add", Button).label) == "Fetch"
        await add(pilot)
        assert scene.launched == []


@pytest.mark.parametrize("why", ["That page is a PDF.", "example.org sends in circles."])
@pytest.mark.asyncio
async def test_a_page_that_cannot_be_had_says_why_and_leaves_nothing(scene: Scene, why: str) -> None:
    scene.children.refuse["preview"] = why
    async with opened(scene) as pilot:
        await press(pilot, "a", URL)
        put(pilot, url="https://example.org/moon")
        await add(pilot)
        assert problem(pilot) == why
    assert not list((scene.workspace.checkpoints / ".app" / "incoming").iterdir())


@pytest.mark.asyncio
async def test_a_page_that_is_not_kept_leaves_nothing(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "a", URL)
        put(pilot, url="https://example.org/moon")
        await add(pilot)
        incoming = scene.workspace.checkpoints / ".app" / "incoming"
        assert len(list(incoming.iterdir())) == 1
        await press(pilot, "escape")
        await until(pilot, lambda: not list(incoming.iterdir()))


@pytest.mark.asyncio
async def test_escape_gives_up_a_slow_page(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "a", URL)
        put(pilot, url="https://example.org/moon")
        scene.children.wait.clear()
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "Esc gives up" in screen(pilot))
        await press(pilot, "escape")
        incoming = scene.workspace.checkpoints / ".app" / "incoming"
        await until(pilot, lambda: not list(incoming.iterdir()))
        assert len(pilot.app.screen_stack) == 1


# -- data sets


@pytest.mark.asyncio
async def test_a_data_set_of_hugging_face_offers_a_hundred_million_tokens(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "a", HUGGING_FACE)
        assert form(pilot).value("target") == "100M"
        put(pilot, source="https://huggingface.co/datasets/HuggingFaceFW/fineweb-edu", config="sample-10BT")
        put(pilot, fallback="hf:allenai/c4")
        await settled(pilot)
        await add(pilot)
    flags = ["--target-tokens=100M", "--config=sample-10BT", "--fallback=hf:allenai/c4"]
    assert started(scene) == ["corpus", "add", "fineweb-edu", "hf:HuggingFaceFW/fineweb-edu", *flags]


@pytest.mark.asyncio
async def test_a_data_set_of_kaggle_has_an_owner(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "a", KAGGLE)
        put(pilot, source="novels")
        await add(pilot)
        assert "OWNER/NAME" in problem(pilot)
        put(pilot, source="jane/novels")
        await settled(pilot)
        await add(pilot)
    assert started(scene) == ["corpus", "add", "novels", "kaggle:jane/novels"]


@pytest.mark.asyncio
async def test_the_catalogue_tells_size_licence_and_use_and_takes_a_part_of_the_large(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "a", CATALOGUE)
        assert "public domain" in screen(pilot)
        assert form(pilot).value("target") == "all"
        await press(pilot, "down")
        assert "a few TB" in screen(pilot)
        await press(pilot, "enter", "enter")
    assert started(scene) == ["corpus", "add", "fineweb-edu", "fineweb-edu", "--target-tokens=100M"]


@pytest.mark.asyncio
async def test_the_sample_is_made_of_any_size_with_a_seed(scene: Scene) -> None:
    async with opened(scene) as pilot:
        await press(pilot, "a", SAMPLE)
        put(pilot, size="20M", seed="7")
        await settled(pilot)
        await add(pilot)
    assert started(scene) == ["corpus", "add", "sample-20M-seed7", "sample", "--size=20M", "--seed=7"]


@pytest.mark.parametrize("text", ["", "many", "-5M", "5 MB"])
def test_an_amount_is_a_number_with_a_unit(text: str) -> None:
    with pytest.raises(UserError):
        amount(text, "size")


@pytest.mark.slow
@pytest.mark.asyncio
async def test_every_dialog_shows_its_buttons_on_a_small_screen_and_survives_a_tiny_one(scene: Scene) -> None:
    async with opened(scene, (80, 24)) as pilot:
        for source in "1234567":
            await press(pilot, "a", source)
            button = form(pilot).query_one("#add").region
            assert "Cancel" in screen(pilot).splitlines()[button.y]
            await pilot.resize_terminal(20, 5)
            await settled(pilot)
            assert form(pilot)
            await pilot.resize_terminal(80, 24)
            await press(pilot, "escape")
