"""Tokenising speed: megabytes of text a second, ours against a plain use of the `tokenizers` library.

Once the encoding alone, once all the way from a text file to token shards on the disk.
"""

from __future__ import annotations

import re
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tokenizers

from minigpt.bench.measure import Bench, Result, Row, Task, compare, measure
from minigpt.text import sample
from minigpt.text.corpora import resolve
from minigpt.text.prepare import prepare
from minigpt.text.prepared import Prepared
from minigpt.text.tokenizer import Tokenizer
from minigpt.workspace import Workspace

REPEATS = 5
CHARACTERS, QUICK_CHARACTERS = 20_000_000, 200_000
VOCAB_SIZE = 4096
TRAINING_CHARACTERS = 4_000_000
WARMUP_CHARACTERS = 100_000
# By character a text takes a fraction of a second, of which too much would be the fixed cost of files and folders.
CHAR_REPEATS = 6

# The library works on many pieces at a time. After a newline between two non-spaces a cut changes no token.
PIECE_CHARACTERS = 32_768
_CUT = re.compile(r"\S\n+(?=\S)")


def rows(bench: Bench) -> list[Row]:
    """Measure both kinds of tokenizer on the user's text, repeated to a measurable length, or a generated one."""
    text = _text(bench, QUICK_CHARACTERS if bench.quick else CHARACTERS)
    text_file = bench.folder / "text.txt"
    text_file.write_text(text, encoding="utf-8", newline="")
    found = []
    for kind, tokenizer in (
        ("bpe", Tokenizer.train("bpe", [text[:TRAINING_CHARACTERS]], VOCAB_SIZE)),
        ("char", Tokenizer.train("char", [text], 0)),
    ):
        tokenizer_file = bench.folder / f"{kind}.json"
        tokenizer.save(tokenizer_file)
        arguments = {"tokenizer": str(tokenizer_file), "text": str(text_file)}
        repeats = CHAR_REPEATS if kind == "char" else 1
        tasks = {
            "ours": Task("prepare.ours", arguments),
            "end to end": Task("prepare.end_to_end", {**arguments, "kind": kind, "repeats": repeats}),
            "baseline": Task("prepare.baseline", arguments),
        }
        results = measure(bench, f"prepare {kind}", tasks, REPEATS)
        for ours, what, times in (("ours", "tokenise", 1), ("end to end", "file to shards,", repeats)):
            row = compare(
                f"prepare {kind}: {what} {times * len(text) / 1e6:.1f} million characters",
                "MB/s",
                "mb_per_s",
                results[ours],
                results["baseline"],
                baseline_name="tokenizers, encode_batch_fast on 32 KB pieces",
            )
            if results[ours][0]["checksum"] != results["baseline"][0]["checksum"]:
                row.note = "the two give different tokens"
            found.append(row)
    return found


def _text(bench: Bench, characters: int) -> str:
    if bench.own_text:
        corpus = resolve(bench.workspace, bench.corpora[-1])
        text = "\n".join(part for document in corpus.documents() for part in document.texts()) + "\n"
        return text * -(-characters // len(text))
    return "\n".join(part for document in sample.documents(characters, seed=0) for part in document.texts())


def ours(tokenizer: str, text: str) -> Result:
    """Time our encoder on the whole text."""
    encoder = Tokenizer.load(tokenizer)
    content = _read(text)
    encoder.encode_array(content[:WARMUP_CHARACTERS])
    started = time.perf_counter()
    ids = encoder.encode_array(content)
    return _result(content, ids, time.perf_counter() - started)


def end_to_end(tokenizer: str, text: str, kind: str, repeats: int) -> Result:
    """Time all from a file with the text so many times to shards; a character tokenizer is made on the way."""
    given = None if kind == "char" else Tokenizer.load(tokenizer)
    content = _read(text)
    with tempfile.TemporaryDirectory(dir=Path(text).parent) as folder:
        _to_shards(Path(folder) / "warm-up", content[:WARMUP_CHARACTERS], kind, given)
        prepared, seconds = _to_shards(Path(folder) / "whole", content * repeats, kind, given)
        ids = prepared.split("train").read(0, prepared.tokens["train"] // repeats)
        return _result(content, ids, seconds / repeats)


def _to_shards(folder: Path, content: str, kind: str, given: Tokenizer | None) -> tuple[Prepared, float]:
    folder.mkdir()
    source = folder / "source.txt"
    source.write_text(content, encoding="utf-8", newline="")
    started = time.perf_counter()
    prepared = prepare(
        resolve(Workspace(folder), str(source)),
        tokenizer_kind=kind,
        vocab_size=VOCAB_SIZE,
        validation_fraction=0,
        test_fraction=0,
        tokenizer=given,
    )
    return prepared, time.perf_counter() - started


def baseline(tokenizer: str, text: str) -> Result:
    """Time the library's fastest call, in the way its speed is best, up to the same array of ids."""
    core = tokenizers.Tokenizer.from_file(tokenizer)
    core.encode_special_tokens = True
    content = _read(text)
    core.encode_batch_fast([content[:WARMUP_CHARACTERS]], add_special_tokens=False)
    started = time.perf_counter()
    encodings = core.encode_batch_fast(list(_pieces(content)), add_special_tokens=False)
    ids = np.concatenate([np.array(encoding.ids, dtype=np.uint16) for encoding in encodings])
    return _result(content, ids, time.perf_counter() - started)


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while match := _CUT.search(text, start + PIECE_CHARACTERS):
        yield text[start : match.end()]
        start = match.end()
    yield text[start:]


def _read(path: str) -> str:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return file.read()


def _result(text: str, ids: np.ndarray, seconds: float) -> Result:
    return {
        "mb_per_s": len(text.encode()) / 1e6 / seconds,
        "checksum": zlib.crc32(ids.astype(np.uint32).tobytes()),
    }
