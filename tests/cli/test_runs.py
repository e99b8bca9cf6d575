"""`minigpt runs` and `minigpt control RUN cure` on runs whose events were written by hand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minigpt.cli.main import main
from minigpt.jobs import EVENTS, CommandReader, EventWriter, RunLock
from minigpt.runs import note_of
from minigpt.workspace import Workspace

Call = Callable[..., tuple[int, str, str]]
START = {"planned_steps": 100, "parameters": 42, "corpus": "sample", "preset": "tiny", "resumed_from": None}


def write(directory: Path, *events: tuple[str, dict[str, Any]]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    writer = EventWriter(directory / EVENTS)
    for kind, fields in events:
        writer.write(kind, **fields)
    writer.close()
    return directory


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with three runs that have ended: one is better, one is later, one is a fork."""
    found = Workspace(tmp_path)
    origin = {"run": "good", "checkpoint": "best_model.pt", "step": 9}
    rungs = {"uniform": 4.5, "unigram": 3.25, "bigram": 2.75}
    for name, loss, more in (
        ("good", 1.5, {}),
        ("worse", 2.5, {}),
        ("fork", None, {"forked_from": origin, "ladder": rungs}),
    ):
        told = [("step", {"step": 9, "loss": 2.0})]
        told += [("eval", {"split": "validation", "step": 9, "loss": loss})] if loss else []
        write(
            found.checkpoints / name, ("start", {**START, **more}), *told, ("end", {"reason": "done", "exit_code": 0})
        )
    (found.checkpoints / "good" / "checkpoint_step_9.pt").write_bytes(b"x" * 3000)
    return found


@pytest.fixture
def call(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--workspace", str(workspace.root)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_list_is_sorted_and_filtered(call: Call) -> None:
    assert [run["run"] for run in json.loads(call("runs", "list", "--json")[1])] == ["fork", "worse", "good"]
    by_loss = json.loads(call("runs", "list", "--sort", "loss", "--json")[1])
    assert [run["run"] for run in by_loss] == ["good", "worse", "fork"]
    assert by_loss[0]["disk_bytes"] > 3000
    assert [line.split()[0] for line in call("runs", "list", "--filter", "OO tiny")[1].splitlines()] == ["run", "good"]
    code, out, err = call("runs", "list", "--filter", "nothing")
    assert (code, out) == (0, "")
    assert "'nothing'" in err
    assert call("runs", "list", "--sort", "looks")[0] == 2


def test_a_run_is_renamed_and_noted(call: Call, workspace: Workspace) -> None:
    assert call("runs", "rename", "good", "best-so-far")[0] == 0
    assert call("runs", "note", "best-so-far", "to be kept")[0] == 0
    assert note_of(workspace.checkpoints / "best-so-far") == "to be kept"
    assert call("runs", "note", "best-so-far")[1] == "to be kept\n"
    assert "to be kept" in call("runs", "list")[1]
    assert call("runs", "note", "best-so-far", "")[0] == 0
    assert note_of(workspace.checkpoints / "best-so-far") == ""
    code, _, err = call("runs", "rename", "best-so-far", "worse")
    assert (code, "worse" in err) == (2, True)


def test_a_run_is_shown_with_origin_ladder_and_checkpoints(call: Call) -> None:
    out = call("runs", "show", "fork")[1]
    assert "forked from good, best_model.pt, step 9" in out
    assert "uniform 4.500, unigram 3.250, bigram 2.750" in out
    (checkpoint,) = json.loads(call("runs", "show", "good", "--json")[1])["checkpoints"]
    assert checkpoint == {"name": "checkpoint_step_9.pt", "step": 9, "kind": "step", "bytes": 3000, "loss": 1.5}
    assert "step 9  loss 1.5000" in call("runs", "show", "good")[1]


def test_a_cure_by_command_is_sent_and_acknowledged(call: Call, workspace: Workspace) -> None:
    cure = {"label": "halve the learning rate", "command": "set", "args": {"lr_scale": 0.5}}
    notice = ("notice", {"severity": "warning", "code": "rate-too-high", "message": "m", "cure": cure})
    directory = write(workspace.checkpoints / "live", ("start", START), notice)
    obeyed: list[tuple[str, dict[str, Any]]] = []

    def obey(commands: CommandReader) -> None:
        deadline = time.monotonic() + 30
        while not obeyed and time.monotonic() < deadline:
            for command in commands.poll():
                obeyed.append((command.command, command.args))
                answer = {"id": command.id, "command": command.command, "args": command.args, "step": 1, "done": True}
                write(directory, ("command", answer))
            time.sleep(0.01)

    with RunLock(directory):
        trainer = threading.Thread(target=obey, args=(CommandReader(directory),))
        trainer.start()
        code, _, err = call("control", "live", "cure")
        trainer.join()
        assert (code, obeyed) == (0, [("set", {"lr_scale": 0.5})])
        assert "Halve the learning rate" in err
        assert call("control", "live", "cure")[0] == 2, "what was done is not to be done again"


def test_a_cure_by_settings_names_the_command_for_a_fork(call: Call, workspace: Workspace) -> None:
    cure = {"label": "a smaller rate, in a new run", "settings": {"training.learning_rate": 0.001}}
    write(workspace.checkpoints / "live", ("start", START), ("notice", {"code": "plateau", "cure": cure}))
    code, _, err = call("control", "live", "cure")
    assert code == 2
    assert "minigpt train --fork live --set training.learning_rate=0.001" in err
    assert "waits for a cure" in call("control", "good", "cure")[2]
