"""Files that somebody made to do harm: refused in a sentence, and nothing in them runs."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import stat
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import zstandard

from minigpt.cli.main import main
from minigpt.errors import UserError
from minigpt.inference.serve import Complete, Failed, Inbox, Open, Quit, Server
from minigpt.interop.huggingface import import_directory
from minigpt.jobs import COMMANDS, EVENTS, send_command
from minigpt.model.checkpoint import BEST, INTERRUPTED, load
from minigpt.presets import to_toml
from minigpt.text.documents import Limits, read_documents
from minigpt.text.shards import read_shard
from minigpt.text.sources import add_path
from minigpt.text.tokenizer import Tokenizer
from minigpt.workspace import Workspace
from tests.conftest import small_config, tale, tale_workspace
from tests.model.test_checkpoint import make_checkpoint, write_payload
from tui.chat.conversations import save as save_conversation
from tui.state import APP_FOLDER, UIState, save_state

SPRUNG: list[str] = []


def spring(*what: object) -> str:
    """What a payload calls: the canary."""
    SPRUNG.append(repr(what))
    return "sprung"


class Reduced:
    """Runs something when it is put together."""

    def __reduce__(self) -> tuple[Any, ...]:
        return spring, ("reduce",)


class Built:
    """Runs something when its state is set."""

    def __reduce__(self) -> tuple[Any, ...]:
        return object.__new__, (Built,), {"state": 1}

    def __setstate__(self, state: dict[str, Any]) -> None:
        spring("build")


class New:
    """Runs something when it is made."""

    def __new__(cls, *arguments: object) -> New:
        if arguments:
            spring("newobj")
        return super().__new__(cls)

    def __getnewargs__(self) -> tuple[str]:
        return ("newobj",)


class Rebuilt:
    """Runs something by way of a function that torch trusts."""

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._tensor._rebuild_from_type_v2, (spring, torch.Tensor, ("rebuilt",), None)


class Key:
    """Runs something where a name is expected."""

    def __hash__(self) -> int:
        return 1

    def __reduce__(self) -> tuple[Any, ...]:
        return spring, ("key",)


PAYLOADS: list[Callable[[], Any]] = [Reduced, Built, New, Rebuilt]
PLACES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "weights": lambda it: {"weights": {**make_checkpoint().weights, "norm.weight": it}},
    "optimizer": lambda it: {"training": {"optimizer": {"state": {0: {"step": it}}}}},
    "config": lambda it: {"config": it},
    "a setting": lambda it: {"config": {"training": {"seed": it}}},
    "the network": lambda it: {"model_config": it},
    "tokenizer": lambda it: {"tokenizer": it},
    "metrics": lambda it: {"metrics": {"val_loss": it}},
    "training": lambda it: {"training": it},
    "step": lambda it: {"step": it},
    "something else": lambda it: {"more": (1, [it])},
    "a name": lambda it: {"training": {Key(): it}},
}


@pytest.fixture(autouse=True)
def nothing_runs() -> Iterator[None]:
    SPRUNG.clear()
    yield
    assert not SPRUNG


def test_the_traps_are_set() -> None:
    for payload in PAYLOADS:
        with suppress(AttributeError):
            pickle.loads(pickle.dumps(payload()))
    assert len(SPRUNG) == len(PAYLOADS)
    SPRUNG.clear()


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("place", PLACES)
def test_a_program_in_a_checkpoint_never_runs(place: str, payload: Callable[[], Any], tmp_path: Path) -> None:
    write_payload(tmp_path / BEST, **PLACES[place](payload()))
    with pytest.raises(UserError, match="something other than numbers and text"):
        load(tmp_path / BEST)


def torch_script(path: Path) -> None:
    """Write an archive of TorchScript with a program among its constants."""
    write_payload(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    top = next(iter(members)).partition("/")[0]
    members[f"{top}/constants.pkl"] = pickle.dumps(Reduced())
    members[f"{top}/code/__torch__.py"] = b"import tests.faults.test_hostile as it; it.spring()"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


FORMS: dict[str, Callable[[Path], object]] = {
    "whole": lambda path: torch.save(Reduced(), path),
    "legacy": lambda path: torch.save({"weights": Reduced()}, path, _use_new_zipfile_serialization=False),
    "pickle": lambda path: path.write_bytes(pickle.dumps(Reduced())),
    "protocol 0": lambda path: path.write_bytes(pickle.dumps(Reduced(), 0)),
    "protocol 4": lambda path: torch.save({"weights": Reduced()}, path, pickle_protocol=4),
    "TorchScript": torch_script,
}


@pytest.mark.parametrize("form", FORMS)
def test_nor_in_a_file_of_another_form(form: str, tmp_path: Path) -> None:
    FORMS[form](tmp_path / BEST)
    with pytest.raises(UserError):
        load(tmp_path / BEST)


# -- wherever it is opened


DOORS = {
    "chat": ["chat", "FILE"],
    "generate": ["generate", "RUN", "-p", "The"],
    "generate a file": ["generate", "FILE"],
    "predict": ["predict", "FILE", "-p", "The"],
    "eval": ["eval", "FILE", "--corpus", "tale"],
    "export": ["export", "RUN", "--format", "hf", "--output", "out"],
    "resume": ["train", "--resume", "RUN"],
    "resume a file": ["train", "--resume", "FILE"],
    "dry run": ["train", "--resume", "FILE", "--dry-run"],
    "fork": ["train", "--fork", "RUN:best_model.pt", "--lr", "0.001"],
    "verify": ["runs", "verify", "RUN"],
    "import": ["import", "FOLDER", "taken"],
}


@pytest.fixture
def trap(workspace: Workspace) -> Path:
    """A run whose checkpoints all hold a program, and which looks like one to go on with."""
    directory = workspace.run_directory("trap")
    directory.mkdir()
    (directory / "config.toml").write_text(to_toml(small_config()))
    start = '{"type":"start","time":1,"run":"trap","planned_steps":9}\n{"type":"step","time":2,"step":20,"loss":1}\n'
    (directory / EVENTS).write_text(start)
    write_payload(directory / BEST, training={"optimizer": Reduced()})
    write_payload(directory / INTERRUPTED, metrics={"val_loss": Reduced()})
    (directory / "config.json").write_text('{"model_type": "gpt2", "vocab_size": 5}')
    return directory


@pytest.mark.parametrize("door", DOORS)
def test_wherever_it_is_opened(
    door: str, trap: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = trap.parent.parent
    monkeypatch.chdir(workspace)
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello\n"))
    named = {"FILE": str(trap / BEST), "RUN": "trap", "FOLDER": str(trap)}
    arguments = [word.replace("RUN", "trap") if "RUN" in word else named.get(word, word) for word in DOORS[door]]
    assert main([*arguments, "--workspace", str(workspace)]) == 2
    told = capsys.readouterr().err
    assert "mistake in MiniGPT" not in told
    assert "something other than numbers and text" in told or door == "import"


def test_a_run_with_a_program_in_it_is_listed_and_shown(trap: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["runs", "show", "trap"], ["runs", "list"], ["runs", "compare", "trap", "trap"]):
        main([*arguments, "--workspace", str(trap.parent.parent)])
    assert "trap" in capsys.readouterr().out


def test_the_child_of_the_app_refuses_it_and_goes_on(trap: Path) -> None:
    inbox = Inbox(0)
    for request in (Open(str(trap / BEST), 1, "cpu"), Complete("Hello", 2), Quit()):
        inbox.put(request)
    told: list[Any] = []
    Server(inbox, told.append, {}).run()
    assert [(event.id, type(event)) for event in told] == [(1, Failed), (2, Failed)]
    assert "something other than numbers and text" in told[0].message


# -- traps for memory and time


def repacked(path: Path, change: Callable[[dict[str, bytes]], object], packing: int = zipfile.ZIP_STORED) -> None:
    """Write a checkpoint anew with other parts in it."""
    write_payload(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def pickled(path: Path, data: bytes) -> None:
    """Write a checkpoint with this as its description."""
    repacked(path, lambda members: members.update({next(n for n in members if n.endswith("data.pkl")): data}))


def petabytes(path: Path) -> None:
    """Have the directory of the archive say that a part is larger than any disk."""
    write_payload(path)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"data/10"))
    content[entry + 20 : entry + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
    path.write_bytes(content)


def tensor(size: tuple[int, ...], stride: tuple[int, ...], numel: int = 16) -> bytes:
    """Return the pickle of a checkpoint with one tensor, of a size and stride that its storage need not have."""

    class Claim:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (Storage(), 0, size, stride, False, OrderedDict())

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if isinstance(value, Storage) else None

    file = io.BytesIO()
    weights = {"format": "minigpt-checkpoint", "version": 1, "weights": {"norm.weight": Claim()}}
    Pickler(file, 2).dump(weights)
    return file.getvalue()


def wide_key() -> bytes:
    """Return a pickle that takes for ever to be hashed: each pair holds the one before twice."""
    pairs = b"".join(b"q%ch%ch%c\x86" % (n, n, n) for n in range(60))
    return b"\x80\x02}K\x01\x85" + pairs + b"Ns."


def shared(depth: int) -> Any:
    """Return a list of a few hundred bytes that is endless when written out."""
    value: Any = ["x"]
    for _ in range(depth):
        value = [value, value]
    return value


def nested(depth: int) -> bytes:
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


def shifted(path: Path) -> None:
    """Put something before the archive, which only some readers take for a part of it."""
    write_payload(path)
    path.write_bytes(b"PK\x03\x04" + path.read_bytes())


TRAPS: dict[str, Callable[[Path], object]] = {
    "packed": lambda path: repacked(
        path,
        lambda members: members.update({next(iter(members)): bytes(16 << 20)}),
        zipfile.ZIP_DEFLATED,
    ),
    "petabytes": petabytes,
    "two of a name": lambda path: repacked(path, lambda members: members.update({next(iter(members)).upper(): b"."})),
    "before the archive": shifted,
    "a storage beyond the file": lambda path: pickled(path, tensor((16,), (1,), 1 << 50)),
    "a tensor beyond its storage": lambda path: pickled(path, tensor((1 << 40,), (1,))),
    "one number for all": lambda path: pickled(path, tensor((1 << 40,), (0,))),
    "a negative size": lambda path: pickled(path, tensor((-5, 7), (1, 1))),
    "a buffer": lambda path: pickled(path, b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + b"\xff" * 5 + b"\x00\x85R."),
    "a wide key": lambda path: pickled(path, wide_key()),
    "a deep list": lambda path: pickled(path, nested(50_000)),
    "an endless list": lambda path: write_payload(path, version=shared(60)),
    "an endless setting": lambda path: write_payload(path, config={"training": {"sample_prompts": shared(60)}}),
    "a long context": lambda path: write_payload(path, model_config=shape(max_seq_len=10**12)),
    "a wide network": lambda path: write_payload(path, model_config=shape(d_model=10**9)),
    "a deep network": lambda path: write_payload(path, model_config=shape(n_layers=10**9)),
    "a head of nothing": lambda path: write_payload(path, model_config=shape(n_heads=0)),
    "a batch of millions": lambda path: write_payload(path, config={"training": {"batch_size": 10**9}}),
}


def shape(**changes: int) -> dict[str, Any]:
    import msgspec

    return {**msgspec.to_builtins(make_checkpoint().model_config), **changes}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_for_memory_is_refused(trap: str, tmp_path: Path, room: None) -> None:
    TRAPS[trap](tmp_path / BEST)
    with pytest.raises(UserError, match=r"best_model\.pt") as caught:
        load(tmp_path / BEST)
    assert len(str(caught.value)) < 600


@pytest.fixture
def room() -> Iterator[None]:
    """Let this process take half a gigabyte more than it has, and no more."""
    import resource

    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not say how much room a process takes")
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + (512 << 20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_more_weights_than_the_file_holds_are_refused(tmp_path: Path) -> None:
    one = torch.zeros(1 << 16)
    write_payload(tmp_path / BEST, weights={str(number): one for number in range(500)})
    with pytest.raises(UserError, match="more than are in the file"):
        load(tmp_path / BEST)


# -- other files


def tokenizer_json(**changes: Any) -> str:
    import json

    return json.dumps({**json.loads(Tokenizer.train("word", [tale()], 60).to_json()), **changes})


def doubled(times: int) -> dict[str, Any]:
    """Return a normalizer that makes two letters of one, so many times over."""
    twice = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    return {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [twice] * times}]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[" * 1_000_000, "not a valid"),
        ('{"a":' * 1_000_000, "not a valid"),
        (tokenizer_json().replace('" dog": 13', '" dog": 4000000000'), "id above"),
        (tokenizer_json(normalizer=doubled(40)), "trap for memory"),
    ],
    ids=["nested", "nested tables", "an id of billions", "a text that grows"],
)
def test_a_tokenizer_that_would_take_all_memory_is_refused(
    content: str, words: str, tmp_path: Path, room: None
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        Tokenizer.load(path)


def test_a_file_without_end_is_not_read(workspace: Workspace, room: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Eight gigabytes each, of which none is on the disk."""
    workspace.configs.mkdir()
    folder = workspace.root / "model"
    folder.mkdir()
    run = workspace.run_directory("run")
    run.mkdir()
    paths = [workspace.configs / "endless.toml", workspace.root / "config.json", folder / "config.json"]
    paths += [workspace.root / "tokenizer.json", run / "note.txt", run / "run.lock", run / "commands.jsonl"]
    paths += [workspace.data / "tale" / "corpus.toml", workspace.tasks / "t" / EVENTS, run / ".digest-summary"]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(8 << 30)
    asked = [
        ["presets", "list"],
        ["presets", "show", "endless"],
        ["presets", "new", "mine", "--from", "endless"],
        ["train", "--config", str(workspace.root / "config.json")],
        ["tokenizer", "show", str(workspace.root / "tokenizer.json")],
        ["import", str(folder), "taken"],
        ["corpus", "list"],
        ["corpus", "show", "tale"],
        ["runs", "list"],
        ["runs", "show", "run"],
        ["corpus", "tasks"],
    ]
    for arguments in asked:
        code = main([*arguments, "--workspace", str(workspace.root)])
        told = capsys.readouterr()
        assert code in (0, 2), told.err
        assert "mistake in MiniGPT" not in told.err


