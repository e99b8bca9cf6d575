"""Those who watch and steer: killed, many, late, from elsewhere, or with bad intentions; the training does not mind."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt import lock
from minigpt.cli.main import main
from minigpt.cli.progress import Careful, Lines, Live
from minigpt.digest import digest
from minigpt.errors import JobFailed, UserError
from minigpt.event_writer import EventWriter
from minigpt.events import EVENTS, EventReader, encode_line
from minigpt.history import RunHistory
from minigpt.jobs import COMMANDS, LOG, Command, CommandReader, follow, launch, send_command, wait_for
from minigpt.lock import LOCK, RunLock, is_running, owner
from minigpt.pace import Pace
from minigpt.runs import RunCache, cache, find_run, list_runs, newest_run, note_of, summarise
from minigpt.runs.files import CONFIG, NOTE
from minigpt.start import Started, running_runs, training_device
from minigpt.workspace import Workspace
from tests.conftest import small_config, tale_workspace
from tests.faults.harness import events_of, losses_of, notices_of, start_trainer
from tui import watch
from tui.watch import Watcher

NOBODY = 65534
HOUR, WEEK = 3600.0, 7 * 86400.0
# Far more than is needed: it only ends what hangs.
PATIENCE_SECONDS = 30
PIPE_FILES = (EVENTS, COMMANDS, LOCK, NOTE, LOG, CONFIG, "tokenizer.json", ".digest-summary", ".digest-curves")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to other users")
pytestmark = pytest.mark.timeout(120)


def quiet(message: str) -> None:
    """Say nothing."""


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def command(name: str, **more: Any) -> bytes:
    record = {"id": f"{name} {more}"[:100], "time": time.time(), "by": "test", "command": name, "args": {}}
    return encode_line({**record, **more})


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def names(reader: CommandReader) -> list[str]:
    return [received.command for received in reader.poll()]


@contextmanager
def reading(directory: Path) -> Iterator[CommandReader]:
    with closing(CommandReader(directory)) as reader:
        yield reader


# Commands


def test_a_watcher_killed_while_it_wrote_a_command_hinders_nobody(tmp_path: Path) -> None:
    line = command("stop")
    # At the last byte but one the command is whole: only the end of its line is missing.
    for cut in range(1, len(line) - 1):
        with reading(tmp_path) as reader:
            append(tmp_path / COMMANDS, line[:cut])
            assert names(reader) == []
            send_command(tmp_path, "pause")
            assert names(reader) == ["pause"], cut
            assert reader.trouble is None


def test_watchers_killed_at_any_moment_leave_whole_commands(tmp_path: Path) -> None:
    script = (
        "import itertools, sys; from pathlib import Path; from minigpt.jobs import send_command\n"
        "for n in itertools.count(): send_command(Path(sys.argv[1]), 'set', {'n': n, 'by': sys.argv[2]})"
    )
    with reading(tmp_path) as reader:
        senders = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(i)]) for i in range(2)]
        received: list[Command] = []
        try:
            while len({one.args["by"] for one in received}) < 2:
                received += reader.poll()
                time.sleep(0.01)
        finally:
            for sender in senders:
                sender.send_signal(signal.SIGKILL)
                sender.wait()
        while more := reader.poll():
            received += more
        assert reader.skipped == 0
    for by in "01":
        numbers = [one.args["n"] for one in received if one.args["by"] == by]
        assert numbers == list(range(len(numbers)))


def test_a_command_from_last_week_is_not_obeyed_however_it_comes(tmp_path: Path) -> None:
    old, path = command("stop", time=time.time() - WEEK), tmp_path / COMMANDS
    path.write_bytes(old)
    with reading(tmp_path) as reader:
        assert names(reader) == [], "it was there before"
        append(path, old)
        assert names(reader) == [], "somebody has put the old file behind the new one"
        path.unlink()
        (tmp_path / "copy").write_bytes(command("stop", time=time.time() - HOUR))
        (tmp_path / "copy").rename(path)
        assert names(reader) == [], "an old file was brought back"
        send_command(tmp_path, "pause")
        assert names(reader) == ["pause"]
        assert reader.stale == 2


def test_a_clock_set_back_does_not_make_a_command_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with reading(tmp_path) as reader:
        send_command(tmp_path, "pause")
        assert names(reader) == ["pause"]
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() - WEEK)
        send_command(tmp_path, "resume")
        (tmp_path / COMMANDS).unlink()
        send_command(tmp_path, "stop")
        assert names(reader) == ["stop"]


def test_the_file_of_commands_may_be_emptied_removed_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / COMMANDS
    with reading(tmp_path) as reader:
        send_command(tmp_path, "sample", {"prompt": "a long one, after which the file is long"})
        assert names(reader) == ["sample"]
        path.write_bytes(b"")
        send_command(tmp_path, "pause")
        assert names(reader) == ["pause"]
        path.unlink()
        assert names(reader) == []
        send_command(tmp_path, "resume")
        assert names(reader) == ["resume"]
        (tmp_path / "other").write_bytes(command("checkpoint"))
        (tmp_path / "other").replace(path)
        assert names(reader) == ["checkpoint"]


def make_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def give_away(path: Path) -> None:
    os.chown(path, NOBODY, -1)


def give_to_group(path: Path) -> None:
    os.chown(path, -1, NOBODY)
    path.chmod(0o664)


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


UNTRUSTED = {
    "anybody may write it": lambda path: path.chmod(0o666),
    "a link or no file": make_link,
    "no file at all": make_pipe,
    "anybody may replace it": lambda path: path.parent.chmod(0o777),
}
GIVEN_AWAY = {
    "a group of users": give_to_group,
    "another user": give_away,
}


@pytest.mark.parametrize(
    ("why", "spoil"),
    [
        *UNTRUSTED.items(),
        *(pytest.param(why, spoil, marks=as_root) for why, spoil in GIVEN_AWAY.items()),
    ],
)
def test_a_file_of_commands_that_others_may_write_is_not_obeyed(
    tmp_path: Path, why: str, spoil: Callable[[Path], object]
) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    with reading(directory) as reader:
        send_command(directory, "pause")
        assert names(reader) == ["pause"] and reader.trouble is None
        spoil(directory / COMMANDS)
        try:
            send_command(directory, "stop")
        except UserError:
            pass
        assert names(reader) == []
        assert reader.untrusted and why in (reader.trouble or "")


@as_root
def test_what_is_ours_is_obeyed(tmp_path: Path) -> None:
    with reading(tmp_path) as reader:
        # A run in a folder of somebody who may do with it what they like; and a folder that a group shares.
        os.chown(tmp_path, NOBODY, NOBODY)
        tmp_path.chmod(0o2775)
        os.chown(tmp_path / COMMANDS, NOBODY, -1)
        send_command(tmp_path, "pause")
        assert names(reader) == ["pause"]
        # Anybody may put files beside ours, and none in its place.
        tmp_path.chmod(0o1777)
        send_command(tmp_path, "resume")
        assert names(reader) == ["resume"]


def test_who_sends_a_command_writes_into_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "diary").write_text("Dear diary")
    (tmp_path / COMMANDS).symlink_to("diary")
    with pytest.raises(UserError, match="Cannot send 'stop'"):
        send_command(tmp_path, "stop")
    assert (tmp_path / "diary").read_text() == "Dear diary"
    with pytest.raises(UserError, match="too long"):
        send_command(tmp_path, "sample", {"prompt": "x" * 1_000_000})


def absurd_commands() -> list[bytes]:
    now = int(time.time())
    wrap: Callable[[bytes], bytes] = lambda args: (  # noqa: E731
        b'{"id":"absurd","time":%d,"by":"x","command":"set","args":%s}\n' % (now, args)
    )
    return [
        wrap(b'{"lr_scale":' + b"[" * 5000 + b"]" * 5000 + b"}"),
        wrap(b'{"lr_scale":' + b'{"a":' * 100 + b"1" + b"}" * 101),
        wrap(b'{"lr_scale":1' + b"0" * 4000 + b"}"),
        wrap(b'{"max_steps":1' + b"0" * 40 + b"}"),
        wrap(b'{"lr_scale":NaN}'),
        wrap(b'{"lr_scale":1e999}'),
        wrap(b'{"lr_scale":"' + b"x" * 3_000_000 + b'"}'),
        wrap(b'{"\\ud800":"\\udfff"}'),
        wrap(b"[]"),
        wrap(b"{}").replace(b"%d" % now, b"1" + b"0" * 400),
        wrap(b"{}").replace(b'"set"', b'"' + b"s" * 1000 + b'"'),
        b"\x00" * 5000 + b"\n",
        b"\xff\xfe{\n",
        b"{}\n" * 2000,
    ]


def test_absurd_commands_are_passed_over_and_the_next_is_obeyed(tmp_path: Path) -> None:
    with reading(tmp_path) as reader:
        for line in absurd_commands():
            append(tmp_path / COMMANDS, line)
        send_command(tmp_path, "stop")
        received = []
        while not reader._reader.at_end:
            received += names(reader)
        assert received == ["stop"]


# Training, with all of it at once


Mischief = Callable[[Path], object]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a run of twelve steps, `whole`, that nobody disturbed."""
    found = tale_workspace(tmp_path_factory.mktemp("watchers"))
    assert train(found, "whole") == 0
    return found


