from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

import minigpt
from minigpt.config import Config, GenerationSettings, ModelSettings
from minigpt.device import Device
from minigpt.errors import UserError
from minigpt.inference.generate import LoadedModel, filter_logits, generate_tokens, penalise_repetition
from minigpt.model.checkpoint import Checkpoint, save
from minigpt.model.gpt import GPT, GPTConfig
from minigpt.text.tokenizer import Tokenizer

TEXT = "the cat sees the dog and the dog sees the cat by the old tree near the water\n" * 3


def random_model(family: str = "qwen3", context: int = 32, seed: int = 0) -> tuple[GPT, Tokenizer]:
    torch.manual_seed(seed)
    tokenizer = Tokenizer.train("char", [TEXT], 0)
    settings = ModelSettings(family=family, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, max_seq_len=context)
    model = GPT(GPTConfig.from_settings(settings, tokenizer.vocab_size))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    if not model.config.tied_embeddings:
        # Special tokens get a middling score, so that texts do not end at once.
        model.head.weight.data[:6] = 0
    return model.eval(), tokenizer


def loaded(**changes: object) -> LoadedModel:
    model, tokenizer = random_model(**changes)  # type: ignore[arg-type]
    return LoadedModel(model, tokenizer, Config(), Device("cpu", "test", "float32", 1 << 30, 1))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 0.5},
        {"top_k": 3},
        {"top_p": 0.5},
        {"min_p": 0.2},
        {"temperature": 1.7, "top_k": 10, "top_p": 0.8, "min_p": 0.05, "repetition_penalty": 1.3},
    ],
)
def test_probabilities_are_those_of_transformers(changes: dict[str, float]) -> None:
    settings = GenerationSettings(**{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **changes})
    torch.manual_seed(0)
    logits, seen = 3 * torch.randn(4, 50), torch.randint(50, (4, 7))
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(settings.repetition_penalty)])
    processors.append(TemperatureLogitsWarper(settings.temperature))
    if settings.top_k:
        processors.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        processors.append(TopPLogitsWarper(settings.top_p))
    if settings.min_p:
        processors.append(MinPLogitsWarper(settings.min_p))
    expected = processors(seen, logits.clone()).softmax(-1)
    penalised = penalise_repetition(logits, seen, settings.repetition_penalty)
    probabilities, ids = filter_logits(penalised, settings)
    ours = torch.zeros_like(expected).scatter(1, ids, probabilities)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("family", ["qwen3", "gpt2", "llama"])
def test_greedy_text_is_that_of_an_uncached_loop(family: str) -> None:
    model, tokenizer = random_model(family, context=48)
    text = torch.tensor([tokenizer.encode("the cat")])
    tokens = generate_tokens(model, text, GenerationSettings(temperature=0))
    ours = [int(token) for token in itertools.islice(tokens, 30)]
    for _ in range(30):
        with torch.no_grad():
            text = torch.cat([text, model(text)[:, -1:].argmax(-1)], dim=1)
    assert ours == text[0, 7:].tolist()


def test_text_goes_on_beyond_the_context() -> None:
    model = loaded(context=16)
    text = model.generate("the cat sees the dog and", max_new_tokens=60, seed=1, top_k=3)
    assert model.last.tokens == 60
    assert len(text) > 0


def test_same_seed_same_text_other_seed_other_text() -> None:
    model = loaded()
    texts = [model.generate("the", seed=seed, max_new_tokens=40, temperature=1.0) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_streamed_pieces_are_the_whole_text() -> None:
    model = loaded()
    assert "".join(model.stream("the", seed=5)) == model.generate("the", seed=5) == model.last.text


def test_stop_string_ends_the_text_before_it() -> None:
    model = loaded()
    whole = model.generate("the", seed=3, max_new_tokens=100, top_k=3)
    stop = whole[20:23]
    text = "".join(model.stream("the", seed=3, max_new_tokens=100, top_k=3, stop=[stop]))
    assert text == whole[: whole.index(stop)]
    assert model.last.finish_reason == "stop"


def test_predictions_are_the_networks() -> None:
    model = loaded()
    rows = model.predict("the cat", top=5)
    ids = torch.tensor([model.tokenizer.encode("the cat")])
    expected = model.network(ids)[0, -1].softmax(-1).topk(5)
    assert [token for token, _ in rows] == expected.indices.tolist()
    assert [probability for _, probability in rows] == pytest.approx(expected.values.tolist(), rel=1e-4)


def test_two_lines_load_a_checkpoint_and_generate(tmp_path: Path) -> None:
    model, tokenizer = random_model()
    path = tmp_path / "best_model.pt"
    save(path, Checkpoint(Config(), model.config, model.state_dict(), tokenizer.to_json()))
    assert len(minigpt.load(path, "cpu").generate("the cat", seed=1)) > 0
    assert minigpt.load(str(path), "cpu").generate("the", seed=1) == loaded().generate("the", seed=1)


def test_unknown_setting_is_named() -> None:
    with pytest.raises(UserError, match="temprature"):
        loaded().generate("the", temprature=1)


def test_a_small_network_writes_on_one_thread_and_leaves_the_others_to_who_asked_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, used = loaded(), set()
    compute = GPT.forward

    def noted(self: GPT, *arguments: Any, **options: Any) -> Any:
        used.add(torch.get_num_threads())
        return compute(self, *arguments, **options)

    monkeypatch.setattr(GPT, "forward", noted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        next(model.stream("the cat", max_new_tokens=3))
        assert (used, torch.get_num_threads()) == ({1}, 2)
        monkeypatch.setattr("minigpt.inference.generate.SMALL_NETWORK", 0)
        assert model.threads == model.device.threads
    finally:
        torch.set_num_threads(before)
