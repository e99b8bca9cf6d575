"""Whatever stands in a file: an answer or a clear sentence, within a second, and never a crash."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minigpt import config as definitions
from minigpt.comparing.facts import facts_of
from minigpt.config import Config
from minigpt.digest import digest
from minigpt.errors import JobFailed, UserError, printable
from minigpt.events import EVENTS
from minigpt.history import RunHistory
from minigpt.jobs import COMMANDS, CommandReader, EventReader
from minigpt.model.checkpoint import BEST, FINAL, load
from minigpt.narration import clock, narrate
from minigpt.notices import latest_cure
from minigpt.pace import Pace
from minigpt.post_mortem import why
from minigpt.presets import from_mapping, read_file, to_toml, with_values
from minigpt.runs import summarise
from minigpt.text.corpora import list_corpora
from minigpt.text.documents import read_documents
from minigpt.text.shards import read_shard, shard_header
from minigpt.text.tokenizer import Tokenizer
from minigpt.training.recorder import Recorder
from minigpt.training.session import Session
from minigpt.training.state import restore
from minigpt.workspace import Workspace
from tests.conftest import small_config, tale, tale_workspace
from tests.faults.mutator import mutated
from tui.chat import conversations

# "No hang over a second": of the processor's time, for others share the machine.
SECONDS = 1.0
# What may be said of a file that cannot be used.
CLEAR = (UserError, JobFailed)
# Of so many inputs in the campaign, one in so many belongs to the normal run.
QUICK_PART = 250


class Room(NamedTuple):
    """A workspace with a run that was really trained, and a folder for what is changed."""

    workspace: Workspace
    run: Path
    folder: Path


class Target(NamedTuple):
    """What is fuzzed: whole examples of it, how it is read, and with how many inputs the campaign does it."""

    seeds: Callable[[Room], Sequence[bytes]]
    read: Callable[[Room, bytes], object]
    inputs: int


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    folder = tmp_path_factory.mktemp("fuzz")
    workspace = tale_workspace(folder)
    session = Session.new(workspace, small_config(training__eval_every=4), run="seed", say=lambda told: None)
    assert session.train() == 0
    run = workspace.run_directory("fuzzed")
    run.mkdir()
    (run / "config.toml").write_bytes((session.directory / "config.toml").read_bytes())
    (folder / "input").mkdir()
    return Room(workspace, run, folder / "input")


class TooSlow(AssertionError):
    """A reader took longer than a second."""


@contextmanager
def within_a_second(data: bytes) -> Iterator[None]:
    began = time.thread_time()
    try:
        yield
    except CLEAR as error:
        said = str(error)
        assert said.strip(), "an error without a word"
        assert said == printable(said), f"codes for the terminal in {said!r}"
    except RecursionError as error:
        raise AssertionError(f"too deep for the reader: {data[:200]!r}") from error
    spent = time.thread_time() - began
    if spent >= SECONDS:
        raise TooSlow(f"{spent:.2f} s for {data[:200]!r}")


# What is fuzzed


def _settings(room: Room) -> Sequence[bytes]:
    tables = msgspec.to_builtins(small_config())
    return [to_toml(small_config()).encode(), to_toml(Config()).encode(), json.dumps(tables).encode()]


def _read_settings(room: Room, data: bytes) -> None:
    path = room.folder / ("input.json" if data[:1] == b"{" else "input.toml")
    path.write_bytes(data)
    read_file(path)


def _events(room: Room) -> Sequence[bytes]:
    lines = (room.workspace.run_directory("seed") / EVENTS).read_bytes().splitlines(keepends=True)
    kinds: dict[str, bytes] = {}
    for line in lines:
        kinds.setdefault(json.loads(line)["type"], line)
    return [b"".join(lines), b"".join(kinds.values()), *(kinds["start"] + line for line in kinds.values())]


def _read_events(room: Room, data: bytes) -> None:
    (room.run / EVENTS).write_bytes(data)
    summary = summarise(room.run)
    why(room.run, summary)
    facts_of(room.workspace, digest(room.run), None)
    history = RunHistory(room.run)
    while history.read():
        pass
    history.close()
    pace = Pace()
    with EventReader(room.run / EVENTS) as reader:
        events = reader.poll()
    latest_cure(events)
    for event in events:
        pace.update(event)
        told = narrate(event)
        assert told is None or told == printable(told), told
        clock(event)


def _commands(room: Room) -> Sequence[bytes]:
    commands: list[tuple[str, dict[str, Any]]] = [
        ("pause", {}),
        ("resume", {}),
        ("set", {"lr_scale": 0.5}),
        ("set", {"max_steps": 10_000, "eval_every": 5, "target_loss": None}),
        ("sample", {"prompt": "The"}),
        ("stop", {}),
    ]
    records = [{"id": str(i), "time": 4e9, "by": "x", "command": c, "args": a} for i, (c, a) in enumerate(commands)]
    return [json.dumps(record).encode() + b"\n" for record in records]


def _obey(room: Room, data: bytes) -> None:
    trainer = _TRAINERS[room.folder]
    path = room.workspace.run_directory("seed") / COMMANDS
    path.unlink(missing_ok=True)
    trainer.controls.commands = CommandReader(path.parent)
    path.write_bytes(data)
    # Somebody has asked for the end already, or a pause would last.
    trainer.controls.signals.reason = "SIGTERM"
    trainer.controls.obey()


_TRAINERS: dict[Path, Any] = {}


@pytest.fixture(scope="module")
def trainer(room: Room) -> Iterator[None]:
    directory = room.workspace.run_directory("seed")
    session = Session.new(room.workspace, small_config(training__max_steps=100), run="other", say=lambda told: None)
    session.directory = directory
    with Recorder(directory, "cpu", 1) as recorder:
        _TRAINERS[room.folder] = session.trainer(recorder)
        yield


def _texts(room: Room) -> Sequence[bytes]:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello é"}]
    return [
        tale(60).encode(),
        tale(60).encode("utf-16"),
        "\n".join(json.dumps({"text": line, "n": 1}) for line in tale(60).splitlines()).encode(),
        json.dumps({"rows": [{"text": line} for line in tale(60).splitlines()]}).encode(),
        (json.dumps({"messages": turns}) + "\n").encode() * 3,
        b'id,text\n1,"a ""b""\nc"\n2,d\n',
        b"<html><head><title>x</title></head><body><p>One.</p><p>Two &amp; three</p></body></html>",
        b"One\n<|endoftext|>\nTwo\n\nThree\n",
    ]


_NAMES = ("input.txt", "input.md", "input.jsonl", "input.json", "input.csv", "input.tsv", "input.txt.gz")


def _read_texts(room: Room, data: bytes) -> None:
    # Any content under any name, but always the same name for the same content.
    path = room.folder / _NAMES[sum(data[:64]) % len(_NAMES)]
    path.write_bytes(data)
    for document in read_documents(path):
        assert any(document.texts())


def _shards(room: Room) -> Sequence[bytes]:
    tokens = np.arange(50, dtype="<u2").tobytes()
    return [shard_header(20240520, 50) + tokens, shard_header(20240801, 25) + tokens, shard_header(20240520, 0)]


def _read_shards(room: Room, data: bytes) -> None:
    path = room.folder / "train_000000.bin"
    path.write_bytes(data)
    assert int(read_shard(path).astype(np.int64).sum()) >= 0


def _checkpoints(room: Room) -> Sequence[bytes]:
    return [(room.workspace.run_directory("seed") / BEST).read_bytes()]


def _read_checkpoints(room: Room, data: bytes) -> None:
    path = room.folder / BEST
    path.write_bytes(data)
    checkpoint = load(path)
    checkpoint.build_model()
    Tokenizer.from_json(checkpoint.tokenizer)


def _tokenizers(room: Room) -> Sequence[bytes]:
    kinds = (Tokenizer.train("char", [tale(60)], 100), Tokenizer.train("bpe", [tale(60)], 300))
    return [tokenizer.to_json().encode() for tokenizer in kinds]


def _read_tokenizers(room: Room, data: bytes) -> None:
    path = room.folder / "tokenizer.json"
    path.write_bytes(data)
    tokenizer = Tokenizer.load(path)
    tokenizer.decode(tokenizer.encode("The cat sees the dog."))


def _conversations(room: Room) -> Sequence[bytes]:
    turns = [conversations.Turn("user", "Hi"), conversations.Turn("assistant", "Hello", model="a/b.pt", note="length")]
    made = conversations.Conversation("one", "Hi", "a/b.pt", "chat", {"temperature": 1.0}, turns)
    return [conversations.encode(made)]


def _read_conversations(room: Room, data: bytes) -> None:
    path = conversations.folder(room.workspace) / "one.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    found = conversations.load(room.workspace, "one")
    if found is not None:
        found.messages()
        conversations.told(found)


def _manifests(room: Room) -> Sequence[bytes]:
    return [(room.workspace.data / "tale" / "corpus.toml").read_bytes()]


def _read_manifests(room: Room, data: bytes) -> None:
    corpus = room.workspace.data / "fuzzed"
    (corpus / "documents").mkdir(parents=True, exist_ok=True)
    (corpus / "corpus.toml").write_bytes(data)
    list_corpora(room.workspace)


TARGETS = {
    "settings": Target(_settings, _read_settings, 15_000),
    "events": Target(_events, _read_events, 15_000),
    "commands": Target(_commands, _obey, 15_000),
    "corpus files": Target(_texts, _read_texts, 20_000),
    "shards": Target(_shards, _read_shards, 10_000),
    "checkpoints": Target(_checkpoints, _read_checkpoints, 5_000),
    "tokenizers": Target(_tokenizers, _read_tokenizers, 3_000),
    "conversations": Target(_conversations, _read_conversations, 10_000),
    "manifests": Target(_manifests, _read_manifests, 7_000),
}


# Of the right form, but with anything in it: what changed bytes seldom are.

_PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from([2**63, -(2**63) - 1, 10**400, 1e308, "\x1b]0;owned\x07", "\ud800", "../../x", "[red]", "\n" * 50]),
)
_ANYTHING = st.recursive(
    _PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=4,
)
_KINDS = ("start", "step", "device", "eval", "sample", "checkpoint", "phase", "notice", "command", "end", "task")
_FIELDS = (
    *("type", "time", "step", "epoch", "tokens", "loss", "learning_rate", "grad_norm", "tokens_per_s", "mfu", "split"),
    *("resumed_from", "rolled_back_from", "planned_steps", "planned_tokens", "tokens_per_step", "parameters", "device"),
    *("severity", "code", "message", "cure", "id", "command", "args", "done", "why", "path", "kind", "phase", "pid"),
    *("prompt", "text", "perplexity", "bits_per_byte", "blocks", "best", "whole", "ladder", "forked_from", "reason"),
    *("exit_code", "memory", "memory_total", "last_progress", "changed", "environment", "preset", "corpus", "run"),
)
_EVENT = st.builds(
    lambda kind, fields: {**fields, "type": kind},
    st.sampled_from(_KINDS),
    st.dictionaries(st.sampled_from(_FIELDS), _ANYTHING, max_size=6),
)
_SETTING = st.sampled_from([*definitions.settings(), "training.nonsense", "nonsense.learning_rate", "model"])
_COMMAND = st.fixed_dictionaries(
    {
        "id": st.text(max_size=5),
        "time": st.floats(3e9, 4e9),
        "by": st.text(max_size=5),
        "command": st.sampled_from(["set", "sample", "pause", "resume", "nonsense"]),
        "args": st.dictionaries(
            st.sampled_from(
                ["lr_scale", "max_steps", "eval_every", "save_every", "target_loss", "patience", "prompt", "x"]
            ),
            _ANYTHING,
            max_size=3,
        ),
    }
)
quickly = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
patiently = settings(quickly, max_examples=3000)


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _any_settings(values: dict[str, Any]) -> None:
    with within_a_second(repr(values).encode()):
        with_values(Config(), values, "test")
        tables: dict[str, Any] = {}
        for key, value in values.items():
            section, _, name = key.partition(".")
            tables.setdefault(section, {})[name] = value
        from_mapping(tables, "test")


def _any_events(room: Room, events: list[dict[str, Any]]) -> None:
    data = b"".join(map(_line, events))
    with within_a_second(data):
        _read_events(room, data)


def _any_commands(room: Room, commands: list[dict[str, Any]]) -> None:
    data = b"".join(map(_line, commands))
    with within_a_second(data):
        _obey(room, data)


@given(st.dictionaries(_SETTING, _ANYTHING, max_size=4))
@quickly
def test_any_value_of_a_setting_is_taken_or_refused_in_words(values: dict[str, Any]) -> None:
    _any_settings(values)


@given(st.lists(_EVENT, max_size=5))
@quickly
def test_events_that_no_trainer_wrote_do_not_disturb_a_watcher(room: Room, events: list[dict[str, Any]]) -> None:
    _any_events(room, events)


@given(st.lists(_COMMAND, max_size=3))
@quickly
@pytest.mark.usefixtures("trainer")
def test_any_command_is_obeyed_or_refused(room: Room, commands: list[dict[str, Any]]) -> None:
    _any_commands(room, commands)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("trainer")
def test_thousands_of_settings_events_and_commands(room: Room) -> None:
    patiently(given(st.dictionaries(_SETTING, _ANYTHING, max_size=4))(_any_settings))()
    patiently(given(st.lists(_EVENT, max_size=5))(lambda events: _any_events(room, events)))()
    patiently(given(st.lists(_COMMAND, max_size=3))(lambda commands: _any_commands(room, commands)))()


def _any_checkpoint(room: Room, rng: random.Random) -> None:
    """Change one value of a checkpoint's contents, and go on with the run from it."""
    payload = torch.load(room.workspace.run_directory("seed") / FINAL, weights_only=True)
    place, key = payload, rng.choice(list(payload))
    while isinstance(place[key], dict) and place[key] and rng.random() < 0.8:
        place = place[key]
        key = rng.choice(list(place))
    odd = [None, -1, 0, 1, 2**70, 0.5, float("nan"), "", "\x1b[2J", [], [1], {}, {"a": 1}, True, torch.zeros(0)]
    place[key] = rng.choice([*odd, torch.full((3, 2), float("nan")), torch.zeros(2, 2, dtype=torch.int64)])
    path = room.folder / "changed.pt"
    torch.save(payload, path)
    with within_a_second(f"{key!r}: {place[key]!r}".encode()):
        session = Session.resume(room.workspace, str(path), steps=20, run=f"r{rng.random()}", say=lambda told: None)
        session.directory.mkdir()
        with Recorder(session.directory, "cpu", 1) as recorder:
            assert session.resumed is not None
            restore(session.trainer(recorder), session.resumed.training)