QUICK = {"model__n_layers": 1, "training__save_every": 4, "training__eval_every": 12, "generation__max_new_tokens": 4}


def train(workspace: Workspace, run: str, step: int = 0, mischief: Mischief = str) -> int:
    """Train a run of twelve steps in this process, do something after one of them, and return the exit code."""
    from minigpt.training.session import Session

    session = Session.new(workspace, small_config(**QUICK), run=run, say=quiet)

    def look(event: dict[str, Any]) -> None:
        if event["type"] == "step" and event["step"] == step:
            mischief(session.directory)

    return session.train((look,))


def losses_of_run(workspace: Workspace, run: str) -> dict[int, float | None]:
    return losses_of(workspace.run_directory(run))


def test_a_run_trains_on_under_absurd_commands_and_without_its_files(trained: Workspace) -> None:
    def mischief(directory: Path) -> None:
        for line in absurd_commands():
            append(directory / COMMANDS, line)
        append(directory / COMMANDS, command("\x1b[2J", args={"\x1b]0;owned\x07": "\x00"}))
        append(directory / COMMANDS, command("sample", args={"prompt": "\x1b[31m\u202e"}))
        append(directory / COMMANDS, command("set", args={"lr_scale": -1e300}))
        (directory / EVENTS).unlink()
        (directory / LOCK).unlink()
        assert not RunLock(directory).acquire(), "a second trainer"

    assert train(trained, "tried", 4, mischief) == 0
    assert losses_of_run(trained, "tried") == losses_of_run(trained, "whole")
    directory = trained.run_directory("tried")
    answers = [event for event in events_of(directory) if event["type"] == "command"]
    assert [answer["done"] for answer in answers] == [False, True, False]
    assert "\x1b" not in (directory / LOG).read_text()