@pytest.mark.parametrize("nested", ["[" * 200_000, '{"a":' * 200_000, "a." * 50_000 + "a = 1", "a = " + "9" * 100_000])
def test_a_file_nested_without_end_is_refused_in_words(
    nested: str, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.configs.mkdir()
    (workspace.configs / "mine.toml").write_text("[training]\nsample_prompts = " + nested)
    (workspace.root / "mine.json").write_text(nested)
    with (workspace.data / "tale" / "corpus.toml").open("a") as file:
        file.write("x = " + nested)
    run = workspace.run_directory("run")
    run.mkdir()
    (run / EVENTS).write_text(nested + '\n{"type":"start","run":' + nested + "\n")
    asked = [["presets", "show", "mine"], ["presets", "list"], ["train", "--config", "mine.json"], ["corpus", "list"]]
    asked += [["corpus", "show", "tale"], ["runs", "list"], ["runs", "show", "run"], ["train", "--corpus", "tale"]]
    for arguments in asked:
        arguments = [str(workspace.root / word) if word == "mine.json" else word for word in arguments]
        assert main([*arguments, "--workspace", str(workspace.root)]) in (0, 2)
        assert "mistake in MiniGPT" not in capsys.readouterr().err


def test_a_header_of_safetensors_that_claims_too_much_is_refused(tmp_path: Path, room: None) -> None:
    claims = [
        struct.pack("<Q", 1 << 62),
        struct.pack("<Q", 90 << 20) + b"{",
        _safetensors('{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'),
        _safetensors('{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}'),
        _safetensors('{"a":' * 100_000),
    ]
    (tmp_path / "config.json").write_text(
        '{"model_type":"gpt2","vocab_size":65,"n_positions":16,"n_embd":8,"n_layer":1,"n_head":1}'
    )
    (tmp_path / "tokenizer.json").write_text(tokenizer_json())
    for claim in claims:
        (tmp_path / "model.safetensors").write_bytes(claim)
        with pytest.raises(UserError, match="Cannot read"):
            import_directory(tmp_path)


def _safetensors(header: str) -> bytes:
    return struct.pack("<Q", len(header)) + header.encode()


@pytest.mark.parametrize("count", [2**31 - 1, -5])
def test_a_shard_that_claims_more_than_it_holds_is_refused(count: int, tmp_path: Path, room: None) -> None:
    path = tmp_path / "train.bin"
    path.write_bytes(struct.pack("<3i", 20240520, 1, count).ljust(1024, b"\0") + b"\0" * 64)
    with pytest.raises(UserError, match="damaged"):
        read_shard(path)


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_bomb_in_a_corpus_takes_no_memory(packing: str, tmp_path: Path, room: None) -> None:
    path = tmp_path / f"bomb.txt.{packing}"
    pack = gzip.compress if packing == "gz" else zstandard.ZstdCompressor().compress
    path.write_bytes(pack(b"a " * (1 << 22)) * 200)
    with pytest.raises(UserError, match="trap"):
        for _ in read_documents(path, limits=Limits(unpacked=1 << 25, ratio=1)):
            pass


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


# -- whose files they are


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
