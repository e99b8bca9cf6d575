"""What the Corpus pane is made of, without a screen: lines, painted tokens, tasks as they are followed, children."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from minigpt.errors import UserError
from minigpt.tasks import StartedTask, TaskProcess
from minigpt.workspace import Workspace
from tui.corpora.children import Children
from tui.corpora.files import MOST_ENTRIES, entries
from tui.corpora.statistics import Bin, histogram
from tui.corpora.tasks import TaskBoard
from tui.corpora.wrapping import painted, plain, wrap

# -- lines


@given(st.text(alphabet="ab \n漢é\u0301", max_size=200), st.integers(2, 20))
def test_lines_hold_all_of_the_text_and_fit(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert "".join(text[begin:end] for begin, end in lines) == text.replace("\n", "")
    # A blank may stand beyond the end of a line.
    assert all(cell_len(text[begin:end].removesuffix(" ")) <= width for begin, end in lines)


def test_words_stay_whole() -> None:
    text = "a midnight dreary"
    assert [text[begin:end] for begin, end in wrap(text, 10)] == ["a midnight ", "dreary"]


def test_a_line_of_a_million_characters_is_cut_in_bounded_work() -> None:
    lines = wrap("x" * 1_000_000, 100)
    assert len(lines) == 10_000


# -- tokens


def test_tokens_keep_their_order_and_the_ends_of_lines_are_shown() -> None:
    found = painted("one\ntwo", [(0, 3), (3, 4), (4, 7)])
    assert found.text == "one↵\ntwo"
    assert [found.text[start] for start in found.starts] == ["o", "↵", "t"]


def test_tokens_that_share_a_character_are_painted_as_one() -> None:
    found = painted("a漢b", [(0, 1), (1, 2), (1, 2), (2, 3)])
    assert (found.text, len(found.starts), found.tokens) == ("a漢b", 3, 4)


@given(st.text(max_size=60), st.lists(st.tuples(st.integers(-5, 70), st.integers(-5, 70)), max_size=20))
def test_places_that_make_no_sense_do_no_harm(text: str, spans: list[tuple[int, int]]) -> None:
    found = painted(text, spans)
    assert list(found.starts) == sorted(found.starts)
    assert all(0 <= start < len(found.text) for start in found.starts)
    assert "\x1b" not in found.text


def test_a_text_is_made_safe_and_its_tabs_are_blanks() -> None:
    assert plain("a\tb\x1b[31m").text == "a    b\\x1b[31m"


# -- the histogram


def test_the_longest_bar_fills_the_room_and_the_rarest_is_still_seen() -> None:
    lines = histogram([Bin(1, 10, 1), Bin(10, 100, 1000)], 60).plain.splitlines()
    assert {cell_len(line) for line in lines} == {60}
    assert "1-9  ╸" in lines[1]
    assert lines[2].count("━") == 60 - len("characters") - len("documents") - 4


def test_one_document_has_no_distribution() -> None:
    assert histogram([Bin(100, 1000, 1)], 60).plain == ""


# -- tasks


@pytest.fixture
def board(tmp_path: Path) -> TaskBoard:
    workspace = Workspace(tmp_path)
    workspace.require_writable()
    return TaskBoard(workspace)


def directory(board: TaskBoard, label: str = "add-far-20250101-080000") -> Path:
    found = board.workspace.task_directory(label)
    found.mkdir(parents=True)
    return found


def test_rate_and_what_remains_come_from_the_reports(board: TaskBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("minigpt.tasks.time.time", lambda: now[0])
    monkeypatch.setattr("minigpt.tasks.REPORT_SECONDS", 0.0)
    with TaskProcess(directory(board), "add far") as task:
        for done in (0, 5e6, 10e6):
            task.report("downloading", done, 40e6, "bytes")
            now[0] += 1
        (work,) = board.look()
        assert (work.action, work.corpus, work.doing) == ("add", "far", "adding 25%")
        assert work.rate == 5e6
        assert work.amounts == "10 MB of 40 MB, 5 MB/s, 6 s left"
        task.report("counting", 1, None, "documents")
        (work,) = board.look()
        assert (work.rate, work.fraction, work.amounts) == (None, None, "1 documents")


def test_only_what_is_new_is_read(board: TaskBoard) -> None:
    with TaskProcess(directory(board), "add far") as task:
        task.report("one", 1, 2)
        board.look()
        events = next(board.workspace.tasks.glob("*/events.jsonl"))
        # What was read already may be damaged meanwhile: nobody looks at it again.
        with events.open("r+b") as file:
            file.write(b"#" * 10)
        task.report("two", 1, 4)
        (work,) = board.look()
        assert (work.state.phase, work.fraction, work.corpus) == ("two", 0.25, "far")


def test_a_task_whose_process_died_is_lost(board: TaskBoard) -> None:
    found = directory(board)
    board.started(StartedTask(found, 2**22 + 1))
    (work,) = board.look()
    assert (work.state.state, work.owed, work.corpus) == ("lost", True, "far")
    board.told(work.name)
    assert not board.look()[0].owed


def test_a_task_that_has_yet_to_speak_is_starting(board: TaskBoard) -> None:
    board.started(StartedTask(directory(board), os.getpid()))
    (work,) = board.look()
    assert (work.state.state, work.doing) == ("starting", "adding …")


# -- files


def test_a_folder_with_very_many_files_is_cut_short(tmp_path: Path) -> None:
    for number in range(MOST_ENTRIES + 10):
        (tmp_path / f"{number}.txt").touch()
    (tmp_path / "zoo").mkdir()
    found = entries(tmp_path)
    assert len(found) == MOST_ENTRIES
    assert found[0].path.name == "zoo"


# -- children, for real


def test_a_child_answers_or_says_why_not(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert Children().ask(workspace, ["presets", "list", "--json"])
    with pytest.raises(UserError, match="no option"):
        Children().ask(workspace, ["presets", "list", "--jsn"])


def test_a_child_that_nobody_waits_for_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tui.corpora import children

    stop, outcome = threading.Event(), []
    monkeypatch.setattr(children, "cancelled", stop.is_set)
    monkeypatch.setattr(children.sys, "executable", str(_sleeper(tmp_path)))

    def ask() -> None:
        try:
            Children().ask(Workspace(tmp_path), [])
        except children.Stopped:
            outcome.append("stopped")

    thread = threading.Thread(target=ask)
    thread.start()
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.01)
    stop.set()
    thread.join(20)
    assert outcome == ["stopped"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def _sleeper(folder: Path) -> Path:
    path = folder / "sleeper"
    path.write_text(f"#!/bin/sh\necho $$ > {folder}/pid\nexec sleep 600\n")
    path.chmod(0o755)
    return path
