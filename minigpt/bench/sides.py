"""Both sides on the same text, ready to train: ours by its Session and Trainer, the baseline by its own loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from minigpt.bench.baseline import Recipe, TextbookGPT, make_optimizer, random_windows, training
from minigpt.config import Config
from minigpt.device import choose, cpu_threads
from minigpt.text.corpora import resolve
from minigpt.text.prepare import prepare
from minigpt.training.recorder import Recorder
from minigpt.training.session import Session
from minigpt.training.trainer import Trainer
from minigpt.workspace import Workspace

# The split nanoGPT makes, by character; the same shards serve both sides.
VALIDATION_FRACTION, TEST_FRACTION = 0.1, 0.0
TEXT_SETTINGS = {
    "corpus.validation_fraction": VALIDATION_FRACTION,
    "corpus.test_fraction": TEST_FRACTION,
    "tokenizer.kind": "char",
}


@contextmanager
def our_trainer(folder: str, config: Config) -> Iterator[Trainer]:
    """Open a run in the workspace `folder`, as `minigpt train` would, up to its first step."""
    session = Session.new(Workspace(Path(folder)), config, say=lambda line: None)
    session.directory.mkdir(parents=True)
    with Recorder(session.directory, session.device.kind, session.plan.log_every) as recorder:
        yield session.trainer(recorder)


@dataclass
class BaselineRun:
    """The baseline up to its first step; each `next` of `losses` is a step."""

    model: TextbookGPT
    losses: Iterator[float]
    validation: np.ndarray


def baseline_run(folder: str, corpus: str, recipe: Recipe, seed: int) -> BaselineRun:
    """Set the baseline up on the device we would choose, with as many threads, and none of our tuning."""
    torch.set_num_threads(cpu_threads())
    torch.manual_seed(seed)
    kind = choose().kind
    if kind == "cuda":
        torch.set_float32_matmul_precision("high")  # nanoGPT allows TF32
    prepared = prepare(
        resolve(Workspace(Path(folder)), corpus),
        tokenizer_kind="char",
        vocab_size=0,
        validation_fraction=VALIDATION_FRACTION,
        test_fraction=TEST_FRACTION,
    )
    train, validation = (prepared.split(name) for name in ("train", "validation"))
    model = TextbookGPT(recipe, prepared.tokenizer.vocab_size).to(kind)
    batches = random_windows(train.read(0, train.tokens), recipe, kind)
    losses = training(model, make_optimizer(model, recipe), batches, recipe)
    return BaselineRun(model, losses, validation.read(0, validation.tokens))
