"""`minigpt tokenizer train|show|compare`."""

from __future__ import annotations

import argparse
import codecs
import sys
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from minigpt.cli.common import workspace_of, write_json
from minigpt.cli.corpus_sources import characters_of
from minigpt.cli.main import Parser, say
from minigpt.cli.tasks import add_task_argument, run_as_task
from minigpt.cli.tokenizer_print import Row, coloured, print_comparison, print_facts
from minigpt.config import TokenizerSettings
from minigpt.errors import UserError, printable
from minigpt.text.corpora import resolve
from minigpt.text.corpus import Corpus
from minigpt.text.manifest import MANIFEST
from minigpt.text.painting import paint
from minigpt.text.storage import shown
from minigpt.text.tokenizer import Tokenizer
from minigpt.text.tokenizer_facts import (
    TOKENIZERS,
    Facts,
    Figures,
    ReferenceText,
    describe,
    measure,
    reference_text,
    tokenizer_path,
)
from minigpt.text.tokenizer_kinds import KINDS, Kind, choose_kind, fitting_vocab_size
from minigpt.text.tokenizer_training import train_on
from minigpt.workspace import Workspace

VOCABULARY_SIZES = 16, 1_000_000
LONGEST_INPUT = 1_000_000  # bytes of stdin that are painted

ABOUT = (
    "A token is the piece of text that a model reads and writes at a time: a character, a word, or something between. "
    "The more characters a token holds, the more text fits into the model's context and the less work a page is; but "
    "the vocabulary grows, and each token is seen less often."
)
TOKENIZER = "a run, a corpus that is prepared, or a tokenizer.json"


