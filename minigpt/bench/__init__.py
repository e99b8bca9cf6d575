"""How fast MiniGPT is, measured on this machine beside what one would use instead.

rows = run("train", Workspace.find(), None, print)
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from minigpt.bench.measure import Bench, Row
from minigpt.errors import UserError
from minigpt.text.corpora import SAMPLE, create_sample, resolve
from minigpt.text.sample import DEFAULT_CHARACTERS
from minigpt.text.storage import scratch_directory
from minigpt.workspace import Workspace

__all__ = ["BENCHES", "Row", "run"]

BENCHES = ("train", "speedrun", "generate", "prepare")
QUICK_CHARACTERS = 60_000


def run(
    what: str, workspace: Workspace, text: Path | None, say: Callable[[str], None], quick: bool = False
) -> list[Row]:
    """Measure one of BENCHES, on the built-in corpus and on `text` (a file or folder) where that is given.

    Everything is made in a temporary folder below the workspace's data. `quick` only shows that all of it works: tiny
    sizes, one repeat, figures without meaning. Raises UserError, and JobFailed when a measurement fails.
    """
    if what not in BENCHES:
        raise UserError(f"There is no benchmark {what!r}: choose {', '.join(BENCHES[:-1])} or {BENCHES[-1]}.")
    workspace.require_writable()
    with scratch_directory(workspace.data / "_bench") as folder:
        place = Workspace(folder)
        corpora = [create_sample(place, SAMPLE, QUICK_CHARACTERS if quick else DEFAULT_CHARACTERS, seed=0).name]
        if text is not None:
            corpora.append(resolve(place, str(text)).name)
        bench = Bench(place, tuple(corpora), text is not None, say, quick)
        # Imported by name: half of them need torch, which takes its time.
        rows: list[Row] = importlib.import_module(f"minigpt.bench.{what}").rows(bench)
        return rows
