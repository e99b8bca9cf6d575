"""What a word on the command line of `minigpt corpus add` stands for: the source that it names, as SOURCES tells.

source = source_of("hf:roneneldan/TinyStories", options, workspace, scratch, task)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from minigpt.cli.corpus_page import page_source
from minigpt.cli.main import say
from minigpt.errors import UserError, printable
from minigpt.tasks import Task
from minigpt.text.catalogue import Entry, catalogue, entry
from minigpt.text.corpora import SAMPLE, sample_source
from minigpt.text.corpus import Source
from minigpt.text.manifest import SourceRecord
from minigpt.text.reading import SPLIT_CHOICES, Reading
from minigpt.text.sources import PathSource, StreamSource, corpus_name
from minigpt.workspace import Workspace

STDIN = "-"
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}
DEFAULT_TARGET = "100M"
SOURCES = """\
SOURCE is one of:
  book.txt, novels/            a file or folder on this machine: .txt .md .html .json .jsonl .csv .parquet, .gz .zst
  -                            what is piped in: cat book.txt | ssh HOST minigpt corpus add book -
  https://...                  the main text of a page, or a text file
  hf:NAME                      a data set on Hugging Face, streamed
  kaggle:OWNER/NAME            a data set on Kaggle
  list:FILE-OR-URL             a list of JSONL files, one a line
  shards/*.bin                 tokens of llm.c or modded-nanogpt, with --tokenizer-file
  sample                       the built-in stories, of any --size
  tinystories, fineweb-edu ... a name from `minigpt corpus catalogue`
To bring a file to another machine: scp book.txt HOST:"""


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """What says where text comes from and how it is read."""
    parser.add_argument("--split", choices=SPLIT_CHOICES, default="auto", help="what one document is")
    parser.add_argument("--field", default="", metavar="NAME", help="the field or column with the text")
    parser.add_argument("--allow-private", action="store_true", help="allow addresses of this machine and its network")
    parser.add_argument("--as-is", action="store_true", help="keep a page's source instead of its main text")
    parser.add_argument("--config", metavar="NAME", help="the configuration of a Hugging Face data set")
    parser.add_argument("--hf-split", default="", metavar="NAME", help="the split of a Hugging Face data set [train]")
    parser.add_argument(
        "--target-tokens", metavar="N|all", help=f"how much of a large source to take, about [{DEFAULT_TARGET}]"
    )
    parser.add_argument(
        "--fallback", action="append", default=[], metavar="SOURCE", help="take this where the source cannot be read"
    )
    parser.add_argument("--size", default="", metavar="N", help="characters of the built-in text: 500k, 1M, 2G")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the built-in text: other stories")
    parser.add_argument("--tokenizer-file", metavar="FILE|RUN", help="the tokenizer.json that made .bin shards")
    parser.add_argument("--origin", default="", help=argparse.SUPPRESS)  # where a file was fetched from


def is_plain_path(spec: str) -> bool:
    """Whether a word names a file or folder of text on this machine, or nothing that is known."""
    if spec in (STDIN, SAMPLE) or "://" in spec or _scheme(spec) or shards_in([spec]):
        return False
    return Path(spec).exists() or not _in_catalogue(spec)


def shards_in(specs: list[str]) -> list[Path]:
    """Return the token shards that some words name: files, or all in a folder."""
    paths = [Path(spec).expanduser() for spec in specs]
    return [
        shard
        for path in paths
        for shard in (sorted(path.glob("*.bin")) if path.is_dir() else [path] if path.suffix == ".bin" else [])
    ]


def name_for(spec: str) -> str:
    """Return the name of a corpus for which none was given; raises UserError where the source has none either."""
    if spec == STDIN:
        raise UserError("Give the corpus a name: `minigpt corpus add NAME -`.")
    return corpus_name(Path(spec.partition(":")[2].rstrip("/") or spec))


def _scheme(spec: str) -> str:
    head = spec.partition(":")[0]
    return head if ":" in spec and head in ("http", "https", "hf", "kaggle", "list") else ""


def _in_catalogue(name: str) -> bool:
    return any(known.name == name for known in catalogue())


def source_of(spec: str, options: argparse.Namespace, workspace: Workspace, scratch: Path, task: Task) -> Source:
    """Return the source that a word on the command line names; raises UserError where it cannot be read."""
    reading = Reading(options.split, options.field)
    scheme, rest = _scheme(spec), spec.partition(":")[2]
    if spec == STDIN:
        return StreamSource(sys.stdin.buffer, reading=reading)
    if scheme in ("http", "https"):
        return page_source(spec, options, reading, scratch, task)
    if scheme == "hf":
        return _hub(rest, options, workspace, scratch, task)
    if scheme == "kaggle":
        from minigpt.text.kaggle import KaggleSource

        return KaggleSource(rest, reading)
    if scheme == "list":
        return _file_list(rest, options, workspace, scratch, task)
    if Path(spec).expanduser().exists():
        return _local(Path(spec).expanduser(), options, reading)
    if spec == SAMPLE:
        return sample_source(characters_of(options.size, "--size") if options.size else None, options.seed)
    if _in_catalogue(spec):
        return _from_catalogue(entry(spec), options, workspace, scratch, task)
    if "://" in spec:
        raise UserError(f"{printable(spec)} cannot be fetched: use https://, http://, hf:, kaggle:, list: or a path.")
    return PathSource(Path(spec).expanduser(), reading)


def _local(path: Path, options: argparse.Namespace, reading: Reading) -> Source:
    kind = ("url" if options.origin.startswith("http") else "text") if options.origin else ""
    return PathSource(path, reading, kind=kind, origin=options.origin)


def token_source(shards: list[Path], options: argparse.Namespace, workspace: Workspace) -> Source:
    """Return the source of token shards; raises UserError where the tokenizer that made them is not named."""
    from minigpt.text.pretokenised import TokenSource
    from minigpt.text.tokenizer_facts import load_tokenizer

    if not options.tokenizer_file:
        raise UserError(
            f"{printable(str(shards[0]))} holds tokens: name the tokenizer.json that made them with --tokenizer-file "
            "FILE (GPT-2's lies at https://huggingface.co/gpt2/resolve/main/tokenizer.json)."
        )
    return TokenSource(shards, load_tokenizer(workspace, options.tokenizer_file))


def _hub(name: str, options: argparse.Namespace, workspace: Workspace, scratch: Path, task: Task) -> Source:
    from minigpt.text.hub import HubSource

    return HubSource(
        name,
        config=options.config,
        split=options.hf_split or "train",
        field=options.field,
        target_characters=target_characters(options),
        fallbacks=_fallbacks(options, workspace, scratch, task),
    )


def _file_list(location: str, options: argparse.Namespace, workspace: Workspace, scratch: Path, task: Task) -> Source:
    from minigpt.text.file_lists import FileListSource
    from minigpt.text.hub import FirstOf

    source = FileListSource(
        location,
        field=options.field or "text",
        target_characters=target_characters(options),
        allow_private=options.allow_private,
    )
    fallbacks = _fallbacks(options, workspace, scratch, task)
    return FirstOf([source, *fallbacks]) if fallbacks else source


def _fallbacks(options: argparse.Namespace, workspace: Workspace, scratch: Path, task: Task) -> list[Source]:
    return [
        source_of(spec, _plain(options), workspace, scratch / f"fallback-{number}", task)
        for number, spec in enumerate(options.fallback)
    ]


def _plain(options: argparse.Namespace) -> argparse.Namespace:
    """The options for a fallback: what names parts of the first source does not count for it."""
    return argparse.Namespace(**{**vars(options), "fallback": [], "config": None, "hf_split": "", "field": ""})


class _Known:
    """A source whose licence the catalogue knows."""

    def __init__(self, source: Source, licence: str) -> None:
        self.kind, self.origin = source.kind, source.origin
        self._source, self._licence = source, licence

    def write(self, folder: Path, task: Task) -> SourceRecord:
        record = self._source.write(folder, task)
        return msgspec.structs.replace(record, licence=record.licence or self._licence)


def _from_catalogue(
    known: Entry, options: argparse.Namespace, workspace: Workspace, scratch: Path, task: Task
) -> Source:
    """What the command line says counts more than the catalogue."""
    chosen = argparse.Namespace(**vars(options))
    chosen.config = options.config or known.config
    chosen.hf_split = options.hf_split or known.split
    chosen.field = options.field or known.field
    chosen.fallback = options.fallback or list(known.fallbacks)
    chosen.target_tokens = options.target_tokens or known.target_tokens or "all"
    return _Known(source_of(known.source, chosen, workspace, scratch, task), known.licence)


def target_characters(options: argparse.Namespace) -> int | None:
    """Return how many characters are wanted, or None for all there are."""
    from minigpt.text.hub import CHARACTERS_PER_TOKEN

    if options.target_tokens == "all":
        return None
    if not options.target_tokens:
        say(f"Taking about {DEFAULT_TARGET} tokens at most: --target-tokens N takes more or fewer, `all` takes all.")
    tokens = characters_of(options.target_tokens or DEFAULT_TARGET, "--target-tokens")
    return int(tokens * CHARACTERS_PER_TOKEN)


def characters_of(text: str, flag: str) -> int:
    """Return the number that 500k, 1M or 2G stands for; raises UserError for anything else."""
    digits, unit = text.strip().lower().rstrip("kmgb"), text.strip().lower()[-1:]
    try:
        number = float(digits) * UNITS[unit if unit in UNITS else ""]
    except ValueError:
        number = 0
    if not 1 <= number < 1e15:
        raise UserError(f"{flag} {printable(text)!r} is not a size: write a number such as 500k, 1M or 2G.")
    return int(number)
