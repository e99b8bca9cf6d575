"""The power fails: whatever the disk has kept of the last operations, in whatever order, there is no half work."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from minigpt.jobs import EVENTS
from minigpt.model.checkpoint import load
from minigpt.presets import read_file, to_toml
from minigpt.runs import resume_checkpoint
from minigpt.text.corpus import Corpus
from minigpt.text.prepared import complete_manifest
from minigpt.workspace import Workspace
from tests.conftest import small_config, tale, tale_workspace
from tests.faults.disk import Recording, Tree, lay_out
from tests.faults.harness import losses_of
from tests.faults.mortal import Kill, Mortals
from tests.faults.test_kill import JOBS, SETTINGS, contents, job_of

QUICK_STATES = 20
# The label of the last moment: all that was promised is due.
END = "the end"


@pytest.fixture(scope="module")
def mortals() -> Iterator[Mortals]:
    with Mortals(apart=torch.cuda.is_available()) as found:
        yield found


def recorded(mortals: Mortals, workspace: Workspace, job: str, given: dict[str, object]) -> Recording:
    """Have a child do a job, and return all that it did to the disk."""
    into = workspace.root.parent / "recording"
    death = mortals.run("record", workspace=workspace.root, work=job, into=str(into), given=given)
    assert death.code == 0, death.said
    return Recording.read(into)


def scratch(folder: Path, tree: Tree) -> Path:
    """Lay a state of the disk out where the one before was."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    lay_out(tree, folder)
    return folder


# Training


def train_recorded(mortals: Mortals, folder: Path) -> Recording:
    """Record a run from the very beginning: nothing is there but an empty workspace and a text."""
    root = folder / "workspace"
    root.mkdir()
    (root / "tale.txt").write_text(tale(60))
    config = small_config(**{**SETTINGS, "training__max_steps": 7, "corpus__name": str(root / "tale.txt")})
    (root / "run.toml").write_text(to_toml(config))
    arguments = ["train", "--config", str(root / "run.toml"), "--run", "run"]
    return recorded(mortals, Workspace(root), "cli", {"arguments": arguments})


@cache
def step_of(checkpoint: bytes, folder: Path) -> int:
    """Return the step of a checkpoint that loads; of equal bytes only once."""
    path = folder / "checkpoint.pt"
    path.write_bytes(checkpoint)
    found = load(path)
    found.build_model()
    return found.step


def require_checkpoints(tree: Tree, promised: int, folder: Path) -> None:
    """Every file with a checkpoint's name loads, and the one to go on from is as far on as was told."""
    directory = scratch(folder / "state", tree) / "checkpoints" / "run"
    for path in directory.glob("*.pt"):
        step_of(path.read_bytes(), folder)
    if (directory / "config.toml").exists():
        assert read_file(directory / "config.toml").training.max_steps == 7
    if promised >= 0:
        found = resume_checkpoint(directory)
        assert found is not None and step_of(found.read_bytes(), folder) >= promised


def test_a_power_loss_in_training_leaves_a_checkpoint_to_go_on_from(
    mortals: Mortals, tmp_path: Path, rng: random.Random
) -> None:
    recording = train_recorded(mortals, tmp_path)
    assert max(moment.promised for moment in recording.moments) == 7
    for moment, tree in recording.losses(rng, QUICK_STATES):
        require_checkpoints(tree, moment.promised, tmp_path)


@pytest.mark.campaign
@pytest.mark.timeout(2400)
def test_a_power_loss_at_any_operation_of_training_leaves_a_checkpoint(
    mortals: Mortals, tmp_path: Path, rng: random.Random, tell_figure: Callable[[str, object], None]
) -> None:
    recording = train_recorded(mortals, tmp_path)
    states = 0
    for moment, tree in recording.losses(rng):
        require_checkpoints(tree, moment.promised, tmp_path)
        states += 1
    tell_figure("states of the disk after a power loss in training", states)
    tell_figure("operations of that run", len(recording.moments))