def test_a_run_says_that_others_may_steer_it_and_does_not_obey(trained: Workspace) -> None:
    def mischief(directory: Path) -> None:
        send_command(directory, "set", {"lr_scale": 0.5})
        (directory / COMMANDS).chmod(0o666)
        send_command(directory, "stop")

    assert train(trained, "open", 3, mischief) == 0
    assert "commands-untrusted" in notices_of(trained.run_directory("open"))
    assert not any(event["type"] == "command" for event in events_of(trained.run_directory("open")))


def test_a_run_whose_folder_was_exchanged_waits_and_writes_into_no_other(trained: Workspace) -> None:
    directory, aside = trained.run_directory("exchanged"), trained.checkpoints / ".aside"

    def exchange(_: Path) -> None:
        directory.rename(aside)
        directory.mkdir()
        threading.Thread(target=bring_back).start()

    def bring_back() -> None:
        until(lambda: {"save-failed", "events-unwritten"} & set(notices_of(aside)))
        found.extend(path.name for path in directory.glob("*.pt"))
        shutil.rmtree(directory)
        aside.rename(directory)

    found: list[str] = []
    assert train(trained, "exchanged", 5, exchange) == 0
    assert found == []
    assert losses_of_run(trained, "exchanged") == losses_of_run(trained, "whole")
    assert "room-again" in notices_of(directory)


