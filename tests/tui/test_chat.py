from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from minigpt.config import settings
from minigpt.errors import UserError
from minigpt.presets import convert
from minigpt.workspace import Workspace
from tests.tui.chat_harness import FAKE_COMMAND, Harness, chat, make_run, say, until
from tui.chat import conversations
from tui.chat.conversations import Conversation, Turn, list_conversations
from tui.chat.models import choice_of, newer_checkpoint, stamp
from tui.chat.process import ChatProcess
from tui.widgets.generation_form import STYLES, style_values
from tui.widgets.transcript import MAX_MOUNTED, fold, shown

pytestmark = pytest.mark.asyncio


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    make_run(workspace)
    return workspace


@pytest.fixture
def app(place: Workspace) -> Harness:
    return Harness(place)


async def test_an_answer_streams_in_and_tells_its_figures(app: Harness) -> None:
    async with chat(app) as pilot:
        await say(pilot, "hello there")
        assert app.texts() == ["hello there", "echo 1 hello there"]
        assert app.pane.transcript.last.note == "4 tokens · 123 tokens/s · as long as the setting allows"
        await say(pilot, "again")
        assert app.texts()[3] == "echo 3 again"


async def test_esc_stops_an_answer_and_keeps_what_came(app: Harness) -> None:
    async with chat(app) as pilot:
        app.pane.composer.take("a long one")
        await pilot.press("enter")
        await until(pilot, lambda: len(app.texts()) == 2 and len(app.texts()[1]) > 20)
        await pilot.press("escape")
        await until(pilot, lambda: not app.pane.generating)
        assert "stopped by you" in app.pane.transcript.last.note
        assert app.pane.session.conversation.turns[1].content.strip() == app.texts()[1]
        await say(pilot, "next")
        assert app.texts()[3] == "echo 3 next"


@pytest.mark.slow
async def test_an_answer_can_be_given_anew_and_the_question_changed(app: Harness) -> None:
    async with chat(app) as pilot:
        await say(pilot, "first")
        await say(pilot, "second")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: not app.pane.generating)
        assert app.texts() == ["first", "echo 1 first", "second", "echo 3 second"]
        await pilot.press("escape", "e")
        assert (app.texts(), app.pane.composer.text) == (["first", "echo 1 first"], "second")
        await say(pilot, "other")
        assert app.texts()[2:] == ["other", "echo 3 other"]


@pytest.mark.slow
async def test_a_model_of_plain_text_goes_on_with_a_marked_prompt(app: Harness, place: Workspace) -> None:
    async with chat(app) as pilot:
        app.pane.talk_to(make_run(place, "plain-1"))
        await until(pilot, lambda: app.pane.form.mode == "completion")
        await say(pilot, "Once upon")
        entry = app.pane.transcript.last
        assert len(app.texts()) == 1 and entry.text.startswith("Once uponecho Once upon")
        marked, plain = entry.render_line(1)._segments[1:3]
        assert (marked.text, plain.text[:4]) == ("Once upon", "echo")
        assert marked.style.bold and not plain.style.bold


async def test_conversations_are_kept_and_taken_up(app: Harness, place: Workspace) -> None:
    async with chat(app) as pilot:
        await say(pilot, "remember me")
        await pilot.press("ctrl+n")
        await pilot.pause()
        assert app.texts() == [] and app.state.conversation is None
        await say(pilot, "and me")
        await pilot.press("ctrl+o", "down", "enter")
        await until(pilot, lambda: app.texts() == ["remember me", "echo 1 remember me"])
    again = Harness(place)
    again.state.conversation, again.state.chat_draft = app.state.conversation, "half a thou"
    async with chat(again) as pilot:
        assert again.texts()[0] == "remember me"
        assert again.pane.composer.text == "half a thou"
        await pilot.press("ctrl+o", "d", "2")
        await pilot.pause()
        await until(pilot, lambda: len(list_conversations(place)) == 1)


async def test_what_goes_wrong_is_told_and_the_next_answer_comes(app: Harness) -> None:
    async with chat(app) as pilot:
        await say(pilot, "please die")
        assert "memory" in app.told[0] and "Traceback" not in app.told[0]
        await pilot.press("escape")
        await say(pilot, "bad")
        assert app.told[1:] == ["That cannot be answered."]
        await pilot.press("escape")
        await say(pilot, "better now")
        assert app.texts()[-1] == "echo 3 better now"


