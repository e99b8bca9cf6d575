"""Folders with strange things in them: they hide no run, and nobody waits for them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from minigpt.cli.main import main
from minigpt.digest import digest
from minigpt.errors import JobFailed
from minigpt.event_writer import EventWriter
from minigpt.events import EVENTS, encode_line
from minigpt.jobs import COMMANDS, LOG, follow, launch
from minigpt.lock import LOCK
from minigpt.runs import RunCache, cache, find_run, list_runs, newest_run, note_of
from minigpt.runs.files import CONFIG, NOTE
from minigpt.start import Started, running_runs, training_device
from minigpt.workspace import Workspace
from tests.faults.watching import NOBODY, as_root, until, write_steps
from tui import watch
from tui.watch import Watcher

PIPE_FILES = (EVENTS, COMMANDS, LOCK, NOTE, LOG, CONFIG, "tokenizer.json", ".digest-summary", ".digest-curves")


@pytest.fixture
def zoo(workspace: Workspace) -> Workspace:
    """A workspace with one good run, and beside it whatever may lie there."""
    runs = workspace.checkpoints
    good = runs / "good"
    good.mkdir()
    with closing(EventWriter(good / EVENTS)) as writer:
        writer.write("start", planned_steps=10, preset="tiny", resumed_from=None)
        writer.write("step", step=10, loss=1.5)
        writer.write("eval", split="validation", step=10, loss=1.5, perplexity=4.5, tokens=10)
        writer.write("end", reason="done", exit_code=0)
    (runs / "a-file").write_text("not a run")
    (runs / "dangling").symlink_to("nowhere")
    (runs / "loop").symlink_to("loop")
    (runs / "link").symlink_to(good)
    os.mkfifo(runs / "pipe")
    for name in PIPE_FILES:
        (runs / f"piped-{name.strip('.')}").mkdir()
        os.mkfifo(runs / f"piped-{name.strip('.')}" / name)
    for name in (EVENTS, COMMANDS, LOCK, NOTE, CONFIG, ".digest-summary"):
        (runs / f"folder-{name.strip('.')}" / name).mkdir(parents=True)
    (runs / "zero").mkdir()
    (runs / "zero" / EVENTS).symlink_to("/dev/zero")
    (runs / "\x1b[2J\udcff").mkdir()
    (runs / "damaged").mkdir()
    told = (good / EVENTS).read_bytes()
    odd = {"type": "notice", "code": ["x"], "severity": {}, "message": 10**30, "cure": {"label": 1, "args": []}}
    strange: list[dict[str, Any]] = [odd, {"type": [], "time": "x"}, {"type": "eval", "split": {}, "step": None}]
    more = b"".join(map(encode_line, strange))
    (runs / "damaged" / EVENTS).write_bytes(told[:-100] + b"\x00" * 4096 + b"\n" + more + told[:200])
    return workspace


def test_a_folder_full_of_strange_things_hides_no_run(zoo: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    listed, cached = list_runs(zoo), RunCache(zoo).list_runs()
    assert {run.run: run.state for run in listed} == {run.run: run.state for run in cached}
    assert {run.run: run.state for run in listed}["good"] == "finished"
    assert not {"a-file", "dangling", "loop", "pipe"} & {run.run for run in listed}
    assert running_runs(zoo) == []
    assert newest_run(zoo) is not None and find_run(zoo, "good").name == "good"
    root = ["--workspace", str(zoo.root)]
    assert main(["runs", "list", "--json", *root]) == 0
    assert json.loads(capsys.readouterr().out)
    for run in [*(run.run for run in listed), "a-file", "dangling", "pipe"]:
        note_of(zoo.checkpoints / run)
        training_device(zoo.checkpoints / run)
        for arguments in (["runs", "show", run], ["runs", "watch", run], ["control", run, "cure"]):
            assert main([*arguments, *root]) in (0, 1, 2), arguments
        assert main(["runs", "compare", "good", run, *root]) in (0, 1, 2)
        told = capsys.readouterr()
        assert "a mistake in MiniGPT" not in told.err, told.err
        assert "\x1b" not in told.out + told.err


def test_the_app_watches_strange_runs_without_waiting_for_them(zoo: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.01)
    watchers = [Watcher(zoo.checkpoints / run.run) for run in list_runs(zoo)]
    for watcher in watchers:
        watcher.begin()
    try:
        until(lambda: not any(watcher.loading for watcher in watchers))
        assert all(watcher._thread.is_alive() for watcher in watchers)
        of_run = {watcher.directory.name: watcher for watcher in watchers}
        assert "cannot be read" in str(of_run[f"piped-{EVENTS}"].trouble)
        assert of_run["good"].trouble is None and of_run["good"].history.summary.state == "finished"
    finally:
        for watcher in watchers:
            watcher.close()
            watcher._thread.join()


def test_a_pipe_as_log_keeps_no_start_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LOG)
    with pytest.raises(OSError):
        launch(["true"], tmp_path)
    with pytest.raises(JobFailed, match="no message"):
        Started(tmp_path, 2**22 + 1, time.time()).outcome()


@as_root
def test_a_folder_that_one_may_not_look_into_hides_no_run() -> None:
    # Not in the tests' own folder, which nobody else may enter.
    folder = Path(tempfile.mkdtemp())
    try:
        workspace = Workspace(folder)
        workspace.require_writable()
        for name, mode in (("good", 0o755), ("closed", 0o000), ("names", 0o444), ("blind", 0o111)):
            directory = workspace.run_directory(name)
            directory.mkdir()
            with closing(EventWriter(directory / EVENTS)) as writer:
                writer.write("end", reason="done", exit_code=0)
            directory.chmod(mode)
        folder.chmod(0o755)
        list_runs(workspace)  # what is imported late may lie where others must not look
        os.seteuid(NOBODY)
        try:
            states = {run.run: run.state for run in list_runs(workspace)}
            assert {run.run for run in RunCache(workspace).list_runs()} == set(states)
            assert running_runs(workspace) == []
            with pytest.raises(OSError):
                list(follow(workspace.run_directory("closed")))
        finally:
            os.seteuid(0)
        assert states["good"] == states["blind"] == "finished"
        assert set(states) == {"good", "closed", "names", "blind"}
    finally:
        shutil.rmtree(folder)


def test_what_was_kept_of_a_run_is_believed_only_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: Any
) -> None:
    monkeypatch.setattr(cache, "WORTH_KEEPING_BYTES", 1)
    monkeypatch.setattr("minigpt.runs.known.WORTH_KEEPING_BYTES", 1)
    monkeypatch.setattr("minigpt.digest.WORTH_KEEPING_BYTES", 1)
    with closing(EventWriter(tmp_path / EVENTS)) as writer:
        writer.write("start", planned_steps=10, resumed_from=None)
        write_steps(writer, range(1, 9))
        writer.write("eval", split="validation", step=8, loss=1.5)
        writer.write("checkpoint", path="best_model.pt", step=8, kind="best")

    def seen() -> tuple[Any, ...]:
        told = digest(tmp_path)
        told.summary.disk_bytes = None
        return told.summary, told.evaluations, told.curves.loss.tolist(), told.curves.step.tolist()

    truth = seen()
    for name in (".digest-summary", ".digest-curves"):
        kept = (tmp_path / name).read_bytes()
        spoilt = [b"", rng.randbytes(2000), kept[:-1], kept[: len(kept) // 2], kept + b"\0"]
        for _ in range(60):
            place = rng.randrange(len(kept))
            spoilt.append(kept[:place] + bytes([kept[place] ^ (1 << rng.randrange(8))]) + kept[place + 1 :])
        for data in spoilt:
            (tmp_path / name).write_bytes(data)
            assert seen() == truth, data