def test_a_checkpoint_with_another_value_goes_on_or_is_refused(room: Room, rng: random.Random) -> None:
    for _ in range(12):
        _any_checkpoint(room, rng)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_a_thousand_checkpoints_with_other_values(room: Room, rng: random.Random) -> None:
    for _ in range(1000):
        _any_checkpoint(room, rng)


def fuzz(room: Room, name: str, rng: random.Random, inputs: int) -> None:
    target = TARGETS[name]
    seeds = target.seeds(room)
    for number in range(inputs):
        data = mutated(rng, seeds)
        try:
            try:
                with within_a_second(data):
                    target.read(room, data)
            except TooSlow:  # once more: the machine may have taken the second for something else
                with within_a_second(data):
                    target.read(room, data)
        except BaseException:
            kept = room.folder / "failed"
            kept.write_bytes(data)
            print(f"input {number}, kept in {kept}: {data[:500]!r}")
            raise


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.usefixtures("trainer")
def test_damaged_bytes_get_an_answer_or_a_clear_error(room: Room, name: str, rng: random.Random) -> None:
    fuzz(room, name, rng, TARGETS[name].inputs // QUICK_PART)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.usefixtures("trainer")
def test_a_hundred_thousand_damaged_inputs(
    room: Room, name: str, rng: random.Random, tell_figure: Callable[[str, object], None]
) -> None:
    began = time.monotonic()
    fuzz(room, name, rng, TARGETS[name].inputs)
    tell_figure(f"fuzz {name}", f"{TARGETS[name].inputs:,} inputs in {time.monotonic() - began:.0f} s")


def test_the_campaign_has_a_hundred_thousand_inputs() -> None:
    assert sum(target.inputs for target in TARGETS.values()) == 100_000