async def test_an_answer_that_cannot_be_given_anew_stays(app: Harness) -> None:
    async with chat(app) as pilot:
        await say(pilot, "first")
        before = app.pane.session.conversation.turns[-1]
        app.pane.session.choose(choice_of(Path("/nowhere/missing.pt")))
        await pilot.press("ctrl+r")
        await until(pilot, lambda: bool(app.told) and not app.pane.generating)
        await until(pilot, lambda: app.texts() == ["first", "echo 1 first"])
        assert app.pane.session.conversation.turns[-1] == before


@pytest.mark.slow
async def test_what_another_window_added_is_not_overwritten(app: Harness, place: Workspace) -> None:
    async with chat(app) as pilot:
        await say(pilot, "mine")
        name = app.pane.session.conversation.id
        added = conversations.load(place, name)
        assert added is not None
        added.turns.append(Turn("user", "from the other window"))
        conversations.save(place, name, conversations.encode(added))
        await app.pane.leave()
    kept = conversations.load(place, name)
    assert kept is not None
    assert kept.turns[-1].content == "from the other window"


async def test_what_is_typed_after_enter_stays(app: Harness) -> None:
    async with chat(app) as pilot:
        app.pane.composer.take("first")
        await pilot.press("enter", "n", "e", "x", "t")
        await until(pilot, lambda: not app.pane.generating and len(app.texts()) == 2)
        assert app.pane.composer.text == "next"


async def test_a_wrong_setting_is_told_beside_its_field_and_not_sent(app: Harness) -> None:
    async with chat(app) as pilot:
        app.pane.form.query_one("#temperature").value = "hot"
        await pilot.pause()
        assert app.pane.form.query_one("#problem-temperature").display
        await say(pilot, "hello")
        assert app.texts() == [] and app.focused.id == "temperature"
        app.pane.form.query_one("#temperature").value = "0.5"
        await say(pilot, "hello")
        assert app.pane.session.conversation.settings["temperature"] == 0.5


@pytest.mark.slow
async def test_an_empty_chat_offers_prompts_of_its_corpus(app: Harness, place: Workspace) -> None:
    documents = place.data / "talk" / "documents"
    documents.mkdir(parents=True)
    lines = [{"messages": [{"role": "user", "content": f"Who is number {number}?"}]} for number in range(9)]
    (documents / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    async with chat(app) as pilot:
        await until(pilot, lambda: len(app.pane.starters.prompts) == 3)
        await pilot.press("up")
        assert app.pane.composer.text == "Who is number 0?"
        app.pane.composer.take("")
        await pilot.press("escape", "b")
        await until(pilot, lambda: len(app.texts()) == 2 and not app.pane.generating)
        assert app.texts()[0] == "Who is number 3?"


async def test_the_gpu_is_left_to_its_trainer(place: Workspace) -> None:
    app = Harness(place)
    async with chat(app) as pilot:
        app.pane.talk_to(make_run(place, "gpu-1"))
        await until(pilot, lambda: app.pane.session.opened is not None and app.pane.session.opened.device == "cuda")
        app.training_run, app.training_device = "other", "cuda"
        app.pane.opening.watch()
        await until(pilot, lambda: not app.pane.process.alive)
        await say(pilot, "hello")
        assert app.pane.session.opened.device == "cpu"
        assert "the GPU trains" in str(app.pane.transcript.border_subtitle)


async def test_the_model_is_chosen_from_a_list_and_loaded_when_newer(app: Harness, place: Workspace) -> None:
    path = place.checkpoints / "tiny-1" / "checkpoint_step_9.pt"
    path.write_bytes(b"model")
    async with chat(app) as pilot:
        await pilot.press("ctrl+g", "down", "enter")
        await until(pilot, lambda: "checkpoint step 9" in str(app.pane.transcript.border_title))
        os.utime(path, (1, 1))
        app.pane.opening.watch()
        await until(pilot, lambda: app.pane.opening.newer == path)
        await pilot.press("escape", "u")
        await until(pilot, lambda: app.pane.opening.newer is None and app.pane.session.opened is not None)


async def test_without_a_model_it_says_what_to_do(tmp_path: Path) -> None:
    app = Harness(Workspace(tmp_path))
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.focused is app.pane.composer)
        app.pane.composer.take("hello")
        await pilot.press("enter")
        await until(pilot, lambda: bool(app.told))
        assert "train one" in app.told[0] and app.texts() == []


