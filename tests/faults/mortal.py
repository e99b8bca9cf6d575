"""Processes that are killed on purpose, at any file operation: forked from one that has imported everything already.

with Mortals(apart=False) as mortals:
    death = mortals.run("cli", arguments=["train", "--resume", "run"], workspace=..., kill=Kill("saving", 7))

Forked from the test's own process they cost no import; from a server of their own they share nothing with other tests.
The server is this module run as a program: a line of JSON asks it for a child, its answer tells how that ended.
"""

from __future__ import annotations

import builtins
import importlib
import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]
CHANGES = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate", "os.symlink")
# The last is what the first optimizer of a process imports.
IMPORTED = (
    "minigpt.cli.corpus_add",
    "minigpt.cli.interop",
    "minigpt.cli.tokenizer",
    "minigpt.cli.train",
    "minigpt.interop.huggingface",
    "minigpt.text.prepare",
    "minigpt.training.session",
    "tests.faults.disk",
    "torch._dynamo",
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Kill:
    """Before the `nth` operation whose label holds `where` (a pattern); `after` so many seconds, from outside."""

    where: str = ""
    nth: int = 0
    after: float | None = None


@dataclass
class Death:
    """How a child ended (-9: killed), what it said, and the labels of its operations where it was not killed."""

    code: int
    said: str
    operations: list[str] = field(default_factory=list)

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Mortals:
    """Has children made, one at a time: forked from this process, or `apart`, from a server of their own."""

    def __init__(self, apart: bool) -> None:
        self._apart = apart

    def __enter__(self) -> Mortals:
        if not self._apart:
            _import_all()
            return self
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.mortal"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._apart:
            self._server.communicate()

    def run(self, job: str, *, workspace: Path, kill: Kill | None = None, **arguments: Any) -> Death:
        """Have a child do a job in a workspace, and be killed there."""
        request = {"job": job, "workspace": str(workspace), "arguments": arguments, "kill": kill and asdict(kill)}
        if not self._apart:
            return Death(**_serve_one(request))
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return Death(**json.loads(self._server.stdout.readline()))

    def minigpt(self, *arguments: str, workspace: Path, kill: Kill | None = None) -> Death:
        """Have a child run the command line."""
        return self.run("cli", workspace=workspace, kill=kill, arguments=list(arguments))


class Watched:
    """Sees each file operation of this process below a folder before it happens; there is no way back from it."""

    def __init__(self, folder: Path, see: Callable[[str], None]) -> None:
        self.folder, self.phase = str(folder), ""
        self._see, self._seeing = see, False
        self._fsync, self._write, self._open = os.fsync, os.write, io.open
        os.fsync, os.write = self._on_fsync, self._on_write
        io.open = builtins.open = self._on_open
        sys.addaudithook(self._audit)

    def see(self, what: str, path: object) -> None:
        """Tell of one operation; nothing that is done meanwhile is told of."""
        if self._seeing:
            return
        self._seeing = True
        try:
            self._see(f"{self.phase} {what} {path}".replace(self.folder, ""))
        finally:
            self._seeing = False

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if arguments[2] & _WRITING and self._is_ours(arguments[0]):
                self.see("open", arguments[0])
        elif event in CHANGES:
            path = arguments[1 if event in ("os.rename", "os.link") else 0]
            # Inside a folder that is removed, names are relative.
            if self._is_ours(path) or not str(path).startswith("/"):
                self.see(event, path)

    def _is_ours(self, path: object) -> bool:
        return str(path).startswith(self.folder)

    def _on_fsync(self, fd: Any) -> None:
        self.see("fsync", fd)
        self._fsync(fd)

    def _on_write(self, descriptor: int, data: Any) -> int:
        # The rest of a torn write comes next, and whole.
        if descriptor <= 2 or bytes(data[:1]) != b"{":
            return self._write(descriptor, data)
        self._hear(bytes(data))
        self.see("write", descriptor)
        first = self._write(descriptor, memoryview(data)[: (len(data) + 1) // 2])
        self.see("torn write", descriptor)
        return first

    def _hear(self, data: bytes) -> None:
        if told := re.findall(rb'"type":"phase".*"phase":"(\w+)"', data):
            self.phase = told[-1].decode()

    def _on_open(self, file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        opened = self._open(file, mode, *arguments, **options)
        ours = isinstance(file, int) or self._is_ours(file)
        return _Torn(opened, self) if ours and set(mode) & set("wax+") else opened


class _Torn:
    """A file whose writes are two each, so that a kill may come between."""

    def __init__(self, file: Any, watched: Watched) -> None:
        self._file, self._watched = file, watched

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Torn:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, data: Any) -> int:
        data = data if isinstance(data, str) else memoryview(data).cast("B")
        for what, part in (("write", data[: len(data) // 2]), ("torn write", data[len(data) // 2 :])):
            self._watched.see(what, self._file.name)
            self._file.write(part)
            self._file.flush()
        return len(data)


# What children do


def _run_command_line(workspace: Path, arguments: list[str]) -> int:
    from minigpt.cli.main import main

    os.environ["MINIGPT_WORKSPACE"] = str(workspace)
    os.chdir(workspace)
    return main(arguments)


def _save(workspace: Path) -> int:
    """Save what is there of step 1 anew, as of step 2 and under another name too, and let the old one go."""
    from dataclasses import replace

    from minigpt.model.checkpoint import load, save
    from minigpt.training.state import remove_old_checkpoints

    before = load(workspace / "checkpoint_step_1.pt")
    save(workspace / "checkpoint_step_2.pt", replace(before, step=2), also=(workspace / "best_model.pt",))
    remove_old_checkpoints(workspace, keep_last=1)
    return 0


def _prepare(workspace: Path, corpus: str, shard_tokens: int, cleaning: bool, kind: str) -> int:
    from minigpt.text.cleaning_report import CleaningSettings
    from minigpt.text.corpus import Corpus
    from minigpt.text.prepare import prepare
    from minigpt.workspace import Workspace

    prepare(
        Corpus.open(Workspace(workspace).corpus_directory(corpus)),
        tokenizer_kind=kind,
        vocab_size=300,
        validation_fraction=0.1,
        test_fraction=0.0,
        cleaning=CleaningSettings(deduplicate="exact") if cleaning else None,
        shard_tokens=shard_tokens,
    )
    return 0


def _record(workspace: Path, work: str, into: str, given: dict[str, Any]) -> int:
    from tests.faults.disk import Recording

    return Recording.of(workspace, lambda: JOBS[work](workspace, **given), Path(into))


JOBS: dict[str, Callable[..., int]] = {"cli": _run_command_line, "save": _save, "prepare": _prepare, "record": _record}


# The server


def _live_and_die(request: dict[str, Any], notes: int, signals: int) -> None:
    """Do one job, and be killed in it if that was asked for. Never returns."""
    said = io.StringIO()
    sys.stdout = sys.stderr = said
    code = 70
    kill = Kill(**request["kill"]) if request["kill"] else None
    seen: list[str] = []
    tell = os.write

    def see(label: str) -> None:
        if kill is None:
            seen.append(label)
        elif re.search(kill.where, label):
            seen.append(label)
            if len(seen) == kill.nth + 1:
                if kill.after is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                tell(signals, b".")

    try:
        workspace = Path(request["workspace"])
        if request["job"] != "record":
            Watched(workspace, see)
        code = JOBS[request["job"]](workspace, **request["arguments"])
    except BaseException:  # noqa: BLE001 - whatever it was, the test is to hear of it
        said.write(traceback.format_exc())
    finally:
        try:
            found = json.dumps({"said": said.getvalue()[-4000:], "operations": [] if kill else seen}).encode()
            while found:
                found = found[tell(notes, found) :]
        finally:
            os._exit(code)


def _serve_one(request: dict[str, Any]) -> dict[str, Any]:
    notes, children_notes = os.pipe()
    signals, children_signals = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(notes)
        os.close(signals)
        _live_and_die(request, children_notes, children_signals)
    os.close(children_notes)
    os.close(children_signals)
    found = b""
    waiting = [notes, signals]
    while notes in waiting:
        for ready in select.select(waiting, [], [])[0]:
            data = os.read(ready, 1 << 16)
            if ready == signals and data:
                time.sleep(request["kill"]["after"])
                os.kill(child, signal.SIGKILL)
            if ready == notes:
                found += data
            if not data:
                waiting.remove(ready)
    os.close(notes)
    os.close(signals)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    told = json.loads(found) if code != -signal.SIGKILL else {"said": "", "operations": []}
    return {"code": code, **told}


def _import_all() -> None:
    """Import what children need, once for all of them."""
    for module in IMPORTED:
        importlib.import_module(module)


def _serve() -> None:
    _import_all()
    for line in sys.stdin:
        print(json.dumps(_serve_one(json.loads(line))), flush=True)


if __name__ == "__main__":
    _serve()
