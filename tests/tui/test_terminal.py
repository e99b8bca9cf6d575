"""The app in a real pseudo-terminal: what Pilot cannot see."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

from minigpt.jobs import EVENTS, is_running, owner
from minigpt.runs import summarise
from tests.conftest import tale

PRESET = """
[corpus]
validation_fraction = 0.1
test_fraction = 0.0

[tokenizer]
kind = "char"

[model]
d_model = 32
n_layers = 1
n_heads = 2
max_seq_len = 16

[training]
batch_size = 4
max_steps = {steps}
warmup_steps = 2
threads = 1
"""
LONG_RUN_STEPS = 200_000
MEMORY_BOUND_MB = 100
# What leaves a terminal as it was found: the normal screen, a cursor, no mouse, no bracketed paste.
LEFT_CLEAN = (b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1000l", b"\x1b[?2004l")


class Terminal:
    """A program on a pseudo-terminal of its own."""

    def __init__(
        self, workspace: Path, *arguments: str, program: tuple[str, ...] = ("-m", "tui.main"), **env: str
    ) -> None:
        self.output = b""
        self.status: int | None = None
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.chdir(workspace)
            os.environ.pop("NO_COLOR", None)
            settings = {"TERM": "xterm-256color", "XDG_CONFIG_HOME": str(workspace / ".config"), "OMP_NUM_THREADS": "1"}
            os.environ.update(settings, MINIGPT_WORKSPACE=str(workspace), **env)
            os.execv(sys.executable, [sys.executable, *program, *arguments])
        self.resize(30, 100)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.descriptor)

    def read(self, seconds: float) -> None:
        """Take what comes within so many seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not select.select([self.descriptor], [], [], 0.05)[0]:
                continue
            try:
                self.output += os.read(self.descriptor, 65536)
            except OSError:  # the other end is gone
                return

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def text(self) -> str:
        """What was ever written, without the codes that move the cursor and choose colours."""
        return re.sub(r"\x1b\[[0-9;?<>=]*[a-zA-Z]", "", self.output.decode("utf-8", "replace"))

    def wait_for(self, text: str, seconds: float = 40) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.text:
            assert time.monotonic() < deadline, f"{text!r} never came; the end of what did:\n{self.text[-3000:]}"
            self.read(0.1)

    def press(self, keys: str) -> None:
        os.write(self.descriptor, keys.encode())

    def wait_for_end(self, seconds: float = 20) -> int:
        """Return the exit code."""
        deadline = time.monotonic() + seconds
        while self.status is None:
            assert time.monotonic() < deadline, f"it does not end:\n{self.text[-2000:]}"
            self.read(0.1)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        self.read(0.2)
        return self.status

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "tale.txt").write_text(tale())
    (tmp_path / "configs").mkdir()
    yield tmp_path
    for path in (tmp_path / "checkpoints").glob("*/run.lock"):
        holder = owner(path.parent) if is_running(path.parent) else None
        if holder is not None:
            os.kill(holder.pid, signal.SIGKILL)


def choose(workspace: Path, steps: int) -> None:
    """Have a small preset and a small text chosen, as a person would have done in an earlier session."""
    (workspace / "configs" / "small-test.toml").write_text(PRESET.format(steps=steps))
    folder = workspace / "checkpoints" / ".app"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"preset": "small-test", "corpus": str(workspace / "tale.txt")}))


