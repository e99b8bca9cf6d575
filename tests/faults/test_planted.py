"""What somebody has planted where MiniGPT looks: pipes, values that are shared a million times, traps in tokenizers,
and what processes left that were killed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from minigpt.cli.main import main
from minigpt.errors import UserError
from minigpt.interop.huggingface import import_directory
from minigpt.jobs import LOG
from minigpt.text.formats.opening import Limits, Opening
from minigpt.text.formats.tables import parquet_rows
from minigpt.text.records import read_json, read_toml
from minigpt.text.storage import atomic_directory, remove_all_abandoned, scratch_directory
from minigpt.text.tokenizer import Tokenizer
from minigpt.training.recorder import Recorder
from minigpt.workspace import Workspace

pytestmark = pytest.mark.timeout(60)

MODEL = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": 100}


def model_folder(root: Path, **changes: Any) -> Path:
    """Make the folder of a Hugging Face model whose weights fit nothing."""
    folder = root / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**MODEL, **changes}))
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    tokenizer().save(folder / "tokenizer.json")
    return folder


def tokenizer() -> Tokenizer:
    return Tokenizer.train("char", ["ab"], 300)


def foreign(path: Path, **changes: Any) -> Path:
    """Write a tokenizer.json with other parts in it than ours has."""
    path.write_text(json.dumps({**json.loads(tokenizer().to_json()), **changes}))
    return path


# Pipes: nobody reads or writes at their other end


def test_a_pipe_among_the_presets_keeps_nobody_waiting(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.configs.mkdir()
    os.mkfifo(workspace.configs / "pipe.toml")
    (workspace.configs / "endless.toml").symlink_to("/dev/zero")
    for arguments in (["presets", "list"], ["presets", "show", "pipe"], ["presets", "show", "endless"]):
        main([*arguments, "--workspace", str(workspace.root)])
        told = capsys.readouterr()
        assert "pipe  " not in told.out
        assert "mistake in MiniGPT" not in told.err


def test_a_device_as_configuration_is_refused(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", "/dev/zero", "--workspace", str(workspace.root)]) == 2
    assert "/dev/zero" in capsys.readouterr().err


def test_a_configuration_may_come_through_a_pipe(workspace: Workspace) -> None:
    """As `--config <(...)` of a shell does."""
    from minigpt.presets import read_file

    os.mkfifo(workspace.root / "pipe")
    with subprocess.Popen(["sh", "-c", f"printf '[training]\\r\\nmax_steps = 7\\r\\n' > '{workspace.root}/pipe'"]):
        assert read_file(workspace.root / "pipe").training.max_steps == 7


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_pipe_in_a_models_folder_is_refused(name: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(UserError, match=str(folder)):
        import_directory(folder)


def test_a_pipe_in_the_place_of_a_record_is_no_record(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (read_toml, read_json):
        with pytest.raises(OSError):
            read(tmp_path / "pipe", dict[str, Any])


def test_a_pipe_in_the_place_of_the_log_stops_no_training(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LOG)
    heard: list[dict[str, Any]] = []
    with Recorder(tmp_path, "cpu", 1, (heard.append,)) as recorder:
        recorder.event("start", run="x")
        recorder.event("step", step=1, loss=3.0)
    assert [event["code"] for event in heard if event["type"] == "notice"] == ["log-unwritable"]


# Traps for memory


def shared_text(path: Path, length: int, rows: int) -> Opening:
    """Write a table of a few hundred bytes in which all rows share one long text."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    once = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["a" * length]))
    pq.write_table(
        pa.table({"text": once}), path, compression="zstd", store_schema=False, dictionary_pagesize_limit=1 << 30
    )
    assert path.stat().st_size < 1000
    return Opening(path)


def test_a_text_that_all_rows_share_takes_its_room_once(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    opening = shared_text(tmp_path / "shared.parquet", 2_000_000, 20_000)
    rows = parquet_rows(["text"], opening, lambda *_: None)
    before = pa.default_memory_pool().bytes_allocated()
    number, row = next(rows)
    assert (number, row) == (1, {"text": "a" * 2_000_000})
    assert pa.default_memory_pool().bytes_allocated() - before < 64 << 20


def test_a_table_that_unpacks_to_more_than_any_text_is_refused(tmp_path: Path) -> None:
    opening = shared_text(tmp_path / "bomb.parquet", 100_000, 1000)
    with pytest.raises(UserError, match="decompression bomb"):
        list(parquet_rows(None, Opening(opening.path, Limits(unpacked=1 << 20)), lambda *_: None))


@pytest.mark.parametrize("part", ["normalizer", "decoder"])
def test_a_tokenizer_that_makes_much_of_little_is_refused(part: str, tmp_path: Path) -> None:
    much = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 100}
    steps = {"type": "Sequence", f"{part}s": [much] * 4}
    with pytest.raises(UserError, match="trap for memory"):
        Tokenizer.load(foreign(tmp_path / "tokenizer.json", **{part: steps}))


