"""Killed at any moment: what was saved stays whole, and work goes on as if nothing had happened."""

from __future__ import annotations

import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from minigpt.interop.huggingface import export_directory
from minigpt.model.checkpoint import Checkpoint, load, save
from minigpt.model.gpt import GPT, GPTConfig
from minigpt.presets import to_toml
from minigpt.runs import resume_checkpoint, summarise
from minigpt.text.tokenizer import Tokenizer
from minigpt.workspace import Workspace
from tests.conftest import small_config, tale, tale_workspace
from tests.faults.harness import events_of, losses_of
from tests.faults.mortal import Death, Kill, Mortals

KILLS = 100
SETTINGS = {
    "model__d_model": 16,
    "model__n_layers": 1,
    "training__max_steps": 24,  # two epochs and a little more
    "training__eval_every": 4,
    "training__save_every": 3,
    "training__keep_last": 1,
    "training__sample_prompts": [],
    "training__device": "cpu",
}


@pytest.fixture(scope="module")
def mortals() -> Iterator[Mortals]:
    # Where CUDA may be at work in this process, its children could not compute.
    with Mortals(apart=torch.cuda.is_available()) as found:
        yield found


@pytest.fixture(scope="module")
def mortals_apart() -> Iterator[Mortals]:
    with Mortals(apart=True) as found:
        yield found


# Training


