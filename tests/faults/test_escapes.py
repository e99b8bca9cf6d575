"""What others wrote never reaches the terminal raw: names, documents, prompts, model output, events, notices, logs."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shutil
import sys
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import torch

from minigpt.cli.main import main
from minigpt.config import Config
from minigpt.jobs import EVENTS
from minigpt.model.checkpoint import BEST, FINAL, Checkpoint, save
from minigpt.model.gpt import GPT, GPTConfig
from minigpt.narration import narrate
from minigpt.presets import to_toml, with_values
from minigpt.text.sources import add_path
from minigpt.text.tokenizer import Tokenizer
from minigpt.workspace import Workspace
from tests.conftest import small_config
from tests.tui.scene import Scene, app_of, on_screen, press, screen
from tui.app import MiniGPTApp

# The title, the clipboard, a question that the terminal answers into the shell, a cleared screen, colours, a string
# that is never ended, C1 bytes for the same, text that runs backwards, markup of rich and Textual, a second line.
CODES = (
    "\x1b]0;PWNED\x07 \x1b]52;c;UFdORUQ=\x07 \x1b[6n \x1b[2J \x1b[8m \x1bP+q544e \x9b8m \x9d0;PWNED\x9c \x08\x7f "
    "\u202eevil\u2066 [blink]x[/] [link=http://evil]y[/link] [@click=app.quit]z[/] \rOVER "
)
# As much of it as a file's name can hold.
NAME = CODES.replace("/", "")[:90] + "\nFAKE"
# What our own program says to a terminal: colours, lines that are drawn anew, the cursor hidden meanwhile.
OURS = re.compile(r"\x1b\[(?:[0-79]|[1-9][0-9;]+)?m|\x1b\[\?25[lh]|\x1b\[[0-9]*[AKG]|\x1b\[2K|\r\n|\r(?=\x1b|$|[^O])")
UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def assert_harmless(shown: str, what: object) -> None:
    """Fail where a terminal would do anything but show letters, in the colours that we chose."""
    left = OURS.sub("", shown)
    found = UNSAFE.search(left)
    where = left[max(0, found.start() - 60) : found.end() + 20] if found else ""
    assert not found, f"{what}: {where!r}"
    assert not re.search(r"^FAKE", left, re.M), f"{what}: a line of its own"


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Have stdout and stderr be a terminal; what is called returns what was written to it since."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    got = bytearray()

    def read() -> None:
        while True:
            try:
                block = os.read(ours, 1 << 16)
            except OSError:
                return
            got.extend(block)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    streams = [io.TextIOWrapper(os.fdopen(os.dup(theirs), "wb", 0), "utf-8", write_through=True) for _ in range(2)]

    def taken() -> str:
        # What comes last comes through: the reader has seen all before it.
        os.write(theirs, b"\0END")
        while not got.endswith(b"\0END"):
            threading.Event().wait(0.001)
        text = got[:-4].decode("utf-8", "replace")
        got.clear()
        return text

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        patch.setenv("TERM", "xterm-256color")
        patch.delenv("NO_COLOR", raising=False)
        yield taken
    for stream in streams:
        stream.close()
    os.close(theirs)
    reader.join(5)
    os.close(ours)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace of somebody who means harm."""
    root = tmp_path_factory.mktemp("hostile")
    workspace = Workspace(root)
    workspace.require_writable()
    documents = root / f"{NAME}.d"
    documents.mkdir()
    (documents / f"{NAME}.txt").write_text((CODES + "\n") * 40)
    (documents / "rows.jsonl").write_text(json.dumps({"text": CODES, NAME: "x"}) + "\n")
    (root / "codes.txt").write_text((CODES + "\n") * 60)
    (root / f"{NAME}.txt").write_text(CODES * 30)
    add_path(workspace, root / "codes.txt")
    shutil.copytree(workspace.data / "codes", workspace.data / NAME)
    manifest = workspace.data / NAME / "corpus.toml"
    manifest.write_text(
        re.sub(r"^(name|origin) = .*$", lambda m: f"{m[1]} = {toml(CODES)}", manifest.read_text(), flags=re.M)
    )
    add_run(workspace, "run")
    add_run(workspace, NAME)
    workspace.configs.mkdir()
    preset = to_toml(configuration())
    # TOML itself allows no C0 in a comment.
    comment = re.sub(r"[\x00-\x1f\x7f]", "", CODES)
    (workspace.configs / f"{NAME}.toml").write_text(f"# {comment}\n{preset}")
    (workspace.configs / "bad.toml").write_text(f"# x\n[training]\n{toml(CODES)} = 5\nseed = {toml(CODES)}\n")
    task = workspace.tasks / NAME
    task.mkdir(parents=True)
    write_events(
        task, [{"type": "start", "action": CODES, "corpus": CODES}, {"type": "end", "reason": CODES, "exit_code": 1}]
    )
    return workspace