def test_a_pattern_that_never_ends_is_given_up_in_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    endless = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    model = {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}
    found = Tokenizer.load(foreign(tmp_path / "tokenizer.json", pre_tokenizer=endless, model=model, added_tokens=[]))
    with pytest.raises(UserError, match="cannot cut that text"):
        found.encode("a" * 40 + "b")


@pytest.mark.parametrize("vocab_size", [10**18, 10**30, 1 << 25, 0, -1, "100", True])
def test_a_vocabulary_beyond_all_there_are_is_refused(vocab_size: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="vocab_size"):
        import_directory(model_folder(tmp_path, vocab_size=vocab_size))


# What is left of others


def test_what_cannot_be_opened_is_left_and_stops_nobody(tmp_path: Path) -> None:
    """A pipe, a link and a file with the names that folders have which are being built."""
    os.mkfifo(tmp_path / ".made.1.part")
    (tmp_path / ".made.2.part").symlink_to(tmp_path)
    (tmp_path / ".made.3.part").write_text("somebody's")
    with atomic_directory(tmp_path / "made", "kept") as folder:
        (folder / "file").touch()
    assert (tmp_path / "made" / "file").exists()
    assert (tmp_path / ".made.3.part").read_text() == "somebody's"
    assert remove_all_abandoned(tmp_path) == 0


def test_the_leftover_of_another_user_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a folder that a group shares, of somebody whose umask keeps it closed: root may open it all the same."""
    theirs = tmp_path / ".made.1.part"
    theirs.mkdir()

    def closed(path: Any, *arguments: Any, **more: Any) -> int:
        if Path(os.fspath(path)) == theirs:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *arguments, **more)

    real = os.open
    monkeypatch.setattr(os, "open", closed)
    with atomic_directory(tmp_path / "made", "kept") as folder:
        (folder / "file").touch()
    assert (tmp_path / "made" / "file").exists()
    assert theirs.is_dir()


def test_a_file_system_without_locks_builds_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    (tmp_path / ".made.1.part").mkdir()  # somebody may be at work there: nobody can tell
    (tmp_path / ".made.1.part" / "kept").touch()
    monkeypatch.setattr(fcntl, "flock", refused)
    with atomic_directory(tmp_path / "made", "kept") as folder:
        (folder / "file").touch()
    with scratch_directory(tmp_path / "_scratch") as folder:
        (folder / "file").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".made.1.part", "made"]


PLACES: dict[str, Callable[[Workspace], Path]] = {
    "minigpt.cli.doctor": lambda workspace: workspace.checkpoints,
    "minigpt.bench": lambda workspace: workspace.data,
}
KILLED = {
    "minigpt.cli.doctor": "import minigpt.cli.doctor as m; m.RunLock = kill; m._locking(workspace)",
    "minigpt.bench": "import minigpt.bench as m; m.create_sample = kill; m.run('train', workspace, None, print)",
}


@pytest.mark.parametrize("module", PLACES)
def test_what_a_killed_check_or_benchmark_left_goes_with_the_next(module: str, workspace: Workspace) -> None:
    script = f"""
import os, sys
from pathlib import Path
from minigpt.workspace import Workspace
workspace = Workspace(Path(sys.argv[1]))
def kill(*arguments, **more): os.kill(os.getpid(), {int(signal.SIGKILL)})
{KILLED[module]}
"""
    folder = PLACES[module](workspace)
    mine = folder / ".doctor.1.part"  # of a corpus or run with such a name
    mine.mkdir(parents=True, exist_ok=True)
    left: list[set[str]] = []
    for _ in range(2):
        ended = subprocess.run([sys.executable, "-c", script, str(workspace.root)], capture_output=True, text=True)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        left.append({path.name for path in folder.iterdir() if path.name.startswith("._")})
    assert [len(names) for names in left] == [1, 1]
    assert left[0] != left[1]
    assert mine.is_dir()
