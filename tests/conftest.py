"""What many tests need: a workspace of their own, a small text, a short run."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch is imported by anybody: small tests on many threads mostly wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Workers, and the processes that tests start, would all compile the project anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

from minigpt.config import Config
from minigpt.device import cpu_threads
from minigpt.presets import with_values
from minigpt.workspace import Workspace

LONGEST_ID = 30
SMALL = {
    "corpus.name": "tale",
    "corpus.validation_fraction": 0.1,
    "corpus.test_fraction": 0.0,
    "tokenizer.kind": "char",
    "model.d_model": 32,
    "model.n_layers": 2,
    "model.n_heads": 2,
    "model.max_seq_len": 16,
    "training.batch_size": 4,
    "training.max_steps": 12,
    "training.warmup_steps": 2,
    "training.threads": 1,
    "training.sample_prompts": ["The cat"],
    "generation.max_new_tokens": 20,
}


def tale(words: int = 150) -> str:
    """Return a text with some order in it, the same every time."""
    nouns, verbs = ["cat", "dog", "bird", "fish", "child"], ["sees", "likes", "finds", "calls"]
    sentences = [
        f"The {nouns[i * 7 % 5]} {verbs[i * 3 % 4]} the {nouns[(i * 11 + i // 5) % 5]}." for i in range(words // 5)
    ]
    return "\n".join(sentences) + "\n"


@pytest.fixture(scope="module", autouse=True)
def terse() -> Iterator[None]:
    """Have the models of tests say little while they train: nobody reads it, and it took half of the time."""
    with pytest.MonkeyPatch.context() as patch:
        # Tests that need no torch do not load it for this.
        if observer := sys.modules.get("minigpt.training.observer"):
            patch.setattr(observer, "SAMPLE_TOKENS", 2)
        yield


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace that holds one small text as the corpus `tale`."""
    return tale_workspace(tmp_path)


def tale_workspace(folder: Path) -> Workspace:
    """Make a workspace in a folder that holds one small text as the corpus `tale`."""
    root = folder / "workspace"
    root.mkdir()
    (root / "tale.txt").write_text(tale())
    from minigpt.text.sources import add_path

    found = Workspace(root)
    found.require_writable()
    add_path(found, root / "tale.txt")
    return found


def small_config(**changes: object) -> Config:
    """Return the configuration of a run of a second, with changes keyed section__name."""
    values = {**SMALL, **{key.replace("__", "."): value for key, value in changes.items()}}
    return with_values(Config(), values, "test")


def run_minigpt(
    *arguments: str, workspace: Path, input: str | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a person would, in a process of its own."""
    environment = {**os.environ, "MINIGPT_WORKSPACE": str(workspace), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "minigpt.cli.main", *arguments],
        cwd=workspace,
        env=environment,
        input=input,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one worker more than there are cores: tests of the app and of other processes often wait."""
    return cpu_threads() + 1


def pytest_collection_finish() -> None:
    """Have garbage be looked for among what tests make, not among the modules they have in common."""
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a test after the beginning of a long text only."""
    return f"{val[:LONGEST_ID]!a}..." if isinstance(val, (str, bytes)) and len(val) > 2 * LONGEST_ID else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that campaigns have noted (tests/faults)."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    figures = [(report.nodeid, *figure) for report in reports for figure in report.user_properties]
    told = [
        f"{name.removeprefix('figure: ')}: {value}  ({where})" for where, name, value in figures if "figure: " in name
    ]
    if told:
        terminalreporter.section("figures")
        terminalreporter.line("\n".join(told))