@pytest.fixture(scope="module")
def training(mortals: Mortals, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A short run that nothing has disturbed."""
    return Training(tale_workspace(tmp_path_factory.mktemp("training")), mortals, training__max_steps=8)


class Training:
    """One run after another in one workspace, to be killed and gone on with; all are to be like the first."""

    def __init__(self, workspace: Workspace, mortals: Mortals, **changes: object) -> None:
        self.workspace, self.mortals = workspace, mortals
        self.config = workspace.root / "run.toml"
        self.config.write_text(to_toml(small_config(**{**SETTINGS, **changes})))
        death = self.start("undisturbed")
        assert death.code == 0, death.said
        self.operations = death.operations
        self.undisturbed = self.outcome("undisturbed")

    def start(self, run: str, kill: Kill | None = None) -> Death:
        arguments = ["train", "--config", str(self.config), "--run", run]
        return self.mortals.minigpt(*arguments, workspace=self.workspace.root, kill=kill)

    def directory(self, run: str) -> Path:
        return self.workspace.run_directory(run)

    def outcome(self, run: str) -> dict[str, Any]:
        """Return all that must be the same: losses, evaluations, the last weights and the best ones."""
        directory = self.directory(run)
        evaluations = {
            (event["split"], event["step"], bool(event.get("whole"))): event["loss"]
            for event in events_of(directory)
            if event["type"] == "eval"
        }
        return {
            "losses": losses_of(directory),
            "evaluations": evaluations,
            **{name: load(directory / f"{name}_model.pt").weights for name in ("final", "best")},
        }

    def go_on(self, run: str, kill: Kill | None = None) -> bool:
        """Begin a run, or go on with it; return whether it was killed."""
        directory = self.directory(run)
        if summarise(directory).state == "finished":
            return False  # killed after it had told of its end
        if directory.exists() and resume_checkpoint(directory) is None:
            shutil.rmtree(directory)  # killed before its first checkpoint
        if directory.exists():
            death = self.mortals.minigpt("train", "--resume", run, workspace=self.workspace.root, kill=kill)
        else:
            death = self.start(run, kill)
        assert death.killed or death.code == 0, death.said
        self.require_whole(directory)
        return death.killed

    def require_whole(self, directory: Path) -> None:
        """Every checkpoint loads, and the one to go on from is at least the last of which the run has told."""
        for path in directory.glob("*.pt"):
            load(path).build_model()
        told = [event["step"] for event in events_of(directory) if event["type"] == "checkpoint"]
        if told:
            found = resume_checkpoint(directory)
            assert found is not None and load(found).step >= told[-1]

    def require_same(self, run: str) -> None:
        found = self.outcome(run)
        for name in ("losses", "evaluations"):
            assert found[name] == self.undisturbed[name]
        for name in ("final", "best"):
            for tensor, weights in self.undisturbed[name].items():
                assert torch.equal(weights, found[name][tensor])
        leftovers = [path.name for path in self.directory(run).iterdir() if path.suffix in (".part", ".link")]
        assert not leftovers


def tiny_checkpoint(step: int = 1) -> Checkpoint:
    config = small_config(model__d_model=8, model__n_layers=1, model__n_heads=1)
    tokenizer = Tokenizer.train("char", [tale()], 0)
    shape = GPTConfig.from_settings(config.model, tokenizer.vocab_size)
    return Checkpoint(config, shape, GPT(shape).state_dict(), tokenizer.to_json(), step=step)


def test_a_save_killed_at_any_operation_leaves_whole_checkpoints(tmp_path: Path, mortals: Mortals) -> None:
    save(tmp_path / "saved.pt", tiny_checkpoint(1))

    def fresh(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in ("checkpoint_step_1.pt", "best_model.pt"):
            shutil.copy(tmp_path / "saved.pt", folder / file)
        return folder

    operations = mortals.run("save", workspace=fresh("undisturbed")).operations
    # Of the many writes a few.
    chosen = [number for number, label in enumerate(operations) if "write" not in label or number % 100 == 50]
    for number in chosen:
        folder = fresh(str(number))
        assert mortals.run("save", workspace=folder, kill=Kill("", number)).killed
        steps = [load(path).step for path in folder.glob("checkpoint_*.pt")]
        assert steps and load(folder / "best_model.pt").step in (1, 2), operations[number]
        assert max(steps) == 2 or steps == [1]


def test_a_run_killed_while_it_saves_goes_on_as_if_it_had_not_been(training: Training) -> None:
    for where, nth in (("saving os.rename .*best", 0), ("saving torn", 50), ("saving os.remove .*/checkpoint_", 0)):
        assert training.go_on("killed", Kill(where, nth)), where
    assert not training.go_on("killed")
    training.require_same("killed")


def test_a_run_killed_after_its_last_step_is_still_measured(training: Training) -> None:
    # The final weights are there; what they are worth is not known.
    assert training.go_on("late", Kill("os.remove .*/interrupted", 0))
    assert training.go_on("late", Kill("evaluating torn write", 1))
    assert not training.go_on("late")
    training.require_same("late")
    assert summarise(training.directory("late")).state == "finished"


@pytest.mark.campaign
@pytest.mark.timeout(2400)
def test_a_hundred_kills_cost_no_step(
    workspace: Workspace, mortals_apart: Mortals, rng: random.Random, tell_figure: Callable[[str, object], None]
) -> None:
    training = Training(workspace, mortals_apart)
    kills: Counter[str] = Counter()
    began, runs = time.monotonic(), 0
    while kills.total() < KILLS:
        run = f"run-{runs}"
        while training.go_on(run, _drawn(rng)):
            kills[summarise(training.directory(run)).phase or "before the start"] += 1
        training.require_same(run)
        shutil.rmtree(training.directory(run))
        runs += 1
    tell_figure("kills of training", f"{kills.total()} ({dict(kills)}), in {runs} runs that all ended as undisturbed")
    tell_figure("seconds", round(time.monotonic() - began))


def _drawn(rng: random.Random) -> Kill:
    """Draw an instant: at a file operation, or a little later; mostly in a save, an evaluation, at an epoch's end."""
    where, operations = rng.choices(
        [
            (r"^saving (open|fsync|os\.)", 60),
            ("^saving .*write", 6000),
            ("^evaluating", 60),
            ("checkpoint_epoch", 1000),
            ("^training", 60),
            ("", 10000),
        ],
        weights=[30, 15, 15, 15, 15, 10],
    )[0]
    after = None if rng.random() < 0.5 else rng.uniform(0, 0.03)
    return Kill(where, int(operations * rng.random() ** 2), after)


# Corpora, tokenizers, exports, imports


def job_of(name: str, workspace: Workspace) -> tuple[str, dict[str, Any], str]:
    """Return some work in a workspace, and the pattern of what it makes."""
    if name.startswith("prepare"):
        # Several shards, so that there is something to go on with.
        given = {"corpus": "tale", "shard_tokens": 150, "cleaning": name.endswith("cleaned"), "kind": "char"}
        return "prepare", given, "data/tale/shards/*"
    arguments, made = {
        "add a corpus": (["corpus", "add", "tales", "tale.txt"], "data/tales"),
        "make a sample": (["corpus", "sample", "made", "--size", "3000"], "data/made"),
        "train a tokenizer": (["tokenizer", "train", "tale", "--kind", "char", "--output", "own.json"], "own.json"),
        "export": (["export", "given", "--format", "hf", "--output", "out"], "out"),
        "import": (["import", "theirs", "taken"], "checkpoints/taken"),
    }[name]
    if name == "export":
        workspace.run_directory("given").mkdir()
        save(workspace.run_directory("given") / "best_model.pt", tiny_checkpoint())
    if name == "import":
        export_directory(tiny_checkpoint(), workspace.root / "theirs")
    return "cli", {"arguments": arguments}, made


QUICK_JOBS = ["add a corpus", "prepare cleaned", "export"]
JOBS = [*QUICK_JOBS, "make a sample", "prepare", "train a tokenizer", "import"]


def contents(path: Path) -> dict[str, bytes]:
    """Return the bytes of a file, or of all below a folder, but for dates and for the lock of who has made it."""
    found = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]
    date = re.compile(rb"\d{4}-\d\d-\d\dT[0-9:+]+")
    return {str(file.relative_to(path)): date.sub(b"", file.read_bytes()) for file in found if file.name != "run.lock"}


