"""The network against itself without a cache, without shortcuts, and against torch's and transformers' own parts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen3Config

from minigpt.config import ModelSettings
from minigpt.model import layers as gpt
from minigpt.model.gpt import GPT, GPTConfig, KVCache

VOCAB_SIZE = 61
SMALL: dict[str, Any] = {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 16}
NETWORKS = {
    "gpt2": ModelSettings(family="gpt2", **SMALL),
    "llama": ModelSettings(family="llama", **SMALL, n_kv_heads=1, bias=True, tied_embeddings=True),
    "qwen3": ModelSettings(family="qwen3", **SMALL, n_kv_heads=2, head_dim=12),
    "mixed": ModelSettings(family="qwen3", **SMALL, norm="layernorm", position="learned", activation="gelu"),
}


def network(settings: ModelSettings) -> GPT:
    """Return a network with all weights random: fresh ones have zeros, and their outputs prove nothing."""
    torch.manual_seed(5)
    model = GPT(GPTConfig.from_settings(settings, VOCAB_SIZE))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3 + (1.0 if parameter.dim() == 1 else 0.0))
    return model


def some_tokens(batch: int = 3, time: int = SMALL["max_seq_len"]) -> Tensor:
    return torch.randint(VOCAB_SIZE, (batch, time), generator=torch.Generator().manual_seed(11))


def gradients(model: GPT, tokens: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(1)
    model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max()))


@pytest.fixture(params=["plain attention", "fused attention"])
def attention(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "fused attention":
        monkeypatch.setattr(gpt, "PLAIN_ATTENTION_LENGTH", 0)
    yield


# -- the cache


@torch.no_grad()
@pytest.mark.parametrize("chunks", [[16], [5, 1, 1, 3, 6], [1] * 16], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("attention")
def test_logits_with_a_cache_are_those_without(name: str, chunks: list[int]) -> None:
    model = network(NETWORKS[name]).eval()
    tokens = some_tokens()
    cache = KVCache(model.config, batch=3, capacity=16, like=model.token_embedding.weight)
    parts = [model(chunk, cache) for chunk in tokens.split(chunks, dim=1)]
    assert cache.length == 16
    assert_close(torch.cat(parts, dim=1), model(tokens))


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_position_alone(name: str) -> None:
    model = network(NETWORKS[name]).eval()
    tokens = some_tokens()
    assert_close(model(tokens, last_only=True), model(tokens)[:, -1:])


def test_more_tokens_than_the_context_are_a_mistake() -> None:
    model = network(NETWORKS["qwen3"])
    with pytest.raises(AssertionError, match="17 tokens do not fit a context of 16"):
        model(some_tokens(time=17))


def test_more_tokens_than_the_cache_holds_are_a_mistake() -> None:
    model = network(NETWORKS["qwen3"])
    cache = KVCache(model.config, batch=3, capacity=8, like=model.token_embedding.weight)
    with pytest.raises(AssertionError, match="full"):
        model(some_tokens(time=9), cache)


# -- attention


@pytest.mark.parametrize("name", NETWORKS)
def test_plain_attention_is_scaled_dot_product_attention(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(NETWORKS[name])
    tokens = some_tokens()
    plain_logits, plain = model(tokens), gradients(model, tokens)
    monkeypatch.setattr(gpt, "PLAIN_ATTENTION_LENGTH", 0)
    calls = []
    fused_kernel = F.scaled_dot_product_attention

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        calls.append(1)
        return fused_kernel(*args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    fused_logits, fused = model(tokens), gradients(model, tokens)
    assert calls
    assert_close(plain_logits, fused_logits)
    for weight in plain:
        # Of a key's bias the exact gradient is zero (softmax ignores a shift), so the scale is the whole matrix's.
        scale = float(fused[weight].abs().max())
        torch.testing.assert_close(plain[weight], fused[weight], rtol=0, atol=1e-4 * scale)


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("attention")
def test_no_token_sees_a_later_one(name: str) -> None:
    model = network(NETWORKS[name]).eval()
    tokens = some_tokens()
    before = model(tokens)
    for position in (1, 15):
        changed = tokens.clone()
        changed[:, position] = (changed[:, position] + 1) % VOCAB_SIZE
        after = model(changed)
        assert_close(after[:, :position], before[:, :position])
        assert not torch.allclose(after[:, position:], before[:, position:], atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_the_order_of_earlier_tokens_matters(name: str) -> None:
    model = network(NETWORKS[name]).eval()
    tokens = some_tokens()
    swapped = torch.cat([tokens[:, :4].flip(1), tokens[:, 4:]], dim=1)
    assert not torch.allclose(model(tokens)[:, -1], model(swapped)[:, -1], atol=1e-3)


# -- training


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_checkpointing_changes_no_gradient(name: str, dropout: float) -> None:
    model = network(msgspec.structs.replace(NETWORKS[name], dropout=dropout)).train()
    expected = gradients(model, some_tokens())
    model.gradient_checkpointing = True
    actual = gradients(model, some_tokens())
    assert actual.keys() == expected.keys()
    for weight in expected:
        assert_close(actual[weight], expected[weight])


@torch.no_grad()
def test_loss_is_the_sum_of_cross_entropies() -> None:
    model = network(NETWORKS["qwen3"]).eval()
    tokens = some_tokens()
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    probabilities = model(inputs).double().softmax(dim=-1)
    expected = -probabilities.gather(2, targets.unsqueeze(2)).log().sum()
    assert float(model.loss(inputs, targets)) == pytest.approx(float(expected), rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("attention")
def test_dropout_is_for_training_only(name: str) -> None:
    model = network(msgspec.structs.replace(NETWORKS[name], dropout=0.5))
    without = network(NETWORKS[name]).eval()
    tokens = some_tokens()
    assert torch.equal(model.eval()(tokens), without(tokens))
    model.train()
    assert not torch.allclose(model(tokens), model(tokens), atol=1e-2)


# -- fresh weights


@torch.no_grad()
@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        (ModelSettings(family="qwen3", **SMALL), 1e-6),
        (ModelSettings(family="llama", **SMALL), 1e-6),
        (ModelSettings(family="qwen3", **SMALL, tied_embeddings=True), 0.05),
        (ModelSettings(family="gpt2", **SMALL), 0.05),
    ],
    ids=["qwen3", "llama", "qwen3 tied", "gpt2"],
)
def test_a_fresh_network_knows_nothing(settings: ModelSettings, tolerance: float) -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig.from_settings(settings, VOCAB_SIZE))
    tokens = some_tokens(batch=16)
    loss = float(model.loss(tokens[:, :-1], tokens[:, 1:])) / tokens[:, 1:].numel()
    assert loss == pytest.approx(math.log(VOCAB_SIZE), abs=tolerance * math.log(VOCAB_SIZE))


@pytest.mark.parametrize("name", NETWORKS)
def test_initialise_sets_every_weight_anew(name: str) -> None:
    config = GPTConfig.from_settings(NETWORKS[name], VOCAB_SIZE)
    fresh, used = GPT(config), GPT(config)
    with torch.no_grad():
        for parameter in used.parameters():
            parameter.fill_(math.nan)
    for model in (fresh, used):
        torch.manual_seed(2)
        model.initialise()
    for weight, tensor in used.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[weight]), weight


def test_gpt2_starts_as_published() -> None:
    # https://github.com/openai/gpt-2: N(0, 0.02), residual projections divided by the root of their number.
    settings = ModelSettings(family="gpt2", d_model=128, n_layers=8, n_heads=4, max_seq_len=64)
    torch.manual_seed(0)
    model = GPT(GPTConfig.from_settings(settings, 500))
    for weight, _ in model.matrices()[0::4] + model.matrices()[2::4]:
        assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    for weight, _ in model.matrices()[1::4] + model.matrices()[3::4]:
        assert float(weight.detach().std()) == pytest.approx(0.02 / math.sqrt(2 * 8), rel=0.05)
    for weight in (model.token_embedding.weight, model.position_embedding.weight):
        assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.05)


# -- configuration and counts

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 16}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            ModelSettings(family="gpt2", **SMALL),
            GPT2Config(vocab_size=VOCAB_SIZE, n_embd=32, n_layer=2, n_head=4, n_positions=16),
        ),
        (
            ModelSettings(family="llama", **SMALL, n_kv_heads=2, d_ff=48, bias=True),
            LlamaConfig(
                **SHAPE,
                vocab_size=VOCAB_SIZE,
                num_key_value_heads=2,
                intermediate_size=48,
                attention_bias=True,
                mlp_bias=True,
            ),
        ),
        (
            ModelSettings(family="qwen3", **SMALL, n_kv_heads=1, head_dim=12, d_ff=48, tied_embeddings=True),
            Qwen3Config(
                **SHAPE,
                vocab_size=VOCAB_SIZE,
                num_key_value_heads=1,
                head_dim=12,
                intermediate_size=48,
                tie_word_embeddings=True,
            ),
        ),
    ],
    ids=["gpt2", "llama", "qwen3"],
)
def test_parameter_count_is_theirs(ours: ModelSettings, theirs: Any) -> None:
    expected = AutoModelForCausalLM.from_config(theirs).num_parameters()
    assert GPT(GPTConfig.from_settings(ours, VOCAB_SIZE)).parameter_count() == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_matrices_are_all_matrices_of_the_blocks(name: str) -> None:
    model = network(NETWORKS[name])
    found = model.matrices()
    expected = [p for weight, p in model.named_parameters() if weight.startswith("blocks.") and p.dim() == 2]
    assert {id(weight) for weight, _ in found} == {id(weight) for weight in expected}
    assert len(found) == len(expected)
    for weight, rows in found:
        assert sum(rows) == len(weight)


def test_the_family_decides_what_is_left_out() -> None:
    qwen3 = GPTConfig.from_settings(ModelSettings(d_model=64, n_heads=4), VOCAB_SIZE)
    assert (qwen3.norm, qwen3.position, qwen3.activation) == ("rmsnorm", "rope", "swiglu")
    assert (qwen3.qk_norm, qwen3.bias, qwen3.tied_embeddings) == (True, False, False)
    assert (qwen3.n_kv_heads, qwen3.head_dim, qwen3.d_ff, qwen3.vocab_size) == (4, 16, 192, VOCAB_SIZE)
    gpt2 = GPTConfig.from_settings(ModelSettings(family="gpt2", d_model=64, n_heads=4, bias=False), VOCAB_SIZE)
    assert (gpt2.norm, gpt2.position, gpt2.activation) == ("layernorm", "learned", "gelu")
    assert (gpt2.bias, gpt2.tied_embeddings, gpt2.d_ff) == (False, True, 256)


@pytest.mark.parametrize("name", NETWORKS)
def test_settings_with_every_switch_mean_the_same_network(name: str) -> None:
    config = GPTConfig.from_settings(NETWORKS[name], VOCAB_SIZE)
    assert GPTConfig.from_settings(config.to_settings(), VOCAB_SIZE) == config
    assert None not in msgspec.structs.astuple(config.to_settings())