def toml(text: str) -> str:
    return json.dumps(text).replace("\x7f", "\\u007f")


def configuration() -> Config:
    changes = {"training.sample_prompts": [CODES], "generation.stop": [CODES]}
    return with_values(small_config(corpus__name="codes", training__max_steps=3), changes, "test")


def write_events(directory: Path, events: list[dict[str, object]]) -> None:
    lines = [msgspec.json.encode({"time": 1_760_000_000.0 + number, **event}) for number, event in enumerate(events)]
    (directory / EVENTS).write_bytes(b"".join(line + b"\n" for line in lines))


def add_run(workspace: Workspace, name: str) -> Path:
    """Make a run every text of which means harm, and whose model says little else."""
    directory = workspace.checkpoints / name
    directory.mkdir()
    tokenizer = Tokenizer.train("char", [CODES + "\x1b" * 5], 300)
    config = configuration()
    shape = GPTConfig.from_settings(config.model, tokenizer.vocab_size)
    torch.manual_seed(0)
    checkpoint = Checkpoint(config, shape, GPT(shape).state_dict(), tokenizer.to_json(), step=3)
    save(directory / BEST, checkpoint, also=(directory / FINAL, directory / "checkpoint_step_3.pt"))
    tokenizer.save(directory / "tokenizer.json")
    (directory / "config.toml").write_text(to_toml(config))
    (directory / "note.txt").write_text(CODES)
    (directory / "training.log").write_text(CODES)
    write_events(directory, story())
    return directory


def story() -> list[dict[str, object]]:
    """Return a run's events with harm in every text of them."""
    cure = {"label": CODES, "command": "set", "args": {"lr_scale": 0.5}}
    told = {"run": CODES, "preset": CODES, "corpus": CODES, "family": CODES, "device": CODES, "forked_from": CODES}
    step = {"type": "step", "step": 1, "loss": 3.0, "tokens": 64, "learning_rate": 0.01, "epoch": 0.1}
    return [
        {"type": "start", **told, "planned_steps": 3, "parameters": 1000, "peak_source": CODES, "environment": CODES},
        {"type": "phase", "phase": CODES, "changed": True},
        step,
        {**step, "step": 2},
        {
            "type": "device",
            "rank": 0,
            "memory": 1e6,
            "gpus": [{"name": CODES, "throttle": [CODES]}],
            "throttle": [CODES],
        },
        {"type": "eval", "split": CODES, "step": 2, "loss": 3.0, "perplexity": 20.0, "tokens": 64},
        {
            "type": "eval",
            "split": "validation",
            "step": 2,
            "loss": 3.0,
            "perplexity": 20.0,
            "tokens": 64,
            "whole": True,
        },
        {"type": "sample", "step": 2, "prompt": CODES, "text": CODES},
        {"type": "checkpoint", "path": f"{CODES}.pt", "step": 2, "kind": CODES},
        {"type": "checkpoint", "path": BEST, "step": 2, "kind": "best"},
        {"type": "notice", "severity": "warning", "code": CODES, "message": CODES, "cure": cure},
        {"type": "notice", "severity": CODES, "code": "spike", "message": CODES, "cure": cure},
        {"type": "command", "id": CODES, "command": CODES, "by": CODES, "done": False, "why": CODES, "step": 2},
        {"type": "command", "id": "2", "command": "set", "by": CODES, "done": True, "args": {CODES: CODES}, "step": 2},
        {"type": "end", "reason": CODES, "exit_code": 1},
    ]


