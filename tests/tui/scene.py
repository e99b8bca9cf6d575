"""A workspace with runs that nobody trains, at a time that stands still, and the app on it.

with Scene(tmp_path) as scene:
    scene.run("tiny-sample-1", steps=300)
    scene.work("tiny-sample-1")            # held by this process until scene.die("tiny-sample-1")
    async with on_screen(scene) as pilot:
        await until(pilot, lambda: "300/600" in screen(pilot))
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual.app import App
from textual.pilot import Pilot

from minigpt.jobs import COMMANDS, EVENTS, RunLock
from minigpt.text.sources import add_path
from minigpt.workspace import Workspace
from tests.conftest import tale
from tests.tui.corpus_children import FakeChildren
from tui.app import MiniGPTApp
from tui.panes.train import TrainPane
from tui.state import APP_FOLDER, UIState, load_settings, load_state
from tui.widgets.dialogs import Choice

NOW = 1_760_000_000.0  # 08:53:20 UTC on a Thursday
SECONDS_A_STEP = 0.2
PARAMETERS, PLANNED, TOKENS_A_STEP = 1_115_520, 600, 2048
HOSTILE = "[red]evil[/] \x1b[31m\u202erun"
HARMLESS = r"[red]evil[/] \x1b[31m\u202erun"
READINGS = {
    "memory": 640e6,
    "memory_total": 8e9,
    "utilisation": 97.0,
    "host": {
        "cpu_percent": 97.0,
        "cpu_temperature": 61.0,
        "memory_used": 3.1e9,
        "memory_total": 8e9,
        "process_memory": 640e6,
        "oom_kills": None,
        "disk_free": 41e9,
        "disk_total": 64e9,
    },
    "gpus": [],
}
PRESETS = {
    "tiny": "# The first run: a million parameters learn the built-in stories.\n\n[training]\nmax_steps = 600\n",
    "small": "# Something larger, for a machine with time.\n\n[model]\nd_model = 256  # twice as wide\nn_layers = 8\n",
}


class Scene:
    """The workspace, the clock, and what the app asked the system to start."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root / "work")
        self.now = NOW
        self.launched: list[list[str]] = []
        self.children = FakeChildren()
        self._root = root
        self._stack = ExitStack()
        self._locks: dict[str, RunLock] = {}

    def __enter__(self) -> Scene:
        patch = self._stack.enter_context(pytest.MonkeyPatch.context())
        self._stack.callback(time.tzset)  # called before the patch is undone, so once more there
        patch.setenv("TZ", "UTC")
        patch.setenv("XDG_CONFIG_HOME", str(self._root / "config"))
        patch.delenv("NO_COLOR", raising=False)
        time.tzset()
        format_time = time.strftime
        patch.setattr(time, "time", lambda: self.now)
        patch.setattr(time, "strftime", lambda form, when=None: format_time(form, when or time.gmtime(self.now)))
        # A screen that is looked at by a program: as fast as it goes.
        patch.setattr("textual.app.wait_for_idle", _no_wait)
        patch.setattr("textual.pilot.wait_for_idle", _no_wait)
        patch.setattr("tui.watch.POLL_SECONDS", 0.01)
        patch.setattr("tui.panes.train.TICK_SECONDS", 0.03)
        patch.setattr("tui.panes.board.LEAST_WAIT", 0.0)
        patch.setattr("tui.panes.board.LONGEST_WAIT", 0.0)
        patch.setattr("minigpt.start.launch", self._launch)
        patch.setattr("minigpt.tasks.launch", self._launch)
        patch.setattr("tui.panes.corpus.Children", lambda: self.children)
        patch.setattr("tui.corpora.views.REST_SECONDS", 0.001)
        self._patch = patch
        self.workspace.require_writable()
        self.workspace.configs.mkdir()
        return self

    def __exit__(self, *exception: object) -> None:
        for lock in self._locks.values():
            lock.release()
        self._stack.close()
        time.tzset()

    def _launch(self, arguments: list[str], directory: Path, log: str = "") -> int:
        """Stand in for a trainer or a task that is on its way as long as this process lives."""
        directory.mkdir(parents=True, exist_ok=True)
        self.launched.append(arguments)
        return os.getpid()

    # Files

    def directory(self, run: str) -> Path:
        return self.workspace.checkpoints / run

    def use_presets(self) -> None:
        """Have two ready-made presets that stay as they are, one of the person's own, and one that is broken."""
        folder = self._root / "presets"
        folder.mkdir()
        for name, text in PRESETS.items():
            (folder / f"{name}.toml").write_text(text)
        (self.workspace.configs / "mine.toml").write_text("# My own.\n[training]\nlearning_rate = 0.5\n")
        (self.workspace.configs / "broken.toml").write_text("[model]\nd_modle = 3\n")
        for user in ("minigpt.presets", "tui.presets.files"):
            self._patch.setattr(f"{user}.builtin_presets", lambda: folder)

    def add_corpus(self, name: str = "tale", text: str = "") -> None:
        source = self._root / f"{name}.txt"
        source.write_text(text or tale())
        corpus = add_path(self.workspace, source)
        manifest = corpus.directory / "corpus.toml"
        lines = manifest.read_text().splitlines()
        lines = ['created = "2025-10-01T08:00:00+00:00"' if line.startswith("created") else line for line in lines]
        manifest.write_text("\n".join(lines).replace(str(self._root), "/home/me") + "\n")

    def tell(self, run: str, *events: dict[str, Any]) -> None:
        """Append events, as a trainer would."""
        lines = [msgspec.json.encode({"type": event["type"], "time": self.now, **event}) for event in events]
        with (self.directory(run) / EVENTS).open("ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))

    def run(self, name: str = "tiny-sample-1", steps: int = 300, ended: int | None = None, **start: Any) -> Path:
        """Write the history of a run whose last step was a second ago; with `ended`, its exit code."""
        directory = self.directory(name)
        directory.mkdir(parents=True, exist_ok=True)
        began = self.now - 1 - steps * SECONDS_A_STEP
        self.tell(name, *history(name, steps, began, start))
        if ended is not None:
            reason = {0: "all 600 steps done", 3: "stopped by a command"}.get(ended, "RuntimeError: out of memory")
            self.tell(name, {"type": "end", "reason": reason, "exit_code": ended, "time": self.now - 0.5})
        return directory

    def checkpoint(self, run: str, name: str = "best_model.pt", bytes: int = 4_500_000) -> Path:
        """Make a file where a checkpoint should be."""
        path = self.directory(run) / name
        with path.open("wb") as file:
            file.truncate(bytes)
        os.utime(path, (self.now - 60, self.now - 60))
        return path

    def work(self, run: str) -> None:
        """Have the run at work: this process holds its lock."""
        self._locks[run] = lock = RunLock(self.directory(run))
        assert lock.acquire()

    def die(self, run: str) -> None:
        """Let go of the run's lock, as the kernel does when a trainer dies."""
        self._locks.pop(run).release()

    def commands(self, run: str) -> list[dict[str, Any]]:
        """Return what the run was asked for."""
        path = self.directory(run) / COMMANDS
        return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()] if path.is_file() else []

    @property
    def remembered(self) -> UIState:
        """What the next session would find."""
        return load_state(self.workspace)

    def app(self, **arguments: Any) -> MiniGPTApp:
        return MiniGPTApp(self.workspace, load_settings(), **arguments)

    def settings(self, text: str) -> None:
        """Write the person's settings.toml."""
        folder = self._root / "config" / "minigpt"
        folder.mkdir(parents=True)
        (folder / "settings.toml").write_text(text)

    @property
    def crash_log(self) -> str:
        path = self.workspace.checkpoints / APP_FOLDER / "app-error.txt"
        return path.read_text() if path.exists() else ""


