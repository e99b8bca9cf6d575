"""Without room no run begins and no task is half done, which is told in a sentence; those who only look need none."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from minigpt.cli.main import main
from minigpt.text import building
from minigpt.workspace import Workspace
from tests.faults.full_disk.trouble import LITTLE, full, made, whole_checkpoints
from tests.faults.mounts import read_only


def test_a_run_that_has_no_room_to_begin_says_so_in_a_sentence(
    disk: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert made(workspace, training__max_steps=8).train() == 0
    (workspace.root / "night.toml").write_bytes((workspace.run_directory("night") / "config.toml").read_bytes())
    capsys.readouterr()
    at = ["--workspace", str(workspace.root)]
    with full(disk):
        for arguments in (
            ["train", "--config", str(workspace.root / "night.toml"), "--run", "new"],
            ["train", "--resume", "night", "--steps", "12"],
        ):
            assert main([*arguments, *at]) == 1
            last = capsys.readouterr().err.strip().splitlines()[-1]
            assert "No space left on device" in last and "Make room" in last
    assert not workspace.run_directory("new").exists() or not list(workspace.run_directory("new").glob("*.toml"))
    assert whole_checkpoints(workspace.run_directory("night"))["final_model.pt"] == 8
    assert main(["train", "--resume", "night", "--steps", "12", "--quiet", *at]) == 0


def test_a_task_without_room_ends_in_a_sentence_and_leaves_nothing_half_written(
    disk: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Somebody else takes the room only after it was looked for.
    monkeypatch.setattr(building, "free_disk", lambda _: 1 << 40)
    monkeypatch.chdir(workspace.root)
    long = [f"{' '.join(sorted(str(number * seed) for number in range(40)))}\n" for seed in range(1000)]
    (workspace.root / "long.txt").write_text("".join(long))
    assert made(workspace, training__max_steps=2).train() == 0
    for leave, *arguments in (
        (0, "corpus", "prepare", "tale", "--tokenizer", "word"),
        (LITTLE, "corpus", "add", "long", "long.txt"),
        (0, "tokenizer", "train", "tale", "--output", "word.json"),
        (LITTLE, "export", "night", "--format", "hf", "--output", "exported"),
    ):
        before = {path for path in disk.rglob("*") if path.is_file()}
        capsys.readouterr()
        with full(disk, leave):
            assert main([*arguments, "--workspace", str(workspace.root)]) in (1, 2), arguments
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert "mistake" not in last and re.search("full|No space left|make room", last), (arguments, last)
        left = {path.relative_to(disk) for path in {path for path in disk.rglob("*") if path.is_file()} - before}
        # A folder with a dot is nobody's yet, or tells of the task.
        assert not [path for path in left if not any(part.startswith(".") for part in path.parts)], arguments
        assert main([*arguments, "--workspace", str(workspace.root)]) == 0


def test_those_who_only_look_need_no_room_and_no_right_to_write(
    disk: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert made(workspace).train() == 0
    at = ["--workspace", str(workspace.root)]
    with ExitStack() as resources:
        for hindrance in (full(disk), read_only(workspace.checkpoints)):
            resources.enter_context(hindrance)
            for arguments in (["list"], ["show", "night"], ["verify", "night"]):
                assert main(["runs", *arguments, *at]) == 0, capsys.readouterr().err
    capsys.readouterr()
