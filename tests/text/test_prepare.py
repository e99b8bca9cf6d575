from __future__ import annotations

import errno
import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from minigpt.config import Config, CorpusSettings
from minigpt.errors import JobFailed, UserError
from minigpt.presets import with_values
from minigpt.tasks import Cancelled, Task
from minigpt.text import sample
from minigpt.text.building import Dropout
from minigpt.text.cleaning_report import CleaningSettings
from minigpt.text.corpora import create_sample, resolve
from minigpt.text.corpus import Corpus
from minigpt.text.documents import Document, Message
from minigpt.text.prepare import held_out_notes, prepare, train_tokenizer
from minigpt.text.prepared import Prepared
from minigpt.text.shard_writer import ShardWriter
from minigpt.text.shards import read_shard
from minigpt.text.sources import DocumentSource
from minigpt.text.tokenizer import Tokenizer
from minigpt.workspace import Workspace

LONE = "".join(f"Line {i}: the quick brown fox, naïve — jumps.\n" for i in range(400))
DOCUMENTS = [Document(f"Story {i}. " + "The end. " * (i % 7 + 1)) for i in range(200)] + [
    Document(messages=(Message("user", f"Why {i}?"), Message("assistant", "Because."))) for i in range(100)
]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def lone(workspace: Workspace, tmp_path: Path) -> Corpus:
    (tmp_path / "lone.txt").write_text(LONE, encoding="utf-8")
    return resolve(workspace, str(tmp_path / "lone.txt"))


@pytest.fixture
def several(workspace: Workspace) -> Corpus:
    return Corpus.create(workspace, "several", DocumentSource("test", "here", DOCUMENTS))


class Telling(Task):
    """Keeps what it is told as (phase, share done) and lets the test act on it."""

    def __init__(self, act: Callable[[str, float], None]) -> None:
        self.act = act
        self.seen: list[tuple[str, float]] = []

    def report(self, phase: str, done: float = 0, total: float | None = None, unit: str = "") -> None:
        self.seen.append((phase, done / total if total else 0.0))
        self.act(*self.seen[-1])


def make(corpus: Corpus, kind: str = "char", validation: float = 0.1, test: float = 0.05, **more: object) -> Prepared:
    return prepare(
        corpus,
        tokenizer_kind=kind,
        vocab_size=300,
        validation_fraction=validation,
        test_fraction=test,
        **more,  # type: ignore[arg-type]
    )


def texts(prepared: Prepared, split: str) -> list[str]:
    """The documents of a split as they can be read back from its shards."""
    ids = np.concatenate([read_shard(path) for path in prepared.splits[split]] or [np.empty(0, int)]).tolist()
    documents: list[list[int]] = [[]]
    for token in ids:
        if token == prepared.tokenizer.end_of_text:
            documents.append([])
        else:
            documents[-1].append(token)
    return [prepared.tokenizer.decode(document, skip_special_tokens=False) for document in documents if document]


def expected_text(document: Document) -> str:
    return document.text or "".join(f"<|{m.role}|>{m.content}<|end|>" for m in document.messages)


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_a_lone_text_is_split_by_position(lone: Corpus, kind: str) -> None:
    prepared = make(lone, kind, 0.1, 0.05)
    first, second = int(len(LONE) * 0.85), int(len(LONE) * 0.95)
    parts = {"train": LONE[:first], "validation": LONE[first:second], "test": LONE[second:]}
    for split, part in parts.items():
        if kind != "word":
            assert texts(prepared, split) == [part]
        assert prepared.bytes[split] == len(part.encode())
        assert prepared.tokens[split] == prepared.split(split).tokens == len(prepared.tokenizer.encode(part))
    assert not prepared.conversations


def test_shakespeare_is_split_as_nanogpt_splits_it(workspace: Workspace, tmp_path: Path) -> None:
    text = ("abcdefghi\n" * 111_540)[:1_115_394]  # as long as tinyshakespeare
    (tmp_path / "shakespeare.txt").write_text(text)
    prepared = make(resolve(workspace, str(tmp_path / "shakespeare.txt")), "char", 0.1, 0)
    assert prepared.tokens == {"train": 1_003_854, "validation": 111_540, "test": 0}
    assert prepared.splits["test"] == []


