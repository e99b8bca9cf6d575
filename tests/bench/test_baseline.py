"""Our network and trainer against the textbook's: same weights and batches, same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minigpt.bench.baseline import (
    Batch,
    Recipe,
    TextbookGPT,
    generate,
    learning_rate,
    make_optimizer,
    training,
    whole_loss,
)
from minigpt.config import Config, ModelSettings
from minigpt.inference.evaluate import evaluate
from minigpt.model.gpt import GPT, GPTConfig
from minigpt.presets import with_values
from minigpt.text.corpora import create_sample
from minigpt.training.recorder import Recorder
from minigpt.training.session import Session
from minigpt.training.trainer import Trainer
from minigpt.workspace import Workspace

VOCAB_SIZE = 29
RECIPE = Recipe(
    n_layers=2, n_heads=4, width=32, context=16, batch=4, steps=6, warmup=2, learning_rate=1e-2,
    min_learning_rate=1e-3, max_grad_norm=1.2, bias=True, tanh_gelu=True,
)  # fmt: skip


def pair(recipe: Recipe, vocab_size: int = VOCAB_SIZE) -> tuple[GPT, TextbookGPT]:
    """Our network and the textbook's with the same random weights."""
    torch.manual_seed(0)
    settings = ModelSettings(
        family="gpt2",
        d_model=recipe.width,
        n_layers=recipe.n_layers,
        n_heads=recipe.n_heads,
        max_seq_len=recipe.context,
        bias=recipe.bias,
    )
    ours, textbook = GPT(GPTConfig.from_settings(settings, vocab_size)), TextbookGPT(recipe, vocab_size)
    with torch.no_grad():
        for parameter in textbook.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    ours.load_state_dict(textbook.state_dict())
    return ours.eval(), textbook.eval()


@pytest.mark.parametrize("bias", [True, False])
def test_same_logits_and_loss(bias: bool) -> None:
    ours, textbook = pair(Recipe(2, 4, 32, 16, bias=bias, tanh_gelu=True))
    tokens = torch.randint(VOCAB_SIZE, (3, 17))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    expected = textbook(inputs)
    torch.testing.assert_close(ours(inputs), expected, atol=2e-5, rtol=1e-5)
    loss = F.cross_entropy(expected.flatten(0, 1), targets.flatten(), reduction="sum")
    torch.testing.assert_close(ours.loss(inputs, targets), loss, atol=0.0, rtol=1e-5)


@pytest.mark.parametrize("length", [2, 16, 17, 18, 100])
def test_whole_loss_counts_every_target_once(length: int) -> None:
    _, textbook = pair(RECIPE)
    tokens = np.random.default_rng(0).integers(0, VOCAB_SIZE, length)
    total = 0.0
    for start in range(0, length - 1, RECIPE.context):
        window = torch.from_numpy(tokens[start : start + RECIPE.context + 1])
        logits = textbook(window[None, :-1])[0]
        total += F.cross_entropy(logits, window[1:], reduction="sum").item()
    assert whole_loss(textbook, tokens, windows_at_once=2) == pytest.approx(total / (length - 1), rel=1e-5)


def test_evaluate_agrees_with_the_textbook() -> None:
    ours, textbook = pair(RECIPE)
    # Whole windows only: in the last, shorter one ours looks further back.
    tokens = np.random.default_rng(1).integers(0, VOCAB_SIZE, 20 * RECIPE.context + 1)
    result = evaluate(ours, [tokens])
    assert result.tokens == len(tokens) - 1
    assert result.loss == pytest.approx(whole_loss(textbook, tokens), rel=1e-5)


def test_generation_chooses_the_same_tokens_without_a_cache() -> None:
    ours, textbook = pair(RECIPE)
    prompt = torch.randint(VOCAB_SIZE, (1, 3))
    likeliest = torch.cat([prompt, *generate(textbook, prompt, 2 * RECIPE.context, top_k=1)], dim=1)
    for end in range(prompt.size(1), likeliest.size(1)):
        logits = ours(likeliest[:, max(0, end - RECIPE.context) : end])[0, -1]
        assert logits.argmax() == likeliest[0, end]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    create_sample(workspace, "sample", 20_000, seed=0)
    return workspace


def session(workspace: Workspace) -> Session:
    values = {
        "tokenizer.kind": "char",
        "model.family": "gpt2",
        "model.d_model": RECIPE.width,
        "model.n_layers": RECIPE.n_layers,
        "model.n_heads": RECIPE.n_heads,
        "model.max_seq_len": RECIPE.context,
        "training.batch_size": RECIPE.batch,
        "training.max_steps": RECIPE.steps,
        "training.optimizer": "adamw",
        "training.learning_rate": RECIPE.learning_rate,
        "training.min_lr_fraction": RECIPE.min_learning_rate / RECIPE.learning_rate,
        "training.schedule": "cosine",
        "training.warmup_steps": RECIPE.warmup,
        "training.weight_decay": RECIPE.weight_decay,
        "training.adam_beta1": RECIPE.beta1,
        "training.adam_beta2": RECIPE.beta2,
        "training.adam_epsilon": 1e-8,
        "training.max_grad_norm": RECIPE.max_grad_norm,
        "training.device": "cpu",
        "training.precision": "float32",
    }
    return Session.new(workspace, with_values(Config(), values, "test"), say=lambda line: None)


def batches_of(trainer: Trainer) -> Iterator[Batch]:
    for step in range(RECIPE.steps):
        inputs, targets = trainer.windows.batch(step * RECIPE.batch, RECIPE.batch)
        yield torch.from_numpy(inputs), torch.from_numpy(targets)


def test_the_trainer_takes_textbook_steps(text: Workspace, tmp_path: Path) -> None:
    ready = session(text)
    ours, textbook = pair(RECIPE, ready.text.tokenizer.vocab_size)
    ready.model.load_state_dict(ours.state_dict())
    before = textbook.head.weight.detach().clone()
    events = []
    with Recorder(tmp_path, "cpu", 1, (events.append,)) as recorder:
        trainer = ready.trainer(recorder)
        expected = list(training(textbook, make_optimizer(textbook, RECIPE), batches_of(trainer), RECIPE))
        for _ in range(RECIPE.steps):
            trainer.train_step()
        trainer.drain()
    steps = [event for event in events if event["type"] == "step"]
    assert [event["loss"] for event in steps] == pytest.approx(expected, rel=1e-5)
    rates = [learning_rate(RECIPE, step) for step in range(RECIPE.steps)]
    assert [event["learning_rate"] for event in steps] == pytest.approx(rates)
    norms = [event["grad_norm"] for event in steps]
    # Some steps clipped, some not: were it all of them alike, Adam would not notice.
    assert min(norms) < RECIPE.max_grad_norm < max(norms)
    after = textbook.state_dict()
    assert not torch.allclose(after["head.weight"], before, atol=1e-2)
    for name, weight in ready.model.state_dict().items():
        if name.endswith("qkv.bias"):
            # A constant in all keys changes no attention: its gradient is rounding noise, which Adam makes large.
            keys = slice(RECIPE.width, 2 * RECIPE.width)
            weight[keys] = after[name][keys] = 0
        torch.testing.assert_close(weight, after[name], atol=2e-4, rtol=1e-3, msg=name)
