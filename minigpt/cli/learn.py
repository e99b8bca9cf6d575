"""`minigpt learn [TOPIC]`: what a setting, a figure or a notice means, with the newest run's own figures."""

from __future__ import annotations

import argparse
import sys

from minigpt.cli.common import workspace_of, write_json
from minigpt.errors import UserError, printable
from minigpt.history import RunHistory
from minigpt.learn import KINDS, Topic, contents, find, topic
from minigpt.learn.values import config_of, run_values
from minigpt.runs import find_run, newest_run, summarise
from minigpt.workspace import Workspace

WIDTH = 100


def add_learn_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "topic", nargs="*", metavar="TOPIC", help="a setting, a figure, a notice or a word (default: the contents)"
    )
    parser.add_argument("--run", metavar="RUN", help="whose figures to tell (default: the newest run)")
    parser.add_argument("--search", action="store_true", help="list the topics that have to do with the words")
    parser.add_argument("--json", action="store_true", help="write JSON")


def run_learn(options: argparse.Namespace) -> int:
    words = " ".join(options.topic)
    if options.search:
        return _list(find(words), options.json, words)
    if not words:
        return _contents(options.json)
    found = topic(words)
    values = figures_of(workspace_of(options), options.run)
    text = found.markdown(values)
    if options.json:
        write_json({**_facts(found), "markdown": text, "links": [name for _, name in found.links], "values": values})
    else:
        _show(text)
    return 0


def figures_of(workspace: Workspace, run: str | None = None) -> dict[str, str]:
    """Return the figures of a run, or of the newest; none where there is none. Raises UserError."""
    directory = find_run(workspace, run) if run else newest_run(workspace)
    if directory is None:
        return {}
    history = RunHistory(directory)
    if history.long:
        # The last of millions of steps, and the summary, which passes over all but the last of them.
        history = RunHistory.preview(directory)
    else:
        while history.read():
            pass
    history.close()
    history.summary = summarise(directory)
    return run_values(history, config_of(directory))


def _facts(found: Topic) -> dict[str, str]:
    return {"topic": found.name, "kind": found.kind, "title": found.title, "sentence": found.sentence}


def _contents(as_json: bool) -> int:
    listed = contents()
    if as_json:
        write_json([_facts(found) for kind in listed.values() for found in kind])
        return 0
    parts = ["# What there is to read", "`minigpt learn TOPIC` opens one; `--search WORDS` looks for words."]
    for kind, topics in listed.items():
        told = [(found.name, found.sentence if kind == "settings" else found.title) for found in topics]
        rows = "\n".join(f"| `{name}` | {words} |" for name, words in told)
        parts.append(f"## {KINDS[kind]}\n\n| topic | |\n|---|---|\n{rows}")
    _show("\n\n".join(parts) + "\n")
    return 0


def _list(names: list[str], as_json: bool, words: str) -> int:
    found = [topic(name) for name in names]
    if not found:
        raise UserError(f"No topic has to do with {printable(words, single_line=True)!r}: `minigpt learn` lists all.")
    if as_json:
        write_json([_facts(one) for one in found])
    else:
        _show("\n".join(f"- `{one.name}`: {one.sentence}" for one in found) + "\n")
    return 0


def _show(text: str) -> None:
    """Write Markdown to stdout, set in type where that is a terminal."""
    if not sys.stdout.isatty():
        sys.stdout.write(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    # A link's target is a topic to ask for, so it stands beside its words.
    console.print(Markdown(text, hyperlinks=False), width=min(console.width, WIDTH))
