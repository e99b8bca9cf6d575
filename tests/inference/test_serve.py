from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from minigpt.config import Config
from minigpt.inference.serve import gathered
from minigpt.model.checkpoint import Checkpoint, save
from tests.inference.test_generate import random_model

Line = dict[str, Any]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
# Among three tokens the end of the text is never one.
ENDLESS = {"max_new_tokens": 1_000_000, "top_k": 3}
COMMAND = [sys.executable, "-m", "minigpt.cli.main", "chat", "--json", "--device", "cpu"]


class Child:
    """The process, and what one says to it."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def send(self, *requests: Line | bytes) -> None:
        for request in requests:
            self.stdin.write(request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n")
        self.stdin.flush()

    def read(self) -> Line:
        line = self.stdout.readline()
        assert line, "the process ended"
        return json.loads(line)

    def until(self, event: str) -> list[Line]:
        """Return the lines up to the first of that event."""
        lines = [self.read()]
        while lines[-1]["event"] != event:
            lines.append(self.read())
        return lines

    def ask(self, request: Line) -> tuple[str, Line]:
        """Return an answer's text and its last line."""
        self.send({"id": 1, **request})
        *pieces, done = self.until("done")
        return "".join(piece["text"] for piece in pieces), done

    def close(self) -> None:
        self.stdin.close()
        self.stdout.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("run") / "best_model.pt", step=7)


def checkpoint(path: Path, **changes: Any) -> Path:
    model, tokenizer = random_model(context=64)
    values = {"conversations": True, **changes}
    save(path, Checkpoint(Config(), model.config, model.state_dict(), tokenizer.to_json(), **values))
    return path


@pytest.fixture(scope="module")
def child(path: Path) -> Iterator[Child]:
    child = Child(str(path))
    assert child.read()["event"] == "opened"
    yield child
    child.close()


def test_opening_says_what_the_model_is(child: Child, path: Path) -> None:
    child.send({"id": "a", "do": "open", "path": str(path), "device": "cpu", "threads": 1})
    opened = child.read()
    assert (opened["event"], opened["id"], opened["step"], opened["device"]) == ("opened", "a", 7, "cpu")
    assert opened["conversations"] and opened["context"] == 64 and opened["corpus"] == "sample"
    assert opened["settings"]["temperature"] == Config().generation.temperature


def test_an_answer_is_pieces_and_its_figures(child: Child) -> None:
    request = {
        "do": "reply",
        "messages": [{"role": "user", "content": "the cat"}],
        "settings": {"seed": 3, "top_k": 3, "max_new_tokens": 9},
    }
    text, done = child.ask(request)
    assert (text, done["tokens"]) == (child.ask(request)[0], 9)
    assert done["finish_reason"] == "length" and done["forgotten"] == 0 and done["tokens_per_s"] > 0


def test_a_completion_is_that_of_the_library(child: Child, path: Path) -> None:
    import minigpt

    text, _ = child.ask({"do": "complete", "prompt": "the dog", "settings": {"seed": 5, "max_new_tokens": 30}})
    assert text == minigpt.load(path, "cpu").generate("the dog", seed=5, max_new_tokens=30)


def test_messages_that_no_longer_fit_are_counted(child: Child) -> None:
    messages = [
        {"role": role, "content": "the old tree near the water"} for _ in range(4) for role in ("user", "assistant")
    ]
    _, done = child.ask(
        {
            "do": "reply",
            "messages": [*messages, {"role": "user", "content": "the"}],
            "settings": {"seed": 1, "max_new_tokens": 4},
        }
    )
    assert done["forgotten"] >= 6


def test_stop_ends_an_answer_midway(child: Child) -> None:
    child.send({"id": 1, "do": "complete", "prompt": "the", "settings": ENDLESS})
    assert child.read()["event"] == "piece"
    child.send({"do": "stop"})
    assert child.until("done")[-1]["finish_reason"] == "stopped"
    _, done = child.ask({"do": "complete", "prompt": "the", "settings": {"top_k": 3, "max_new_tokens": 3}})
    assert done["tokens"] == 3


