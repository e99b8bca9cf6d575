"""What watchers ask of a process at work: how it is sent, read, and whose word is believed.

send_command(directory, "set", {"lr_scale": 0.5})

reader = CommandReader(directory)
for command in reader.poll():
    ...
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import time
import uuid
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import msgspec

from minigpt.errors import UserError, printable
from minigpt.events import EventReader, encode_line, ends_inside_line

COMMANDS = "commands.jsonl"

# What a command may be at most: it is repeated in an event, and comes between two steps.
MAX_COMMAND_BYTES = 1 << 16
_LONGEST_NAME, _DEEPEST_ARGS, _LARGEST = 200, 16, 2**63
# The clocks of two machines that share a folder, or a wrong time zone, do not differ by more.
_CLOCKS_DIFFER_SECONDS = 86400.0


class Command(msgspec.Struct, frozen=True):
    """What a watcher asks of the process: `pause`, `stop`, `set` and so on, with `args`, at `time` (Unix seconds)."""

    id: Annotated[str, msgspec.Meta(max_length=_LONGEST_NAME)]
    time: float
    by: Annotated[str, msgspec.Meta(max_length=_LONGEST_NAME)]
    command: Annotated[str, msgspec.Meta(max_length=_LONGEST_NAME)]
    args: dict[str, Any] = {}


def send_command(directory: Path, command: str, args: dict[str, Any] | None = None, by: str = "cli") -> str:
    """Ask the process that works in `directory` for something; return the command's id.

    Whether it was done comes as a `command` event with this id: see `wait_for`.
    Raises UserError where the file of commands cannot be written, or the command is longer than any may be.
    """
    record = {"id": uuid.uuid4().hex, "time": time.time(), "by": by, "command": command, "args": args or {}}
    line = encode_line(record)
    if len(line) > MAX_COMMAND_BYTES:
        raise UserError(f"This {command!r} is too long to be sent: at most {MAX_COMMAND_BYTES:,} bytes, all in all.")
    try:
        descriptor = _open_commands(directory / COMMANDS)
        try:
            if ends_inside_line(descriptor):
                line = b"\n" + line
            # One write, so that two senders cannot interleave.
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UserError(
            f"Cannot send {command!r} by {printable(str(directory / COMMANDS))} ({error.strerror}): "
            "make room or ask for the right to write there, then try again."
        ) from error
    return str(record["id"])


def _open_commands(path: Path) -> int:
    """Open the file of commands to append to it, made if need be; raises OSError, for a link or a pipe too."""
    # For us alone to write, whatever the umask: the reader would not believe it else.
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file")
    return descriptor


class CommandReader:
    """Reads the commands that arrive after it was made; to be made by the holder of the run's lock.

    What has not the shape of a command is passed over and counted in `skipped`, one from long before in `stale`; a
    command that comes twice is returned once. While others than this user may write the file, or it cannot be read,
    nothing in it is believed and `trouble` says why.
    """

    def __init__(self, directory: Path) -> None:
        self.trouble: str | None = None
        self.stale = 0
        self._path = directory / COMMANDS
        self._since, self._clock = time.time(), time.monotonic()
        self._malformed = 0
        self._seen: deque[str] = deque(maxlen=1000)
        # Whether all that stands in the file came after us, without a look at the clock.
        self._known = True
        try:
            # Made now, and ours: whatever is appended to it is new.
            os.close(_open_commands(self._path))
            self._reader = EventReader(self._path, from_end=True)
        except OSError:
            self._known = False
            self._reader = EventReader(self._path)

    @property
    def untrusted(self) -> bool:
        return self.trouble is not None

    @property
    def skipped(self) -> int:
        return self._reader.skipped + self._malformed

    def close(self) -> None:
        self._reader.close()

    def poll(self) -> list[Command]:
        """Return the commands that came since the last call, oldest first."""
        try:
            self.trouble = why_untrusted(self._path)
            lines = self._reader.poll_lines()
        except OSError as error:
            self.trouble = self.trouble or f"it cannot be read ({error.strerror}): make it readable"
            return []
        if self.trouble is not None:
            return []
        short = [line for line in lines if len(line) <= MAX_COMMAND_BYTES]
        self._malformed += len(lines) - len(short)
        return [command for record in self._reader.decode(short) if (command := self._accept(record))]

    def _accept(self, record: dict[str, Any]) -> Command | None:
        try:
            command = msgspec.convert(record, Command)
        except (msgspec.ValidationError, OverflowError):
            self._malformed += 1
            return None
        if not _is_plain(command.args):
            self._malformed += 1
            return None
        if self._is_stale(command):
            self.stale += 1
            return None
        if command.id in self._seen:
            return None
        self._seen.append(command.id)
        return command

    def _is_stale(self, command: Command) -> bool:
        """Whether it was sent before us: a file that was edited or copied back brings old ones again."""
        # Where the clock was set back since, by so much earlier.
        passed = time.monotonic() - self._clock
        since = min(self._since, time.time() - passed)
        known = self._known and self._reader.restarts == 0
        return command.time < since - (_CLOCKS_DIFFER_SECONDS if known else 0.0)


def why_untrusted(path: Path) -> str | None:
    """Return why commands in this file are not to be believed, and what to do; None where they are, or there is none.

    It has to be a file of this user, of root or of whoever owns its folder, and nobody else may write it. Raises
    OSError.
    """
    try:
        found, folder = path.lstat(), path.parent.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return "it is a link or no file at all: remove it"
    if found.st_uid not in (os.geteuid(), 0, folder.st_uid):
        return "it belongs to another user: remove it"
    if found.st_mode & stat.S_IWOTH:
        return "anybody may write it: take that right away with chmod o-w"
    if found.st_mode & stat.S_IWGRP and not _is_our_own(found.st_gid):
        return "a group of users may write it: take that right away with chmod g-w"
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        return "anybody may replace it: take the right to write in its folder away with chmod o-w"
    return None


def _is_our_own(group: int) -> bool:
    """Whether a group is this user's alone, as many systems make one for each."""
    try:
        user, found = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return user.pw_gid == group and user.pw_name == found.gr_name and set(found.gr_mem) <= {user.pw_name}


def _is_plain(value: Any, depth: int = _DEEPEST_ARGS) -> bool:
    """Whether arguments are nested no deeper than ours, and have no whole numbers beyond 64 bits."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return depth > 0 and all(_is_plain(item, depth - 1) for item in value)
    return not isinstance(value, int) or abs(value) < _LARGEST