def names(workspace: Workspace) -> set[str]:
    """Return all there is in a workspace, but for what tells how its tasks went."""
    found = (path.relative_to(workspace.root) for path in workspace.root.rglob("*"))
    return {str(path) for path in found if ".tasks" not in path.parts}


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def kill_everywhere(mortals: Mortals, workspace: Workspace, name: str, chosen: Callable[[list[str]], list[int]]) -> int:
    """Have a job killed at the operations chosen, each time done again after that; return how many kills that were.

    What it makes must be absent or whole after each kill, and as undisturbed in the end, with nothing else left.
    """
    job, given, pattern = job_of(name, workspace)
    undisturbed = mortals.run(job, workspace=workspace.root, **given)
    assert undisturbed.code == 0, undisturbed.said
    (made,) = workspace.root.glob(pattern)
    whole, around = contents(made), names(workspace)
    killed = 0
    for number in chosen(undisturbed.operations):
        where = undisturbed.operations[number]
        remove(made)
        killed += mortals.run(job, workspace=workspace.root, kill=Kill("", number), **given).killed
        assert not made.exists() or contents(made) == whole, where
        if made.exists() and mortals.run(job, workspace=workspace.root, **given).code != 0:
            remove(made)  # refused, because it is there
        again = mortals.run(job, workspace=workspace.root, **given)
        assert again.code == 0 or made.exists(), f"{where}: {again.said}"
        assert contents(made) == whole, where
        assert names(workspace) == around, where
    return killed


@pytest.mark.parametrize("name", QUICK_JOBS)
def test_work_killed_at_an_operation_leaves_all_or_nothing(
    workspace: Workspace, mortals: Mortals, rng: random.Random, name: str
) -> None:
    def some(operations: list[str]) -> list[int]:
        last = max(number for number, label in enumerate(operations) if "rename" in label)
        # Before it gets its name, and after.
        return [rng.randrange(len(operations)), last, last + 1]

    assert kill_everywhere(mortals, workspace, name, some)


@pytest.mark.campaign
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("name", JOBS)
def test_work_killed_at_any_operation_leaves_all_or_nothing(
    workspace: Workspace, mortals_apart: Mortals, tell_figure: Callable[[str, object], None], name: str
) -> None:
    def all_of_them(operations: list[str]) -> list[int]:
        return list(range(len(operations)))

    tell_figure(f"kills, {name}", kill_everywhere(mortals_apart, workspace, name, all_of_them))
