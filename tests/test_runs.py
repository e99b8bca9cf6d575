"""Runs: how each stands by its events and its lock, and which of its checkpoints to take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt import summary as summary_module
from minigpt.errors import UserError
from minigpt.jobs import EVENTS, LOCK, EventWriter, RunLock
from minigpt.runs import (
    SORT_KEYS,
    CheckpointFile,
    RunCache,
    RunSummary,
    best_checkpoint,
    checkpoints_of,
    delete_run,
    disk_use,
    find_checkpoint,
    find_run,
    fork_name,
    list_runs,
    matching,
    new_run_name,
    newest_run,
    note_of,
    rename_run,
    resume_checkpoint,
    set_note,
    sorted_runs,
    summarise,
    to_json,
)
from minigpt.workspace import Workspace, checked_name

Event = dict[str, Any]


def event(type: str, time: float = 1000.0, **fields: Any) -> Event:
    return {"type": type, "time": time, **fields}


def start(resumed_from: int | None = None, time: float = 1000.0, **fields: Any) -> Event:
    plan = {"planned_steps": 100, "planned_epochs": 2.0, "planned_tokens": 6400, "tokens": 6400}
    told = {"run": "r", "parameters": 42, "corpus": "sample", "preset": "tiny", "device": "cpu"}
    return event("start", time, resumed_from=resumed_from, **plan, **told, **fields)


def step(number: int, **fields: Any) -> Event:
    return event("step", step=number, epoch=number / 50, tokens=64 * number, loss=4 - number / 100, **fields)


def validation(number: int, loss: float | None) -> Event:
    return event("eval", split="validation", step=number, loss=loss)


def checkpoint(name: str, number: int) -> Event:
    return event("checkpoint", path=name, step=number, kind=name.removesuffix(".pt"))


def end(exit_code: int | None, time: float = 2000.0) -> Event:
    return event("end", time, exit_code=exit_code, reason="because")


def fold(*events: Event) -> RunSummary:
    summary = RunSummary()
    for one in events:
        summary.update(one)
    return summary


def write_events(directory: Path, *events: Event) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    # By the standard library, so that what is read is not merely what our own writer would write.
    with (directory / EVENTS).open("a") as file:
        file.writelines(json.dumps(one) + "\n" for one in events)
    return directory


def touch(path: Path, modified: float = 1000.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (modified, modified))
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_a_summary_holds_what_the_events_told() -> None:
    summary = fold(
        start(),
        event("phase", 1001.0, phase="training", last_progress=1000.5),
        step(10, tokens_per_s=5000.0),
        validation(10, 3.5),
        event("eval", split="train", step=10, loss=0.1),
        step(20),
        validation(20, 3.25),
        validation(30, 3.75),
        validation(40, None),
        event("notice", severity="warning", code="slow", message="m"),
        event("from the future", loss=9.0),
    )
    assert (summary.run, summary.parameters, summary.corpus, summary.preset) == ("r", 42, "sample", "tiny")
    assert (summary.step, summary.tokens, summary.last_loss) == (20, 1280, 3.8)
    assert (summary.best_val_loss, summary.best_step) == (3.25, 20)
    assert (summary.planned_steps, summary.planned_epochs, summary.planned_tokens) == (100, 2.0, 6400)
    assert [notice["code"] for notice in summary.notices] == ["slow"]
    assert summary.state == "training"


def test_a_loss_that_is_no_number_is_unknown() -> None:
    assert fold(start(), step(1), step(2, tokens_per_s=None) | {"loss": None}).last_loss is None


def test_going_back_discards_what_lay_beyond() -> None:
    summary = fold(
        start(),
        *(one for number in (10, 20, 30, 40) for one in (step(number), validation(number, 4 - number / 20))),
        checkpoint("checkpoint_step_20.pt", 20),
        checkpoint("interrupted_checkpoint.pt", 40),
        end(3),
        start(resumed_from=20, time=3000.0),
    )
    assert (summary.step, summary.tokens, summary.resumed_from) == (20, 1280, 20)
    assert (summary.best_val_loss, summary.best_step) == (3.0, 20)
    assert [evaluation["step"] for evaluation in summary.evaluations] == [10, 20]
    assert [saved["path"] for saved in summary.checkpoints] == ["checkpoint_step_20.pt"]
    assert summary.last_loss is None
    assert (summary.started, summary.ended, summary.exit_code) == (3000.0, None, None)


def test_going_on_from_the_last_step_discards_nothing() -> None:
    summary = fold(start(), step(40), validation(40, 2.5), end(3), start(resumed_from=40))
    assert (summary.step, summary.last_loss, summary.best_val_loss) == (40, 3.6, 2.5)


def test_a_fresh_start_in_the_same_directory_begins_at_nothing() -> None:
    summary = fold(start(), validation(0, 1.0), step(40), start())
    assert (summary.step, summary.tokens, summary.best_val_loss) == (0, 0, None)


losses = st.floats(0, 10, allow_nan=False)
sessions = st.lists(
    st.tuples(st.integers(0, 30), st.lists(st.tuples(st.integers(1, 5), losses), max_size=8)), max_size=4
)


@settings(max_examples=100, deadline=None)
@given(sessions)
def test_the_best_is_that_of_the_steps_that_count(sessions: list[tuple[int, list[tuple[int, float]]]]) -> None:
    summary, counted, now = RunSummary(), [], 0
    for wish, evaluations in sessions:
        now = min(wish, now)
        summary.update(start(resumed_from=now))
        counted = [(number, loss) for number, loss in counted if number <= now]
        for advance, loss in evaluations:
            now += advance
            summary.update(step(now))
            summary.update(validation(now, loss))
            counted.append((now, loss))
    best = min(counted, key=lambda pair: (pair[1], pair[0]), default=(None, None))
    assert (summary.best_step, summary.best_val_loss) == best


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
kinds = st.sampled_from(["start", "step", "eval", "checkpoint", "phase", "notice", "command", "end"])
keys = st.sampled_from(
    [
        "time",
        "step",
        "epoch",
        "tokens",
        "loss",
        "split",
        "path",
        "kind",
        "phase",
        "last_progress",
        "planned_steps",
        "planned_epochs",
        "planned_tokens",
        "resumed_from",
        "exit_code",
        "reason",
        "command",
        "done",
    ]
)
arguments = st.fixed_dictionaries(
    {"command": st.just("set"), "done": st.just(True), "args": st.dictionaries(st.just("max_steps"), anything)}
)
strange_events = st.tuples(kinds, st.dictionaries(keys, anything), st.just({}) | arguments).map(
    lambda parts: {**parts[1], **parts[2], "type": parts[0]}
)


@settings(max_examples=20, deadline=None)
@given(st.lists(strange_events, max_size=8))
def test_no_event_however_strange_stops_a_summary(events: list[Event]) -> None:
    summary = fold(start(), *events)
    summary.settle(running=False)
    assert isinstance(summary.checkpoints, list)
    assert json.dumps(to_json(summary))


def test_a_long_history_takes_bounded_memory() -> None:
    summary = fold(start())
    for number in range(1, 12_001):
        summary.update(validation(number, 1 / number))
        summary.update(event("notice", code=str(number)))
        summary.update(checkpoint(f"checkpoint_step_{number}.pt", number))
    assert (summary.best_step, summary.best_val_loss) == (12_000, 1 / 12_000)
    assert len(summary.evaluations) == summary_module.MAX_EVALUATIONS
    assert len(summary.notices) == summary_module.MAX_NOTICES
    assert len(summary.saved_files()) == summary_module.MAX_CHECKPOINTS
    summary.update(start(resumed_from=11_990))
    assert summary.best_step is not None and 11_980 < summary.best_step <= 11_990


def test_a_new_end_that_was_obeyed_changes_the_plan() -> None:
    ask = event("command", command="set", args={"max_steps": 50}, step=3)
    assert fold(start(), ask | {"done": False}).planned_steps == 100
    summary = fold(start(), ask | {"done": True})
    assert (summary.planned_steps, summary.planned_epochs, summary.planned_tokens) == (50, 1.0, 3200)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([start(), end(0)], "finished"),
        ([start(), end(3)], "interrupted"),
        ([start(), end(1)], "failed"),
        ([start(), end(None)], "failed"),
        ([start(), step(1)], "crashed"),
        ([start(), end(3), start(resumed_from=0), event("phase", phase="saving")], "crashed"),
        ([start(), end(0), event("phase", phase="saving")], "finished"),
        ([event("phase", phase="starting")], "crashed"),
        ([], "empty"),
    ],
)
def test_the_state_of_a_run_that_nobody_works_on(tmp_path: Path, events: list[Event], state: str) -> None:
    (tmp_path / LOCK).touch()
    assert summarise(write_events(tmp_path, *events)).state == state


def test_the_state_of_a_run_at_work_is_its_phase(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        assert summarise(tmp_path).state == "starting"
        write_events(tmp_path, start())
        assert summarise(tmp_path).state == "starting"
        for phase in ("compiling", "training", "evaluating", "saving", "paused"):
            write_events(tmp_path, event("phase", phase=phase))
            assert summarise(tmp_path).state == phase
        write_events(tmp_path, event("phase", phase="meditating"))
        assert summarise(tmp_path).state == "paused"
        write_events(tmp_path, end(0, time=time.time()))
        assert summarise(tmp_path).state == "finished"
    assert summarise(tmp_path).state == "finished"


def test_a_resumed_run_starts_as_soon_as_the_lock_is_taken(tmp_path: Path) -> None:
    write_events(tmp_path, start(), end(3, time=2000.0))
    with RunLock(tmp_path):
        assert summarise(tmp_path).state == "starting"


def test_a_run_that_was_killed_has_crashed(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from minigpt.jobs import *; directory = Path(sys.argv[1])\n"
        "RunLock(directory).acquire(); EventWriter(directory / EVENTS).write('start', resumed_from=None)\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode == -9
    assert summarise(tmp_path).state == "crashed"


def test_an_imported_model_has_a_checkpoint_and_no_events(tmp_path: Path) -> None:
    touch(tmp_path / "best_model.pt")
    assert summarise(tmp_path).state == "empty"
    touch(tmp_path / "config.toml")
    assert summarise(tmp_path).state == "imported"


def test_reading_a_file_is_folding_its_events(tmp_path: Path) -> None:
    events = [start(), *map(step, range(1, 2000)), validation(1999, 1.5), *map(step, range(2000, 3000)), end(0)]
    writer = EventWriter(tmp_path / EVENTS)
    for one in events:
        writer.write(one["type"], **{key: value for key, value in one.items() if key != "type"})
    writer.close()
    expected = fold(*events)
    expected.run, expected.disk_bytes = tmp_path.name, (tmp_path / EVENTS).stat().st_size
    assert summarise(tmp_path) == expected


def test_runs_are_listed_those_started_last_first(workspace: Workspace) -> None:
    write_events(workspace.checkpoints / "old", start(time=1000.0), end(0))
    write_events(workspace.checkpoints / "new", start(time=3000.0), end(0))
    write_events(workspace.checkpoints / "resumed", start(time=500.0), end(3), start(time=2000.0, resumed_from=0))
    imported = workspace.checkpoints / "imported"
    touch(imported / "best_model.pt")
    touch(imported / "config.toml")
    os.utime(imported / "config.toml", (2500.0, 2500.0))
    (workspace.checkpoints / "README.md").touch()
    (workspace.checkpoints / ".hidden").mkdir()
    assert [summary.run for summary in list_runs(workspace)] == ["new", "imported", "resumed", "old"]


def test_a_broken_run_does_not_hide_the_others(workspace: Workspace) -> None:
    write_events(workspace.checkpoints / "good", start(), end(0))
    (workspace.checkpoints / "broken" / EVENTS).mkdir(parents=True)
    (workspace.checkpoints / "rubbish").mkdir()
    (workspace.checkpoints / "rubbish" / EVENTS).write_bytes(os.urandom(3000))
    (workspace.checkpoints / "dangling").symlink_to("nowhere")
    found = {summary.run: summary for summary in list_runs(workspace)}
    assert found.keys() == {"good", "broken", "rubbish"}
    assert found["good"].state == "finished"
    assert [notice["code"] for notice in found["broken"].notices] == ["unreadable"]


def test_a_workspace_without_runs(workspace: Workspace) -> None:
    assert list_runs(workspace) == []
    assert newest_run(workspace) is None
    for name in (None, "tiny-1"):
        with pytest.raises(UserError, match="minigpt train"):
            find_run(workspace, name)


def test_a_run_is_found_by_name_or_the_nearest_one_is_named(workspace: Workspace) -> None:
    directory = write_events(workspace.checkpoints / "tiny-sample-1", start())
    assert find_run(workspace, "tiny-sample-1") == directory
    with pytest.raises(UserError, match="did you mean 'tiny-sample-1'"):
        find_run(workspace, "tiny-smaple-1")
    with pytest.raises(UserError, match="minigpt runs list"):
        find_run(workspace, "../checkpoints/tiny-sample-1/nothing-like-it")


def test_the_newest_run_is_the_one_started_last_in_a_wanted_state(workspace: Workspace) -> None:
    early = write_events(workspace.checkpoints / "early", start(time=2000.0), end(3))
    late = write_events(workspace.checkpoints / "late", start(time=3000.0), end(0))
    # Written to last, yet started first.
    write_events(workspace.checkpoints / "long", start(time=1000.0), end(3))
    (workspace.checkpoints / "empty").mkdir()
    assert newest_run(workspace) == find_run(workspace, None) == late
    assert newest_run(workspace, {"interrupted", "crashed"}) == early
    assert newest_run(workspace, {"paused"}) is None


def test_a_new_run_gets_the_first_free_name(workspace: Workspace) -> None:
    assert new_run_name(workspace, "tiny-sample") == "tiny-sample-1"
    for number in (1, 2, 4):
        (workspace.checkpoints / f"tiny-sample-{number}").mkdir(parents=True)
    assert new_run_name(workspace, "tiny-sample") == "tiny-sample-3"


@given(st.text(max_size=150))
def test_a_new_name_is_always_allowed(stem: str) -> None:
    name = new_run_name(Workspace(Path("/nonexistent")), stem)
    assert checked_name(name, "run") == name


def test_the_listing_for_scripts_has_the_promised_keys() -> None:
    promised = {"run", "state", "step", "planned_steps", "best_val_loss", "parameters", "corpus", "preset"}
    shown = to_json(fold(start(), step(1), validation(1, 2.0)))
    assert promised <= shown.keys()
    assert (shown["step"], shown["best_val_loss"], shown["preset"]) == (1, 2.0, "tiny")


def test_the_best_checkpoint_is_the_first_of_a_ranking(tmp_path: Path) -> None:
    assert best_checkpoint(tmp_path) is None
    touch(tmp_path / "checkpoint_step_200.pt", 2000.0)
    for name in (
        "checkpoint_epoch_1.pt",
        "interrupted_checkpoint.pt",
        "final_model.pt",
        "best_model.pt",
    ):
        newer = touch(tmp_path / name, 3000.0)
        assert best_checkpoint(tmp_path) == newer


def test_a_run_goes_on_from_the_checkpoint_furthest_on(tmp_path: Path) -> None:
    write_events(
        tmp_path,
        start(),
        checkpoint("/moved/from/elsewhere/checkpoint_step_20.pt", 20),
        checkpoint("checkpoint_step_40.pt", 40),
        checkpoint("best_model.pt", 30),
        checkpoint("best_model.pt", 10),
        checkpoint("a" * 5000, 60),
    )
    # Deliberately dated against the order of steps.
    touch(tmp_path / "best_model.pt", 3000.0)
    step_20 = touch(tmp_path / "checkpoint_step_20.pt", 1000.0)
    assert resume_checkpoint(tmp_path) == step_20
    step_40 = touch(tmp_path / "checkpoint_step_40.pt", 500.0)
    assert resume_checkpoint(tmp_path) == step_40


def test_without_events_a_run_goes_on_from_the_newest_file(tmp_path: Path) -> None:
    assert resume_checkpoint(tmp_path) is None
    touch(tmp_path / "best_model.pt", 1000.0)
    newest = touch(tmp_path / "checkpoint_epoch_3.pt", 2000.0)
    touch(tmp_path / "something_else.pt", 3000.0)
    assert resume_checkpoint(tmp_path) == newest


def test_watching_needs_no_torch() -> None:
    script = "import sys, minigpt.runs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_asking_again_gives_what_a_first_look_would(workspace: Workspace) -> None:
    cache = RunCache(workspace)
    one, two = workspace.checkpoints / "one", workspace.checkpoints / "two"
    write_events(one, start(time=1000.0), step(1))
    assert cache.list_runs() == list_runs(workspace)
    write_events(two, start(time=2000.0), validation(5, 1.0), checkpoint("best_model.pt", 5))
    write_events(one, step(2), validation(2, 3.0), end(0))
    assert cache.list_runs() == list_runs(workspace)
    write_events(two, start(time=3000.0, resumed_from=4))
    assert cache.list_runs() == list_runs(workspace)
    delete_run(one)
    assert [summary.run for summary in cache.list_runs()] == ["two"]


def test_of_a_run_at_work_only_new_events_are_read(workspace: Workspace) -> None:
    directory = write_events(workspace.checkpoints / "live", start(), *map(step, range(1, 50)))
    cache = RunCache(workspace)
    with RunLock(directory):
        (first,) = cache.list_runs()
        write_events(directory, step(50), validation(50, 2.0))
        (second,) = cache.list_runs()
    assert (first.step, second.step, second.best_val_loss) == (49, 50, 2.0)


def test_a_history_that_was_replaced_is_read_anew(workspace: Workspace) -> None:
    directory = write_events(workspace.checkpoints / "live", start(), step(40), validation(40, 1.0))
    cache = RunCache(workspace)
    with RunLock(directory):
        cache.list_runs()
        (directory / EVENTS).unlink()
        write_events(directory, start(), step(3))
        (summary,) = cache.list_runs()
    assert (summary.step, summary.best_val_loss) == (3, None)


def test_what_a_cache_gave_out_does_not_change(workspace: Workspace) -> None:
    directory = write_events(workspace.checkpoints / "live", start(), checkpoint("best_model.pt", 1))
    cache = RunCache(workspace)
    with RunLock(directory):
        (summary,) = cache.list_runs()
        write_events(directory, step(9), checkpoint("final_model.pt", 9))
        cache.list_runs()
    assert (summary.step, len(summary.saved_files())) == (0, 1)


def test_a_history_that_cannot_be_read_is_told_once_and_then_read(workspace: Workspace) -> None:
    directory = workspace.checkpoints / "broken"
    (directory / EVENTS).mkdir(parents=True)
    cache = RunCache(workspace)
    cache.list_runs()
    (summary,) = cache.list_runs()
    assert [notice["code"] for notice in summary.notices] == ["unreadable"]
    (directory / EVENTS).rmdir()
    write_events(directory, start(), end(0))
    (summary,) = cache.list_runs()
    assert (summary.state, summary.notices) == ("finished", [])


def test_a_deleted_run_is_gone_with_what_a_killed_deletion_left(workspace: Workspace) -> None:
    directory = write_events(workspace.checkpoints / "done", start(), end(0))
    touch(directory / "best_model.pt")
    touch(workspace.checkpoints / ".deleted-before" / "final_model.pt")
    kept = write_events(workspace.checkpoints / "kept", start(), end(0))
    delete_run(directory)
    assert list(workspace.checkpoints.iterdir()) == [kept]


def test_a_run_at_work_is_not_deleted(workspace: Workspace) -> None:
    directory = write_events(workspace.checkpoints / "live", start())
    with RunLock(directory), pytest.raises(UserError, match="at work"):
        delete_run(directory)
    assert [summary.run for summary in list_runs(workspace)] == ["live"]


def test_deleting_a_run_that_is_gone_says_so(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="Cannot delete the run gone"):
        delete_run(workspace.checkpoints / "gone")


def test_a_link_to_a_run_elsewhere_is_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    real = write_events(tmp_path / "elsewhere", start(), end(0))
    workspace.checkpoints.mkdir(exist_ok=True)
    (workspace.checkpoints / "link").symlink_to(real)
    with pytest.raises(UserError, match="link"):
        delete_run(workspace.checkpoints / "link")
    assert (real / EVENTS).exists()


# Names and notes


def test_a_renamed_run_is_the_same_run_under_another_name(workspace: Workspace) -> None:
    directory = write_events(workspace.checkpoints / "old", start(), step(7), end(0))
    assert rename_run(directory, "new") == workspace.checkpoints / "new"
    assert [(run.run, run.step) for run in list_runs(workspace)] == [("new", 7)]
    assert rename_run(workspace.checkpoints / "new", "new") == workspace.checkpoints / "new"


@pytest.mark.parametrize("name", ["taken", "", "../elsewhere", "with space", ".hidden"])
def test_a_name_that_is_taken_or_impossible_is_refused(workspace: Workspace, name: str) -> None:
    directory = write_events(workspace.checkpoints / "old", start(), end(0))
    write_events(workspace.checkpoints / "taken", start(), end(0))
    with pytest.raises(UserError):
        rename_run(directory, name)
    assert {run.run for run in list_runs(workspace)} == {"old", "taken"}


def test_a_run_at_work_keeps_its_name(workspace: Workspace) -> None:
    directory = write_events(workspace.checkpoints / "live", start())
    with RunLock(directory), pytest.raises(UserError, match="at work"):
        rename_run(directory, "other")
    assert [summary.run for summary in list_runs(workspace)] == ["live"]


def test_a_note_is_kept_shown_and_removed(workspace: Workspace) -> None:
    directory = write_events(workspace.checkpoints / "one", start())
    assert note_of(directory) == ""
    set_note(directory, "  warmer:\tthe rate doubled ü \x1b[31m\n")
    assert note_of(directory).startswith("warmer:")
    assert "\x1b" not in note_of(directory)
    (summary,) = RunCache(workspace).list_runs()
    assert summary.note == note_of(directory)
    set_note(directory, "")
    assert (note_of(directory), [path.name for path in directory.iterdir()]) == ("", [EVENTS])
    with pytest.raises(UserError, match="2,000"):
        set_note(directory, "x" * 2001)


def test_a_note_in_some_other_code_does_not_hide_the_run(workspace: Workspace) -> None:
    directory = write_events(workspace.checkpoints / "one", start())
    (directory / "note.txt").write_bytes(b"caf\xe9 " * 100_000)
    assert list_runs(workspace)[0].note.startswith("caf")


def test_a_file_of_two_names_takes_its_room_once(tmp_path: Path) -> None:
    (tmp_path / "best_model.pt").write_bytes(b"x" * 5000)
    os.link(tmp_path / "best_model.pt", tmp_path / "checkpoint_step_5.pt")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "more").write_bytes(b"x" * 70)
    assert disk_use(tmp_path) == 5070
    assert summarise(tmp_path).disk_bytes == 5070


def test_a_fork_is_named_after_the_run_and_a_fork_of_it_too(workspace: Workspace) -> None:
    assert fork_name(workspace, "tiny-1") == "tiny-1-fork-1"
    (workspace.checkpoints / "tiny-1-fork-1").mkdir(parents=True)
    assert fork_name(workspace, "tiny-1-fork-1") == "tiny-1-fork-2"


# Checkpoints


def test_checkpoints_come_with_their_steps_sizes_and_losses(tmp_path: Path) -> None:
    write_events(
        tmp_path,
        start(),
        validation(10, 3.5),
        checkpoint("best_model.pt", 10),
        event("checkpoint", path="checkpoint_step_15.pt", step=15, kind="step"),
        validation(20, 3.75),
        event("eval", split="train", step=20, loss=1.0),
        event("eval", split="validation", step=20, loss=9.0, whole=True),
        checkpoint("final_model.pt", 20),
        checkpoint("checkpoint_epoch_1.pt", 12),
    )
    for size, name in enumerate(["best_model.pt", "checkpoint_step_15.pt", "final_model.pt", "mine.pt"]):
        (tmp_path / name).write_bytes(b"x" * size)
    assert checkpoints_of(tmp_path) == [
        CheckpointFile("mine.pt", 0, "other", 3, None),
        CheckpointFile("best_model.pt", 10, "best", 0, 3.5),
        CheckpointFile("checkpoint_step_15.pt", 15, "step", 1, None),
        CheckpointFile("final_model.pt", 20, "final", 2, 3.75),
    ]


@pytest.mark.parametrize("name", ["best", "best_model", "best_model.pt"])
def test_a_checkpoint_is_found_by_short_names_too(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "best_model.pt")
    assert find_checkpoint(tmp_path, name).name == "best_model.pt"


def test_a_checkpoint_is_found_by_its_step_and_never_outside_the_run(tmp_path: Path) -> None:
    touch(tmp_path / "run" / "checkpoint_step_400.pt")
    touch(tmp_path / "best_model.pt")
    assert find_checkpoint(tmp_path / "run", "400").name == "checkpoint_step_400.pt"
    for name in ("../best_model.pt", str(tmp_path / "best_model.pt"), "401", ""):
        with pytest.raises(UserError, match="checkpoint_step_400"):
            find_checkpoint(tmp_path / "run", name)


# Time, order, search


def test_time_at_work_adds_up_over_sessions_without_the_nights_between(tmp_path: Path) -> None:
    write_events(tmp_path, start(time=1000.0), step(5) | {"time": 1010.0}, end(3, time=1020.0))
    write_events(tmp_path, event("phase", 5000.0, phase="waiting"), event("phase", 5900.0, phase="waiting"))
    write_events(tmp_path, start(time=6000.0, resumed_from=5), step(6) | {"time": 6007.0})
    assert summarise(tmp_path).seconds == 27.0
    write_events(tmp_path, start(time=9000.0), step(1) | {"time": 9001.0})
    assert summarise(tmp_path).seconds == 1.0, "a fresh start begins anew"


def test_what_a_run_began_with_is_known_in_later_sessions_too() -> None:
    origin, rungs = {"run": "a", "checkpoint": "best_model.pt", "step": 5}, {"uniform": 4.0, "unigram": 3.0}
    summary = fold(start(forked_from=origin, ladder=rungs), step(3), start(resumed_from=3, forked_from=None))
    assert (summary.forked_from, summary.ladder) == (origin, rungs)
    assert to_json(summary)["forked_from"] == origin
    assert fold(start(forked_from=origin), start()).forked_from is None


def some_runs() -> list[RunSummary]:
    one = RunSummary("b-one", "finished", step=9, best_val_loss=2.0, corpus="Tale", preset="tiny", started=1.0)
    two = RunSummary("a-two", "crashed", step=5, best_val_loss=None, corpus="news", started=2.0, note="warm rate")
    three = RunSummary("c-three", "finished", step=7, best_val_loss=1.5, corpus="tale", started=None)
    return [one, two, three]


@pytest.mark.parametrize(
    ("key", "order"), [("name", "abc"), ("loss", "cba"), ("step", "bca"), ("started", "abc"), ("corpus", "abc")]
)
def test_runs_in_another_order(key: str, order: str) -> None:
    assert "".join(run.run[0] for run in sorted_runs(some_runs(), key)) == order


def test_what_is_not_known_comes_last_in_both_directions() -> None:
    assert [run.run[0] for run in sorted_runs(some_runs(), "loss", backwards=True)] == ["b", "c", "a"]
    assert all(len(sorted_runs(some_runs(), key)) == 3 for key in SORT_KEYS)
    with pytest.raises(UserError, match="'loss'"):
        sorted_runs([], "los")


@pytest.mark.parametrize(
    ("text", "found"), [("", "bac"), ("tale", "bc"), ("FINISHED tale three", "c"), ("warm", "a"), ("nothing", "")]
)
def test_runs_are_found_by_the_words_of_their_facts(text: str, found: str) -> None:
    assert "".join(run.run[0] for run in matching(some_runs(), text)) == found
