"""Those who watch a run see all that it tells: a hundred of them, and though its events go or its clock goes back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.cli.progress import Careful, Lines, Live
from minigpt.digest import digest
from minigpt.event_writer import EventWriter
from minigpt.events import EVENTS, EventReader, encode_line
from minigpt.history import RunHistory
from minigpt.jobs import follow, send_command, wait_for
from minigpt.lock import RunLock, is_running
from minigpt.pace import Pace
from minigpt.runs import cache, summarise
from minigpt.start import Started
from minigpt.workspace import Workspace
from tests.faults.harness import events_of, start_trainer
from tests.faults.watching import HOUR, PATIENCE_SECONDS, reading, until, write_steps


def test_events_that_somebody_removes_come_back_and_go_on(tmp_path: Path) -> None:
    path = tmp_path / EVENTS
    with closing(EventWriter(path)) as writer, EventReader(path) as watcher:
        write_steps(writer, range(100))
        assert len(watcher.poll()) == 100
        path.unlink()
        assert watcher.poll() == []
        write_steps(writer, range(100, 200))
        assert [event["step"] for event in events_of(tmp_path)] == list(range(200))
        assert [event["step"] for event in watcher.poll()] == list(range(200))
        # Replaced by an edited copy, as `sed -i` does, that lacks its last newline.
        path.with_name("copy").write_bytes(path.read_bytes()[:-1])
        path.with_name("copy").replace(path)
        write_steps(writer, range(200, 300))
        assert [event["step"] for event in events_of(tmp_path)] == list(range(300))
    assert [found.name for found in tmp_path.iterdir()] == [EVENTS]


def test_events_of_a_run_whose_folder_was_taken_away_go_into_no_other_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with closing(EventWriter(folder / EVENTS)) as writer:
        write_steps(writer, range(3))
        folder.rename(tmp_path / "renamed")
        write_steps(writer, range(3, 6))
        folder.mkdir()
        write_steps(writer, range(6, 9))
        (folder / EVENTS).write_bytes(b"")
        write_steps(writer, range(9, 12))
    assert [event["step"] for event in events_of(tmp_path / "renamed")] == list(range(12))
    assert events_of(folder) == []


def test_a_pipe_in_the_place_of_events_is_no_place_to_write(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / EVENTS)
    with pytest.raises(OSError, match="no file"):
        EventWriter(tmp_path / EVENTS)


@pytest.mark.parametrize("back", [60.0, HOUR, 1e9])
def test_a_clock_that_goes_backwards_takes_no_time_away(
    tmp_path: Path, back: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "WORTH_KEEPING_BYTES", 1)
    begin = 1.7e9
    times = [begin + n - (back if n > 50 else 0) for n in range(101)]
    start = {"type": "start", "time": begin, "planned_steps": 200, "resumed_from": None}
    # A heartbeat after every fifth step, as a trainer's side thread gives it.
    kinds = [{"type": "step", "step": n, "loss": 1.0} if n % 6 else {"type": "device"} for n in range(101)]
    steps = [{**kind, "time": when} for kind, when in zip(kinds, times, strict=True)]
    (tmp_path / EVENTS).write_bytes(b"".join(map(encode_line, [start, *steps])))
    # Of a listing, the steps between two heartbeats are left out.
    assert 94 <= summarise(tmp_path).seconds <= 99
    curves = digest(tmp_path).curves
    assert np.all(np.diff(curves.seconds) >= 0) and curves.seconds[-1] == 99
    pace, history = Pace(), RunHistory(tmp_path)
    for event in (start, *steps):
        pace.update(event)
    while history.read():
        pass
    history.close()
    assert (pace.seconds_left or 0) >= 0 and len(history.curves) == sum("step" in kind for kind in kinds)


def test_a_start_is_seen_though_the_clock_was_set_back(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / EVENTS)
    writer.write("start")
    later = time.time() + HOUR
    started = Started(tmp_path, os.getpid(), later, 0, (tmp_path / EVENTS).stat().st_size)
    assert started.outcome() is None
    writer.write("start")
    writer.close()
    assert started.outcome() is True


def test_a_damaged_event_does_not_end_the_watching(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    for display in (Lines(), Live(Console(force_terminal=True))):
        careful = Careful(display)
        for event in ({"type": "start"}, {"type": "eval"}, {"type": "eval", "split": [], "step": "x", "time": []}):
            careful(event)
        careful({"type": "notice", "severity": "warning", "message": "Look here", "time": 1.0})
        careful.close()
        assert "Look here" in capsys.readouterr().out


def test_a_hundred_watchers_see_all_of_a_run(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []

    def train() -> None:
        with RunLock(tmp_path), closing(EventWriter(tmp_path / EVENTS)) as writer, reading(tmp_path) as commands:
            told.append(writer.write("start", resumed_from=None))
            begun.set()
            for step in range(300):
                told.append(writer.write("step", step=step))
                if step % 30 == 0:
                    told.append(writer.write("eval", step=step))
                    time.sleep(0.01)
            answered = 0
            while answered < 100:
                for one in commands.poll():
                    told.append(writer.write("command", id=one.id, done=True))
                    answered += 1
                time.sleep(0.001)
            told.append(writer.write("end", reason="done", exit_code=0))

    def steer(number: int) -> object:
        return wait_for(tmp_path, send_command(tmp_path, "sample", {"n": number}), PATIENCE_SECONDS)

    begun = threading.Event()
    trainer = threading.Thread(target=train)
    trainer.start()
    begun.wait()
    with ThreadPoolExecutor(200) as pool:
        seen = [pool.submit(lambda: list(follow(tmp_path, interval=0.05))) for _ in range(100)]
        done = [pool.submit(steer, number) for number in range(100)]
        assert all(one.result() for one in done)
        trainer.join()
        assert all(one.result() == told for one in seen)


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_campaign_a_hundred_watchers_do_not_hold_up_a_run(
    workspace: Workspace, tell_figure: Callable[[str, object], None]
) -> None:
    """The same run alone, and under a hundred watchers in a process of their own."""
    script = (
        "import sys; from pathlib import Path; from concurrent.futures import ThreadPoolExecutor\n"
        "from minigpt.jobs import follow\n"
        "directory, go = Path(sys.argv[1]), lambda n: sum(event['type'] == 'step' for event in follow(directory))\n"
        "with ThreadPoolExecutor(100) as pool: print(set(pool.map(go, range(100))))"
    )
    steps = 600
    for watchers in (0, 100):
        run = f"watched-by-{watchers}"
        trainer = start_trainer(workspace, run, "--quiet", training__max_steps=steps, training__eval_every=steps)
        directory = workspace.run_directory(run)
        until(partial(is_running, directory))
        watching = None
        if watchers:
            watching = subprocess.Popen(
                [sys.executable, "-c", script, str(directory)], stdout=subprocess.PIPE, text=True
            )
        assert trainer.wait(PATIENCE_SECONDS * 10) == 0
        times = [event["time"] for event in events_of(directory) if event["type"] == "step"]
        tell_figure(f"steps a second under {watchers} watchers", f"{steps / (times[-1] - times[0]):.0f}")
        if watching is not None:
            assert watching.communicate(timeout=PATIENCE_SECONDS)[0].strip() == f"{{{steps}}}"
