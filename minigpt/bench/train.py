"""Training speed: tokens a second of the same network, ours against the textbook loop."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from minigpt.bench.baseline import Recipe
from minigpt.bench.measure import Bench, Result, Row, Task, compare, measure
from minigpt.bench.sides import TEXT_SETTINGS, baseline_run, our_trainer
from minigpt.config import Config
from minigpt.device import choose, fast_bfloat16, synchronise
from minigpt.presets import with_values

REPEATS = 5
WARMUP_STEPS = 5


@dataclass(frozen=True)
class Size:
    """A network and its batch, and how many steps of it are timed."""

    n_layers: int
    n_heads: int
    width: int
    context: int
    batch: int
    steps: int


SIZES = {
    "small": Size(n_layers=4, n_heads=4, width=128, context=64, batch=12, steps=100),
    "10M": Size(n_layers=6, n_heads=6, width=384, context=256, batch=16, steps=4),
}
QUICK_SIZES = {"quick": Size(n_layers=1, n_heads=2, width=32, context=16, batch=4, steps=3)}


def rows(bench: Bench) -> list[Row]:
    """Measure every size; bfloat16 only where the device multiplies it in hardware."""
    kind = choose().kind
    precisions = ["float32"]
    if not fast_bfloat16(kind):
        bench.say(f"This {kind} does not multiply bfloat16 in hardware: left out.")
    elif not bench.quick:
        precisions.append("bfloat16")
    sizes = QUICK_SIZES if bench.quick else SIZES
    return [row for name, size in sizes.items() for row in _rows_of_size(bench, name, size, kind, precisions)]


def _rows_of_size(bench: Bench, name: str, size: Size, kind: str, precisions: list[str]) -> list[Row]:
    common = {"folder": str(bench.folder), "corpus": bench.corpora[-1], "size": size.__dict__}
    tasks = {"baseline": Task("train.baseline", {**common, "compiled": kind == "cuda"})}
    for precision in precisions:
        settings = {**SAME_AS_BASELINE, "training.precision": precision}
        tasks[f"gpt2, AdamW, {precision}"] = Task("train.ours", {**common, "settings": settings})
    if not bench.quick:
        tasks["qwen3, Muon"] = Task("train.ours", {**common, "settings": {}})
    results = measure(bench, f"train {name}", tasks, REPEATS)
    found = []
    for side, ours in results.items():
        if side == "baseline":
            continue
        # Another network and optimizer: its tokens teach more, so the two speeds do not compare.
        against = results["baseline"] if side.startswith("gpt2") else []
        title = f"train {name}: {side}" if against else f"train {name}: {side} (our own recipe, for information)"
        baseline_name = "textbook loop, bfloat16, compiled" if kind == "cuda" else "textbook loop, float32"
        found.append(compare(title, "tokens/s", "tokens_per_s", ours, against, baseline_name=baseline_name))
    return found


SAME_AS_BASELINE: dict[str, Any] = {
    "model.family": "gpt2",
    "model.bias": False,
    "training.optimizer": "adamw",
    "training.learning_rate": 1e-3,
    "training.adam_beta2": 0.99,
}


def ours(folder: str, corpus: str, size: dict[str, int], settings: dict[str, Any]) -> Result:
    """Time the real trainer's steps."""
    shape = Size(**size)
    values = {
        **TEXT_SETTINGS,
        "corpus.name": corpus,
        "model.n_layers": shape.n_layers,
        "model.n_heads": shape.n_heads,
        "model.d_model": shape.width,
        "model.max_seq_len": shape.context,
        "training.batch_size": shape.batch,
        "training.max_steps": WARMUP_STEPS + shape.steps,
        **settings,
    }
    with our_trainer(folder, with_values(Config(), values, "the benchmark")) as trainer:
        for _ in range(WARMUP_STEPS):
            trainer.train_step()
        trainer.drain()
        synchronise(trainer.torch_device)
        started = time.perf_counter()
        for _ in range(shape.steps):
            trainer.train_step()
        trainer.drain()
        synchronise(trainer.torch_device)
        seconds = time.perf_counter() - started
        return {"tokens_per_s": shape.steps * trainer.plan.tokens_per_step / seconds}


def baseline(folder: str, corpus: str, size: dict[str, int], compiled: bool) -> Result:
    """Time the textbook loop's steps."""
    shape = Size(**size)
    recipe = Recipe(shape.n_layers, shape.n_heads, shape.width, shape.context, shape.batch, compile=compiled)
    run = baseline_run(folder, corpus, recipe, seed=0)
    for _ in range(WARMUP_STEPS):
        next(run.losses)
    started = time.perf_counter()
    for _ in range(shape.steps):
        next(run.losses)  # reading the loss waits for the device
    seconds = time.perf_counter() - started
    return {"tokens_per_s": shape.steps * shape.batch * shape.context / seconds}
