"""`minigpt tokenizer` as people and the app's pane use it."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers

from minigpt.cli.main import main
from minigpt.text.tokenizer import Tokenizer
from minigpt.workspace import Workspace
from tests.conftest import run_minigpt, tale

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run a command in this process: (arguments, piped in) -> (exit code, stdout, stderr)."""
    monkeypatch.setenv("MINIGPT_WORKSPACE", str(workspace.root))
    monkeypatch.chdir(workspace.root)
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    first = workspace.checkpoints / "first"
    first.mkdir()
    Tokenizer.train("word", [tale()], 100).save(first / "tokenizer.json")
    Tokenizer.train("bpe", [tale()], 300).save(workspace.root / "mine.json")

    def run(*arguments: str, piped: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped)))
        code = main(["tokenizer", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


# -- train


@pytest.mark.parametrize("kind", ["bpe", "word"])
def test_train_keeps_a_tokenizer_beside_the_corpus(call: Call, workspace: Workspace, kind: str) -> None:
    code, out, _ = call("train", "tale", "--kind", kind, "--vocab-size", "290", "--json")
    facts = json.loads(out)
    path = workspace.data / "tale" / "tokenizers" / f"{kind}-290.json"
    assert (code, facts["file"], facts["kind"]) == (0, str(path), kind)
    tokenizer = Tokenizer.load(path)
    assert facts["vocab_size"] == tokenizer.vocab_size
    core = tokenizers.Tokenizer.from_file(str(path))
    expected = len(tale()) / len(core.encode(tale(), add_special_tokens=False).ids)
    assert facts["characters_per_token"] == pytest.approx(expected)
    assert facts["unknown_rate"] == 0
    code, out, err = call("show", "tale")
    assert code == 2
    assert str(path) in err


def test_a_char_tokenizer_is_named_by_its_size(call: Call, workspace: Workspace) -> None:
    code, out, err = call("train", "tale", "--vocab-size", "290")
    (path,) = (workspace.data / "tale" / "tokenizers").iterdir()
    assert code == 0
    assert path.name == f"char-{6 + len(set(tale()))}.json"
    assert out.startswith(str(path))
    assert "too few" in err
    assert "--vocab-size is not used" in err


def test_train_writes_where_it_is_told(call: Call, workspace: Workspace) -> None:
    arguments = ("train", "tale.txt", "--kind=bpe", "--output", "own.json", "--sample-characters", "200")
    for _ in range(2):
        code, _, err = call(*arguments)
        assert code == 0, err
    assert Tokenizer.load("own.json").kind == "bpe"
    assert "--tokenizer-file" in err
    assert not (workspace.data / "tale" / "tokenizers").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output", "tale.txt"], "is there already and is no tokenizer"),
        (["--output", "."], "is a folder"),
        (["--output", "no/such/x.json"], "there is no folder"),
        (["--vocab-size", "99999999999999999999"], "from 16 to 1,000,000"),
        (["--vocab-size", "20"], "at least 262"),
        (["--sample-characters", "-3"], "--sample-characters '-3'"),
        (["--kind", "words"], "did you mean 'word'"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(call: Call, arguments: list[str], said: str) -> None:
    code, out, err = call("train", "tale", "--kind", "bpe", *arguments)
    assert (code, out) == (2, "")
    assert said.lower() in err.lower()
    assert Path("tale.txt").read_text() == tale()


# -- show


@pytest.mark.slow
def test_show_tells_what_a_tokenizer_is(call: Call, workspace: Workspace) -> None:
    code, out, _ = call("show", "first")
    assert code == 0
    for said in ("every word is a token", "<|endoftext|>", "the built-in sample text", '" child"'):
        assert said in out
    assert "tale" in call("show", "mine.json", "--corpus", "tale")[1]
    facts = json.loads(call("show", "mine.json", "--json")[1])
    assert len(facts["merges"]) == 10
    assert facts["measured_on"] == "the built-in sample text"


def test_a_corpus_is_measured_on_itself(call: Call) -> None:
    assert main(["corpus", "prepare", "tale", "--tokenizer", "char"]) == 0
    code, out, err = call("show", "tale", "--json")
    assert code == 0, err
    facts = json.loads(out[out.index("{") :])
    assert (facts["kind"], facts["measured_on"], facts["unknown_rate"]) == ("char", "the corpus tale", 0)


TEXT = "The cat\r\nsees “你好” 👍🏽\n"


def test_the_pane_gets_tokens_and_spans(call: Call) -> None:
    code, out, _ = call("show", "mine.json", "--stdin", "--json", piped=TEXT.encode())
    answer = json.loads(out)
    assert (code, answer["kind"], answer["vocab_size"]) == (0, "bpe", Tokenizer.load("mine.json").vocab_size)
    core = tokenizers.Tokenizer.from_file("mine.json")
    assert [token["id"] for token in answer["tokens"]] == core.encode(TEXT, add_special_tokens=False).ids
    assert "".join(TEXT[start:end] for start, end in answer["spans"]) == TEXT
    assert (answer["characters"], answer["truncated"]) == (len(TEXT), False)
    assert answer["tokens"][0]["text"] == "The"


def test_an_endless_text_is_cut_and_that_is_said(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.cli.tokenizer.LONGEST_INPUT", 1000)
    code, out, err = call("show", "first", "--stdin", "--json", piped="€".encode() * 4000)
    answer = json.loads(out)
    assert (code, answer["characters"], answer["truncated"]) == (0, 333, True)
    assert "Only the first 1,000 bytes" in err


def test_what_is_not_utf_8_is_refused(call: Call) -> None:
    code, _, err = call("show", "first", "--stdin", piped=b"\xff\xfe")
    assert code == 2
    assert "not UTF-8" in err


def test_tokens_are_parted_by_bars_in_a_pipe(call: Call) -> None:
    code, out, err = call("show", "first", "The cat\n Zoe\x1b.")
    assert (code, out) == (0, "The| cat|\\n|<|unk|>|<|unk|>|.\n")
    assert call("show", "mine.json", "\x1b.\n")[1] == "\\x1b|.\\n\n"
    assert "tokens for" in err


def test_tokens_are_painted_on_a_terminal(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    _, out, _ = call("show", "mine.json", "The cat €\n\x1b[2Jx")
    colours = re.findall(r"\x1b\[([0-9;]+)m", out)
    painted = [colour for colour in colours if colour != "0"]
    assert set(painted) == {"30;46", "30;43"}
    assert len(re.findall("€", out)) == 1
    plain = re.sub(r"\x1b\[[0-9;]+m", "", out)
    assert plain == "The cat €\\n\n\\x1b[2Jx\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert call("show", "mine.json", "The cat")[1].startswith("T")
    assert "\x1b" not in call("show", "mine.json", "The cat")[1]


def test_ids_stand_beneath_the_tokens(call: Call) -> None:
    code, out, _ = call("show", "first", "--ids", "The cat sees 你")
    tokens, ids, *_ = out.splitlines()
    core = tokenizers.Tokenizer.from_file("checkpoints/first/tokenizer.json")
    assert code == 0
    assert [int(i) for i in ids.split()] == core.encode("The cat sees 你", add_special_tokens=False).ids
    assert tokens.split("|")[:2] == ["The", " cat"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "first", "text", "--stdin"], "not both"),
        (["show", "first", "--ids"], "--ids goes with a text"),
        (["show", "frist"], "Did you mean 'first'"),
        (["show", "tale"], "minigpt corpus prepare tale"),
        (["show", "tale.txt"], "not a valid tokenizer.json"),
        (["compare", "first"], "at least two"),
        (["compare", "first", "mine.json", "--text", "a", "--corpus", "tale"], "not both"),
        (["show", "first", "--corpus", "nowhere"], "no file, folder or corpus"),
    ],
)
def test_mistakes_are_one_sentence(call: Call, arguments: list[str], said: str) -> None:
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_it_works_in_a_process_of_its_own(workspace: Workspace) -> None:
    Tokenizer.train("char", [tale()], 0).save(workspace.root / "mine.json")
    done = run_minigpt("tokenizer", "show", "mine.json", "--stdin", workspace=workspace.root, input=tale() * 100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("T|h|e| |")


# -- compare


def test_compare_puts_tokenizers_side_by_side(call: Call) -> None:
    arguments = ("compare", "mine.json", "first", "mine.json", "--text", tale())
    code, out, _ = call(*arguments, "--json")
    first, second, third = json.loads(out)["tokenizers"]
    assert code == 0
    assert [first["name"], second["name"], third["name"]] == ["mine.json", "first", "mine.json"]
    assert (first["ratio"], third["ratio"]) == (1, 1)
    for row, path in ((first, "mine.json"), (second, "checkpoints/first/tokenizer.json")):
        ids = tokenizers.Tokenizer.from_file(path).encode(tale(), add_special_tokens=False).ids
        assert row["tokens"] == len(ids)
        assert row["characters_per_token"] == pytest.approx(len(tale()) / len(ids))
    assert second["ratio"] == pytest.approx(first["tokens"] / second["tokens"])
    _, out, _ = call(*arguments)
    assert f"{second['ratio']:.2f} x" in out
    assert "longest tokens" in out
    assert all(len(line) < 110 for line in out.splitlines())


@pytest.mark.slow
def test_compare_on_a_corpus_or_the_built_in_text(call: Call) -> None:
    assert "the corpus tale" in call("compare", "mine.json", "first", "--corpus", "tale")[1]
    assert "the built-in sample text" in call("compare", "mine.json", "first")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "A token is the piece of text that a model reads and writes at a time"),
        (["train"], "joins the pair that is most frequent"),
        (["show"], "how many characters of ordinary text a token holds"),
        (["compare"], "how much text a model's context holds"),
    ],
)
def test_help_teaches(call: Call, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    with pytest.raises(SystemExit):
        call(*arguments, "--help")
    assert said in " ".join(capsys.readouterr().out.split())
