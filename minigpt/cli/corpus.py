"""`minigpt corpus list|show|add|sample|prepare` and `minigpt tokenizer show`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from minigpt.cli.common import add_setting_flags, with_given, workspace_of, write_json
from minigpt.cli.main import say
from minigpt.config import Config
from minigpt.errors import UserError, printable
from minigpt.text.corpus import MANIFEST, Corpus
from minigpt.text.prepare import Prepared, create_sample, prepare_for, resolve
from minigpt.workspace import Workspace

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def add_corpus_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="list|show|add|sample|prepare", required=True)
    listing = actions.add_parser("list", help="every corpus")
    showing = actions.add_parser("show", help="what a corpus holds, and how it begins")
    adding = actions.add_parser("add", help="take in a file or folder")
    sampling = actions.add_parser("sample", help="make built-in text of any size")
    preparing = actions.add_parser("prepare", help="turn a corpus into token shards (train does it by itself)")
    for action in (showing, preparing):
        action.add_argument("name", metavar="NAME|PATH")
    adding.add_argument("path", metavar="PATH")
    sampling.add_argument("name", metavar="NAME")
    sampling.add_argument("--size", default="1M", metavar="N", help="characters: 500k, 1M, 2G")
    sampling.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, other stories")
    add_setting_flags(preparing, ["tokenizer"])
    for action in (listing, showing, adding, sampling, preparing):
        action.add_argument("--json", action="store_true", help="write JSON")


def run_corpus(options: argparse.Namespace) -> int:
    workspace = workspace_of(options)
    if options.action == "list":
        return _list(workspace, options.json)
    workspace.require_writable()
    if options.action == "sample":
        corpus = create_sample(workspace, options.name, _characters(options.size), options.seed)
    elif options.action == "add":
        corpus = resolve(workspace, options.path)
    else:
        corpus = resolve(workspace, options.name)
    if corpus.note:
        say(corpus.note)
    if options.action == "prepare":
        return _prepare(corpus, with_given(Config(), options), options.json)
    return _show(corpus, options.json)


def _characters(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)b?", text.strip().lower())
    if not match or float(match[1]) <= 0:
        raise UserError(f"--size {text!r} is not a size: write a number of characters such as 500k, 1M or 2G.")
    return int(float(match[1]) * UNITS[match[2]])


def _list(workspace: Workspace, as_json: bool) -> int:
    folders = sorted(workspace.data.iterdir()) if workspace.data.is_dir() else []
    corpora = [Corpus.open(folder) for folder in folders if (folder / MANIFEST).is_file()]
    if as_json:
        write_json([corpus.manifest for corpus in corpora])
        return 0
    if not corpora:
        say("There are no corpora yet: `minigpt train` makes the built-in one, `minigpt corpus add PATH` takes yours.")
    for corpus in corpora:
        manifest = corpus.manifest
        name = printable(manifest.name, single_line=True)
        print(f"{name:<24} {manifest.documents:>9,} documents  {manifest.characters:>14,} characters")
    return 0


def _show(corpus: Corpus, as_json: bool) -> int:
    manifest = corpus.manifest
    if as_json:
        write_json(manifest)
        return 0
    sources = "; ".join(f"{source.kind} {source.origin}" for source in manifest.sources)
    print(
        f"{printable(manifest.name, single_line=True)}: {manifest.documents:,} documents "
        f"({manifest.conversations:,} conversations), "
        f"{manifest.characters:,} characters\nfrom {printable(sources)}\n"
    )
    for document, _ in zip(corpus.documents(), range(3), strict=False):
        turns = [f"{message.role}: {message.content}" for message in document.messages] or [document.text[:500]]
        print(printable("\n".join(turns)) + "\n")
    return 0


def _prepare(corpus: Corpus, config: Config, as_json: bool) -> int:
    prepared = prepare_for(corpus, config)
    figures = _figures(prepared)
    if as_json:
        write_json(figures)
        return 0
    say(prepared.tokenizer_note)
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


def add_tokenizer_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="show", required=True)
    showing = actions.add_parser("show", help="cut a text into the tokens of a run's tokenizer")
    showing.add_argument("name", metavar="RUN|FILE", help="a run's name or a tokenizer.json")
    showing.add_argument("text", metavar="TEXT")
    showing.add_argument("--json", action="store_true", help="write JSON")


def run_tokenizer(options: argparse.Namespace) -> int:
    from minigpt.runs import find_run
    from minigpt.text.tokenizer import Tokenizer

    file = Path(options.name)
    path = file if file.is_file() else find_run(workspace_of(options), options.name) / "tokenizer.json"
    tokenizer = Tokenizer.load(path)
    tokens = [{"id": token, "text": tokenizer.token_text(token)} for token in tokenizer.encode(options.text)]
    if options.json:
        write_json({"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "tokens": tokens})
        return 0
    print("|".join(printable(str(token["text"]), single_line=True) for token in tokens))
    say(f"{len(tokens)} tokens of a {tokenizer.kind} tokenizer with {tokenizer.vocab_size:,}")
    return 0
