"""Web pages on the command line: `minigpt corpus preview URL`, and a page's text shown before it is kept.

source = page_source("https://example.org/tale", options, Reading(), scratch, task)
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from minigpt.cli.common import write_json
from minigpt.cli.main import say
from minigpt.errors import UserError, printable
from minigpt.tasks import NOBODY, Task
from minigpt.text.reading import Reading
from minigpt.text.sources import PathSource, wait_for_input

PREVIEW_CHARACTERS = 4000
ASKED_CHARACTERS = 600


def page_source(url: str, options: argparse.Namespace, reading: Reading, scratch: Path, task: Task) -> PathSource:
    """Fetch a page; on a terminal its text is shown before it is kept. Raises UserError where that is not wanted."""
    from minigpt.text.web import fetch_page

    scratch.mkdir(parents=True, exist_ok=True)
    page = fetch_page(url, scratch, allow_private=options.allow_private, as_is=options.as_is, task=task)
    source = PathSource(page.path, reading, kind="url", origin=page.url)
    source.notes[:0] = [page.title, *page.notes] if page.title else page.notes
    if sys.stdin.isatty() and sys.stderr.isatty() and not options.yes and not options.task:
        _ask(page.title, _beginning(page.path, ASKED_CHARACTERS), page.characters, task)
    return source


def _ask(title: str, beginning: str, characters: int | None, task: Task) -> None:
    size = "" if characters is None else f"{characters:,} characters. "
    say(f"\n{title}\n{beginning}\n\n{size}Keep this text? [Y/n] ")
    wait_for_input(sys.stdin.fileno(), task)
    if sys.stdin.readline().strip().lower() not in ("", "y", "yes"):
        raise UserError("Not kept, as you said.")


def _beginning(path: Path, characters: int) -> str:
    source = PathSource(path)
    from minigpt.text.documents import read_documents

    return next((document.text[:characters] for document in read_documents(path, source.reading)), "")


def run_preview(options: argparse.Namespace) -> int:
    """Fetch a page without keeping it, or into a file that can be added then."""
    from minigpt.text.web import fetch_page

    with tempfile.TemporaryDirectory(prefix="minigpt-") as scratch:
        page = fetch_page(
            options.url, Path(scratch), allow_private=options.allow_private, as_is=options.as_is, task=NOBODY
        )
        beginning = _beginning(page.path, PREVIEW_CHARACTERS)
        if options.into:
            target = Path(options.into)
            if target.exists() and target.stat().st_size:
                raise UserError(f"There is a file {printable(str(target))} already: choose another name for --into.")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(page.path, target)
    if options.json:
        write_json(
            {
                "title": page.title,
                "kind": page.kind,
                "origin": page.url,
                "text": beginning,
                "characters": page.characters,
                "notes": page.notes,
            }
        )
        return 0
    size = "" if page.characters is None else f": {page.characters:,} characters"
    print(f"{printable(page.title)}\n{printable(page.url)}{size}\n\n{printable(beginning)}")
    return 0
