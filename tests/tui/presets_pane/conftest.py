"""A workspace with presets of every kind, and figures that follow at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from minigpt.workspace import Workspace
from tests.tui.presets_pane.pane import own
from tui.presets.draft import Draft
from tui.presets.figures import Prospects

PRESETS = {
    "first": "# The first.\n[training]\nmax_steps = 600\n",
    "second": "# The second.\n\n[model]\nd_model = 256  # twice as wide\nn_layers = 8\n",
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Two built-in presets, one of one's own, one that is broken; and figures that follow at once."""
    folder = tmp_path / "presets"
    folder.mkdir()
    for name, text in PRESETS.items():
        (folder / f"{name}.toml").write_text(text)
    found = Workspace(tmp_path / "workspace")
    found.configs.mkdir(parents=True)
    own(found).write_text("# My own.\n[training]\nlearning_rate = 0.5  # hot\n")
    own(found, "broken").write_text("[model]\nd_modle = 3\n")
    for user in ("minigpt.presets", "tui.presets.files"):
        monkeypatch.setattr(f"{user}.builtin_presets", lambda: folder)
    monkeypatch.setattr("tui.presets.form.PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("tui.presets.form.prospects_of", worked_out)
    return found


def worked_out(workspace: Workspace, draft: Draft, corpus: str) -> Prospects:
    """Stand in for the planning, which has tests of its own."""
    problems = tuple(draft.problems)
    return Prospects(f"{corpus} {draft.value('model.d_model')}", None, problems, toml="" if problems else draft.toml())
