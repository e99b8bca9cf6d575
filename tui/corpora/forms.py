"""The dialog for each place that text can come from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tui.corpora.adding import AddForm
from tui.corpora.documents import Ask


def form(source: str, taken: Iterable[str], ask: Ask, scratch: Path, folder: Path) -> AddForm:
    """Return the dialog for a source of `adding.SOURCES`; `taken` are the names in use, `folder` is where files are."""
    if source == "paste":
        from tui.corpora.paste import PasteForm

        return PasteForm(taken, scratch)
    if source == "files":
        from tui.corpora.files import FilesForm

        return FilesForm(taken, folder)
    if source == "url":
        from tui.corpora.web import WebForm

        return WebForm(taken, ask, scratch)
    from tui.corpora.hub import CatalogueForm, HuggingFaceForm, KaggleForm, SampleForm

    if source == "catalogue":
        return CatalogueForm(taken, ask)
    return {"huggingface": HuggingFaceForm, "kaggle": KaggleForm, "sample": SampleForm}[source](taken)
