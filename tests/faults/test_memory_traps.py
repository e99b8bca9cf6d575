"""Files made to take all memory or to be read for ever: refused in a sentence, in little of either."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import zstandard

from minigpt.cli.main import main
from minigpt.errors import UserError
from minigpt.interop.huggingface import import_directory
from minigpt.jobs import EVENTS
from minigpt.model.checkpoint import BEST, load
from minigpt.text.documents import Limits, read_documents
from minigpt.text.shards import read_shard
from minigpt.text.tokenizer import Tokenizer
from minigpt.workspace import Workspace
from tests.conftest import tale
from tests.model.test_checkpoint import make_checkpoint, write_payload


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


# -- checkpoints


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


def shape(**changes: int) -> dict[str, Any]:
    import msgspec

    return {**msgspec.to_builtins(make_checkpoint().model_config), **changes}


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


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_for_memory_is_refused(trap: str, tmp_path: Path, room: None) -> None:
    TRAPS[trap](tmp_path / BEST)
    with pytest.raises(UserError, match=r"best_model\.pt") as caught:
        load(tmp_path / BEST)
    assert len(str(caught.value)) < 600


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


@pytest.mark.parametrize(
    "nested",
    ["[" * 200_000, '{"a":' * 200_000, "a." * 50_000 + "a = 1", "a = " + "9" * 100_000],
    ids=["lists", "objects", "keys", "digits"],
)
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
