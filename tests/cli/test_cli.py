"""The command line as scripts use it: results on stdout, narration on stderr, exit codes, nothing lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minigpt.cli.main import main
from minigpt.jobs import EVENTS, EventReader
from minigpt.workspace import Workspace
from tests.conftest import run_minigpt, tale

TINY = ["--tokenizer=char", "--d-model=32", "--n-layers=1", "--n-heads=2", "--d-ff=64", "--max-seq-len=16"]
TINY += ["--batch-size=4", "--threads=1", "--warmup-steps=2", "--validation-fraction=0.1", "--test-fraction=0"]
TINY += ["--vocab-size", "300", "--sample-every", "100000"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one finished run, `first`, made by the command itself."""
    root = tmp_path_factory.mktemp("trained")
    (root / "tale.txt").write_text(tale())
    done = run_minigpt("train", "--corpus", "tale.txt", "--run", "first", "--max_steps=30", *TINY, workspace=root)
    assert done.returncode == 0, done.stderr
    assert "Done in" in done.stdout
    assert "minigpt chat first" in done.stdout
    return root


@pytest.fixture
def call(trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Run a command in this process: (arguments) -> (exit code, stdout, stderr)."""
    monkeypatch.setenv("MINIGPT_WORKSPACE", str(trained))
    monkeypatch.chdir(trained)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield run


def test_runs_list_has_what_scripts_rely_on(call) -> None:
    code, out, _ = call("runs", "list", "--json")
    (row,) = [row for row in json.loads(out) if row["run"] == "first"]
    assert code == 0
    assert (row["state"], row["step"], row["planned_steps"], row["corpus"]) == ("finished", 30, 30, "tale")
    assert row["best_val_loss"] < 4
    assert row["parameters"] > 1000
    assert row["preset"] == "tiny"


def test_generate_writes_an_object_a_sample(call) -> None:
    code, out, _ = call(
        "generate", "first", "--prompt", "The cat", "--json", "--num-samples=2", "--seed", "1", "--max_length", "12"
    )
    samples = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert len(samples) == 2
    assert {"prompt", "text", "tokens", "tokens_per_s", "finish_reason"} <= samples[0].keys()
    assert samples[0]["text"] != samples[1]["text"]
    assert samples[0]["tokens"] <= 12


def test_generate_without_a_model_takes_the_newest_and_says_so(call) -> None:
    code, out, err = call("generate", "--prompt", "The", "--seed", "1", "--max-new-tokens", "5")
    assert code == 0
    assert out.startswith("The")
    assert "best_model.pt" in err


def test_predict_lists_the_likeliest_first(call) -> None:
    code, out, _ = call("predict", "first", "--prompt", "The ca", "--top", "4", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [set(row) for row in rows] == [{"token", "id", "probability"}] * 4
    assert [row["probability"] for row in rows] == sorted((row["probability"] for row in rows), reverse=True)


def test_eval_has_what_scripts_rely_on(call) -> None:
    code, out, _ = call("eval", "first", "--json")
    row = json.loads(out)
    assert code == 0
    keys = {"model", "corpus", "split", "tokens", "loss", "perplexity", "bits_per_byte", "accuracy", "accuracy_top5"}
    assert keys <= row.keys()
    assert row["split"] == "validation"
    assert 0 < row["loss"] < 4
    code, out, _ = call("eval", "first", "--split", "train", "--max-tokens", "50", "--json")
    assert json.loads(out)["tokens"] == 50


def test_eval_on_other_text_uses_the_models_own_tokens(call, trained: Path) -> None:
    (trained / "other.txt").write_text(tale(300).upper())
    code, out, _ = call("eval", "first", "--corpus", "other.txt", "--split", "train", "--json")
    assert code == 0
    assert json.loads(out)["loss"] > 3


@pytest.mark.slow
def test_chat_answers_each_line_of_stdin(trained: Path) -> None:
    done = run_minigpt("chat", "first", "--max-new-tokens", "5", input="The cat\n/new\nThe dog\n", workspace=trained)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 2
    assert "Traceback" not in done.stderr


def test_dry_run_trains_nothing(call, trained: Path) -> None:
    code, out, _ = call("train", "--corpus", "tale", *TINY, "--max-steps", "50", "--dry-run", "--json")
    figures = json.loads(out)
    assert code == 0
    assert figures["steps"] == 50
    assert figures["seconds"] > 0
    assert figures["memory_estimate"] > 0
    assert [path.name for path in (trained / "checkpoints").iterdir() if path.is_dir()] == ["first"]


def test_quiet_prints_the_name_alone_and_json_the_events(trained: Path, call) -> None:
    arguments = ("train", "--corpus", "tale", "--max-steps", "3", *TINY)
    code, told, _ = call(*arguments, "--quiet", "--run", "hush")
    assert (code, told) == (0, "hush\n")
    _, events, _ = call(*arguments, "--json", "--run", "told")
    types = [json.loads(line)["type"] for line in events.splitlines()]
    assert types[0] == "start"
    assert types[-1] == "end"
    assert types.count("step") == 3
    for run in ("hush", "told"):
        for path in (trained / "checkpoints" / run).iterdir():
            path.unlink()
        (trained / "checkpoints" / run).rmdir()


def test_a_limit_on_the_command_line_clears_the_presets_other(call) -> None:
    _, out, _ = call("train", "--preset", "tiny", "--corpus", "tale", *TINY, "--epochs", "2", "--dry-run", "--json")
    assert json.loads(out)["epochs"] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--lerning-rate", "1"], "--learning-rate"),
        (["trian"], "'train'"),
        (["train", "--preset", "tinny"], "'tiny'"),
        (["train", "--set", "model.n_head=3"], "model.n_heads"),
        (["train", "--n-heads", "7"], "does not divide"),
        (["train", "--device", "abacus"], "auto, cpu, cuda"),
        (["train", "--corpus", "short.txt", "--run", "a", "--detach", "--dry-run"], "do not go together"),
        (["generate", "first", "--device", "cuda:7"], "auto, cpu, cuda"),
        (["generate", "why is the sky blue " * 20], "There is no run"),
        (["runs", "list", "--workspace", "/proc/nowhere", "--jso"], "--json"),
        (["train", "--lr", "fast"], "training.learning_rate = 'fast'"),
        (["train", "--corpus", "nowhere.txt"], "nowhere.txt"),
        (["train", "--corpus", "empty.txt"], "empty"),
        (["train", "--corpus", "binary.txt"], "binary.txt"),
        (["train", "--corpus", "short.txt", "--tokenizer", "char", "--vocab-size", "300"], "129"),
        (["train", "--config", "absent.toml"], "absent.toml"),
        (["train", "--resume", "nobody"], "nobody"),
        (["train", "--resume", "first"], "--epochs"),
        (["train", "--resume", "first", "--lr", "0.1"], "--config"),
        (["train", "--resume"], "No run was interrupted"),
        (["train", "--run", "../evil"], "cannot be the name"),
        (["train", "--run", "first"], "already"),
        (["generate", "nobody"], "nobody"),
        (["generate", "hostile.pt"], "not opened"),
        (["generate", "damaged.pt"], "damaged"),
        (["generate", "first", "--temperature", "-1"], "generation.temperature"),
        (["generate", "first", "--num-samples", "0"], "1 or more"),
        (["predict", "first", "--top", "0"], "1 or more"),
        (["eval", "first", "--split", "test"], "empty"),
        (["eval", "first", "--stride", "0"], "--stride 0"),
        (["runs", "show", "frist"], "'first'"),
        (["control", "first", "stop"], "not training now"),
        (["corpus", "sample", "more", "--size", "lots"], "--size"),
        (["corpus", "show", "nowhere"], "nowhere"),
        (["presets", "show", "tinny"], "'tiny'"),
        (["import", "nowhere", "model"], "nowhere"),
        (["bench", "everything"], "speedrun"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence_and_exit_code_2(call, trained: Path, arguments: list[str], said: str) -> None:
    _make_bad_files(trained)
    code, out, err = call(*arguments)
    assert code == 2, err
    assert said in err
    assert out == ""
    assert "Traceback" not in err
    assert not (trained / "pwned").exists()


class _Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def _make_bad_files(folder: Path) -> None:
    import torch

    (folder / "empty.txt").write_text("")
    (folder / "binary.txt").write_bytes(bytes(range(256)) * 10)
    (folder / "short.txt").write_text("Too short.")
    torch.save({"weights": _Hostile()}, folder / "hostile.pt")
    (folder / "damaged.pt").write_bytes((folder / "checkpoints/first/best_model.pt").read_bytes()[:5000])


def test_an_unwritable_workspace_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["train", "--workspace", str(tmp_path / "file")]) == 2
    assert "Cannot write in" in capsys.readouterr().err


def test_escape_codes_never_reach_the_terminal(call, trained: Path) -> None:
    code, out, err = call("generate", "first", "--prompt", "\x1b[31mThe\x07", "--max-new-tokens", "3")
    assert code == 0
    assert "\x1b" not in out + err
    assert "\\x1b" in out
    code, out, err = call("generate", "\x1b[2Jmodel")
    assert code == 2
    assert "\x1b" not in out + err


def test_a_reader_that_goes_away_is_no_trouble(trained: Path) -> None:
    command = f"{sys.executable} -m minigpt.cli.main presets show tiny | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=trained, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


def wait_for_step(directory: Path, step: int) -> None:
    deadline = time.monotonic() + 60
    with EventReader(directory / EVENTS) as reader:
        while time.monotonic() < deadline:
            if any(event["type"] == "step" and event["step"] >= step for event in reader.poll()):
                return
            time.sleep(0.05)
    raise AssertionError(f"{directory.name} did not reach step {step}")


def test_steered_from_outside_interrupted_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIGPT_WORKSPACE", str(tmp_path))

    def told(*arguments: str) -> tuple[int, str, str]:
        # In this process: what steers is no other program than what starts, and starting one takes a second.
        code = main(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    (tmp_path / "tale.txt").write_text(tale())
    arguments = ("train", "--corpus", "tale.txt", "--run", "long", "--max-steps", "100000", *TINY)
    started = run_minigpt(*arguments, "--detach", workspace=tmp_path)
    directory = Workspace(tmp_path).run_directory("long")
    try:
        assert (started.returncode, started.stdout) == (0, "long\n"), started.stderr
        wait_for_step(directory, 5)
        code, _, error = told("train", "--resume", "long")
        assert code == 2
        assert "training right now" in error
        for action in (["set", "lr_scale=0.5"], ["pause"], ["sample", "prompt=The"], ["evaluate"], ["resume"]):
            code, _, error = told("control", "long", *action)
            assert code == 0, error
        code, _, error = told("control", "long", "set", "d_model=4")
        assert code == 2
        assert "lr_scale" in error
        assert told("control", "long", "stop")[0] == 0
    finally:
        pid = json.loads((directory / "run.lock").read_text())["pid"]
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (directory / "interrupted_checkpoint.pt").exists():
            time.sleep(0.1)
    assert (directory / "interrupted_checkpoint.pt").exists(), pid
    rows = json.loads(told("runs", "list", "--json")[1])
    assert rows[0]["state"] == "interrupted"
    code, _, error = told("train", "--resume", "--steps", str(rows[0]["step"] + 5))
    assert code == 0, error
    assert "climbs again" in error


@pytest.mark.slow
def test_ctrl_c_saves_and_exits_with_3(tmp_path: Path) -> None:
    (tmp_path / "tale.txt").write_text(tale())
    environment = {**os.environ, "MINIGPT_WORKSPACE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "minigpt.cli.main",
            "train",
            "--corpus",
            "tale.txt",
            "--run",
            "a",
            "--steps=99999",
            *TINY,
        ],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_step(tmp_path / "checkpoints" / "a", 3)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert "everything is saved" in out
    assert re.search(r"minigpt train --resume a", out)


def test_import_and_export_go_full_circle(call, trained: Path, tmp_path: Path) -> None:
    exported = tmp_path / "hf"
    code, out, err = call("export", "first", "--format", "hf", "--output", str(exported))
    assert (code, out) == (0, f"{exported}\n"), err
    code, _, err = call("import", str(exported), "back")
    assert code == 0, err
    arguments = ("--prompt", "The", "--temperature", "0", "--max-new-tokens", "20", "--json")
    texts = [json.loads(call("generate", run, *arguments)[1])["text"] for run in ("first", "back")]
    assert texts[0] == texts[1]
    rows = json.loads(call("runs", "list", "--json")[1])
    assert [row["state"] for row in rows if row["run"] == "back"] == ["imported"]
    assert call("train", "--resume", "back")[0] == 2
    for path in (trained / "checkpoints" / "back").iterdir():
        path.unlink()
    (trained / "checkpoints" / "back").rmdir()


def test_a_run_is_deleted_only_when_that_is_said_twice(call, trained: Path) -> None:
    directory = trained / "checkpoints" / "unwanted"
    directory.mkdir()
    (directory / "best_model.pt").write_bytes(bytes(1000))
    code, _, err = call("runs", "delete", "unwanted")
    assert (code, directory.exists()) == (2, True)
    assert "--yes" in err
    code, out, err = call("runs", "delete", "unwanted", "--yes")
    assert (code, out, directory.exists()) == (0, "", False)
    assert "Deleted the run unwanted (1 kB in 1 file)" in err
