"""Checkpoint files: whole or absent, and safe to open whoever wrote them."""

from __future__ import annotations

import os
import pickle
import random
import resource
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from minigpt.config import Config, ModelSettings, TrainingSettings
from minigpt.errors import UserError
from minigpt.model.checkpoint import BEST, STEP, Checkpoint, load, save
from minigpt.model.gpt import GPT, GPTConfig

VOCAB_SIZE = 23


def make_checkpoint(step: int = 12, tied: bool = False, **training: Any) -> Checkpoint:
    settings = ModelSettings(d_model=16, n_layers=1, n_heads=2, max_seq_len=8, tied_embeddings=tied)
    model_config = GPTConfig.from_settings(settings, VOCAB_SIZE)
    torch.manual_seed(step)
    return Checkpoint(
        config=Config(model=model_config.to_settings(), training=TrainingSettings(seed=7, sample_prompts=["Once"])),
        model_config=model_config,
        weights=GPT(model_config).state_dict(),
        tokenizer='{"model": "ä"}',
        step=step,
        conversations=True,
        separated=False,
        metrics={"val_loss": 1.25},
        training=training,
    )


def write_payload(path: Path, **changes: Any) -> None:
    """Write a checkpoint some of whose fields are not as `save` writes them; None leaves a field out."""
    save(path, make_checkpoint())
    payload = torch.load(path, weights_only=True)
    payload.update(changes)
    torch.save({name: value for name, value in payload.items() if value is not None}, path)


# -- what goes in comes out


@pytest.mark.parametrize("tied", [False, True])
def test_round_trip(tied: bool, tmp_path: Path) -> None:
    state = {"momentum": torch.randn(3, 4), "rng": torch.get_rng_state(), "windows": 10**12, "names": ["a", "b"]}
    before = make_checkpoint(tied=tied, **state)
    save(tmp_path / BEST, before)
    after = load(tmp_path / BEST)
    assert after.weights.keys() == before.weights.keys()
    for name, tensor in before.weights.items():
        assert torch.equal(after.weights[name], tensor)
        assert after.weights[name].dtype == tensor.dtype
    assert torch.equal(after.training.pop("momentum"), state.pop("momentum"))
    assert torch.equal(after.training.pop("rng"), state.pop("rng"))
    assert after.training == {"windows": 10**12, "names": ["a", "b"]}
    for field in ("config", "model_config", "tokenizer", "step", "conversations", "separated", "metrics"):
        assert getattr(after, field) == getattr(before, field), field


@pytest.mark.parametrize("tied", [False, True])
def test_the_network_that_comes_out_is_the_one_that_went_in(tied: bool, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tied=tied)
    with torch.no_grad():
        for tensor in checkpoint.weights.values():
            tensor.normal_()
    original = GPT(checkpoint.model_config)
    original.load_state_dict(checkpoint.weights)
    save(tmp_path / BEST, checkpoint)
    model = load(tmp_path / BEST).build_model()
    tokens = torch.arange(8).unsqueeze(0)
    assert torch.equal(model.eval()(tokens), original.eval()(tokens))
    assert (model.head.weight is model.token_embedding.weight) == tied
    assert model.parameter_count() == original.parameter_count()


def test_weights_of_another_shape_are_refused() -> None:
    checkpoint = make_checkpoint()
    checkpoint.weights["head.weight"] = torch.zeros(VOCAB_SIZE + 1, 16)
    with pytest.raises(UserError, match="do not fit"):
        checkpoint.build_model()


def test_missing_weights_are_refused() -> None:
    checkpoint = make_checkpoint()
    del checkpoint.weights["norm.weight"]
    with pytest.raises(UserError, match=r"norm\.weight"):
        checkpoint.build_model()


# -- whole or absent


