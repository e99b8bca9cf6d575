"""`minigpt corpus`: texts to learn from - brought in, looked at, made into tokens, removed."""

from __future__ import annotations

import argparse
from pathlib import Path

from minigpt.advice import refuse_tiny
from minigpt.cli.common import add_setting_flags, with_given, workspace_of, write_json
from minigpt.cli.corpus_add import run_add, run_catalogue
from minigpt.cli.corpus_look import run_documents, run_stats, show_corpus
from minigpt.cli.corpus_page import run_preview
from minigpt.cli.corpus_sources import SOURCES, add_source_arguments, characters_of
from minigpt.cli.main import say
from minigpt.cli.tasks import add_task_argument, amount, run_as_task
from minigpt.errors import UserError, printable
from minigpt.jobs import send_command
from minigpt.presets import DEFAULT_PRESET, load_preset
from minigpt.tasks import Task, list_tasks
from minigpt.text.corpora import create_sample, list_corpora, purge, remove, resolve, restore, used_by
from minigpt.text.corpus import Corpus
from minigpt.text.prepare import held_out_notes, prepare_for
from minigpt.text.prepared import Prepared
from minigpt.text.sources import corpus_name
from minigpt.text.tokenizer_facts import load_tokenizer
from minigpt.workspace import Workspace

ACTIONS = {
    "list": "every corpus",
    "show": "what a corpus holds, and how it begins",
    "add": "take in text: files, pages, data sets, what is piped in",
    "sample": "make built-in text of any size",
    "prepare": "turn a corpus into token shards (train does it by itself)",
    "stats": "its figures, and what they mean for training",
    "documents": "look through its documents, or search them",
    "preview": "show what a page's text is, without keeping it",
    "catalogue": "good first corpora, by short names",
    "remove": "put a corpus out of sight",
    "restore": "bring a removed corpus back",
    "purge": "delete removed corpora for good",
    "tasks": "what is being added or prepared now, and was before",
    "stop": "end such work",
}


def add_corpus_arguments(parser: argparse.ArgumentParser) -> None:
    subparsers = parser.add_subparsers(dest="action", metavar="|".join(ACTIONS), required=True)
    actions = {}
    for name, meaning in ACTIONS.items():
        epilog = SOURCES if name == "add" else None
        formatter = argparse.RawDescriptionHelpFormatter
        actions[name] = subparsers.add_parser(name, help=meaning, epilog=epilog, formatter_class=formatter)
        actions[name].add_argument("--json", action="store_true", help="write JSON")
    for name in ("show", "prepare", "stats", "documents"):
        actions[name].add_argument("name", metavar="NAME|PATH")
    actions["remove"].add_argument("name", metavar="NAME")
    actions["remove"].add_argument("--yes", action="store_true", help="do not ask")
    actions["restore"].add_argument("id", metavar="ID", help="a removed corpus's name, or what `remove` printed")
    actions["purge"].add_argument("id", metavar="ID", nargs="?", help="only this one")
    actions["stop"].add_argument("task", metavar="TASK", help="its name in `minigpt corpus tasks`")
    _add_adding(actions["add"])
    sampling = actions["sample"]
    sampling.add_argument("name", metavar="NAME")
    sampling.add_argument("--size", default="1M", metavar="N", help="characters: 500k, 1M, 2G")
    sampling.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, other stories")
    preview = actions["preview"]
    preview.add_argument("url", metavar="URL")
    preview.add_argument("--as-is", action="store_true", help="the page's source instead of its main text")
    preview.add_argument("--allow-private", action="store_true", help="allow addresses of this machine and network")
    preview.add_argument("--into", metavar="FILE", help="keep the text in this file")
    documents = actions["documents"]
    documents.add_argument("--search", default="", metavar="TEXT", help="only those that hold this")
    documents.add_argument("--from", dest="start", type=int, default=0, metavar="N", help="from this number on")
    documents.add_argument("--limit", type=int, default=20, metavar="N", help="at most so many")
    documents.add_argument("--characters", type=int, default=200, metavar="N", help="of each")
    for name in ("prepare", "stats"):
        actions[name].add_argument(
            "--preset", metavar="NAME", help=f"as this preset is to learn from it (prepare: {DEFAULT_PRESET})"
        )
    add_setting_flags(actions["prepare"], ["corpus", "tokenizer"])
    for name in ("prepare", "sample"):
        add_task_argument(actions[name])


def _add_adding(adding: argparse.ArgumentParser) -> None:
    adding.add_argument("source", nargs="+", metavar="NAME SOURCE", help="a name, and where the text comes from")
    adding.add_argument("--extend", action="store_true", help="add to a corpus that is there already")
    adding.add_argument("--yes", action="store_true", help="keep a page without asking")
    add_source_arguments(adding)
    add_task_argument(adding)


def run_corpus(options: argparse.Namespace) -> int:
    workspace = workspace_of(options)
    if options.action == "list":
        return _list(workspace, options.json)
    if options.action in ("preview", "catalogue", "tasks"):
        return {"preview": run_preview, "catalogue": run_catalogue, "tasks": _tasks}[options.action](options)
    if options.action in ("remove", "restore", "purge", "stop"):
        workspace.require_writable()
        return {"remove": _remove, "restore": _restore, "purge": _purge, "stop": _stop}[options.action](options)
    if options.action == "add":
        return _add(options)
    if options.action == "sample":
        return _sample(options)
    if options.action == "prepare":
        return _prepare(options)
    corpus = resolve(workspace, options.name)
    if corpus.note:
        say(corpus.note)
    if options.action == "show":
        return show_corpus(corpus, options.json)
    return {"stats": run_stats, "documents": run_documents}[options.action](corpus, options)