def test_the_blocks_of_a_long_text_leave_no_trace(lone: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {split: texts(make(lone, "bpe"), split) for split in ("train", "validation", "test")}
    tokens = make(lone, "bpe").tokens
    shutil.rmtree(lone.directory / "shards")
    monkeypatch.setattr("minigpt.text.documents.BLOCK_BYTES", 1001)
    again = make(lone, "bpe", tokenizer=None)
    assert {split: texts(again, split) for split in whole} == whole
    assert again.tokens == tokens


def test_a_char_tokenizer_knows_the_characters_of_all_splits(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a" * 100 + "ż", encoding="utf-8")
    prepared = make(resolve(workspace, str(tmp_path / "text.txt")), "char", 0.1, 0)
    assert texts(prepared, "validation")[0].endswith("ż")


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_each_document_comes_once_with_its_join(several: Corpus, kind: str) -> None:
    prepared = make(several, kind)
    by_split = {split: texts(prepared, split) for split in ("train", "validation", "test")}
    assert sorted(itertools.chain(*by_split.values())) == sorted(map(expected_text, DOCUMENTS))
    assert 15 < len(by_split["validation"]) < 50
    assert 4 < len(by_split["test"]) < 30
    for split in by_split:
        last = prepared.split(split).read(prepared.tokens[split] - 1, prepared.tokens[split])
        assert last.tolist() == [prepared.tokenizer.end_of_text]
    assert prepared.conversations
    assert sum(prepared.bytes.values()) == several.manifest.bytes


def test_a_document_stays_in_its_split_when_others_are_added(workspace: Workspace, several: Corpus) -> None:
    more = [*(Document(f"New {i}") for i in range(50)), *reversed(DOCUMENTS)]
    larger = Corpus.create(workspace, "larger", DocumentSource("test", "here", more))
    for split in ("train", "validation", "test"):
        before, after = set(texts(make(several), split)), set(texts(make(larger), split))
        assert before == after & set(map(expected_text, DOCUMENTS))


def test_nor_does_one_that_a_small_collection_had_to_hold_out(workspace: Workspace) -> None:
    sources = [DocumentSource("test", "here", DOCUMENTS[start : start + 3]) for start in range(0, 60, 3)]
    corpus = Corpus.create(workspace, "growing", sources[0])
    before: dict[str, str] = {}
    for source in sources[1:]:
        made = make(corpus, "char")
        now = {text: split for split in made.splits for text in texts(made, split)}
        assert before.items() <= now.items()
        before = now
        corpus = corpus.extended([source])
    assert set(before.values()) == {"train", "validation", "test"}


@pytest.mark.parametrize(("count", "empty"), [(1, {"validation", "test"}), (2, {"test"}), (3, set()), (10, set())])
def test_small_collections_leave_no_split_empty(workspace: Workspace, count: int, empty: set[str]) -> None:
    # The same document twice must not be in two splits.
    documents = [document for document in DOCUMENTS[-count:] for _ in range(2)]
    corpus = Corpus.create(workspace, "few", DocumentSource("test", "here", documents))
    prepared = make(corpus, "char", 0.02, 0.02)
    by_split = {split: texts(prepared, split) for split in prepared.splits}
    assert {split for split, found in by_split.items() if not found} == empty
    assert sorted(itertools.chain(*by_split.values())) == sorted(map(expected_text, documents))
    assert sum(len(set(found)) for found in by_split.values()) == count


def test_shards_are_reused_until_something_changes(several: Corpus, workspace: Workspace) -> None:
    first = make(several)
    before = [path.stat().st_mtime_ns for path in sorted(first.directory.iterdir())]
    task = Telling(lambda phase, share: None)
    again = make(several, task=task)
    assert again.directory == first.directory
    assert [path.stat().st_mtime_ns for path in sorted(first.directory.iterdir())] == before
    assert task.seen == []

    directories = {
        first.directory,
        make(several, "bpe").directory,
        make(several, validation=0.2).directory,
        make(several, test=0.0).directory,
        make(several, tokenizer=Tokenizer.train("char", ["abc"], 0)).directory,
        make(several, tokenizer=Tokenizer.train("char", ["abcd"], 0)).directory,
    }
    assert len(directories) == 6
    other = Corpus.create(workspace, "other", DocumentSource("test", "here", DOCUMENTS[1:]))
    assert make(other).directory.name != first.directory.name


@pytest.mark.parametrize("damage", ["truncate", "remove", "tokenizer", "manifest"])
def test_damaged_shards_are_made_again(several: Corpus, damage: str) -> None:
    prepared = make(several)
    shard = prepared.splits["train"][0]
    whole = shard.read_bytes()
    if damage == "truncate":
        shard.write_bytes(whole[:-2])
    elif damage == "remove":
        shard.unlink()
    elif damage == "tokenizer":
        (prepared.directory / "tokenizer.json").unlink()
    else:
        (prepared.directory / "shards.toml").write_text("splits = 3")
    again = make(several)
    assert again.directory == prepared.directory
    assert shard.read_bytes() == whole
    assert again.tokens == prepared.tokens


def test_a_given_tokenizer_is_used(several: Corpus) -> None:
    tokenizer = Tokenizer.train("char", ["The end."], 0)
    prepared = make(several, "bpe", tokenizer=tokenizer)
    assert prepared.tokenizer.to_json() == tokenizer.to_json()
    assert "as given" in prepared.tokenizer_note


def test_the_note_says_what_was_chosen_now_and_not_by_whoever_prepared_first(lone: Corpus) -> None:
    automatic, asked = make(lone, "auto"), make(lone, "char")
    assert automatic.directory == asked.directory
    assert "too few" in automatic.tokenizer_note
    assert "as asked for" in asked.tokenizer_note


def test_progress_goes_from_phase_to_phase(several: Corpus) -> None:
    task = Telling(lambda phase, share: None)
    make(several, "bpe", task=task)
    assert list(dict.fromkeys(phase for phase, _ in task.seen)) == [
        "training the tokenizer",
        "learning tokens",
        "tokenising",
        "tokenised",
    ]
    tokenising = [share for phase, share in task.seen if phase == "tokenising"]
    assert tokenising == sorted(tokenising)
    assert tokenising[-1] == 1
    assert all(0 <= share <= 1 for _, share in task.seen)


@pytest.mark.parametrize(("validation", "test"), [(0.5, 0.5), (-0.1, 0.0), (1.0, 0.0), (float("nan"), 0.0)])
def test_fractions_must_leave_something_to_train_on(lone: Corpus, validation: float, test: float) -> None:
    with pytest.raises(UserError, match="leave nothing to train on"):
        make(lone, validation=validation, test=test)


def test_a_failure_midway_leaves_no_shards_under_their_name(several: Corpus) -> None:
    def fail(phase: str, share: float) -> None:
        if phase == "tokenising":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(several, task=Telling(fail))
    assert [path.name[0] for path in (several.directory / "shards").iterdir()] == ["."]
    assert make(several).tokens["train"] > 0


SMALL_PIECES = 300, 300, 100, 400


def script(corpus: Corpus, kind: str, body: str) -> list[str]:
    """A process that prepares in tiny shards and runs `body` at each report."""
    code = f"""
import os, signal, sys
from pathlib import Path
from minigpt.text import documents, pieces
from minigpt.text.formats import encodings
encodings.SAMPLE_BYTES, documents.BLOCK_BYTES, pieces.PIECE, pieces.BATCH = {SMALL_PIECES}
from minigpt.presets import with_values
from minigpt.tasks import Cancelled, Task
from minigpt.text.corpus import Corpus
from minigpt.text.prepare import prepare
class Telling(Task):
    def report(self, phase, done=0, total=None, unit=""): {body}
corpus = Corpus.open(Path({str(corpus.directory)!r}))
print(prepare(corpus, tokenizer_kind={kind!r}, vocab_size=300, validation_fraction=0.1, test_fraction=0.05,
              task=Telling(), shard_tokens=1000).directory.name)
assert "torch" not in sys.modules
"""
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("text", ["lone", "several"])
@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_a_killed_process_costs_one_shard_at_most(
    text: str, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small pieces, so that there are many between two shards.
    names = ("formats.encodings.SAMPLE_BYTES", "documents.BLOCK_BYTES", "pieces.PIECE", "pieces.BATCH")
    for name, value in zip(names, SMALL_PIECES, strict=True):
        monkeypatch.setattr(f"minigpt.text.{name}", value)
    corpus = request.getfixturevalue(text)
    whole = shards(make(corpus, kind, shard_tokens=1000))
    shutil.rmtree(corpus.directory / "shards")
    half = corpus.manifest.bytes * 0.6
    kill = f"phase == 'tokenising' and done > {half} and os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run(script(corpus, kind, kill)).returncode == -9
    (building,) = (corpus.directory / "shards").iterdir()
    before = {path.name: path.stat().st_mtime_ns for path in building.glob("*.bin")}
    assert before

    task = Telling(lambda phase, share: None)
    again = make(corpus, kind, shard_tokens=1000, task=task)
    assert shards(again) == whole
    after = {path.name: path.stat().st_mtime_ns for path in again.directory.glob("*.bin")}
    assert {name: after[name] for name in before} == before
    assert min(share for phase, share in task.seen if phase == "tokenising") > 0
    assert list((corpus.directory / "shards").iterdir()) == [again.directory]


def shards(prepared: Prepared) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in prepared.directory.glob("*.bin")}


def test_a_shard_that_was_finished_after_the_last_note_of_it_is_taken_up_again(tmp_path: Path) -> None:
    ids = np.arange(250, dtype=np.uint16)
    with ShardWriter(tmp_path, "train", 300, shard_tokens=100) as writer:
        writer.add(ids[:150])
        state = writer.sync()
        writer.add(ids[150:])
    with ShardWriter(tmp_path, "train", 300, shard_tokens=100, state=state) as writer:
        writer.add(ids[150:])
    assert [path.name for path in writer.paths] == [f"train_{number:06d}.bin" for number in range(3)]
    assert np.concatenate([read_shard(path) for path in writer.paths]).tolist() == ids.tolist()


def test_a_full_disk_is_said_so_and_what_is_done_is_kept(several: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(phase: str, share: float) -> None:
        if phase == "tokenising" and share > 0.5:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("minigpt.text.pieces.BATCH", 400)
    with pytest.raises(JobFailed, match=r"disk is full.*what is done is kept"):
        make(several, task=Telling(full), shard_tokens=500)
    task = Telling(lambda phase, share: None)
    make(several, task=task, shard_tokens=500)
    assert min(share for phase, share in task.seen if phase == "tokenising") > 0


def test_room_is_looked_for_first(several: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.text.building.free_disk", lambda path: 1000)
    with pytest.raises(UserError, match="make room"):
        make(several)


def test_dropout_gives_the_training_text_in_several_spellings(several: Corpus) -> None:
    plain = make(several, "bpe")
    prepared = make(several, "bpe", dropout=Dropout(0.5, 3))
    assert prepared.directory != plain.directory
    assert prepared.tokenizer.to_json() == plain.tokenizer.to_json()
    assert texts(prepared, "train") == 3 * texts(plain, "train")
    assert texts(prepared, "validation") == texts(plain, "validation")
    assert prepared.tokens["validation"] == plain.tokens["validation"]
    assert prepared.tokens["train"] > 3 * plain.tokens["train"]
    assert prepared.bytes["train"] == 3 * plain.bytes["train"]


def test_cleaning_leaves_out_what_it_says(workspace: Workspace) -> None:
    documents = [*DOCUMENTS[:50], *DOCUMENTS[:10], Document("short")]
    corpus = Corpus.create(workspace, "dirty", DocumentSource("test", "here", documents))
    prepared = make(corpus, cleaning=CleaningSettings(False, "exact", 6))
    kept = sorted(itertools.chain(*(texts(prepared, split) for split in prepared.splits)))
    assert kept == sorted(map(expected_text, DOCUMENTS[:50]))
    assert any("10" in note for note in prepared.notes)
    assert prepared.directory != make(corpus).directory
    with pytest.raises(UserError, match="leaves nothing"):
        make(corpus, cleaning=CleaningSettings(False, "off", 100_000))


def test_held_out_text_that_is_learned_from_too_is_told(workspace: Workspace) -> None:
    documents = [Document(text) for number in range(100) for text in (f"Story {number}.", f"STORY  {number}.")]
    corpus = Corpus.create(workspace, "twice", DocumentSource("test", "here", documents))
    (note,) = held_out_notes(corpus, CorpusSettings(validation_fraction=0.1, test_fraction=0.1))
    assert "held-out documents" in note and "also stand in the training text" in note
    (note,) = held_out_notes(corpus, CorpusSettings(validation_fraction=0.1, test_fraction=0.1, deduplicate="near"))
    assert note.startswith("None of")


def test_two_processes_that_prepare_the_same_both_end_well(several: Corpus) -> None:
    processes = [
        subprocess.Popen(script(several, "char", "pass"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    assert results[0] == results[1]
    assert [path.name for path in (several.directory / "shards").iterdir()] == [results[0][0].strip()]


def test_the_sample_is_made_on_first_use(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "DEFAULT_CHARACTERS", 20_000)
    first = resolve(workspace, "sample")
    assert "Made the built-in corpus" in first.note
    assert list(first.documents()) == list(sample.documents(20_000, 0))
    again = resolve(workspace, "sample")
    assert (again.directory, again.note) == (first.directory, "")


def test_samples_of_any_size_have_names_of_their_own(workspace: Workspace) -> None:
    corpus = create_sample(workspace, "small", 5_000, 3)
    assert list(resolve(workspace, "small").documents()) == list(sample.documents(5_000, 3))
    assert "seed 3" in corpus.manifest.sources[0].origin
    with pytest.raises(UserError, match="already"):
        create_sample(workspace, "small", 5_000, 3)


def test_a_corpus_is_found_by_name_or_by_its_folder(workspace: Workspace, several: Corpus) -> None:
    assert resolve(workspace, "several").manifest == several.manifest
    assert resolve(workspace, str(several.directory)).manifest == several.manifest


@pytest.mark.parametrize("name", ["", "nothing-here", "../nothing", "a\0b", "x" * 300])
def test_what_is_not_there_is_said_so(workspace: Workspace, name: str) -> None:
    with pytest.raises(UserError):
        resolve(workspace, name)


def test_shards_that_are_gone_are_made_again_after_a_kill(several: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.text.pieces.BATCH", 400)

    def stop(phase: str, share: float) -> None:
        if phase == "tokenising" and share > 0.6:
            raise Cancelled

    whole = shards(make(several, shard_tokens=1000))
    shutil.rmtree(several.directory / "shards")
    with pytest.raises(Cancelled):
        make(several, task=Telling(stop), shard_tokens=1000)
    (building,) = (several.directory / "shards").iterdir()
    next(building.glob("train_*.bin")).unlink()
    assert shards(make(several, shard_tokens=1000)) == whole


@pytest.mark.parametrize("kind", ["char", "word"])
def test_dropout_is_for_merges(several: Corpus, kind: str) -> None:
    with pytest.raises(UserError, match=rf"bpe_dropout .* this one is {kind}"):
        make(several, kind, dropout=Dropout(0.1, 2))


def test_one_tokenizer_for_several_corpora_learns_from_their_text_after_cleaning(workspace: Workspace) -> None:
    broken = "cafÃ© " * 40
    corpora = [
        Corpus.create(
            workspace, name, DocumentSource("test", "here", [Document(f"{broken}{name}{i}") for i in range(9)])
        )
        for name in "ab"
    ]
    config = with_values(Config(), {"corpus.fix_unicode": True, "tokenizer.kind": "char"}, "test")
    tokenizer, _ = train_tokenizer(corpora, config)
    assert tokenizer.unknown_share(np.array(tokenizer.encode("café"))) == 0