# Its events, which no fsync has brought to the disk


def all_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def cut_before_the_checkpoints(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b'"type":"checkpoint"') - 100])


def zeros_at_the_end(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b'"type":"checkpoint"') + 30] + bytes(5000))


@pytest.fixture(scope="module")
def killed(mortals: Mortals, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[int, float | None]]:
    """A workspace with a run that was killed at its third save, and the losses of one that was not."""
    workspace = tale_workspace(tmp_path_factory.mktemp("events"))
    (workspace.root / "run.toml").write_text(to_toml(small_config(**{**SETTINGS, "training__max_steps": 8})))
    for run, kill in (("whole", None), ("killed", Kill("saving os.remove .*/checkpoint_", 0))):
        arguments = ["train", "--config", str(workspace.root / "run.toml"), "--run", run]
        mortals.minigpt(*arguments, workspace=workspace.root, kill=kill)
    return workspace, losses_of(workspace.run_directory("whole"))


@pytest.mark.parametrize("spoil", [all_zeros, cut_before_the_checkpoints, zeros_at_the_end])
def test_a_run_goes_on_though_its_last_events_are_lost(
    mortals: Mortals,
    killed: tuple[Workspace, dict[int, float | None]],
    spoil: Callable[[Path], None],
) -> None:
    workspace, losses = killed
    name = spoil.__name__.replace("_", "-")
    directory = workspace.run_directory(name)
    shutil.copytree(workspace.run_directory("killed"), directory)
    spoil(directory / EVENTS)
    death = mortals.minigpt("train", "--resume", name, workspace=workspace.root)
    assert death.code == 0, death.said
    found = losses_of(directory)
    # Not one step is lost that was saved.
    assert {7, 8} <= found.keys()
    assert found == {step: loss for step, loss in losses.items() if step in found}
    weights = [load(workspace.run_directory(run) / "final_model.pt").weights for run in ("whole", name)]
    assert all(torch.equal(tensor, weights[1][key]) for key, tensor in weights[0].items())


# Other work


def require_whole(root: Path, pattern: str, whole: dict[str, bytes], done: bool) -> None:
    """What bears its final name is all there; it does once that was told."""
    found = [path for path in root.glob(pattern) if not path.name.startswith(".")]
    assert found or not done
    for made in found:
        assert contents(made) == whole


def lose_power(
    mortals: Mortals, workspace: Workspace, name: str, rng: random.Random, limit: int | None
) -> tuple[int, int]:
    """Do some work, and look at what a power loss at any of its operations leaves; return operations and states."""
    job, given, pattern = job_of(name, workspace)
    recording = recorded(mortals, workspace, job, given)
    (made,) = workspace.root.glob(pattern)
    whole = contents(made)
    states = 0
    for moment, tree in recording.losses(rng, limit):
        states += 1
        root = scratch(workspace.root.parent / "state", tree)
        require_whole(root, pattern, whole, moment.label == END)
        for directory in root.glob("data/*/shards/[!.]*"):
            assert complete_manifest(directory) is not None
        for manifest in root.glob("data/[!.]*/corpus.toml"):
            assert Corpus.open(manifest.parent).manifest.documents
    return len(recording.moments), states


@pytest.mark.parametrize("name", ["prepare", "export"])
def test_a_power_loss_leaves_all_of_some_work_or_nothing(
    mortals: Mortals, workspace: Workspace, rng: random.Random, name: str
) -> None:
    assert lose_power(mortals, workspace, name, rng, QUICK_STATES)


@pytest.mark.campaign
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("name", JOBS)
def test_a_power_loss_at_any_operation_leaves_all_of_some_work_or_nothing(
    mortals: Mortals, workspace: Workspace, rng: random.Random, tell_figure: Callable[[str, object], None], name: str
) -> None:
    operations, states = lose_power(mortals, workspace, name, rng, None)
    tell_figure(f"states of the disk after a power loss, {name}", f"{states} of {operations} operations")
