"""The lock of a run holds: removed, replaced, taken by many at once, or on a file system that has none."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from minigpt import lock
from minigpt.cli.main import main
from minigpt.errors import UserError
from minigpt.lock import LOCK, RunLock, is_running, owner
from minigpt.workspace import Workspace
from tests.faults.watching import make_pipe


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