def test_other_names_hold_the_same_checkpoint(tmp_path: Path) -> None:
    save(tmp_path / STEP.format(12), make_checkpoint(), also=(tmp_path / BEST,))
    assert (tmp_path / BEST).read_bytes() == (tmp_path / STEP.format(12)).read_bytes()
    # The next save under the first name must not change what the second holds.
    save(tmp_path / STEP.format(12), make_checkpoint(step=13))
    assert load(tmp_path / BEST).step == 12
    assert load(tmp_path / STEP.format(12)).step == 13
    save(tmp_path / STEP.format(14), make_checkpoint(step=14), also=(tmp_path / BEST,))
    assert load(tmp_path / BEST).step == 14
    assert {path.name for path in tmp_path.iterdir()} == {BEST, STEP.format(12), STEP.format(14)}


def refuse_links(source: Path, name: Path) -> None:
    raise OSError(95, "Operation not supported")


def test_other_names_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse_links)
    save(tmp_path / STEP.format(12), make_checkpoint(), also=(tmp_path / BEST,))
    assert load(tmp_path / BEST).step == load(tmp_path / STEP.format(12)).step == 12
    assert len(list(tmp_path.iterdir())) == 2


def write_half(payload: dict[str, Any], file: Any) -> None:
    file.write(b"PK\x03\x04 half of it")
    raise OSError(28, "No space left on device")


def fail_to_flush(descriptor: int) -> None:
    raise OSError(5, "Input/output error")


def test_a_full_disk_leaves_the_old_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / BEST, make_checkpoint(step=1))
    before = (tmp_path / BEST).read_bytes()
    monkeypatch.setattr(torch, "save", write_half)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path / BEST, make_checkpoint(step=2), also=(tmp_path / STEP.format(2),))
    assert (tmp_path / BEST).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [BEST]


@pytest.mark.parametrize("room", [100, 3000, 15000])
def test_a_file_that_may_not_grow_leaves_the_old_checkpoint_whole(room: int, tmp_path: Path) -> None:
    save(tmp_path / BEST, make_checkpoint(step=1))
    before = (tmp_path / BEST).read_bytes()
    assert len(before) > room
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            save(tmp_path / BEST, make_checkpoint(step=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / BEST).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [BEST]


def test_a_disk_that_cannot_flush_leaves_the_old_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / BEST, make_checkpoint(step=1))
    monkeypatch.setattr(os, "fsync", fail_to_flush)
    with pytest.raises(OSError, match="Input/output"):
        save(tmp_path / BEST, make_checkpoint(step=2))
    assert load(tmp_path / BEST).step == 1
    assert [path.name for path in tmp_path.iterdir()] == [BEST]


