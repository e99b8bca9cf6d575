"""No name and no link leads out of the workspace, and its files are open to nobody whom the umask keeps out."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from minigpt.cli.main import main
from minigpt.errors import UserError
from minigpt.jobs import COMMANDS, send_command
from minigpt.model.checkpoint import BEST
from minigpt.presets import to_toml
from minigpt.text.sources import add_path
from minigpt.workspace import Workspace
from tests.conftest import small_config, tale, tale_workspace
from tests.model.test_checkpoint import write_payload
from tui.chat.conversations import save as save_conversation
from tui.state import APP_FOLDER, UIState, save_state


def test_a_folder_with_tricks_gives_its_own_text_and_nothing_else(workspace: Workspace) -> None:
    folder = workspace.root / "folder"
    folder.mkdir()
    (folder / "mine.txt").write_text(tale())
    secret = workspace.root / "secret.txt"
    secret.write_text("SECRET\n" * 50)
    for name, target in {"out.txt": secret, "loop": folder, "up": Path("/"), "zero.txt": Path("/dev/zero")}.items():
        (folder / name).symlink_to(target)
    (folder / "self.txt").symlink_to("self.txt")
    os.mkfifo(folder / "pipe.txt")
    corpus = add_path(workspace, folder)
    assert [path.name for path in corpus.files()] == ["mine.txt"]
    assert b"SECRET" not in b"".join(path.read_bytes() for path in corpus.directory.rglob("*") if path.is_file())


NAMES = ["../../etc/passwd", "/etc/passwd", "..", ".", "a/b", "a\0b", "-rf", "x" * 300, ".hidden", "a\nb", "~", ""]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_way_out_of_the_workspace(
    name: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = workspace.run_directory("run")
    run.mkdir()
    write_payload(run / BEST)
    outside = workspace.checkpoints / BEST
    outside.write_bytes((run / BEST).read_bytes())
    before = sorted(workspace.root.parent.rglob("*"))
    monkeypatch.chdir(workspace.root)
    for make in (workspace.run_directory, workspace.corpus_directory, workspace.task_directory):
        with pytest.raises(UserError):
            make(name)
    asked = [
        ["train", f"--run={name or '/'}", "--corpus", "tale"],
        ["runs", "rename", "run", "--", name],
        ["runs", "show", "--", name or "/"],
        ["runs", "delete", "--yes", "--", name or "/"],
        ["train", "--fork", f"run:{name or '/'}"],
        ["train", "--fork", f"run:../{BEST}"],
        ["presets", "show", "--", name],
        ["presets", "new", "--from", "tiny", "--", name],
        ["corpus", "remove", "--yes", "--", name],
        ["corpus", "prepare", "tale", f"--task={name or '/'}"],
    ]
    for arguments in asked:
        with suppress(SystemExit):
            assert main(["--workspace", str(workspace.root), *arguments]) in (1, 2), arguments
        assert "mistake in MiniGPT" not in capsys.readouterr().err
    assert sorted(workspace.root.parent.rglob("*")) == before


@pytest.mark.parametrize("mask", [0o077, 0o002])
def test_files_have_the_umask_of_whoever_makes_them(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        workspace = tale_workspace(tmp_path)
        flag = ["--workspace", str(workspace.root)]
        config = to_toml(small_config(training__max_steps=2, tokenizer__kind="word", training__sample_prompts=["A"]))
        (workspace.root / "own.toml").write_text(config)
        assert main(["train", "--config", str(workspace.root / "own.toml"), "--run", "run", "--quiet", *flag]) == 0
        assert main(["runs", "note", "run", "A note.", *flag]) == 0
        assert main(["presets", "new", "mine", "--from", "tiny", *flag]) == 0
        assert main(["corpus", "stats", "tale", *flag]) == 0
        assert main(["export", "run", "--format", "hf", "--output", str(workspace.root / "out"), *flag]) == 0
        send_command(workspace.run_directory("run"), "stop")
        save_state(workspace, UIState())
        save_conversation(workspace, "first", b"{}")
    finally:
        os.umask(before)
    made = list(workspace.root.rglob("*"))
    assert len(made) > 25
    for path in made:
        mode = stat.S_IMODE(path.stat().st_mode)
        private = APP_FOLDER in path.parts and path.is_file()
        expected = 0o600 if private else (0o777 if path.is_dir() else 0o666) & ~mask
        # Commands are obeyed only where nobody else may give them.
        assert mode == (expected & ~0o022 if path.name == COMMANDS else expected), path
