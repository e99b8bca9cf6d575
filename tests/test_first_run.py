"""The first impression: `minigpt train` without arguments, and what the model it makes can do (a few minutes)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import minigpt
from minigpt.inference.generate import LoadedModel
from minigpt.runs import summarise
from minigpt.text import sample
from minigpt.text.corpus import Corpus
from minigpt.text.documents import Message
from tests.conftest import run_minigpt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

QUESTIONS = 100
GENERATED_TOKENS = 2000
LONGEST_COPY = 20


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("first")
    done = run_minigpt("train", "--run", "first", workspace=workspace, timeout=1000)
    assert done.returncode == 0, done.stderr
    return workspace / "checkpoints" / "first"


@pytest.fixture(scope="module")
def model(run: Path) -> LoadedModel:
    return minigpt.load(run / "best_model.pt", "cpu")


@pytest.fixture(scope="module")
def corpus_text(run: Path) -> str:
    corpus = Corpus.open(run.parents[1] / "data" / "sample")
    return "\n\n".join(" ".join(document.texts()) for document in corpus.documents())


@pytest.fixture(scope="module")
def samples(model: LoadedModel) -> list[str]:
    texts, tokens = [], 0
    for seed in range(100):
        texts.append(model.generate("", temperature=0.8, seed=seed, max_new_tokens=200))
        tokens += model.last.tokens
        if tokens >= GENERATED_TOKENS:
            return texts
    raise AssertionError(f"100 texts had {tokens} tokens only")


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z']+", text)


def test_held_out_questions_are_answered_exactly(model: LoadedModel) -> None:
    questions = sample.held_out_questions(QUESTIONS)
    right = sum(
        "".join(model.reply([Message("user", question)], temperature=0)).strip() == answer
        for question, answer in questions
    )
    print(f"{right} of {len(questions)} held-out questions answered exactly")
    assert right >= 0.6 * QUESTIONS


def test_what_it_writes_is_made_of_words_of_the_corpus(samples: list[str], corpus_text: str) -> None:
    known = set(words(corpus_text))
    # The last word of a text that was cut at its length may be half a word.
    written = [word for text in samples for word in words(text)[:-1]]
    share = sum(word in known for word in written) / len(written)
    print(f"{share:.2%} of {len(written)} words are words of the corpus")
    assert share >= 0.95


def test_it_does_not_recite(samples: list[str], corpus_text: str) -> None:
    source = " ".join(words(corpus_text))
    copied = 0
    for text in samples:
        said = words(text)
        spans = (" ".join(said[i : i + LONGEST_COPY + 1]) for i in range(len(said) - LONGEST_COPY))
        copied += any(span in source for span in spans)
    print(f"{copied} of {len(samples)} samples copy more than {LONGEST_COPY} words in a row")
    assert copied <= len(samples) / 2


def test_train_and_validation_loss_are_close(run: Path) -> None:
    losses = {event["split"]: event["loss"] for event in summarise(run).evaluations}
    print(losses)
    assert losses["validation"] - losses["train"] < 0.2