def wait_until_ended(directory: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while summarise(directory).state not in ("finished", "failed", "interrupted"):
        assert time.monotonic() < deadline, summarise(directory)
        time.sleep(0.2)


def test_without_a_terminal_it_says_so(workspace: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tui.main"], cwd=workspace, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "minigpt train" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("leave", ["q", pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_the_terminal_is_left_clean(workspace: Path, leave: str | signal.Signals) -> None:
    with Terminal(workspace) as terminal:
        terminal.wait_for("ready to train")
        terminal.read(0.5)
        if isinstance(leave, str):
            terminal.press(leave)
        else:
            os.kill(terminal.pid, leave)
        assert terminal.wait_for_end() == 0
        for code in LEFT_CLEAN:
            assert code in terminal.output[-400:]


@pytest.mark.parametrize(
    "env",
    [
        {"TERM": "linux"},
        *(pytest.param(env, marks=pytest.mark.slow) for env in ({"TERM": "xterm-16color"}, {"NO_COLOR": "1"})),
    ],
    ids=lambda env: "=".join(*env.items()),
)
def test_poor_terminals_show_it_too(workspace: Path, env: dict[str, str]) -> None:
    with Terminal(workspace, **env) as terminal:
        terminal.wait_for("Start training")
        terminal.press("q")
        assert terminal.wait_for_end() == 0


def test_a_mistake_of_ours_leaves_no_traceback_on_the_terminal(workspace: Path) -> None:
    script = (
        "import tui.app, sys\n"
        "def broken(self): raise ZeroDivisionError('[red]oh[/]')\n"
        "tui.app.MiniGPTApp.action_help = broken\n"
        "from tui.main import main\n"
        "sys.exit(main([]))\n"
    )
    with Terminal(workspace, program=("-c", script)) as terminal:
        terminal.wait_for("ready to train")
        terminal.read(0.5)
        terminal.press("\x1bOP")
        assert terminal.wait_for_end() == 1
        assert "Traceback" not in terminal.text
        assert "mistake in MiniGPT" in terminal.text
        assert LEFT_CLEAN[0] in terminal.output
    assert "ZeroDivisionError" in (workspace / "checkpoints" / ".app" / "app-error.txt").read_text()


def test_training_outlives_the_app_which_finds_it_again(workspace: Path) -> None:
    choose(workspace, steps=600)
    directory = workspace / "checkpoints" / "small-test-tale-1"
    with Terminal(workspace) as terminal:
        terminal.wait_for("ready to train")
        terminal.press("s")
        terminal.wait_for("/600")
        terminal.kill()
    assert is_running(directory)
    with Terminal(workspace) as terminal:
        terminal.wait_for("steps since you last looked")
        terminal.wait_for("finished", seconds=60)
        terminal.press("q")
        assert terminal.wait_for_end() == 0
    assert summarise(directory).step == 600


@pytest.mark.slow
def test_a_trainer_that_was_killed_is_told_from_a_quiet_one(workspace: Path) -> None:
    choose(workspace, steps=100_000)
    directory = workspace / "checkpoints" / "small-test-tale-1"
    with Terminal(workspace, "--train", "small-test") as terminal:
        terminal.wait_for("● training")
        holder = owner(directory)
        assert holder is not None
        os.kill(holder.pid, signal.SIGSTOP)
        terminal.read(3)
        assert "crashed" not in terminal.text
        os.kill(holder.pid, signal.SIGKILL)
        terminal.wait_for("crashed")
        terminal.wait_for("gone without a word")


@pytest.mark.slow
def test_a_long_history_stays_within_the_memory_bound(workspace: Path) -> None:
    directory = workspace / "checkpoints" / "long-1"
    directory.mkdir(parents=True)
    start = {"type": "start", "time": 0, "planned_steps": LONG_RUN_STEPS, "device": "cpu", "parameters": 1000}
    with (directory / EVENTS).open("w") as file:
        file.write(json.dumps(start, separators=(",", ":")) + "\n")
        for step in range(1, LONG_RUN_STEPS + 1):
            file.write(
                f'{{"type":"step","time":{step},"step":{step},"epoch":1.0,"tokens":{step},"loss":{1 + 1 / step},'
                '"learning_rate":0.01,"grad_norm":1.0,"tokens_per_s":1000.0,"mfu":0.3}\n'
            )
    with Terminal(workspace, "--run", "long-1") as terminal:
        terminal.wait_for(f"{LONG_RUN_STEPS:,}")
        peak = 0.0
        for _ in range(40):
            terminal.read(0.2)
            pages = int(Path(f"/proc/{terminal.pid}/statm").read_text().split()[1]) if sys.platform == "linux" else 0
            peak = max(peak, pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
        assert peak < MEMORY_BOUND_MB