def test_stop_ends_what_has_not_begun(child: Child) -> None:
    endless = {"do": "complete", "prompt": "the", "settings": ENDLESS}
    child.send({"id": 1, **endless}, {"id": 2, **endless}, {"do": "stop"})
    first, second = child.until("done")[-1], child.until("done")[-1]
    assert (first["finish_reason"], second["finish_reason"], second["tokens"]) == ("stopped", "stopped", 0)


@pytest.mark.parametrize(
    "line",
    [
        b"\n{\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b'{"id": 1, "do": "dance"}\n',
        b'{"id": 1, "do": "reply", "messages": 5}\n',
        b'{"id": 1, "do": "reply", "messages": []}\n',
        b'{"id": 1, "do": "reply", "messages": [{"role": "system", "content": "x"}]}\n',
        b'{"id": 1, "do": "complete", "prompt": "x", "settings": {"temperature": [[]]}}\n',
        b'{"id": 1, "do": "complete", "prompt": "x", "settings": {"temperature": 1' + b"0" * 400 + b"}}\n",
        b'{"id": 1, "do": "complete", "prompt": "x", "settings": {"warmth": 1}}\n',
        b'{"id": 1, "do": "complete", "prompt": "\\ud800"}\n',
        b'{"id": 1, "do": "open", "path": "/nowhere/model.pt"}\n',
        b'{"id": 1, "do": "open", "path": "a\\u0000b"}\n',
        b'{"id": 1, "do": "open", "path": "x", "device": "abacus"}\n',
        b'{"id": 1, "do": "open", "path": "x", "threads": 0}\n',
        b"x" * (1 << 23) + b"xx\n",
    ],
    ids=range(16),
)
def test_hostile_lines_are_answered_in_words(child: Child, path: Path, line: bytes) -> None:
    child.send(line)
    answer = child.read()
    assert answer["event"] == "error" and "Traceback" not in answer["message"]
    child.send({"id": 9, "do": "open", "path": str(path)})
    assert child.read()["event"] == "opened"


def test_a_model_that_went_astray_is_told(child: Child, path: Path, tmp_path: Path) -> None:
    model, tokenizer = random_model(context=64)
    weights = {name: torch.full_like(value, torch.nan) for name, value in model.state_dict().items()}
    broken = tmp_path / "broken.pt"
    save(broken, Checkpoint(Config(), model.config, weights, tokenizer.to_json()))
    child.send({"id": 1, "do": "open", "path": str(broken)}, {"id": 2, "do": "complete", "prompt": "the"})
    assert [child.read()["event"] for _ in range(2)] == ["opened", "error"]
    child.send({"id": 9, "do": "open", "path": str(path)})
    assert child.read()["event"] == "opened"


def test_opening_again_takes_the_newer_file(child: Child, tmp_path: Path, path: Path) -> None:
    changing = checkpoint(tmp_path / "best_model.pt", step=1)
    child.send({"id": 1, "do": "open", "path": str(changing)})
    assert child.read()["step"] == 1
    checkpoint(changing, step=2)
    child.send({"id": 2, "do": "open", "path": str(changing)}, {"id": 3, "do": "open", "path": str(path)})
    assert [child.read()["step"], child.read()["step"]] == [2, 7]


def test_it_ends_with_stdin_after_answering() -> None:
    result = subprocess.run(
        COMMAND, input=b'{"id": 1, "do": "complete", "prompt": "x"}', capture_output=True, env=ENVIRONMENT, timeout=60
    )
    assert result.returncode == 0
    assert "open one first" in json.loads(result.stdout)["message"]


@pytest.mark.slow
def test_it_ends_when_nobody_is_left(path: Path) -> None:
    child = Child(str(path))
    child.send({"id": 1, "do": "complete", "prompt": "the", "settings": ENDLESS})
    assert [child.read()["event"], child.read()["event"]] == ["opened", "piece"]
    child.stdin.close()
    child.stdout.close()
    assert child.process.wait(30) == 0


def test_pieces_are_gathered_by_time() -> None:
    ticks = iter([0.0, 0.0, 0.01, 0.02, 0.06, 0.06, 0.07])
    assert list(gathered("abcde", 0.05, lambda: next(ticks))) == ["a", "bcd", "e"]


def test_the_protocol_needs_no_torch() -> None:
    script = "import sys, minigpt.inference.serve; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
