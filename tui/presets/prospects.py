"""Asking the planning what a draft would come to: for a thread."""

from __future__ import annotations

from minigpt.errors import UserError, printable
from minigpt.planning.outlook import outlook
from minigpt.planning.probe import cached_probe
from minigpt.presets import unusual
from minigpt.workspace import Workspace
from tui.presets.draft import Draft
from tui.presets.figures import Prospects


def prospects_of(workspace: Workspace, draft: Draft, corpus: str) -> Prospects:
    """Return what a draft would come to."""
    config = draft.config
    if config is None:
        return Prospects(corpus, problems=tuple(draft.problems))
    try:
        text = draft.toml()
        found = outlook(workspace, config, corpus, cached_probe(workspace, config, corpus))
    except UserError as error:
        return Prospects(corpus, problems=(printable(str(error)),))
    return Prospects(corpus, found, (), tuple(unusual(config)), toml=text)
