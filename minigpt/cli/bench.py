"""`minigpt bench`: measure speed against a plain baseline, each in processes of their own."""

from __future__ import annotations

import argparse
from pathlib import Path

from minigpt.cli.common import workspace_of, write_json
from minigpt.cli.main import say
from minigpt.narration import number

BENCHMARKS = {
    "train": "tokens a second in training, the same network on both sides",
    "speedrun": "seconds to the baseline's validation loss",
    "generate": "tokens a second in generation, cached against uncached",
    "prepare": "text to token ids, against the tokenizer library's best call",
}


def add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", choices=BENCHMARKS, help="; ".join(f"{name}: {meaning}" for name, meaning in BENCHMARKS.items())
    )
    parser.add_argument("--text", type=Path, metavar="FILE", help="measure on this text too (default: built-in text)")
    parser.add_argument("--quick", action="store_true", help="small sizes, once: to see that it works, not how fast")
    parser.add_argument("--json", action="store_true", help="write JSON")


def run_bench(options: argparse.Namespace) -> int:
    from minigpt.bench import run

    rows = run(options.what, workspace_of(options), options.text, say, quick=options.quick)
    if options.json:
        write_json(rows)
        return 0
    for row in rows:
        ratio = "" if row.ratio is None else f"  {row.ratio:.2f} x"
        against = "" if row.baseline_value is None else f"  {row.baseline}: {number(row.baseline_value)}"
        note = f"  ({row.note})" if row.note else ""
        print(f"{row.name:<52} {number(row.value):>12} {row.unit}{against}{ratio}{note}")
    return 0
