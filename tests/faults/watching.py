"""What those who watch and steer a run do, for its tests: commands, good and absurd, and patience."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from minigpt.event_writer import EventWriter
from minigpt.events import encode_line
from minigpt.jobs import CommandReader

NOBODY = 65534
HOUR, WEEK = 3600.0, 7 * 86400.0
# Far more than is needed: it only ends what hangs.
PATIENCE_SECONDS = 30
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to other users")


def until(condition: Callable[[], object]) -> None:
    """Wait for something that a thread or a process has a part in; fails when it never comes."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def command(name: str, **more: Any) -> bytes:
    """Return a command as it stands in the file of commands, with changes to its fields."""
    record = {"id": f"{name} {more}"[:100], "time": time.time(), "by": "test", "command": name, "args": {}}
    return encode_line({**record, **more})


def append(path: Path, data: bytes) -> None:
    """Write at the end of a file, past all that the program itself does for it."""
    with path.open("ab") as file:
        file.write(data)


def absurd_commands() -> list[bytes]:
    """Return lines that nobody can mean: deep, long, out of all measure, or no command at all."""
    now = int(time.time())

    def wrap(args: bytes) -> bytes:
        return b'{"id":"absurd","time":%d,"by":"x","command":"set","args":%s}\n' % (now, args)

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


@contextmanager
def reading(directory: Path) -> Iterator[CommandReader]:
    """Read commands as a trainer does."""
    with closing(CommandReader(directory)) as reader:
        yield reader


def write_steps(writer: EventWriter, steps: range) -> None:
    """Tell of steps as a trainer does."""
    for step in steps:
        writer.write("step", step=step, loss=1.0)
    writer.flush()


def make_pipe(path: Path) -> None:
    """Put a pipe in the place of a file: whoever opens it would wait."""
    path.unlink()
    os.mkfifo(path)