# Every command, with the exit codes that are right for it.
COMMANDS_SHOWN: dict[str, list[str]] = {
    "runs list": ["runs", "list"],
    "runs list by text": ["runs", "list", "--filter", CODES],
    "runs show": ["runs", "show", "run"],
    "runs show by name": ["runs", "show", NAME],
    "runs show json": ["runs", "show", "run", "--json"],
    "runs list json": ["runs", "list", "--json"],
    "runs watch": ["runs", "watch", NAME],
    "runs note": ["runs", "note", "run"],
    "runs rename": ["runs", "rename", NAME, CODES],
    "runs delete": ["runs", "delete", CODES, "--yes"],
    "runs compare": ["runs", "compare", "run", NAME],
    "runs compare json": ["runs", "compare", "run", NAME, "--json"],
    "runs verify": ["runs", "verify", NAME],
    "no such run": ["runs", "show", CODES],
    "control": ["control", "run", CODES],
    "control a run": ["control", NAME, "cure"],
    "control set": ["control", "run", "set", f"{CODES}={CODES}"],
    "generate": ["generate", "run", "-p", CODES, "--temperature", "5", "--max-new-tokens", "200"],
    "generate json": ["generate", "run", "-p", CODES, "--json", "--temperature", "5"],
    "generate by name": ["generate", NAME, "-p", "x"],
    "generate from nowhere": ["generate", f"{CODES}.pt"],
    "predict": ["predict", "run", "-p", CODES, "--top", "40"],
    "predict json": ["predict", "run", "-p", CODES, "--top", "40", "--json"],
    "chat": ["chat", "run"],
    "eval": ["eval", "run", "--corpus", "codes"],
    "eval elsewhere": ["eval", NAME, "--corpus", CODES],
    "corpus list": ["corpus", "list"],
    "corpus list json": ["corpus", "list", "--json"],
    "corpus show": ["corpus", "show", "codes"],
    "corpus show by name": ["corpus", "show", NAME],
    "corpus stats": ["corpus", "stats", "codes"],
    "corpus documents": ["corpus", "documents", "codes"],
    "corpus documents found": ["corpus", "documents", "codes", "--search", "PWNED"],
    "corpus documents json": ["corpus", "documents", "codes", "--json"],
    "corpus add": ["corpus", "add", f"{NAME}.d"],
    "corpus add a file": ["corpus", "add", f"{NAME}.txt"],
    "corpus add nothing": ["corpus", "add", CODES],
    "corpus add a field": ["corpus", "add", f"{NAME}.d/rows.jsonl", "--field", CODES],
    "corpus add a page": ["corpus", "add", f"hf:{CODES}"],
    "corpus prepare": ["corpus", "prepare", "codes", "--tokenizer", "char"],
    "corpus tasks": ["corpus", "tasks"],
    "corpus stop": ["corpus", "stop", CODES],
    "corpus catalogue": ["corpus", "add", f"catalogue:{CODES}"],
    "corpus remove": ["corpus", "remove", CODES],
    "corpus restore": ["corpus", "restore", CODES],
    "tokenizer show": ["tokenizer", "show", "run"],
    "tokenizer show a text": ["tokenizer", "show", "run", "--text", CODES],
    "tokenizer compare": ["tokenizer", "compare", "run", NAME, "--corpus", "codes"],
    "presets list": ["presets", "list"],
    "presets list json": ["presets", "list", "--json"],
    "presets show": ["presets", "show", NAME],
    "presets check": ["presets", "check", NAME],
    "presets check bad": ["presets", "check", "bad"],
    "presets diff": ["presets", "diff", NAME, "tiny"],
    "presets new": ["presets", "new", CODES, "--from", "tiny"],
    "presets set": ["presets", "new", "n", "--from", "tiny", "--set", f"{CODES}={CODES}"],
    "no such preset": ["presets", "show", CODES],
    "learn": ["learn", CODES],
    "export": ["export", NAME, "--format", "hf", "--output", CODES.replace("/", "")],
    "import": ["import", CODES],
    "train a preset": ["train", "--preset", CODES],
    "train a corpus": ["train", "--corpus", CODES, "--dry-run"],
    "train a tokenizer": ["train", "--corpus", "codes", "--set", f"tokenizer.file={CODES}", "--dry-run"],
    "fork": ["train", "--fork", f"run:{CODES}"],
    "resume": ["train", "--resume", CODES],
    "no such command": [CODES],
    "no such option": ["runs", f"--{CODES}"],
    "doctor": ["doctor", CODES],
}


