"""Commands that are cut off, old, absurd or somebody else's: none is obeyed, and the next good one is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from minigpt.errors import UserError
from minigpt.jobs import COMMANDS, Command, CommandReader, send_command
from tests.faults.watching import HOUR, NOBODY, WEEK, absurd_commands, append, as_root, command, make_pipe, reading


def names(reader: CommandReader) -> list[str]:
    return [received.command for received in reader.poll()]


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


def test_absurd_commands_are_passed_over_and_the_next_is_obeyed(tmp_path: Path) -> None:
    with reading(tmp_path) as reader:
        for line in absurd_commands():
            append(tmp_path / COMMANDS, line)
        send_command(tmp_path, "stop")
        received = []
        while not reader._reader.at_end:
            received += names(reader)
        assert received == ["stop"]