@pytest.mark.slow
async def test_it_fits_any_size_and_mounts_few_messages(app: Harness) -> None:
    turns = [Turn("user" if number % 2 == 0 else "assistant", f"{number} 日本語日本語日本語") for number in range(300)]
    async with chat(app, (80, 24)) as pilot:
        await app.pane.show_conversation(Conversation("many", turns=turns))
        await say(pilot, "more")
        assert len(app.texts()) == MAX_MOUNTED and app.texts()[-2] == "more"
        await pilot.press("ctrl+t")
        for size in ((20, 5), (3, 2), (120, 40)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        assert app.pane.form.display and app.pane.composer.region.bottom <= 39


async def test_the_process_ends_with_the_app(app: Harness) -> None:
    async with chat(app) as pilot:
        app.pane.composer.take("a long one")
        await pilot.press("enter")
        await until(pilot, lambda: app.pane.session.conversation.turns[-1].content != "")
        process = app.pane.process._process
    assert process.returncode == -signal.SIGKILL
    assert list_conversations(app.workspace)[0].turns[1].content.startswith("echo")


async def test_a_text_is_folded_between_words_and_shown_as_it_is() -> None:
    text = shown("one two\tthree\n[red]日本[/red] \x1b[31m\u202e end")
    rows = [text[start:end] for start, end in fold(text, 0, 8)]
    assert rows == ["one two ", "  three", "[red]日", "本[/red]", "\\x1b[31m", "\\u202e ", "end"]
    assert [text[start:end] for start, end in fold("", 0, 8)] == [""]


@pytest.mark.parametrize("name", STYLES)
async def test_a_style_is_allowed_values(name: str) -> None:
    for key, value in style_values(name).items():
        assert convert(settings()[f"generation.{key}"], value) == value


async def test_newer_is_the_file_written_anew_or_the_latest_in_training(tmp_path: Path) -> None:
    best, step = tmp_path / "best_model.pt", tmp_path / "checkpoint_step_9.pt"
    best.write_bytes(b"a")
    os.utime(best, (100, 100))
    opened = stamp(best)
    step.write_bytes(b"b")
    assert [newer_checkpoint(best, opened, training) for training in (False, True)] == [None, step]
    os.utime(best, (200, 200))
    assert newer_checkpoint(best, opened, training=False) == best


async def test_a_closed_iterator_stops_the_answer() -> None:
    process = ChatProcess(FAKE_COMMAND)
    await process.open(Path("model.pt"))
    pieces = process.complete("long", {})
    assert await anext(pieces) == "echo "
    await pieces.aclose()
    assert [piece async for piece in process.complete("short", {})] == ["echo ", "short "]
    await process.close()


async def test_another_protocol_is_no_answer() -> None:
    process = ChatProcess(FAKE_COMMAND)
    await process.open(Path("model.pt"))
    with pytest.raises(UserError, match=r"ended|killed"):
        [piece async for piece in process.complete("odd", {})]
    await process.close()


async def test_a_process_that_cannot_start_says_why() -> None:
    with pytest.raises(UserError, match="could not be started"):
        await ChatProcess(["/nowhere/python"]).open(Path("model.pt"))
    process = ChatProcess(["sh", "-c", "echo out of cheese >&2; exit 3"])
    with pytest.raises(UserError, match=r"exit code 3.*out of cheese"):
        await process.open(Path("model.pt"))
    await process.close()


async def test_the_real_child_answers_in_the_pane(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    await asyncio.to_thread(save_model, make_run(workspace))
    app = Harness(workspace, None)
    async with chat(app) as pilot:
        app.pane.form.query_one("#seed").value = "3"
        app.pane.form.query_one("#top_k").value = "3"
        app.pane.form.query_one("#max_new_tokens").value = "12"
        await say(pilot, "the cat")
        assert not app.told and app.pane.transcript.last.note.startswith("12 tokens")
        assert "tiny-1, step 7" in str(app.pane.transcript.border_title)


def save_model(path: Path) -> None:
    """Write a checkpoint of a network that learned nothing, of step 7."""
    import torch

    from minigpt.config import Config, ModelSettings
    from minigpt.model.checkpoint import Checkpoint, save
    from minigpt.model.gpt import GPT, GPTConfig
    from minigpt.text.tokenizer import Tokenizer

    torch.manual_seed(0)
    tokenizer = Tokenizer.train("char", ["the cat sees the dog"], 0)
    settings = ModelSettings(d_model=32, n_layers=1, n_heads=4, max_seq_len=64)
    network = GPT(GPTConfig.from_settings(settings, tokenizer.vocab_size))
    weights = network.state_dict()
    weights["head.weight"][:6] = 0
    save(path, Checkpoint(Config(), network.config, weights, tokenizer.to_json(), step=7, conversations=True))