@pytest.mark.parametrize("name", COMMANDS_SHOWN)
def test_no_command_lets_it_through(name: str, hostile: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hostile.root)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{CODES}\n" * 2))
    with terminal(monkeypatch) as written:
        try:
            main([*COMMANDS_SHOWN[name], "--workspace", str(hostile.root)])
        except SystemExit:
            pass
        shown = written()
    assert shown
    assert "mistake in MiniGPT" not in shown
    assert_harmless(shown, name)


def test_every_event_is_narrated_in_one_harmless_line() -> None:
    told = [line for event in story() if (line := narrate({"time": 1.0, **event})) is not None]
    assert len(told) >= 8
    for line in told:
        assert_harmless(line, line)


def test_a_run_of_ours_on_such_a_text(hostile: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    config = hostile.root / "own.toml"
    config.write_text(to_toml(configuration()))
    monkeypatch.chdir(hostile.root)
    with terminal(monkeypatch) as written:
        assert main(["train", "--config", str(config), "--run", "own", "--workspace", str(hostile.root)]) == 0
        shown = written()
    assert "sample" in shown.lower()
    assert_harmless(shown, "train")
    directory = hostile.checkpoints / "own"
    assert_harmless((directory / "training.log").read_text(), "training.log")
    # In the events there is what there was: they are data.
    assert "\\u001b]0;PWNED" in (directory / EVENTS).read_text()


def test_what_is_data_stays_what_it_is(hostile: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(hostile.root)
    with terminal(monkeypatch) as written:
        assert main(["runs", "show", "run", "--json", "--workspace", str(hostile.root)]) == 0
        shown = json.loads(written())
    assert shown["note"] == CODES.strip()
    arguments = ["generate", "run", "-p", CODES, "--max-new-tokens", "3", "--output", str(tmp_path / "out")]
    assert main([*arguments, "--workspace", str(hostile.root)]) == 0
    assert (tmp_path / "out").read_bytes().decode().startswith(CODES)


# -- the app


def assert_screen_harmless(app: MiniGPTApp, where: str) -> None:
    """Fail where a cell of the screen holds a code, or where what others wrote was taken for markup."""
    for strip in app.screen._compositor.render_strips():
        found = UNSAFE.search(strip.text)
        assert not found, f"{where}: {strip.text!r}"
        for segment in strip:
            style = segment.style
            assert style is None or not (style.blink or style.link), f"{where}: {segment.text!r} is markup"
            assert style is None or "app.quit" not in str(style.meta.get("@click")), f"{where}: {segment.text!r}"


# Through the panes, into what they list, and to the questions that name it.
WAY = "1 2 down enter down 3 home enter escape end enter escape 5 home down n escape f escape d escape 4"


def test_no_screen_of_the_app_lets_it_through(hostile: Workspace, tmp_path: Path) -> None:
    async def look() -> list[str]:
        seen = []
        with Scene(tmp_path) as scene:
            shutil.rmtree(scene.workspace.root)
            shutil.copytree(hostile.root, scene.workspace.root, symlinks=True)
            for run in ("run", NAME):
                scene.directory(run).joinpath(EVENTS).unlink()
                scene.tell(run, *({**event, "time": scene.now - 60} for event in story()))
            scene.work("run")
            async with on_screen(scene, app=scene.app(run="run")) as pilot:
                for key in WAY.split():
                    await press(pilot, key)
                    assert_screen_harmless(app_of(pilot), f"after {key}")
                    seen += [key] if "PWNED" in screen(pilot) else []
        return seen

    assert len(asyncio.run(look())) > 12