def test_of_two_trainers_on_one_run_the_second_is_told(trained: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    directory = trained.run_directory("whole")
    for remove in (False, True):
        with RunLock(directory):
            if remove:
                (directory / LOCK).unlink()
            for arguments in (["--resume", "whole", "--max-steps", "20"], ["--run", "whole", "--corpus", "tale"]):
                assert main(["train", *arguments, "--workspace", str(trained.root)]) == 2
                told = capsys.readouterr().err
                assert "training right now" in told or "already" in told


def test_what_another_trainer_did_while_one_got_ready_is_not_gone_back_behind(trained: Workspace) -> None:
    from minigpt.training.session import Session

    shutil.copytree(trained.run_directory("whole"), trained.run_directory("twice"))
    first, second = (Session.resume(trained, "twice", steps=steps, say=quiet) for steps in (14, 16))
    assert first.train() == 0
    with pytest.raises(UserError, match="meanwhile"):
        second.train()
    assert len(losses_of_run(trained, "twice")) == 14


def test_a_run_copied_from_another_machine_goes_on_here(trained: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    from minigpt.training.session import Session

    # It was copied while it trained, and there is a process of that number here too.
    copied = trained.run_directory("copied")
    left_out = shutil.ignore_patterns("final*", "best*", "*step_12*", "*epoch*")
    shutil.copytree(trained.run_directory("whole"), copied, ignore=left_out)
    lines = (copied / EVENTS).read_bytes().splitlines(keepends=True)
    (copied / EVENTS).write_bytes(b"".join(lines[: next(n for n, line in enumerate(lines) if b'"step":11' in line)]))
    signature = {"pid": os.getpid(), "started": time.time() - WEEK, "host": "another-machine"}
    (copied / LOCK).write_text(json.dumps(signature))
    (copied / COMMANDS).write_bytes(command("stop", time=time.time() - HOUR))
    assert owner(copied) is None
    assert summarise(copied).state == "crashed"
    assert main(["control", "copied", "stop", "--workspace", str(trained.root)]) == 2
    assert "is not training now" in capsys.readouterr().err
    session = Session.resume(trained, "copied", say=quiet)
    assert session.progress.step == 8
    assert session.train() == 0
    assert losses_of_run(trained, "copied") == losses_of_run(trained, "whole")


@pytest.mark.parametrize("version", [0, 2])
def test_a_checkpoint_of_another_version_is_refused_in_words(
    trained: Workspace, version: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from minigpt.model import checkpoint

    run, root = f"version-{version}", ["--workspace", str(trained.root)]
    shutil.copytree(trained.run_directory("whole"), trained.run_directory(run))
    for path in trained.run_directory(run).glob("*.pt"):
        found = checkpoint.load(path)
        path.unlink()
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "VERSION", version)
            checkpoint.save(path, found)
    for arguments in (["train", "--resume", run, "--epochs", "9"], ["train", "--fork", run]):
        assert main([*arguments, *root]) == 2
        assert f"version {version}, this program reads version {checkpoint.VERSION}" in capsys.readouterr().err
    assert main(["runs", "show", run, *root]) == 0


# The lock


def test_a_lock_that_was_removed_or_replaced_still_holds(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        (tmp_path / LOCK).unlink()
        assert is_running(tmp_path)
        assert not RunLock(tmp_path).acquire()
        shutil.copy(__file__, tmp_path / LOCK)
        assert is_running(tmp_path) and owner(tmp_path) is None
        assert not RunLock(tmp_path).acquire()
        make_pipe(tmp_path / LOCK)
        assert is_running(tmp_path) and owner(tmp_path) is None
    assert not is_running(tmp_path)


def test_of_many_that_begin_at_once_one_trains_also_under_a_hundred_eyes(tmp_path: Path) -> None:
    ended = threading.Event()

    def watch_it() -> None:
        while not ended.wait(0.02):
            is_running(tmp_path)

    watchers = [threading.Thread(target=watch_it) for _ in range(100)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(5):
            locks = [RunLock(tmp_path) for _ in range(8)]
            with ThreadPoolExecutor(8) as pool:
                assert sum(pool.map(RunLock.acquire, locks)) == 1
            for one in locks:
                one.release()
    finally:
        ended.set()
        for watcher in watchers:
            watcher.join()


def test_a_planted_lock_destroys_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "diary").write_text("Dear diary")
    (tmp_path / LOCK).symlink_to("diary")
    with pytest.raises(UserError, match="no file"):
        RunLock(tmp_path).acquire()
    assert (tmp_path / "diary").read_text() == "Dear diary"
    (tmp_path / LOCK).unlink()
    (tmp_path / LOCK).mkdir()
    with pytest.raises(UserError, match="no file"):
        RunLock(tmp_path).acquire()


def test_a_file_system_without_locks_is_told_in_words(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    directory = workspace.run_directory("far")
    directory.mkdir()
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match="Cannot lock"):
        RunLock(directory).acquire()
    assert not is_running(directory)
    assert main(["train", "--preset", "tiny", "--corpus", "tale", "--workspace", str(workspace.root)]) == 2
    assert "local disk" in capsys.readouterr().err


def test_a_file_system_that_locks_files_alone_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock

    def files_alone(file: int, operation: int) -> None:
        if os.path.samestat(os.fstat(file), tmp_path.stat()):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        real(file, operation)

    monkeypatch.setattr(lock.fcntl, "flock", files_alone)
    with RunLock(tmp_path):
        assert is_running(tmp_path)
        assert not RunLock(tmp_path).acquire()
    assert not is_running(tmp_path)


# What a run tells


def write_steps(writer: EventWriter, steps: range) -> None:
    for step in steps:
        writer.write("step", step=step, loss=1.0)
    writer.flush()


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


# Folders with strange things in them


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


def test_a_damaged_event_does_not_end_the_watching(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    for display in (Lines(), Live(Console(force_terminal=True))):
        careful = Careful(display)
        for event in ({"type": "start"}, {"type": "eval"}, {"type": "eval", "split": [], "step": "x", "time": []}):
            careful(event)
        careful({"type": "notice", "severity": "warning", "message": "Look here", "time": 1.0})
        careful.close()
        assert "Look here" in capsys.readouterr().out


# Many


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
