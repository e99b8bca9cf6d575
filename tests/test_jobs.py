"""A process that works and others that watch it: locks, commands, launching and following, with real processes."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from minigpt.errors import UserError
from minigpt.jobs import (
    COMMANDS,
    EVENTS,
    LOCK,
    LOG,
    CommandReader,
    EventWriter,
    RunLock,
    follow,
    is_running,
    launch,
    owner,
    send_command,
    wait_for,
)

PRELUDE = """
import os, sys, time
from pathlib import Path
from minigpt.jobs import *
directory = Path(sys.argv[1])
"""


def python(script: str, directory: Path) -> list[str]:
    return [sys.executable, "-c", PRELUDE + textwrap.dedent(script), str(directory)]


def eventually(condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def another_process(script: str, directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `script` in a process of its own; yield it with the first line it prints."""
    with subprocess.Popen(python(script, directory), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


HOLD_LOCK = """
lock = RunLock(directory)
print(lock.acquire(), flush=True)
time.sleep(60)
"""


def test_without_a_lock_file_nothing_runs(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    assert not is_running(tmp_path / "missing")
    assert owner(tmp_path) is None


def test_the_lock_tells_who_works_until_that_process_is_killed(tmp_path: Path) -> None:
    with another_process(HOLD_LOCK, tmp_path) as (process, acquired):
        assert acquired == "True"
        assert is_running(tmp_path)
        holder = owner(tmp_path)
        assert holder is not None and holder.pid == process.pid
        assert not RunLock(tmp_path).acquire()
        with pytest.raises(UserError, match=str(process.pid)), RunLock(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not is_running(tmp_path)
    assert owner(tmp_path) is None
    with RunLock(tmp_path):
        assert is_running(tmp_path)


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    script = """
    lock = RunLock(directory)
    lock.acquire()
    if os.fork() == 0:
        # What the child does with its copy must not matter either.
        lock.release()
        print(os.getpid(), flush=True)
    time.sleep(60)
    """
    with another_process(script, tmp_path) as (process, child):
        try:
            assert is_running(tmp_path)
            process.kill()
            process.wait()
            assert psutil.pid_exists(int(child))
            assert not is_running(tmp_path)
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_a_child_program_does_not_keep_the_lock(tmp_path: Path) -> None:
    script = """
    import subprocess
    lock = RunLock(directory)
    lock.acquire()
    print(subprocess.Popen(["sleep", "60"], close_fds=False).pid, flush=True)
    time.sleep(60)
    """
    with another_process(script, tmp_path) as (process, child):
        try:
            assert is_running(tmp_path)
            process.kill()
            process.wait()
            assert not is_running(tmp_path)
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_somebody_who_asks_does_not_keep_a_run_from_starting(tmp_path: Path) -> None:
    with (tmp_path / LOCK).open("wb") as asked:
        # What `is_running` does, only slower.
        fcntl.flock(asked, fcntl.LOCK_SH)
        timer = threading.Timer(0.1, lambda: fcntl.flock(asked, fcntl.LOCK_UN))
        timer.start()
        with RunLock(tmp_path):
            assert is_running(tmp_path)
        timer.join()


def test_a_lock_file_with_anything_else_in_it_names_no_owner(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        signature = json.loads((tmp_path / LOCK).read_bytes())
        for change in ({"started": signature["started"] - 60}, {"host": "elsewhere"}, {"pid": 10**30}, {"pid": "x"}):
            (tmp_path / LOCK).write_text(json.dumps(signature | change))
            assert owner(tmp_path) is None, change
        (tmp_path / LOCK).write_bytes(b"\xff{")
        assert owner(tmp_path) is None


def test_a_command_arrives_as_it_was_sent(tmp_path: Path) -> None:
    reader = CommandReader(tmp_path)
    sent = send_command(tmp_path, "set", {"lr_scale": 0.5}, by="test")
    (command,) = reader.poll()
    assert (command.id, command.by, command.command, command.args) == (sent, "test", "set", {"lr_scale": 0.5})
    assert abs(command.time - time.time()) < 60
    assert reader.poll() == []


def test_only_commands_sent_after_the_start_are_seen(tmp_path: Path) -> None:
    send_command(tmp_path, "stop")
    with (tmp_path / COMMANDS).open("ab") as file:
        file.write(b'{"id":"cut","time":1.0,"by":"x","command":"st')
    reader = CommandReader(tmp_path)
    send_command(tmp_path, "pause")
    assert [command.command for command in reader.poll()] == ["pause"]


def test_what_is_no_command_is_counted_and_passed_over(tmp_path: Path) -> None:
    reader = CommandReader(tmp_path)
    (tmp_path / COMMANDS).write_text(
        'rubbish\n[]\n{"id":"1","time":1,"by":"x"}\n{"id":2,"time":1,"by":"x","command":"stop"}\n'
        '{"id":"3","time":1,"by":"x","command":"stop","args":[]}\n'
        '{"id":"4","time":4e9,"by":"x","command":"pause","new_field":1}\n'
    )
    assert [command.id for command in reader.poll()] == ["4"]
    assert reader.skipped == 5


def test_two_processes_send_commands_at_once(tmp_path: Path) -> None:
    reader = CommandReader(tmp_path)
    script = "print([send_command(directory, 'set', {'number': n}) for n in range(200)])"
    senders = [subprocess.Popen(python(script, tmp_path), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    sent = [json.loads(sender.communicate()[0].replace("'", '"')) for sender in senders]
    received = [command.id for command in reader.poll()]
    assert sorted(received) == sorted(sent[0] + sent[1])
    for ids in sent:
        assert [id for id in received if id in set(ids)] == ids
    assert reader.skipped == 0


def test_commands_that_everybody_may_write_are_not_believed(tmp_path: Path) -> None:
    send_command(tmp_path, "pause")
    (tmp_path / COMMANDS).chmod(0o666)
    reader = CommandReader(tmp_path)
    send_command(tmp_path, "stop")
    assert reader.poll() == [] and reader.untrusted
    (tmp_path / COMMANDS).chmod(0o644)
    assert reader.poll() == [] and not reader.untrusted
    send_command(tmp_path, "resume")
    assert [command.command for command in reader.poll()] == ["resume"]


def test_our_own_file_of_commands_is_believed_whatever_the_umask(tmp_path: Path) -> None:
    reader = CommandReader(tmp_path)
    before = os.umask(0)
    try:
        send_command(tmp_path, "pause")
    finally:
        os.umask(before)
    assert len(reader.poll()) == 1


def test_an_edited_file_of_commands_does_not_bring_old_ones_back(tmp_path: Path) -> None:
    send_command(tmp_path, "stop")
    reader = CommandReader(tmp_path)
    send_command(tmp_path, "pause")
    assert len(reader.poll()) == 1
    content = (tmp_path / COMMANDS).read_bytes()
    (tmp_path / COMMANDS).unlink()
    (tmp_path / COMMANDS).write_bytes(content)
    send_command(tmp_path, "resume")
    assert [command.command for command in reader.poll()] == ["resume"]


def test_a_command_that_cannot_be_sent_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stop"):
        send_command(tmp_path / "missing", "stop")


def test_a_launched_process_has_a_session_of_its_own_and_a_log(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "run"
    script = "import os, sys; print(os.getsid(0), sys.stdin.read()); print('oops', file=sys.stderr)"
    pid = launch([sys.executable, "-c", script], directory)
    # Ended and taken note of: no zombie stays.
    assert eventually(lambda: not psutil.pid_exists(pid))
    assert (directory / LOG).read_text().split() == [str(pid), "oops"]


def test_a_launched_process_outlives_its_launcher(tmp_path: Path) -> None:
    script = """
    print(launch(["sleep", "60"], directory), flush=True)
    time.sleep(60)
    """
    with another_process(script, tmp_path) as (launcher, pid):
        launcher.kill()
        launcher.wait()
        launched = psutil.Process(int(pid))
        assert launched.status() != psutil.STATUS_ZOMBIE
        launched.kill()


TRAINER = """
with RunLock(directory):
    events = EventWriter(directory / EVENTS)
    events.write("start", resumed_from=None)
    for step in range(1, 4):
        events.write("step", step=step)
        time.sleep(0.01)
    events.write("end", reason="done", exit_code=0)
    time.sleep(0.2)
"""


def test_following_a_launched_run_from_before_its_start_to_its_end(tmp_path: Path) -> None:
    pid = launch(python(TRAINER, tmp_path), tmp_path)
    events = list(follow(tmp_path, interval=0.01, pid=pid))
    assert [event["type"] for event in events] == ["start", "step", "step", "step", "end"]


def test_following_a_resumed_run_does_not_stop_at_its_first_end(tmp_path: Path) -> None:
    EventWriter(tmp_path / EVENTS).write("end", exit_code=3)
    pid = launch(python(TRAINER, tmp_path), tmp_path)
    events = [event["type"] for event in follow(tmp_path, interval=0.01, pid=pid)]
    assert events == ["end", "start", "step", "step", "step", "end"]


def test_following_a_run_that_died_ends_with_what_it_told(tmp_path: Path) -> None:
    EventWriter(tmp_path / EVENTS).write("start")
    assert [event["type"] for event in follow(tmp_path)] == ["start"]


def test_following_ends_when_asked(tmp_path: Path) -> None:
    EventWriter(tmp_path / EVENTS).write("start")
    seen: list[object] = []
    with RunLock(tmp_path):
        for event in follow(tmp_path, stop=lambda: bool(seen), interval=0.01):
            seen.append(event)
    assert len(seen) == 1


def test_waiting_for_the_acknowledgement_of_a_command(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        commands, events = CommandReader(tmp_path), EventWriter(tmp_path / EVENTS)

        def obey_one() -> None:
            assert eventually(lambda: [acknowledge(command.id) for command in commands.poll()])

        def acknowledge(id: str) -> None:
            events.write("command", id="another", done=True)
            events.write("command", id=id, command="pause", args={}, step=7, done=True, why="")

        trainer = threading.Thread(target=obey_one)
        trainer.start()
        acknowledgement = wait_for(tmp_path, send_command(tmp_path, "pause"), timeout=30)
        trainer.join()
        assert acknowledgement is not None and acknowledgement["step"] == 7
        # Also when it came before the wait for it began.
        assert wait_for(tmp_path, acknowledgement["id"], timeout=0) == acknowledgement
        assert wait_for(tmp_path, "never sent", timeout=0.05) is None


def test_nobody_waits_for_a_run_that_is_not_there(tmp_path: Path) -> None:
    assert wait_for(tmp_path, send_command(tmp_path, "pause"), timeout=3600) is None


def test_waiting_for_any_event(tmp_path: Path) -> None:
    events = EventWriter(tmp_path / EVENTS)
    timer = threading.Timer(0.1, lambda: events.write("eval", step=5))
    timer.start()
    found = wait_for(tmp_path, lambda event: event["type"] == "eval", timeout=30)
    timer.join()
    assert found is not None and found["step"] == 5
