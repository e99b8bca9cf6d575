"""`minigpt corpus show|stats|documents`: what a corpus holds."""

from __future__ import annotations

import argparse

import msgspec

from minigpt.advice import Advice, advise
from minigpt.cli.common import workspace_of, write_json
from minigpt.cli.main import say
from minigpt.errors import printable
from minigpt.model.parameters import parameter_count
from minigpt.presets import load_preset
from minigpt.tasks import NOBODY, Task
from minigpt.text.browsing import browse, readable
from minigpt.text.corpus import Corpus
from minigpt.text.hub import CHARACTERS_PER_TOKEN
from minigpt.text.recipes import TokenizerRecipe
from minigpt.text.records import read_json
from minigpt.text.statistics import Statistics, survey, survey_text
from minigpt.text.storage import write_file

STATISTICS = "statistics.json"
SHOWN_DOCUMENTS, SHOWN_CHARACTERS = 3, 500
_BAR = 30


class _Cached(msgspec.Struct):
    """Statistics, and the content they are of."""

    content_hash: str
    statistics: Statistics


def show_corpus(corpus: Corpus, as_json: bool) -> int:
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
    for document, _ in zip(corpus.documents(), range(SHOWN_DOCUMENTS), strict=False):
        print(printable(readable(document)[:SHOWN_CHARACTERS]) + "\n")
    return 0


def run_documents(corpus: Corpus, options: argparse.Namespace) -> int:
    page = browse(corpus, options.start, options.limit, options.search, options.characters)
    if options.json:
        write_json(page)
        return 0
    for shown in page.documents:
        print(f"{shown.number:>8,}  {shown.kind}, {shown.characters:,} characters\n{printable(shown.text)}\n")
    if not page.documents:
        say(f"Nothing found among {page.looked_at:,} documents.")
    if page.next is not None:
        say(f"Looked at {page.looked_at:,} documents; go on with --from {page.next}.")
    return 0


def run_stats(corpus: Corpus, options: argparse.Namespace) -> int:
    statistics = statistics_of(corpus, NOBODY)
    advice = _advice(corpus, statistics, options)
    if options.json:
        write_json({"name": corpus.name, "statistics": statistics, "advice": advice})
        return 0
    print(
        f"{printable(corpus.name, single_line=True)}: {statistics.documents:,} documents, "
        f"{statistics.characters:,} characters; "
        f"from {statistics.shortest:,} to {statistics.longest:,}, half of them below {statistics.median:,}"
    )
    most = max((entry.count for entry in statistics.histogram), default=1)
    for entry in statistics.histogram:
        print(f"{entry.low:>12,} to {entry.high:<12,} {'█' * -(-_BAR * entry.count // most):<{_BAR}} {entry.count:,}")
    for word in advice:
        print(f"{'!' if word.severity == 'warning' else '·'} {printable(word.message)}")
    return 0


def _advice(corpus: Corpus, statistics: Statistics, options: argparse.Namespace) -> list[Advice]:
    if not options.preset:
        return advise(statistics)
    config = load_preset(options.preset, workspace_of(options))
    characters = corpus.manifest.characters
    recipe = TokenizerRecipe.choose(None, config.tokenizer.kind, config.tokenizer.vocab_size, characters)
    return advise(
        statistics,
        parameters=parameter_count(config.model, recipe.vocab_size or statistics.distinct_characters),
        preset=options.preset,
        tokens=characters if recipe.kind == "char" else characters // CHARACTERS_PER_TOKEN,
        context=config.model.max_seq_len,
    )


def statistics_of(corpus: Corpus, task: Task) -> Statistics:
    """Return a corpus's statistics, from the file beside it where that is of this content."""
    path = corpus.directory / STATISTICS
    try:
        cached = read_json(path, _Cached)
        if cached.content_hash == corpus.manifest.content_hash:
            return cached.statistics
    except (OSError, msgspec.DecodeError):
        pass  # never made, or by another version
    encodings = corpus.manifest.encodings
    if corpus.is_lone_text:
        statistics = survey_text(corpus.text_blocks(), task, encodings)
    else:
        statistics = survey(corpus.documents(), task, encodings)
    try:
        write_file(path, msgspec.json.encode(_Cached(corpus.manifest.content_hash, statistics)))
    except OSError:
        pass  # a corpus in a folder that is not ours to write in
    return statistics