class SwitchesAnywhere(Parser):
    """Lets switches stand between a tokenizer and its text, where argparse would take the text for one too many."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        arguments = list(args)
        end = arguments.index("--") if "--" in arguments else len(arguments)
        switches = {flag for action in self._actions if action.nargs == 0 for flag in action.option_strings}
        arguments[:end] = sorted(arguments[:end], key=lambda argument: argument not in switches)
        return super().parse_known_args(arguments, namespace)


def add_tokenizer_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = ABOUT
    actions = parser.add_subparsers(
        dest="action", metavar="train|show|compare", required=True, parser_class=SwitchesAnywhere
    )
    training = actions.add_parser("train", help="learn tokens from a corpus", description=TRAINING)
    showing = actions.add_parser("show", help="what a tokenizer is, or a text cut into its tokens", description=SHOWING)
    comparing = actions.add_parser("compare", help="tokenizers side by side on one text", description=COMPARING)
    _add_training(training)
    showing.add_argument("name", metavar="TOKENIZER", help=TOKENIZER)
    showing.add_argument("text", metavar="TEXT", nargs="?", help="paint this text by its tokens")
    showing.add_argument("--stdin", action="store_true", help="paint what is piped in (the first megabyte of it)")
    showing.add_argument("--ids", action="store_true", help="write each token's number beneath it")
    comparing.add_argument("names", metavar="TOKENIZER", nargs="+", help=f"each {TOKENIZER}")
    comparing.add_argument("--text", metavar="TEXT", help="compare on this text")
    for action in (showing, comparing):
        action.add_argument("--corpus", metavar="NAME|PATH", help="measure on this corpus (default: built-in text)")
    for action in (training, showing, comparing):
        action.add_argument("--json", action="store_true", help="write JSON")


TRAINING = (
    "Learn a vocabulary from a corpus and keep it as a tokenizer.json. bpe (byte-pair encoding) starts from single "
    "bytes and joins the pair that is most frequent, again and again: it can write any text. word knows the most "
    "frequent words alone, char every character that occurs. To train a model with it: `minigpt train --tokenizer-file "
    "FILE`."
)
SHOWING = (
    "Without a text: the tokenizer's vocabulary, its longest tokens, and how many characters of ordinary text a token "
    "holds. With a text: that text painted by its tokens, on a terminal in alternating colours, elsewhere with | "
    "between them."
)
COMPARING = (
    "Cut the same text by each tokenizer. Characters a token tells how much text a model's context holds (the ratio is "
    "to the first one named); the losses of models with different tokenizers cannot be compared, bits per byte can."
)


def _add_training(training: argparse.ArgumentParser) -> None:
    size = TokenizerSettings().vocab_size
    training.add_argument("corpus", metavar="CORPUS", help="a corpus's name, or a file or folder")
    training.add_argument("--kind", choices=KINDS, metavar="|".join(KINDS), help="default: as the text's size suggests")
    training.add_argument(
        "--vocab-size", type=int, metavar="N", help=f"how many tokens, for word and bpe (default: {size}, or what fits)"
    )
    training.add_argument("--output", type=Path, metavar="FILE", help="default: data/CORPUS/tokenizers/KIND-N.json")
    training.add_argument(
        "--sample-characters",
        default="100M",
        metavar="N",
        help="learn word and bpe from so much at most, spread evenly over the corpus (default: 100M)",
    )
    add_task_argument(training)


def run_tokenizer(options: argparse.Namespace) -> int:
    return {"train": _train, "show": _show, "compare": _compare}[options.action](options)


# -- train


def _train(options: argparse.Namespace) -> int:
    workspace = workspace_of(options)
    workspace.require_writable()
    wanted = characters_of(options.sample_characters, "--sample-characters")
    corpus = _corpus(workspace, options.corpus)
    kind, vocab_size = _kind_and_size(options, corpus.manifest.characters)
    if options.output is not None:
        _require_free(options.output)
    title = f"learn {kind} tokens from {corpus.name}"
    tokenizer = run_as_task(
        options, f"tokenizer-{corpus.name}", title, lambda task: train_on(corpus, kind, vocab_size, wanted, task)
    )
    if isinstance(tokenizer, int):
        return tokenizer
    size = tokenizer.vocab_size if kind == "char" else vocab_size
    path = _saved(tokenizer, options.output or corpus.directory / TOKENIZERS / f"{kind}-{size}.json")
    facts, figures = describe(tokenizer), measure(tokenizer, reference_text(corpus))
    if options.json:
        write_json({"file": str(path), **_json(facts, figures)})
        return 0
    print(shown(path))
    print_facts(facts, figures)
    say(f"Use it with `minigpt train --corpus {corpus.name} --tokenizer-file {shown(path)}`.")
    return 0


def _kind_and_size(options: argparse.Namespace, characters: int) -> tuple[Kind, int]:
    kind, note = choose_kind(options.kind or "auto", characters)
    if options.kind is None:
        say(note)
    asked: int | None = options.vocab_size
    lowest, highest = VOCABULARY_SIZES
    if asked is not None and not lowest <= asked <= highest:
        raise UserError(f"--vocab-size {asked} is not possible: give a number from {lowest} to {highest:,}.")
    if kind == "char":
        if asked is not None:
            say("A char tokenizer has the characters that occur: --vocab-size is not used.")
        return kind, 0
    default = TokenizerSettings().vocab_size
    if kind == "word":
        return kind, asked or default
    fitting = fitting_vocab_size(asked or default, characters)
    if asked is not None and fitting < asked:
        say(f"{asked:,} tokens are many for {characters:,} characters: {fitting:,} would each be seen often enough.")
    return kind, fitting if asked is None else asked


def _require_free(path: Path) -> None:
    """Refuse to write over anything that is no tokenizer, before the long work begins."""
    if path.is_dir():
        raise UserError(f"--output {shown(path)} is a folder: name a file in it, such as {shown(path / 'mine.json')}.")
    if not path.parent.is_dir():
        raise UserError(f"--output {shown(path)}: there is no folder {shown(path.parent)}: make it first.")
    if path.exists():
        try:
            Tokenizer.load(path)
        except UserError as error:
            raise UserError(
                f"--output {shown(path)} is there already and is no tokenizer: name another file."
            ) from error


def _saved(tokenizer: Tokenizer, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tokenizer.save(path)
    except OSError as error:
        raise UserError(f"Cannot write {shown(path)} ({error.strerror}): choose another file with --output.") from error
    return path.absolute()


# -- show


def _show(options: argparse.Namespace) -> int:
    if options.text is not None and options.stdin:
        raise UserError("Give a text or --stdin, not both.")
    if options.ids and options.text is None and not options.stdin:
        raise UserError("--ids goes with a text: give one, or --stdin.")
    workspace = workspace_of(options)
    path = tokenizer_path(workspace, options.name)
    tokenizer = Tokenizer.load(path)
    if options.text is not None:
        return _show_text(tokenizer, options.text, options)
    if options.stdin:
        text, is_whole = _read_stdin()
        if not is_whole:
            say(f"Only the first {LONGEST_INPUT:,} bytes of the input are shown.")
        return _show_text(tokenizer, text, options, is_whole)
    facts, figures = describe(tokenizer), measure(tokenizer, _reference(workspace, options.corpus, path))
    if options.json:
        write_json({"file": str(path), **_json(facts, figures)})
        return 0
    print(shown(path))
    print_facts(facts, figures)
    return 0


def _reference(workspace: Workspace, corpus: str | None, tokenizer: Path | None = None) -> ReferenceText:
    """Return the text of the corpus that is named, else of the one that the tokenizer belongs to, else built-in."""
    if corpus is not None:
        workspace.require_writable()
        return reference_text(_corpus(workspace, corpus))
    if tokenizer is not None and tokenizer.is_relative_to(workspace.data):
        folder = workspace.data / tokenizer.relative_to(workspace.data).parts[0]
        if (folder / MANIFEST).is_file():
            return reference_text(Corpus.open(folder))
    return reference_text()


def _corpus(workspace: Workspace, name: str) -> Corpus:
    corpus = resolve(workspace, name)
    if corpus.note:
        say(corpus.note)
    return corpus


def _read_stdin() -> tuple[str, bool]:
    """Return what is piped in, or its beginning, and whether that is all of it."""
    if sys.stdin.isatty():
        say("Type a text, and end it with Ctrl-D on a line of its own.")
    data = sys.stdin.buffer.read(LONGEST_INPUT + 1)
    is_whole = len(data) <= LONGEST_INPUT
    # The end may lie in the middle of a character.
    return codecs.getincrementaldecoder("utf-8")().decode(data[:LONGEST_INPUT], final=is_whole), is_whole


def _show_text(tokenizer: Tokenizer, text: str, options: argparse.Namespace, is_whole: bool = True) -> int:
    painted = paint(tokenizer, text)
    if options.json:
        write_json(
            {
                "kind": tokenizer.kind,
                "vocab_size": tokenizer.vocab_size,
                "tokens": [
                    {"id": token_id, "text": token} for token_id, token in zip(painted.ids, painted.tokens, strict=True)
                ],
                "spans": painted.spans,
                "characters": len(painted.text),
                "truncated": not is_whole,
            }
        )
        return 0
    console = Console()
    if options.ids:
        for tokens, ids in painted.interlinear(console.width):
            print(f"{tokens}\n{ids}\n")
    elif console.color_system is None or console.no_color:
        print("|".join(printable(token, single_line=True) for token in painted.tokens))
    else:
        print(coloured(painted, tokenizer.unknown))
    count, characters = len(painted.ids), len(painted.text)
    told = f"{count:,} tokens for {characters:,} characters" + (f" ({characters / count:.2f} each)" if count else "")
    say(f"{told}, by a {tokenizer.kind} tokenizer with {tokenizer.vocab_size:,}.")
    return 0


# -- compare


def _compare(options: argparse.Namespace) -> int:
    if len(options.names) < 2:
        raise UserError(f"Name at least two tokenizers to compare; each is {TOKENIZER}.")
    if options.text is not None and options.corpus is not None:
        raise UserError("Give --text or --corpus, not both.")
    workspace = workspace_of(options)
    tokenizers = [Tokenizer.load(tokenizer_path(workspace, name)) for name in options.names]
    if options.text is not None:
        reference = ReferenceText("the text given", [options.text])
    else:
        reference = _reference(workspace, options.corpus)
    rows: list[Row] = []
    for name, tokenizer in zip(options.names, tokenizers, strict=True):
        figures = measure(tokenizer, reference)
        first = rows[0].figures if rows else figures
        rows.append(Row(name, describe(tokenizer), figures, _ratio(figures, first)))
    if options.json:
        tables = [{"name": row.name, **_json(row.facts, row.figures), "ratio": row.ratio} for row in rows]
        write_json({"measured_on": reference.name, "tokenizers": tables})
        return 0
    print_comparison(rows)
    return 0


def _ratio(figures: Figures, first: Figures) -> float | None:
    """Return how many times the characters a token holds that one of the first does."""
    own, others = figures.characters_per_token, first.characters_per_token
    return own / others if own and others else None


def _json(facts: Facts, figures: Figures) -> dict[str, Any]:
    return {**msgspec.to_builtins(facts), **msgspec.to_builtins(figures)}
