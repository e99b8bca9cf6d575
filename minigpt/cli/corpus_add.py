"""`minigpt corpus add NAME SOURCE...` and `catalogue`: text from wherever it lies.

added = run_add(options)      # the corpus, or how the task ended that was to add it
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from minigpt.advice import refuse_tiny
from minigpt.cli.common import workspace_of, write_json
from minigpt.cli.corpus_sources import is_plain_path, name_for, shards_in, source_of, token_source
from minigpt.cli.main import say
from minigpt.cli.tasks import run_as_task
from minigpt.errors import UserError, printable
from minigpt.tasks import Task
from minigpt.text.catalogue import catalogue
from minigpt.text.corpus import Corpus
from minigpt.text.formats import has_rows
from minigpt.text.manifest import MANIFEST
from minigpt.text.reading import Reading
from minigpt.text.sources import add_path
from minigpt.text.storage import scratch_directory


def run_add(options: argparse.Namespace) -> Corpus | int:
    """Add text under a name; a single argument is a file or folder, and gives the name too."""
    workspace = workspace_of(options)
    given: list[str] = options.source
    name, specs = (given[0], given[1:]) if len(given) > 1 else (None, given)
    _refuse_field(options.field, [Path(spec).expanduser() for spec in specs])
    if name is None:
        if is_plain_path(specs[0]) and not options.extend:
            if options.tokenizer_file:
                _refuse_tokenizer(specs[0])
            path = Path(specs[0]).expanduser()
            asked = options.split != "auto" or options.field
            reading = Reading(options.split, options.field) if asked else None
            return run_as_task(
                options, "add", f"add {specs[0]}", lambda task: add_path(workspace, path, task, refuse_tiny, reading)
            )
        name = name_for(specs[0])
    directory = workspace.corpus_directory(name)
    there = (directory / MANIFEST).is_file()
    if there and not options.extend:
        raise UserError(
            f"There is a corpus {name!r} already: choose another name, add to it with --extend, or remove it with "
            f"`minigpt corpus remove {name}`."
        )
    tokens = all(shards_in([spec]) for spec in specs)
    if options.tokenizer_file and not tokens:
        _refuse_tokenizer(name)
    workspace.require_writable()
    # Beside the corpora: what is fetched may be large, and /tmp lies in memory on some machines.
    with scratch_directory(workspace.data / "_fetch") as folder:

        def work(task: Task) -> Corpus:
            if tokens:
                sources = [token_source(shards_in(specs), options, workspace)]
            else:
                sources = [source_of(spec, options, workspace, folder / str(i), task) for i, spec in enumerate(specs)]
            if there:
                return Corpus.open(directory).extended(sources, task)
            return Corpus.create(workspace, name, sources, task, refuse_tiny)

        return run_as_task(options, f"add-{name}", f"add {name}", work)


def _refuse_tokenizer(name: str) -> NoReturn:
    raise UserError(
        "--tokenizer-file is for .bin shards, which hold tokens already; text is cut into tokens later: "
        f"`minigpt corpus prepare {printable(name)} --tokenizer-file FILE`."
    )


def _refuse_field(field: str, paths: list[Path]) -> None:
    """Raises UserError when a field is chosen and nothing but running text is there to look for it in."""
    if field and all(path.is_file() and not has_rows(path) for path in paths):
        raise UserError(
            f"{printable(str(paths[0]))} is running text, which has no field {printable(field)!r}: leave out --field."
        )


def run_catalogue(options: argparse.Namespace) -> int:
    if options.json:
        write_json(catalogue())
        return 0
    for known in catalogue():
        print(f"{known.name:<14} {known.size}; {known.licence}\n{'':<14} {known.good_for}\n{'':<14} {known.source}\n")
    say("Add one with `minigpt corpus add NAME`.")
    return 0
