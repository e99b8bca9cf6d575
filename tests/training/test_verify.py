"""A run that is repeated from a checkpoint gives the recorded losses again, and one that does not is told."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from minigpt.cli.main import main
from minigpt.errors import UserError
from minigpt.jobs import EVENTS, send_command
from minigpt.model.checkpoint import load, save
from minigpt.training.session import Session
from minigpt.training.verify import Verification, verify
from minigpt.workspace import Workspace
from tests.conftest import small_config, tale

Listener = Callable[[dict[str, Any]], None]


def quiet(message: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with a run of 20 steps, `run`, with dropout, and every fourth step kept."""
    from minigpt.text.sources import add_path

    found = Workspace(tmp_path_factory.mktemp("verify"))
    found.require_writable()
    (found.root / "tale.txt").write_text(tale())
    add_path(found, found.root / "tale.txt")
    # Looked at often, which its training does not notice.
    train(found, "run", training__eval_every=3, training__sample_every=7)
    yield found


def train(workspace: Workspace, run: str, *listeners: Listener, **changes: object) -> Session:
    values = {"training__max_steps": 20, "training__save_every": 4, "training__keep_last": 9, "model__dropout": 0.1}
    values |= {"training__eval_every": 20}
    session = Session.new(workspace, small_config(**{**values, **changes}), run=run, say=quiet)
    assert session.train(listeners) == 0
    return session


def copied(workspace: Workspace, name: str) -> Path:
    """Return a copy of the run, to be tampered with."""
    return Path(shutil.copytree(workspace.run_directory("run"), workspace.run_directory(name)))


def check(workspace: Workspace, run: str, checkpoint: str | None = None, steps: int = 20) -> Verification:
    return verify(workspace, workspace.run_directory(run), checkpoint, steps, quiet)


def test_a_run_is_repeated_bit_for_bit(workspace: Workspace) -> None:
    directory = workspace.run_directory("run")
    before = {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}
    found = check(workspace, "run", "checkpoint_step_8")
    assert (found.checkpoint, found.from_step, found.steps) == ("checkpoint_step_8.pt", 8, 12)
    assert (found.reproduced, found.comparable, found.differing, found.first_difference) == (True, True, 0, None)
    assert "steps 9 to 20" in found.in_words()
    assert {path.name: path.stat().st_mtime_ns for path in directory.iterdir()} == before, "the run is only read"


@pytest.mark.parametrize(("steps", "checkpoint"), [(3, 16), (4, 16), (5, 12), (100, 4)])
def test_the_last_checkpoint_that_enough_steps_follow_is_taken(
    workspace: Workspace, steps: int, checkpoint: int
) -> None:
    found = check(workspace, "run", steps=steps)
    assert (found.from_step, found.steps, found.reproduced) == (checkpoint, min(steps, 20 - checkpoint), True)


def test_a_recorded_loss_that_is_off_by_the_last_digit_is_found(workspace: Workspace) -> None:
    path = copied(workspace, "altered") / EVENTS
    text = path.read_text()
    line = next(line for line in text.splitlines() if '"type":"step"' in line and '"step":14,' in line)
    loss = json.loads(line)["loss"]
    other = torch.nextafter(torch.tensor(loss), torch.tensor(9.0)).item()
    path.write_text(text.replace(line, re.sub(r'"loss":[^,}]+', f'"loss":{other!r}', line)))
    found = check(workspace, "altered", "12")
    assert (found.reproduced, found.comparable, found.differing, found.steps) == (False, True, 1, 8)
    assert found.first_difference is not None
    assert (found.first_difference.step, found.first_difference.recorded) == (14, other)
    assert found.first_difference.replayed == loss
    assert found.largest_difference == pytest.approx(abs(other - loss), rel=1e-9)
    assert "step 14" in found.in_words()


def test_weights_that_were_altered_are_found(workspace: Workspace) -> None:
    path = copied(workspace, "nudged") / "checkpoint_step_8.pt"
    checkpoint = load(path)
    checkpoint.weights = {name: weight.clone() for name, weight in checkpoint.weights.items()}
    checkpoint.weights["head.weight"][0, 0] += 0.01
    save(path, checkpoint)
    found = check(workspace, "nudged", "8")
    assert not found.reproduced
    assert found.first_difference is not None
    assert found.first_difference.step == 9


def test_another_environment_is_told_before_the_digits(workspace: Workspace) -> None:
    path = copied(workspace, "elsewhere") / "checkpoint_step_16.pt"
    checkpoint = load(path)
    checkpoint.training["environment"]["torch"] = "1.0"
    save(path, checkpoint)
    found = check(workspace, "elsewhere", "16")
    assert (found.comparable, found.reproduced) == (False, True)
    assert found.in_words().startswith("Not comparable bit for bit: torch was 1.0, is ")


def test_what_was_set_on_the_way_is_set_again(workspace: Workspace) -> None:
    def steer(event: dict[str, Any]) -> None:
        if event["type"] == "step" and event["step"] == 10:
            send_command(workspace.run_directory("steered"), "set", {"lr_scale": 0.25})

    train(workspace, "steered", steer)
    assert check(workspace, "steered", "8").reproduced
    path = workspace.run_directory("steered") / EVENTS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"type":"command"' not in line))
    assert not check(workspace, "steered", "8").reproduced, "without it, other losses come out"


def test_a_run_that_was_lengthened_is_repeated_up_to_there_and_from_there(workspace: Workspace) -> None:
    copied(workspace, "longer")
    assert Session.resume(workspace, "longer", steps=30, say=quiet).train() == 0
    early, late = check(workspace, "longer", "12", 50), check(workspace, "longer", "24", 50)
    assert (early.reproduced, early.from_step + early.steps) == (True, 20)
    assert (late.reproduced, late.from_step + late.steps) == (True, 30)


def test_a_second_life_is_repeated_too(workspace: Workspace) -> None:
    directory = copied(workspace, "resumed")
    for path in directory.glob("*.pt"):
        if load(path).step > 12:
            path.unlink()
    assert Session.resume(workspace, "resumed", say=quiet).train() == 0
    assert check(workspace, "resumed", "8").reproduced


def test_where_nothing_follows_there_is_nothing_to_repeat(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="choose an earlier"):
        check(workspace, "run", "final")
    directory = copied(workspace, "only-final")
    for path in directory.glob("*.pt"):
        if path.name != "final_model.pt":
            path.unlink()
    with pytest.raises(UserError, match="keep_every"):
        check(workspace, "only-final")


def test_weights_alone_cannot_be_repeated(workspace: Workspace) -> None:
    path = copied(workspace, "bare") / "checkpoint_step_8.pt"
    checkpoint = load(path)
    checkpoint.training = {}
    save(path, checkpoint)
    with pytest.raises(UserError, match="no optimizer state"):
        check(workspace, "bare", "8")


def test_the_command_says_so_and_ends_accordingly(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--workspace", str(workspace.root)]
    assert main(["runs", "verify", "run", "--from", "16", "--steps", "2", "--json", *there]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["reproduced"], told["comparable"], told["from_step"], told["steps"]) == (True, True, 16, 2)
    assert "Repeating 2 steps" in err
    path = copied(workspace, "broken") / EVENTS
    path.write_text(path.read_text().replace('"loss":', '"loss":1'))
    assert main(["runs", "verify", "broken", "--from", "16", *there]) == 1
    assert capsys.readouterr().out.startswith("Not reproduced")
    assert main(["runs", "verify", "run", "--steps", "0", *there]) == 2
