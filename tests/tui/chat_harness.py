"""An app with nothing but the Chat pane, and a child that speaks the protocol without a model."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.pilot import Pilot

from minigpt.workspace import Workspace
from tui.panes.chat import ChatPane
from tui.state import UIState
from tui.widgets.dialogs import message
from tui.widgets.keyline import KeyLine
from tui.widgets.transcript import Entry

# Answers "echo: <text>" word by word. A text with "long" goes on until it is stopped, with "die" kills the process,
# with "bad" is refused; with "odd" it speaks another protocol.
FAKE_CHILD = r"""
import json, os, queue, signal, sys, threading, time
inbox, stopped = queue.Queue(), threading.Event()
def read():
    for line in sys.stdin:
        request = json.loads(line)
        stopped.set() if request["do"] == "stop" else inbox.put(request)
    os._exit(0)
threading.Thread(target=read, daemon=True).start()
def say(event, **values):
    print(json.dumps({"id": request["id"], "event": event, **values}), flush=True)
while True:
    request = inbox.get()
    stopped.clear()
    if request["do"] == "open":
        if "missing" in request["path"]:
            say("error", message="There is no such model.")
            continue
        say("opened", path=request["path"], step=300, conversations="plain" not in request["path"], separated=True,
            device=request["device"].replace("auto", "cuda" if "gpu" in request["path"] else "cpu"), parameters=1000,
            context=64, corpus="talk", settings={})
        continue
    messages = request.get("messages")
    text = messages[-1]["content"] if messages else request["prompt"]
    if "bad" in text:
        say("error", message="That cannot be answered.")
        continue
    if "odd" in text:
        print("Traceback: hello", flush=True)
    words = ["echo", *([str(len(messages))] if messages else []), *text.split()]
    count = 0
    while count < len(words) or ("long" in text and not stopped.is_set()):
        say("piece", text=words[count % len(words)] + " ")
        count += 1
        if "long" in text:
            time.sleep(0.005)
        if "die" in text:
            print("it was the memory", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    reason = "stopped" if stopped.is_set() else "length"
    say("done", tokens=count, tokens_per_s=123.0, finish_reason=reason, forgotten=2 if "forget" in text else 0)
"""
FAKE_COMMAND = [sys.executable, "-S", "-c", FAKE_CHILD]


class Harness(App[None]):
    """What panes may ask of the app, recorded."""

    HORIZONTAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = [(0, "-narrow"), (100, "-normal"), (160, "-wide")]
    VERTICAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = [(0, "-low"), (18, "-short"), (30, "-tall")]

    def __init__(self, workspace: Workspace, command: Sequence[str] | None = FAKE_COMMAND) -> None:
        super().__init__()
        self.workspace, self.command = workspace, command
        self.state = UIState()
        self.training_run: str | None = None
        self.training_device: str | None = None
        self.told: list[str] = []
        self.copied = ""

    def compose(self) -> ComposeResult:
        yield ChatPane(self.command, id="chat")
        yield KeyLine()

    @property
    def pane(self) -> ChatPane:
        return self.query_one(ChatPane)

    def on_mount(self) -> None:
        self.theme = "tokyo-night"
        self.call_after_refresh(self.pane.shown)

    def remember(self) -> None: ...

    def tell(self, title: str, text: str) -> None:
        self.told.append(text)
        self.push_screen(message(title, text))

    def copy_to_clipboard(self, text: str) -> None:
        self.copied = text

    def texts(self) -> list[str]:
        """Return what stands in the transcript, message by message."""
        return [entry.text.strip() for entry in self.query(Entry)]


@asynccontextmanager
async def chat(app: Harness, size: tuple[int, int] = (100, 30)) -> AsyncIterator[Pilot[None]]:
    """Run the app until its model is open."""
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.pane.session.opened is not None or bool(app.told))
        yield pilot


async def until(pilot: Pilot[None], happened: Callable[[], bool]) -> None:
    """Wait for something that another process has a part in."""
    for _ in range(600):
        if happened():
            await pilot.pause()
            return
        await pilot.pause(0.02)
    raise AssertionError("it did not happen")


async def say(pilot: Pilot[None], text: str) -> None:
    """Send a message and wait for the whole answer."""
    app = pilot.app
    assert isinstance(app, Harness)
    app.pane.composer.take(text)
    app.pane.composer.focus()
    await pilot.press("enter")
    await pilot.pause()
    await until(pilot, lambda: not app.pane.generating)


def make_run(workspace: Workspace, name: str = "tiny-1") -> Path:
    """Make a run with a file where its best model should be."""
    directory = workspace.checkpoints / name
    directory.mkdir(parents=True)
    (directory / "config.toml").write_text("")
    (directory / "best_model.pt").write_bytes(b"model")
    return directory / "best_model.pt"
