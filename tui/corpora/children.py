"""Asking `minigpt` in a process of its own for what the app must not compute itself: for threads.

Children().ask(workspace, ["corpus", "stats", "novels", "--json"])["statistics"]
in_thread(widget, lambda: ..., then=widget.take, failed=widget.tell, group="statistics")
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec
from textual.widget import Widget
from textual.worker import NoActiveWorker, Worker, get_current_worker

from minigpt.errors import JobFailed, UserError, printable
from minigpt.workspace import Workspace

LONGEST_SECONDS = 3600.0
_LOOK_SECONDS = 0.05
_LARGEST_ANSWER = 1 << 25
_LARGEST_COMPLAINT = 1 << 13


class Stopped(Exception):
    """Nobody waits for the answer any more."""


class Children:
    """Runs `minigpt` commands that answer in JSON. Their output goes through files: no pipe can fill up."""

    def ask(
        self,
        workspace: Workspace,
        arguments: Sequence[str],
        text: str = "",
        *,
        answering: Collection[int] = (0,),
        clearing_seconds: float = 0.0,
    ) -> Any:
        """Return what the command prints, with `text` on its standard input.

        It may answer with these exit codes. Raises UserError with its own sentence where it fails, Stopped when the
        thread's worker is cancelled: the process is killed then, after so long to take away what it keeps in temporary
        folders.
        """
        program = [sys.executable, "-m", "minigpt.cli.main", *arguments, "--workspace", str(workspace.root)]
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as log:
            given.write(text.encode("utf-8", "replace"))
            given.seek(0)
            try:
                process = subprocess.Popen(program, stdin=given, stdout=answer, stderr=log)
            except OSError as error:
                raise UserError(f"minigpt could not be started ({error.strerror}): free some memory.") from error
            try:
                _wait(process, answer)
            finally:
                # Also when somebody interrupts this thread: nothing is left behind.
                _end(process, clearing_seconds)
            if process.returncode not in answering or not os.fstat(answer.fileno()).st_size:
                raise UserError(_complaint(process.returncode, log))
            return _answer(answer)

    def leave_behind(self, workspace: Workspace, arguments: Sequence[str]) -> None:
        """Start a command that goes on when the app has gone; nobody waits for it."""
        with suppress(OSError):
            subprocess.Popen(
                [sys.executable, "-m", "minigpt.cli.main", *arguments, "--workspace", str(workspace.root)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )


def _wait(process: subprocess.Popen[bytes], answer: IO[bytes]) -> None:
    """Wait for the end of a process, as long as somebody wants to know."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while True:
        try:
            process.wait(_LOOK_SECONDS)
            return
        except subprocess.TimeoutExpired:
            if cancelled():
                raise Stopped from None
            if os.fstat(answer.fileno()).st_size > _LARGEST_ANSWER:
                raise UserError("The answer is too large to be shown: ask for less of it.") from None
            if time.monotonic() > deadline:
                raise UserError("No answer came within an hour: try it on the command line.") from None


def _end(process: subprocess.Popen[bytes], clearing_seconds: float) -> None:
    if clearing_seconds:
        with suppress(subprocess.TimeoutExpired):
            # As Ctrl+C does: at the signal for termination Python ends without clearing up.
            process.send_signal(signal.SIGINT)
            process.wait(clearing_seconds)
    process.kill()
    process.wait()


def _answer(answer: IO[bytes]) -> Any:
    answer.seek(0)
    try:
        return msgspec.json.decode(answer.read(_LARGEST_ANSWER))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"minigpt gave an answer that cannot be read ({error}): is it of another version?") from error


def _complaint(code: int, log: IO[bytes]) -> str:
    """Return the last thing that was said: narration comes before it."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - _LARGEST_COMPLAINT))
    lines = printable(log.read().decode("utf-8", "replace")).strip().splitlines()
    return lines[-1] if lines else f"minigpt ended without a word (exit code {code}): try again."


def cancelled() -> bool:
    """Return whether the worker in whose thread we are is no longer wanted."""
    try:
        return get_current_worker().is_cancelled
    except NoActiveWorker:
        return False


def in_thread(
    widget: Widget, work: Callable[[], Any], then: Callable[[Any], object], failed: Callable[[str], object], group: str
) -> Worker[None]:
    """Run `work` off the event loop and hand over what it returns, or in words why it could not be done.

    A later one of the same widget and group takes the place of an earlier one, whose outcome is dropped.
    """

    def job() -> None:
        try:
            result = work()
        except Stopped:
            return
        except (UserError, JobFailed) as error:
            tell, result = failed, printable(str(error))
        except msgspec.ValidationError as error:
            tell, result = failed, printable(f"minigpt's answer is not understood ({error}): is it of another version?")
        except OSError as error:
            where = f" {error.filename}" if error.filename else ""
            tell, result = failed, printable(f"The system refused{where} ({error.strerror or error}).")
        else:
            tell = then
        if not cancelled():
            widget.call_later(tell, result)

    return widget.run_worker(job, name=group, group=group, thread=True, exclusive=True)


def scratch_file(folder: Path, stem: str) -> Path:
    """Return the path of a new file for text on its way into a corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, path = tempfile.mkstemp(dir=folder, prefix=f"{stem}-", suffix=".txt")
    os.close(descriptor)
    return Path(path)
