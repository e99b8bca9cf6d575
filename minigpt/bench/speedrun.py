"""Time to a loss: how long until our recipe predicts a text as well as nanoGPT's recipe for a CPU does in the end.

Text by character, the first nine tenths to learn from. Training is timed alone; then the loss is measured in float32
on the whole validation part, every token once.
"""

from __future__ import annotations

import statistics
import time

from minigpt.bench.baseline import Recipe, whole_loss
from minigpt.bench.measure import Bench, Result, Row, Task, compare, measure
from minigpt.bench.sides import TEXT_SETTINGS, baseline_run, our_trainer
from minigpt.device import synchronise
from minigpt.inference.evaluate import evaluate
from minigpt.presets import parse, with_values

REPEATS = 3
# The schedule's length has to be chosen before a run, and texts differ: the shortest that reaches the loss counts.
LENGTHS = (160, 240)
QUICK_STEPS = 3

# Tuned on tinyshakespeare's validation part, so it counts only if it wins on other text too. There two thirds of these
# steps are enough; the sample corpus, which has more to learn by heart, needs nearly all.
SPEEDRUN = """
[model]
family = "qwen3"
n_layers = 4
n_heads = 2
d_model = 128
d_ff = 384
max_seq_len = 64
rope_base = 1000.0

[training]
batch_size = 16
optimizer = "muon"
muon_learning_rate = 0.03
muon_momentum = 0.85
muon_iterations = 4
learning_rate = 0.02
adam_beta1 = 0.8
adam_beta2 = 0.95
schedule = "wsd"
warmup_steps = 2
decay_fraction = 0.65
weight_decay = 0.1
"""


def rows(bench: Bench) -> list[Row]:
    """Measure on every corpus: seconds of training, the losses reached, and the tokens read on the way."""
    return [row for corpus in bench.corpora for row in _rows_of_corpus(bench, corpus)]


def _rows_of_corpus(bench: Bench, corpus: str) -> list[Row]:
    common = {"folder": str(bench.folder), "corpus": corpus, "seed": 0}
    name = f"speedrun {corpus}"
    lengths = (QUICK_STEPS,) if bench.quick else LENGTHS
    tasks = {str(steps): Task("speedrun.ours", {**common, "steps": steps}) for steps in lengths}
    tasks["baseline"] = Task("speedrun.baseline", {**common, "steps": QUICK_STEPS if bench.quick else None})
    results = measure(bench, name, tasks, REPEATS)
    baseline = results.pop("baseline")
    target = statistics.median(result["loss"] for result in baseline)
    steps, ours = next(
        ((steps, runs) for steps, runs in results.items() if max(run["loss"] for run in runs) <= target),
        list(results.items())[-1],
    )
    baseline_name = "nanoGPT's recipe for a CPU"
    time_row = compare(
        f"{name}: training time to the baseline's loss",
        "s",
        "seconds",
        ours,
        baseline,
        baseline_name=baseline_name,
        less_is_better=True,
        note=f"{steps} steps",
    )
    worst = max(result["loss"] for result in ours)
    if worst > target:
        time_row.ratio = None
        time_row.note += f", not reached: the loss was up to {worst:.4f}, the baseline's {target:.4f}"
    loss_row = compare(f"{name}: validation loss", "nats", "loss", ours, baseline, baseline_name=baseline_name)
    loss_row.ratio = None  # a loss has no natural zero
    tokens_row = compare(
        f"{name}: tokens read", "tokens", "tokens", ours, baseline, baseline_name=baseline_name, less_is_better=True
    )
    return [time_row, loss_row, tokens_row]


def ours(folder: str, corpus: str, seed: int, steps: int) -> Result:
    """Train by our recipe; return the seconds of it and the validation loss."""
    values = {**TEXT_SETTINGS, "corpus.name": corpus, "training.seed": seed, "training.max_steps": steps}
    config = with_values(parse(SPEEDRUN, "SPEEDRUN"), values, "the benchmark")
    with our_trainer(folder, config) as trainer:
        started = time.perf_counter()
        while trainer.progress.step < trainer.progress.last_step:
            trainer.train_step()
        trainer.drain()
        synchronise(trainer.torch_device)
        seconds = time.perf_counter() - started
        loss = evaluate(trainer.model, trainer.text.validation.shards).loss
        return {"seconds": seconds, "loss": loss, "tokens": trainer.plan.tokens}


def baseline(folder: str, corpus: str, seed: int, steps: int | None) -> Result:
    """Train by the baseline's recipe, all of its steps; return the seconds of it and the validation loss."""
    recipe = Recipe()
    run = baseline_run(folder, corpus, recipe, seed)
    steps = steps or recipe.steps
    started = time.perf_counter()
    for _ in range(steps):
        next(run.losses)
    seconds = time.perf_counter() - started
    loss = whole_loss(run.model, run.validation)
    return {"seconds": seconds, "loss": loss, "tokens": steps * recipe.batch * recipe.context}