def test_a_copy_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse_links)
    real, calls = os.fsync, []

    def fail_second_time(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            fail_to_flush(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail_second_time)
    with pytest.raises(OSError, match="Input/output"):
        save(tmp_path / STEP.format(1), make_checkpoint(step=1), also=(tmp_path / BEST,))
    assert not any(tmp_path.iterdir())


# -- hostile files


class Canary:
    """An object that, when unpickled, makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def hostile_weights(path: Path, canary: Canary) -> None:
    weights: dict[str, Any] = dict(make_checkpoint().weights)
    write_payload(path, weights=weights | {"norm.weight": canary})


def hostile_training(path: Path, canary: Canary) -> None:
    write_payload(path, training={"optimizer": [canary]})


def hostile_config(path: Path, canary: Canary) -> None:
    write_payload(path, config=canary)


def hostile_everything(path: Path, canary: Canary) -> None:
    torch.save(canary, path)


def hostile_legacy_format(path: Path, canary: Canary) -> None:
    torch.save({"weights": canary}, path, _use_new_zipfile_serialization=False)


def hostile_plain_pickle(path: Path, canary: Canary) -> None:
    path.write_bytes(pickle.dumps(canary))


@pytest.mark.parametrize(
    "write",
    [
        hostile_weights,
        hostile_training,
        hostile_config,
        hostile_everything,
        hostile_legacy_format,
        hostile_plain_pickle,
    ],
)
def test_code_in_a_checkpoint_never_runs(write: Callable[[Path, Canary], None], tmp_path: Path) -> None:
    canary = tmp_path / "executed"
    write(tmp_path / BEST, Canary(canary))
    with pytest.raises(UserError):
        load(tmp_path / BEST)
    assert not canary.exists()
    # The trap is a working one.
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists()


def test_what_is_refused_is_told_from_what_is_damaged(tmp_path: Path) -> None:
    hostile_weights(tmp_path / BEST, Canary(tmp_path / "executed"))
    with pytest.raises(UserError, match="something other than numbers and text"):
        load(tmp_path / BEST)


# -- damaged files


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / BEST
    save(path, make_checkpoint(rng=torch.get_rng_state()))
    return path


def test_a_truncated_file_is_refused_at_any_length(whole: Path, tmp_path: Path) -> None:
    content = whole.read_bytes()
    generator = random.Random(0)
    lengths = {0, 1, 2, 4, 30, 64, len(content) - 1, *(generator.randrange(len(content)) for _ in range(60))}
    for length in sorted(lengths):
        (tmp_path / BEST).write_bytes(content[:length])
        with pytest.raises(UserError, match=r"best_model\.pt"):
            load(tmp_path / BEST)


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    generator = random.Random(0)
    for start in (b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x95"):
        for size in (10, 1000, 100_000):
            (tmp_path / BEST).write_bytes(start + generator.randbytes(size))
            with pytest.raises(UserError):
                load(tmp_path / BEST)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_altered_bytes_give_a_checkpoint_or_a_refusal_in_words(whole: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(whole) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in members if name.endswith("/data.pkl"))
    generator = random.Random(0)
    refused = 0
    for _ in range(300):
        altered = bytearray(members[pickled])
        for _ in range(generator.randint(1, 3)):
            altered[generator.randrange(len(altered))] = generator.randrange(256)
        with zipfile.ZipFile(tmp_path / BEST, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, bytes(altered) if name == pickled else content)
        try:
            load(tmp_path / BEST)
        except UserError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "version 2, this program reads version 1"),
        ({"version": None}, "version None"),
        ({"format": "somebody-else"}, "not a MiniGPT checkpoint"),
        ({"format": None}, "not a MiniGPT checkpoint"),
        ({"weights": None}, "weights must be tensors"),
        ({"weights": {"norm.weight": 3.0}}, "weights must be tensors"),
        ({"weights": {5: torch.zeros(2)}}, "weights must be tensors"),
        ({"weights": [torch.zeros(2)]}, "weights must be tensors"),
        ({"config": None}, "config"),
        ({"config": {"model": {"d_model": "wide"}}}, "d_model"),
        ({"model_config": None}, "model_config"),
        ({"model_config": {"family": "bert"}}, "bert"),
        ({"tokenizer": None}, "str"),
        ({"tokenizer": 5}, "str"),
        ({"step": "twelve"}, "int"),
        ({"metrics": {"loss": "low"}}, "float"),
        ({"training": [1]}, "object"),
    ],
)
def test_fields_that_are_not_as_saved_are_named(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    write_payload(tmp_path / BEST, **changes)
    with pytest.raises(UserError, match=words):
        load(tmp_path / BEST)


def test_other_torch_files_are_refused(tmp_path: Path) -> None:
    for content in (torch.zeros(3), [1, 2], {"model": {"w": torch.zeros(2)}}):
        torch.save(content, tmp_path / BEST)
        with pytest.raises(UserError, match="not a MiniGPT checkpoint"):
            load(tmp_path / BEST)


@pytest.mark.parametrize("name", ["nowhere.pt", "."])
def test_what_is_no_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint at"):
        load(tmp_path / name)


def test_a_checkpoint_opens_wherever_it_is_copied(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere ä").mkdir()
    copy = shutil.copy(whole, tmp_path / "elsewhere ä" / "mine.bin")
    assert load(copy).step == 12
