"""The overlay of explanations: from the sentence to the topic, along its links and back, the contents and a search."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.containers import VerticalScroll
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from minigpt import learn
from tests.tui.scene import Scene, app_of, dialog, on_screen, press, screen, settled, until
from tui.learn.contents import Contents
from tui.learn.reader import TopicReader
from tui.learn.subject import subject_of
from tui.widgets.rows import Row, Rows

pytestmark = pytest.mark.asyncio
RUN = "tiny-sample-1"
SMALL = (80, 24)


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Scene]:
    """A scene with a run at work."""
    with Scene(tmp_path) as scene:
        scene.run(RUN)
        scene.work(RUN)
        yield scene


def reader(pilot: Pilot[None]) -> TopicReader:
    found = pilot.app.screen
    assert isinstance(found, TopicReader)
    return found


async def page(pilot: Pilot[None], name: str) -> None:
    """Wait until a page is shown."""
    await until(pilot, lambda: isinstance(pilot.app.screen, TopicReader) and reader(pilot).page.name == name)
    await settled(pilot)


async def focus(pilot: Pilot[None], selector: str) -> None:
    pilot.app.query_one(selector).focus()
    await settled(pilot)


async def test_enter_on_the_sentence_opens_the_topic_with_the_runs_figures(training: Scene) -> None:
    async with on_screen(training) as pilot:
        await focus(pilot, "#run")
        await press(pilot, "question_mark")
        await press(pilot, "escape")
        assert len(pilot.app.screen_stack) == 1
        await press(pilot, "question_mark")
        assert dialog(pilot).startswith("What is this?: One step is one small improvement")
        await press(pilot, "enter")
        await page(pilot, "step")
        assert "Step 300 of 600 is done." in screen(pilot)


async def test_links_are_followed_by_keyboard_and_back_leads_to_where_one_was(training: Scene) -> None:
    async with on_screen(training, SMALL) as pilot:
        app_of(pilot).read_topic("step")
        await page(pilot, "step")
        names = [name for _, name in learn.topic("step").links]
        await press(pilot, "tab", "tab", "end")
        await until(pilot, lambda: reader(pilot).query_one(VerticalScroll).scroll_y > 0)
        scrolled = reader(pilot).query_one(VerticalScroll).scroll_y
        await press(pilot, "enter")
        await page(pilot, names[2])
        await press(pilot, "shift+tab", "enter")
        await page(pilot, learn.topic(names[2]).links[-1][1])
        await press(pilot, "backspace")
        await page(pilot, names[2])
        await press(pilot, "b")
        await page(pilot, "step")
        assert reader(pilot).page.link == 2
        await until(pilot, lambda: reader(pilot).query_one(VerticalScroll).scroll_y == scrolled)
        await press(pilot, "backspace", "escape")
        assert len(pilot.app.screen_stack) == 1


async def test_f1_tells_the_keys_and_leads_to_all_topics(training: Scene) -> None:
    async with on_screen(training, SMALL) as pilot:
        await focus(pilot, "#run")
        await press(pilot, "f1")
        await page(pilot, "Train")
        assert reader(pilot).page.links[0][1] == "step"
        assert "Train, Corpus, Presets, Chat, Runs" in reader(pilot).page.text
        await press(pilot, "f1")
        await until(pilot, lambda: isinstance(pilot.app.screen, Contents) and "What is wrong?" in screen(pilot))
        listed = pilot.app.screen.query_one(OptionList)
        await until(pilot, lambda: listed.option_count == len(learn.names()) + len(learn.KINDS))
        await press(pilot, "down", "enter")
        await page(pilot, "ended")
        await press(pilot, "backspace")
        await page(pilot, "Train")


@pytest.mark.slow
async def test_a_word_is_looked_for_in_the_contents(training: Scene) -> None:
    async with on_screen(training, SMALL) as pilot:
        app_of(pilot).read_topic("loss")
        await page(pilot, "loss")
        await press(pilot, "c", *"perpl")
        assert pilot.app.screen.query_one(Input).value == "perpl"
        await until(pilot, lambda: pilot.app.screen.query_one(OptionList).get_option_at_index(0).id == "perplexity")
        await press(pilot, "enter")
        await page(pilot, "perplexity")
        await press(pilot, "f1", *"qqqxyz")
        await until(pilot, lambda: "Nothing has to do with that" in screen(pilot))
        await press(pilot, "enter", "escape")
        assert reader(pilot).page.name == "perplexity"


@pytest.mark.slow
async def test_it_can_be_read_at_every_size(training: Scene) -> None:
    async with on_screen(training, SMALL) as pilot:
        app_of(pilot).read_topic("symptoms")
        await page(pilot, "symptoms")
        for width, height in ((20, 5), (40, 9), (200, 60)):
            await pilot.resize_terminal(width, height)
            await settled(pilot)
            assert all(cell_len(line) <= width for line in screen(pilot).splitlines())
            assert reader(pilot).query_one(VerticalScroll).size.height >= height // 3
        # However many links there are, the chosen one is in view.
        await pilot.resize_terminal(80, 24)
        await press(pilot, "shift+tab")
        assert f"▸{learn.topic('symptoms').links[-1][0]}" in screen(pilot)
        await press(pilot, "tab")
        assert f"▸{learn.topic('symptoms').links[0][0]}" in screen(pilot)


async def test_a_notice_in_the_log_is_explained(training: Scene) -> None:
    message = "Since step 200 it learns the text by heart:\non the training text the loss fell."
    known = {"type": "notice", "severity": "warning", "code": "overfitting", "message": message}
    training.tell(RUN, {**known, "code": "../../x", "message": "Boo."}, known)
    async with on_screen(training, SMALL) as pilot:
        await focus(pilot, "#log")
        await press(pilot, "question_mark")
        assert "it has begun to learn the text by heart" in dialog(pilot)
        await press(pilot, "enter")
        await page(pilot, "notices/overfitting")
        # A code that nobody knows is a line of the log like others.
        await press(pilot, "escape", "up", "question_mark")
        assert "What happened, newest last" in dialog(pilot)


async def test_a_chart_leads_to_its_own_topic(training: Scene) -> None:
    async with on_screen(training, SMALL) as pilot:
        await press(pilot, "c", "c", "c", "question_mark", "enter")
        await page(pilot, "grad_norm_chart")


async def test_a_widget_may_name_its_topic() -> None:
    rows = Rows(id="other")
    rows.rows = [Row("mfu", (("mfu", ""),))]
    subject = subject_of(rows)
    assert subject is not None and subject.topic == "mfu"
    assert subject_of(None) is None