async def _no_wait(min_sleep: float = 0, max_sleep: float = 1) -> None:
    await asyncio.sleep(0)


def step_event(step: int, when: float, **fields: Any) -> dict[str, Any]:
    loss = 1.2 + 2.5 * math.exp(-step / 60) + 0.12 * math.sin(step * 1.7) + 0.05 * math.sin(step * 0.31)
    rate = 0.01 * min(1, step / 50) * (1 - 0.9 * step / PLANNED)
    told = {"epoch": step / 250, "tokens": step * TOKENS_A_STEP, "learning_rate": rate, "loss": loss}
    told |= {"grad_norm": 0.8 + 0.3 * math.sin(step * 0.9), "tokens_per_s": 10_000 + 500 * math.sin(step / 9)}
    return {"type": "step", "time": when, "step": step, **told, "mfu": 0.31, **fields}


def history(name: str, steps: int, began: float, start: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what a trainer tells of the steps of a small model on a CPU."""
    told = {"run": name, "preset": "tiny", "corpus": "sample", "family": "qwen3", "parameters": PARAMETERS}
    told |= {
        "device": "cpu",
        "peak_source": "measured matmul",
        "planned_steps": PLANNED,
        "planned_epochs": 2.4,
        "tokens": 512_000,
    }
    yield {
        "type": "start",
        "time": began,
        **told,
        "planned_tokens": PLANNED * TOKENS_A_STEP,
        "tokens": 512_000,
        **start,
    }
    yield {"type": "phase", "time": began, "phase": "training", "last_progress": began, "changed": True}
    for step in range(steps + 1):
        when = began + step * SECONDS_A_STEP
        if step:
            yield step_event(step, when)
        if step % 25 == 0:
            yield {"type": "device", "time": when, "rank": 0, **READINGS, "memory": 6e8 + step * 1e5}
        if step % 50 == 0:
            yield from _look(step, when)


def _look(step: int, when: float) -> Iterator[dict[str, Any]]:
    """Yield what comes of one evaluation: it gets better up to step 200."""
    train = 1.2 + 2.5 * math.exp(-step / 60)
    validation = train + 0.05 + max(0, step - 200) * 0.004
    for split, loss in (("train", train), ("validation", validation)):
        told = {"step": step, "epoch": step / 250, "tokens": 16_384, "loss": loss, "perplexity": math.exp(loss)}
        yield {"type": "eval", "time": when, "split": split, **told, "whole": False}
    for prompt, words in (("The cat", " sees the dog."), ("Who lives here?", " A child lives here.")):
        yield {"type": "sample", "time": when, "step": step, "prompt": prompt, "text": words * (1 + step // 100)}
    if step:
        yield {"type": "checkpoint", "time": when, "path": "best_model.pt", "step": step, "kind": "best"}


# The app on it


@asynccontextmanager
async def on_screen(
    scene: Scene, size: tuple[int, int] = (120, 40), *, app: MiniGPTApp | None = None, **arguments: Any
) -> AsyncIterator[Pilot[None]]:
    """Run the app in a scene until it shows what there is; at the end, nothing must have gone wrong in it."""
    app = app or scene.app(**arguments)
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        yield pilot
    assert app.failure is None, scene.crash_log


def app_of(pilot: Pilot[None]) -> MiniGPTApp:
    assert isinstance(pilot.app, MiniGPTApp)
    return pilot.app


def screen(pilot: Pilot[None]) -> str:
    """Return the text on the screen."""
    return "\n".join(strip.text for strip in pilot.app.screen._compositor.render_strips())


def dialog(pilot: Pilot[None]) -> str:
    """Return the title and the text of the question or message that stands before everything else."""
    top = pilot.app.screen
    return f"{top.title_text}: {top.text}" if isinstance(top, Choice) else ""


async def until(pilot: Pilot[None], happened: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something that a thread or another process has a part in."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"it did not happen; the screen shows\n{screen(pilot)}"
        await pilot.pause(0.01)
    await pilot.pause()


async def settled(pilot: Pilot[None]) -> None:
    """Wait until threads are done and what they read is shown."""
    app, still = app_of(pilot), 0
    while still < 2 and app.failure is None and app.is_running:
        await pilot.pause()
        busy = any(not worker.is_finished for worker in app.workers) or _unshown(app)
        still = 0 if busy else still + 1
        await pilot.pause(0.005)
    paint(app)


def paint(app: App[Any]) -> None:
    """Paint what is new, as it is done for a terminal: who renders wrongly fails here."""
    if app.is_running:
        app.screen._compositor.render_update(screen_stack=app._background_screens)


def _unshown(app: MiniGPTApp) -> bool:
    pane = app.query_one(TrainPane)
    watcher, board = pane.watcher, pane.board
    if watcher is None or watcher.trouble or board is None or not board.size or len(app.screen_stack) > 1:
        return False
    return watcher.loading or pane._seen != watcher.version


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Press keys one by one, each when what the one before caused has been shown."""
    for key in keys:
        await pilot.press(key)
        await settled(pilot)


@contextmanager
def replaced_by_folder(path: Path) -> Iterator[None]:
    """Have a folder where a file should be: who opens it gets an error, even as root."""
    aside = path.with_name(f".{path.name}-aside")
    there = path.exists()
    if there:
        path.rename(aside)
    path.mkdir(parents=True)
    try:
        yield
    finally:
        path.rmdir()
        if there:
            aside.rename(path)
