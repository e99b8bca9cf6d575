from __future__ import annotations

from pathlib import Path

import pytest

from minigpt.errors import UserError
from minigpt.workspace import Workspace
from tui.chat.conversations import (
    Conversation,
    Turn,
    delete,
    encode,
    folder,
    list_conversations,
    load,
    rename,
    save,
    title_of,
)


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def keep(place: Workspace, name: str, *words: str) -> Conversation:
    turns = [Turn("assistant" if index % 2 else "user", text) for index, text in enumerate(words)]
    one = Conversation(name, title_of(words[0]), "/a/model.pt", "conversation", {"temperature": 0.5}, turns)
    save(place, name, encode(one))
    return one


def test_what_is_saved_is_loaded(place: Workspace) -> None:
    assert load(place, "one") is None
    one = keep(place, "one", "Hello", "Hi")
    assert load(place, "one") == one


def test_the_latest_comes_first_and_damaged_files_do_not(place: Workspace) -> None:
    keep(place, "old", "first")
    keep(place, "new", "second")
    for name, content in (("a", b"{"), ("b", b'{"id": 5}'), ("c", b"\xff"), ("d", b"[" * 100_000)):
        (folder(place) / f"{name}.json").write_bytes(content)
    (folder(place) / "e.json").mkdir()
    assert [one.id for one in list_conversations(place)] == ["new", "old"]


def test_names_lead_nowhere_else(place: Workspace) -> None:
    keep(place, "one", "Hello")
    outside = folder(place).parent / "state.json"
    outside.write_text("{}")
    assert load(place, "../state") is None
    delete(place, "../state")
    assert outside.exists()


def test_rename_and_delete(place: Workspace) -> None:
    keep(place, "one", "Hello")
    rename(place, "one", "  Another\nname ")
    assert load(place, "one").title == "Another name"
    delete(place, "one")
    delete(place, "one")
    assert list_conversations(place) == []
    with pytest.raises(UserError, match="gone"):
        rename(place, "one", "x")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(UserError, match="not saved"):
        keep(Workspace(tmp_path), "one", "Hello")


def test_a_title_is_the_first_words() -> None:
    assert title_of(" Hello\n there ") == "Hello there"
    assert len(title_of("word " * 50)) <= 60 and title_of("word " * 50).endswith("word…")


def test_a_model_gets_questions_with_their_answers() -> None:
    turns = [
        Turn("user", "never answered"),
        Turn("assistant", ""),
        Turn("user", "Who?"),
        Turn("assistant", "Tom."),
        Turn("completion", "a time", "Once upon"),
        Turn("user", "Why?"),
        Turn("assistant", ""),
    ]
    messages = Conversation("one", turns=turns).messages()
    assert [(one.role, one.content) for one in messages] == [("user", "Who?"), ("assistant", "Tom."), ("user", "Why?")]
