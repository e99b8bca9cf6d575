"""`minigpt corpus add NAME SOURCE...`, `preview` and `catalogue`: text from wherever it lies."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import msgspec

from minigpt.advice import refuse_tiny
from minigpt.cli.common import workspace_of, write_json
from minigpt.cli.main import say
from minigpt.cli.tasks import run_as_task
from minigpt.errors import UserError, printable
from minigpt.tasks import NOBODY, Task
from minigpt.text.catalogue import Entry, catalogue, entry
from minigpt.text.corpora import SAMPLE, sample_source
from minigpt.text.corpus import MANIFEST, Corpus, Source, SourceRecord
from minigpt.text.formats import has_rows
from minigpt.text.reading import SPLIT_CHOICES, Reading
from minigpt.text.sources import PathSource, StreamSource, add_path, corpus_name, wait_for_input
from minigpt.text.storage import scratch_directory
from minigpt.workspace import Workspace

STDIN = "-"
PREVIEW_CHARACTERS = 4000
ASKED_CHARACTERS = 600
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


def run_add(options: argparse.Namespace) -> Corpus | int:
    """Add text under a name; a single argument is a file or folder, and gives the name too."""
    workspace = workspace_of(options)
    given: list[str] = options.source
    name, specs = (given[0], given[1:]) if len(given) > 1 else (None, given)
    _refuse_field(options.field, [Path(spec).expanduser() for spec in specs])
    if name is None:
        if _is_plain_path(specs[0]) and not options.extend:
            if options.tokenizer_file:
                _refuse_tokenizer(specs[0])
            path = Path(specs[0]).expanduser()
            asked = options.split != "auto" or options.field
            reading = Reading(options.split, options.field) if asked else None
            return run_as_task(
                options, "add", f"add {specs[0]}", lambda task: add_path(workspace, path, task, refuse_tiny, reading)
            )
        name = _name_for(specs[0])
    directory = workspace.corpus_directory(name)
    there = (directory / MANIFEST).is_file()
    if there and not options.extend:
        raise UserError(
            f"There is a corpus {name!r} already: choose another name, add to it with --extend, or remove it with "
            f"`minigpt corpus remove {name}`."
        )
    tokens = all(_shards([spec]) for spec in specs)
    if options.tokenizer_file and not tokens:
        _refuse_tokenizer(name)
    workspace.require_writable()
    # Beside the corpora: what is fetched may be large, and /tmp lies in memory on some machines.
    with scratch_directory(workspace.data / "_fetch") as folder:

        def work(task: Task) -> Corpus:
            if tokens:
                sources = [_tokens(_shards(specs), options, workspace)]
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


def _is_plain_path(spec: str) -> bool:
    if spec in (STDIN, SAMPLE) or "://" in spec or _scheme(spec) or _shards([spec]):
        return False
    return Path(spec).exists() or not _in_catalogue(spec)


def _shards(specs: list[str]) -> list[Path]:
    """Return the token shards that some words name: files, or all in a folder."""
    paths = [Path(spec).expanduser() for spec in specs]
    return [
        shard
        for path in paths
        for shard in (sorted(path.glob("*.bin")) if path.is_dir() else [path] if path.suffix == ".bin" else [])
    ]


def _name_for(spec: str) -> str:
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
        return _page(spec, options, reading, scratch, task)
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


def _tokens(shards: list[Path], options: argparse.Namespace, workspace: Workspace) -> Source:
    from minigpt.text.pretokenised import TokenSource
    from minigpt.text.tokenizer_facts import load_tokenizer

    if not options.tokenizer_file:
        raise UserError(
            f"{printable(str(shards[0]))} holds tokens: name the tokenizer.json that made them with --tokenizer-file "
            "FILE (GPT-2's lies at https://huggingface.co/gpt2/resolve/main/tokenizer.json)."
        )
    return TokenSource(shards, load_tokenizer(workspace, options.tokenizer_file))


def _page(url: str, options: argparse.Namespace, reading: Reading, scratch: Path, task: Task) -> Source:
    """Fetch a page; on a terminal its text is shown before it is kept."""
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


def run_catalogue(options: argparse.Namespace) -> int:
    if options.json:
        write_json(catalogue())
        return 0
    for known in catalogue():
        print(f"{known.name:<14} {known.size}; {known.licence}\n{'':<14} {known.good_for}\n{'':<14} {known.source}\n")
    say("Add one with `minigpt corpus add NAME`.")
    return 0
