"""Checkpoints with a program in them: refused in a sentence wherever they are opened, and nothing in them runs."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from minigpt.cli.main import main
from minigpt.errors import UserError
from minigpt.inference.protocol import Complete, Failed, Open, Quit
from minigpt.inference.serve import Inbox, Server
from minigpt.jobs import EVENTS
from minigpt.model.checkpoint import BEST, INTERRUPTED, load
from minigpt.presets import to_toml
from minigpt.workspace import Workspace
from tests.conftest import small_config
from tests.model.test_checkpoint import make_checkpoint, write_payload

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
