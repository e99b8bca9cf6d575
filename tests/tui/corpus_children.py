"""Stands in for `minigpt corpus ... --json`: answers of the same form, at once and in this process.

children = FakeChildren()
CorpusPane(children=children)
children.asked[-1]                                       # ["corpus", "stats", "tale", ...]
children.refuse["preview"] = "That is a PDF."            # what a command says instead of an answer
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from minigpt.errors import UserError
from minigpt.workspace import Workspace
from tui.corpora.children import Children, Stopped, cancelled

CATALOGUE = [
    {
        "name": "shakespeare",
        "source": "https://example.org/shakespeare.txt",
        "title": "Tiny Shakespeare",
        "size": "1.1 MB",
        "licence": "public domain",
        "good_for": "a first model that has a style of its own",
        "how": "one text file",
        "tokens": 338_000,
        "target_tokens": "all",
    },
    {
        "name": "fineweb-edu",
        "source": "hf:HuggingFaceFW/fineweb-edu",
        "title": "FineWeb-Edu",
        "size": "a few TB",
        "licence": "ODC-By",
        "good_for": "models with a general knowledge of English",
        "how": "a stream from Hugging Face",
        "tokens": 1_300_000_000_000,
        "target_tokens": "100M",
    },
]
BINS = ((1, 10), (10, 30), (30, 100), (100, 300), (300, 1000), (1000, 3000), (3000, 10_000), (10_000, 100_000))


class FakeChildren(Children):
    """Answers from the files of the workspace; `wait` holds every answer back until it is set."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.left: list[list[str]] = []
        self.refuse: dict[str, str] = {}
        self.answers: dict[str, Any] = {}
        self.page = "The moon rose over the village. " * 400
        self.wait = threading.Event()
        self.wait.set()

    def ask(self, workspace: Workspace, arguments: Sequence[str], text: str = "") -> Any:
        self.asked.append(list(arguments))
        while not self.wait.wait(0.01):
            if cancelled():
                raise Stopped
        action, rest = arguments[1], list(arguments[2:])
        if action in self.refuse:
            raise UserError(self.refuse[action])
        if action in self.answers:
            return self.answers[action]
        return getattr(self, f"_{action}")(workspace, rest, text)

    def leave_behind(self, workspace: Workspace, arguments: Sequence[str]) -> None:
        self.left.append(list(arguments))

    def _stats(self, workspace: Workspace, rest: list[str], text: str) -> Any:
        lengths = sorted(map(len, documents(workspace, rest[0])))
        counts = [(low, high, sum(low <= length < high for length in lengths)) for low, high in BINS]
        statistics = {
            "documents": len(lengths),
            "conversations": 0,
            "characters": sum(lengths),
            "bytes": sum(lengths),
            "shortest": lengths[0],
            "median": lengths[len(lengths) // 2],
            "longest": lengths[-1],
            "histogram": [{"low": low, "high": high, "count": count} for low, high, count in counts if count],
            "repeated_documents": 0,
            "most_repeated": None,
            "commonest_line": {"text": "The cat sees the dog.", "share": 0.031},
            "distinct_characters": 27,
            "encodings": {"utf-8": 1},
        }
        advice = [{"code": "size", "severity": "info", "message": "It feeds the preset tiny."}]
        if sum(lengths) < 5000:
            words = "1 kB is too little to learn from: tens of thousands of characters are a start."
            advice.append({"code": "too_little", "severity": "warning", "message": words})
        return {"name": rest[0], "statistics": statistics, "advice": advice}

    def _documents(self, workspace: Workspace, rest: list[str], text: str) -> Any:
        flags = dict(zip(rest[1::2], rest[2::2], strict=False))
        search = next((word.partition("=")[2] for word in rest if word.startswith("--search=")), "")
        start, limit = int(flags["--from"]), int(flags["--limit"])
        characters = int(flags.get("--characters", 200))
        found = [
            {"number": number, "characters": len(one), "kind": "text", "text": one[:characters]}
            for number, one in enumerate(documents(workspace, rest[0]))
            if number >= start and search.lower() in one.lower()
        ]
        following = found[limit]["number"] if len(found) > limit else None
        return {"documents": found[:limit], "next": following, "looked_at": len(found)}

    def _show(self, workspace: Workspace, rest: list[str], text: str) -> Any:
        spans = [match.span() for match in re.finditer(r"\s?\w{1,5}|\w+|\s|[^\w\s]", text)]
        tokens = [{"id": number, "text": text[slice(*span)]} for number, span in enumerate(spans)]
        return {"kind": "bpe", "vocab_size": 4096, "tokens": tokens, "spans": spans}

    def _preview(self, workspace: Workspace, rest: list[str], text: str) -> Any:
        into = next(word.partition("=")[2] for word in rest if word.startswith("--into="))
        Path(into).write_text(self.page)
        told = {"title": "The Moon", "kind": "page", "origin": rest[0], "text": self.page[:4000], "notes": []}
        return {**told, "characters": len(self.page)}

    def _catalogue(self, workspace: Workspace, rest: list[str], text: str) -> Any:
        return CATALOGUE

    def _remove(self, workspace: Workspace, rest: list[str], text: str) -> Any:
        (workspace.data / rest[0]).rename(workspace.data / f".removed-{rest[0]}")
        return {"removed": rest[0], "restore": f"id-{rest[0]}"}

    def _restore(self, workspace: Workspace, rest: list[str], text: str) -> Any:
        name = rest[0].removeprefix("id-")
        (workspace.data / f".removed-{name}").rename(workspace.data / name)
        return {"name": name}


def documents(workspace: Workspace, corpus: str) -> list[str]:
    """Return the documents of a corpus, as far as the tests have some."""
    found: list[str] = []
    for path in sorted((workspace.data / corpus / "documents").iterdir()):
        text = path.read_text()
        if path.suffix == ".jsonl":
            rows = [msgspec.json.decode(line) for line in text.splitlines()]
            found += [row.get("text") or "\n".join(part["content"] for part in row["messages"]) for row in rows]
        else:
            found.append(text)
    return found
