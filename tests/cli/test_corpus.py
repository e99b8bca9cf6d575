"""`minigpt corpus` as a person or a script types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minigpt.cli.main import main
from minigpt.text import sample

LINES = "".join(f"Line {number} of a text about a fox and {number % 7} dogs.\n" for number in range(400))


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINIGPT_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "workspace"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["corpus", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_several_sources_become_one_corpus_by_a_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(LINES)
    (tmp_path / "rows.jsonl").write_text('{"story": "one", "n": 1}\nbroken\n{"story": "two", "n": 2}\n')
    manifest = as_json(capsys, "add", "mine", "a.txt", "rows.jsonl", "--field", "story")
    assert manifest["documents"] == 3
    assert [source["kind"] for source in manifest["sources"]] == ["file", "file"]
    assert "rows.jsonl, line 2" in manifest["notes"][0]
    assert as_json(capsys, "tasks")[0]["state"] == "done"


def test_text_comes_through_a_pipe(tmp_path: Path, workspace: Path) -> None:
    command = [sys.executable, "-m", "minigpt.cli.main", "corpus", "add", "piped", "-", "--split", "line", "--json"]
    done = subprocess.run(command, input=LINES.encode(), capture_output=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["documents"] == 400


def test_two_sentences_are_refused_with_help(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("Two sentences. That is all.")
    code, _, err = run(capsys, "add", "two", "two.txt")
    assert code == 2
    assert "27 characters" in err and "minigpt corpus catalogue" in err
    assert run(capsys, "list")[1] == ""


@pytest.mark.parametrize("name", ["../up", "a\nb", "a\x1b[31m", "", "x" * 200])
def test_names_that_are_no_names_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text(LINES)
    code, _, err = run(capsys, "add", name, "a.txt")
    assert code == 2
    assert "\x1b" not in err
    assert not list(tmp_path.parent.glob("up"))


def test_what_is_there_is_extended_only_when_asked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(LINES)
    assert as_json(capsys, "add", "mine", "a.txt")["documents"] == 1
    code, _, err = run(capsys, "add", "mine", "a.txt")
    assert (code, "--extend" in err) == (2, True)
    assert as_json(capsys, "add", "mine", "sample", "--size", "5k", "--extend")["documents"] > 5


def test_a_corpus_is_looked_through(capsys: pytest.CaptureFixture[str]) -> None:
    as_json(capsys, "sample", "small", "--size", "20k")
    documents = list(sample.documents(20_000, 0))
    page = as_json(capsys, "documents", "small", "--from", "3", "--limit", "2")
    assert [shown["number"] for shown in page["documents"]] == [3, 4]
    assert page["next"] == 5
    wanted = [number for number, document in enumerate(documents) if any("Anna" in t for t in document.texts())]
    found = as_json(capsys, "documents", "small", "--search", "aNNA", "--limit", "1000")
    assert [shown["number"] for shown in found["documents"]] == wanted
    assert found["next"] is None and found["looked_at"] == len(documents)


def test_its_figures_and_what_they_mean(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    as_json(capsys, "sample", "small", "--size", "20k")
    told = as_json(capsys, "stats", "small", "--preset", "small")
    assert told["statistics"]["documents"] == len(list(sample.documents(20_000, 0)))
    assert sum(bin["count"] for bin in told["statistics"]["histogram"]) == told["statistics"]["documents"]
    assert "warning" in {advice["severity"] for advice in told["advice"]}
    before = (workspace / "data" / "small" / "statistics.json").stat().st_mtime_ns
    as_json(capsys, "stats", "small")
    assert (workspace / "data" / "small" / "statistics.json").stat().st_mtime_ns == before


def test_removal_can_be_undone_until_it_is_final(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    as_json(capsys, "sample", "small", "--size", "5k")
    assert run(capsys, "remove", "small")[0] == 2
    removed = as_json(capsys, "remove", "small", "--yes")
    assert as_json(capsys, "list") == []
    assert as_json(capsys, "restore", removed["restore"])["name"] == "small"
    as_json(capsys, "remove", "small", "--yes")
    assert as_json(capsys, "restore", "small")["name"] == "small"
    removed = as_json(capsys, "remove", "small", "--yes")
    assert as_json(capsys, "purge") == {"purged": 1, "names": ["small"]}
    assert run(capsys, "restore", removed["restore"])[0] == 2
    assert run(capsys, "restore", "../../etc@1")[0] == 2


def test_it_is_prepared_with_what_cleaning_left_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text(LINES + "Line 1 of a text about a fox and 1 dogs.\n")
    as_json(capsys, "add", "rows", "rows.txt", "--split", "line")
    figures = as_json(capsys, "prepare", "rows", "--deduplicate", "exact", "--tokenizer", "char")
    assert figures["train_tokens"] > 0
    notices = as_json(capsys, "tasks")[0]["notices"]
    assert any("1" in notice and "Line 1 of a text" in notice for notice in notices)


def test_the_catalogue_names_texts_to_begin_with(capsys: pytest.CaptureFixture[str]) -> None:
    entries = as_json(capsys, "catalogue")
    assert {"shakespeare", "tinystories", "c4"} <= {entry["name"] for entry in entries}
    assert all(entry["licence"] and entry["size"] for entry in entries)


def test_links_out_of_a_folder_are_not_followed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("a secret\n" * 50)
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "a.txt").write_text(LINES)
    (tmp_path / "books" / "b.txt").symlink_to(tmp_path / "secret.txt")
    manifest = as_json(capsys, "add", "books", "books")
    assert manifest["documents"] == 1
    assert "links to a place outside" in manifest["sources"][0]["notes"][0]


@pytest.mark.parametrize("source", ["ftp://host/file.txt", "file:///etc/passwd", "/dev/zero"])
def test_what_is_no_source_is_refused_in_words(capsys: pytest.CaptureFixture[str], source: str) -> None:
    code, _, err = run(capsys, "add", "x", source)
    assert code == 2
    assert "cannot be fetched" in err or "no file or folder" in err


def test_a_mixture_is_not_prepared_by_half(capsys: pytest.CaptureFixture[str]) -> None:
    as_json(capsys, "sample", "small", "--size", "5k")
    assert run(capsys, "prepare", "small", "--mix", "small:1")[0] == 2


@pytest.mark.parametrize("words", [("book", "a.txt"), ("a.txt",)])
def test_a_tokenizer_for_text_is_refused_with_the_right_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "a.txt").write_text(LINES)
    code, _, err = run(capsys, "add", *words, "--tokenizer-file", "tokenizer.json")
    assert code == 2
    assert "minigpt corpus prepare" in err


def test_a_field_of_running_text_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(LINES)
    code, _, err = run(capsys, "add", "a.txt", "--field", "story")
    assert code == 2
    assert "running text, which has no field 'story'" in err