def _add(options: argparse.Namespace) -> int:
    added = run_add(options)
    if isinstance(added, int):
        return added
    if added.note:
        say(added.note)
    for note in [*(note for source in added.manifest.sources for note in source.notes), *added.manifest.notes]:
        say(note)
    return show_corpus(added, options.json)


def _sample(options: argparse.Namespace) -> int:
    characters = characters_of(options.size, "--size")

    def work(task: Task) -> Corpus:
        return create_sample(workspace_of(options), options.name, characters, options.seed, task)

    made = run_as_task(options, f"add-{options.name}", f"make {options.name}", work)
    return made if isinstance(made, int) else show_corpus(made, options.json)


def _list(workspace: Workspace, as_json: bool) -> int:
    corpora, damaged = list_corpora(workspace)
    for trouble in damaged:
        say(trouble)
    if as_json:
        write_json([corpus.manifest for corpus in corpora])
        return 0
    if not corpora and not damaged:
        say("There are no corpora yet: `minigpt train` makes the built-in one, `minigpt corpus add` takes yours.")
    for corpus in corpora:
        manifest = corpus.manifest
        name = printable(manifest.name, single_line=True)
        print(f"{name:<24} {manifest.documents:>9,} documents  {manifest.characters:>14,} characters")
    return 0


def _prepare(options: argparse.Namespace) -> int:
    workspace = workspace_of(options)
    config = with_given(load_preset(options.preset or DEFAULT_PRESET, workspace), options)
    if config.corpus.mixture:
        raise UserError(
            "prepare makes the tokens of one corpus: for a mixture `minigpt train --mix` does it by itself."
        )
    tokenizer = load_tokenizer(workspace, config.tokenizer.file).to_json() if config.tokenizer.file else None

    def work(task: Task) -> Prepared:
        corpus = resolve(workspace, options.name, task)
        if corpus.note:
            task.notice(corpus.note)
        refuse_tiny(corpus.manifest.characters)
        prepared = prepare_for(corpus, config, tokenizer, task)
        for note in (prepared.tokenizer_note, *prepared.notes, *held_out_notes(corpus, config.corpus, task)):
            task.notice(note)
        return prepared

    name = corpus_name(Path(options.name))
    prepared = run_as_task(options, f"prepare-{name}", f"prepare {name}", work)
    if isinstance(prepared, int):
        return prepared
    figures = _figures(prepared)
    if options.json:
        write_json(figures)
        return 0
    for name, value in figures.items():
        print(f"{name:<20} {value:,}" if isinstance(value, int) else f"{name:<20} {printable(str(value))}")
    return 0


def _figures(prepared: Prepared) -> dict[str, int | str]:
    tokens = {f"{split}_tokens": count for split, count in prepared.tokens.items()}
    return {
        "corpus": prepared.corpus.name,
        "tokenizer": prepared.tokenizer.kind,
        "vocab_size": prepared.tokenizer.vocab_size,
        **tokens,
        "directory": str(prepared.directory),
    }


def _remove(options: argparse.Namespace) -> int:
    workspace = workspace_of(options)
    users = used_by(workspace, options.name)
    if users:
        say(
            f"The run {', '.join(users)} learns from it now: it goes on to its end, and cannot be resumed later "
            "unless the corpus is brought back."
        )
    if not options.yes:
        raise UserError(f"Say --yes to remove the corpus {options.name}; `minigpt corpus restore` brings it back.")
    removed = remove(workspace, options.name)
    if options.json:
        write_json({"removed": options.name, "restore": removed, "used_by": users})
        return 0
    say(f"Removed. Until `minigpt corpus purge` this brings it back: minigpt corpus restore {removed}")
    return 0


def _restore(options: argparse.Namespace) -> int:
    return show_corpus(restore(workspace_of(options), options.id), options.json)


def _purge(options: argparse.Namespace) -> int:
    names = purge(workspace_of(options), options.id)
    if options.json:
        write_json({"purged": len(names), "names": names})
    else:
        say(f"Deleted for good: {', '.join(names)}." if names else "There is nothing to delete.")
    return 0


def _tasks(options: argparse.Namespace) -> int:
    tasks = list_tasks(workspace_of(options))
    if options.json:
        write_json(tasks)
        return 0
    for task in tasks:
        how = task.message or (f"{task.phase} {amount(vars(task))}" if not task.ended else "")
        print(printable(f"{task.name:<44} {task.state:<10} {how}", single_line=True))
    if not tasks:
        say("Nothing was added or prepared yet.")
    return 0


def _stop(options: argparse.Namespace) -> int:
    directory = workspace_of(options).task_directory(options.task)
    if not directory.is_dir():
        raise UserError(f"There is no task {options.task!r}: `minigpt corpus tasks` lists them.")
    send_command(directory, "stop")
    say(f"Asked {options.task} to stop.")
    return 0
