"""The three families against the classes of `transformers`, in both directions, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GPT2Config, LlamaConfig, Qwen3Config

from minigpt.config import Config, GenerationSettings, ModelSettings
from minigpt.errors import JobFailed, UserError
from minigpt.interop import huggingface
from minigpt.interop.huggingface import export_directory, import_directory
from minigpt.model.checkpoint import Checkpoint
from minigpt.model.gpt import GPT, GPTConfig

VOCAB_SIZE = 307
SPECIAL_TOKENS = ["<|endoftext|>", "<|unk|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"]
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 48}
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 48,
}
QWEN3 = LLAMA | {"head_dim": 12}


def rope(theta: float) -> dict[str, Any]:
    """Say it as transformers 4 and as transformers 5 wants it said."""
    return {"rope_theta": theta, "rope_parameters": {"rope_type": "default", "rope_theta": theta}}


THEIRS = {
    "gpt2": GPT2Config(**GPT2),
    "gpt2-untied": GPT2Config(**GPT2, n_inner=72, layer_norm_epsilon=1e-2, tie_word_embeddings=False),
    "llama": LlamaConfig(**LLAMA, rms_norm_eps=1e-2),
    "llama-biases": LlamaConfig(**LLAMA, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "llama-head_dim": LlamaConfig(**LLAMA, head_dim=20, **rope(300.0)),
    "qwen3": Qwen3Config(**QWEN3, rms_norm_eps=1e-2),
    "qwen3-tied": Qwen3Config(**QWEN3 | {"num_key_value_heads": 4}, tie_word_embeddings=True),
    "qwen3-theta": Qwen3Config(**QWEN3, **rope(1e6)),
}
SMALL = {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 48}
OURS = {
    "gpt2": ModelSettings(family="gpt2", **SMALL, dropout=0.2),
    "gpt2-untied": ModelSettings(family="gpt2", **SMALL, d_ff=72, tied_embeddings=False, norm_epsilon=1e-2),
    "llama": ModelSettings(family="llama", **SMALL, n_kv_heads=2, d_ff=56, norm_epsilon=1e-2),
    "llama-biases": ModelSettings(family="llama", **SMALL, bias=True, tied_embeddings=True),
    "llama-head_dim": ModelSettings(family="llama", **SMALL, head_dim=20, rope_base=300.0),
    "qwen3": ModelSettings(family="qwen3", **SMALL, n_kv_heads=1, head_dim=12, rope_base=1e6),
    "qwen3-tied": ModelSettings(
        family="qwen3", **SMALL | {"d_model": 40, "n_heads": 3}, head_dim=8, tied_embeddings=True
    ),
}


@pytest.fixture(scope="module")
def tokenizer_json() -> str:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(["The cat sat on the mat, and the cat ate the rat that sat there."] * 3, trainer)
    return core.to_str()


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Fresh networks have zeros and ones, which would hide a bias or a norm in the wrong place."""
    torch.manual_seed(7)
    for parameter in model.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.2 + (1.0 if parameter.dim() == 1 else 0.0))


def their_model(config: Any, tokenizer_json: str, directory: Path, **how: Any) -> nn.Module:
    """Make a random model of `transformers` and save it with its tokenizer."""
    config.vocab_size = VOCAB_SIZE
    model = AutoModelForCausalLM.from_config(config).eval()
    randomise(model)
    model.save_pretrained(directory, **how)
    (directory / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    return model


@pytest.fixture(scope="module")
def saved(tokenizer_json: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], None]:
    """Put a model of `transformers` into a folder, made once for all who want to damage it."""
    root = tmp_path_factory.mktemp("saved")

    def copy(name: str, directory: Path) -> None:
        if not (root / name).exists():
            their_model(THEIRS[name], tokenizer_json, root / name)
        shutil.copytree(root / name, directory, dirs_exist_ok=True)

    return copy


def our_checkpoint(settings: ModelSettings, tokenizer_json: str) -> Checkpoint:
    model_config = GPTConfig.from_settings(settings, VOCAB_SIZE)
    model = GPT(model_config)
    randomise(model)
    config = Config(model=model_config.to_settings())
    return Checkpoint(config=config, model_config=model_config, weights=model.state_dict(), tokenizer=tokenizer_json)


def some_tokens() -> Tensor:
    return torch.randint(VOCAB_SIZE, (2, 48), generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def assert_same_logits(checkpoint: Checkpoint, theirs: nn.Module) -> None:
    tokens = some_tokens()
    expected = theirs(tokens).logits
    actual = checkpoint.build_model().eval()(tokens)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# -- the same function


@pytest.mark.parametrize("name", THEIRS)
def test_an_imported_model_has_their_logits(name: str, tokenizer_json: str, tmp_path: Path) -> None:
    theirs = their_model(THEIRS[name], tokenizer_json, tmp_path)
    checkpoint = import_directory(tmp_path)
    assert_same_logits(checkpoint, theirs)
    assert checkpoint.tokenizer == tokenizer_json
    assert checkpoint.config.model == checkpoint.model_config.to_settings()


@pytest.mark.parametrize("name", OURS)
def test_an_exported_model_has_our_logits_and_comes_back_bit_for_bit(
    name: str, tokenizer_json: str, tmp_path: Path
) -> None:
    checkpoint = our_checkpoint(OURS[name], tokenizer_json)
    export_directory(checkpoint, tmp_path / "out")
    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_same_logits(checkpoint, theirs.eval())
    back = import_directory(tmp_path / "out")
    assert back.model_config == checkpoint.model_config
    assert back.weights.keys() == checkpoint.weights.keys()
    for weight, tensor in checkpoint.weights.items():
        assert torch.equal(back.weights[weight], tensor), weight


def test_what_they_save_of_our_export_comes_back_bit_for_bit(tokenizer_json: str, tmp_path: Path) -> None:
    checkpoint = our_checkpoint(OURS["qwen3"], tokenizer_json)
    export_directory(checkpoint, tmp_path / "ours")
    AutoModelForCausalLM.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    shutil.copy(tmp_path / "ours" / "tokenizer.json", tmp_path / "theirs")
    back = import_directory(tmp_path / "theirs")
    assert back.model_config == checkpoint.model_config
    for weight, tensor in checkpoint.weights.items():
        assert torch.equal(back.weights[weight], tensor), weight


@pytest.mark.parametrize("name", ["gpt2", "llama-biases", "qwen3"])
def test_the_gradient_of_the_loss_is_theirs(name: str, tokenizer_json: str, tmp_path: Path) -> None:
    theirs = their_model(THEIRS[name], tokenizer_json, tmp_path / "weights")
    ours = import_directory(tmp_path / "weights").build_model().eval()
    tokens = some_tokens()
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    F.cross_entropy(theirs(inputs).logits.flatten(0, 1), targets.flatten(), reduction="sum").backward()
    ours.loss(inputs, targets).backward()
    # Gradients have the shapes of weights, so the import gives them our names.
    for parameter in theirs.parameters():
        parameter.data = parameter.grad
    theirs.save_pretrained(tmp_path / "gradients")
    (tmp_path / "gradients" / "tokenizer.json").write_text(tokenizer_json)
    expected = import_directory(tmp_path / "gradients").weights
    for weight, parameter in ours.named_parameters():
        atol = 1e-4 * float(expected[weight].abs().max())
        torch.testing.assert_close(
            parameter.grad, expected[weight], rtol=0, atol=atol, msg=lambda m, w=weight: f"{w}: {m}"
        )


def test_sharded_weights(tokenizer_json: str, tmp_path: Path) -> None:
    theirs = their_model(THEIRS["qwen3"], tokenizer_json, tmp_path, max_shard_size="30KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert_same_logits(import_directory(tmp_path), theirs)


def test_gpt2_as_first_published(tokenizer_json: str, tmp_path: Path) -> None:
    theirs = their_model(THEIRS["gpt2"], tokenizer_json, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    for layer in range(2):
        bare[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 48, 48).tril()
        bare[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(bare, tmp_path / "model.safetensors")
    kept = ("model_type", "vocab_size", *GPT2)
    config = {key: value for key, value in json.loads((tmp_path / "config.json").read_text()).items() if key in kept}
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint = import_directory(tmp_path)
    assert_same_logits(checkpoint, theirs)
    assert checkpoint.model_config.dropout == GPT2Config().resid_pdrop


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_becomes_float32(dtype: torch.dtype, tokenizer_json: str, tmp_path: Path) -> None:
    theirs = their_model(THEIRS["llama"], tokenizer_json, tmp_path)
    theirs.to(dtype).save_pretrained(tmp_path)
    checkpoint = import_directory(tmp_path)
    assert {tensor.dtype for tensor in checkpoint.weights.values()} == {torch.float32}
    assert_same_logits(checkpoint, AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval())


def test_tied_stays_tied(tokenizer_json: str, tmp_path: Path) -> None:
    their_model(THEIRS["qwen3-tied"], tokenizer_json, tmp_path)
    model = import_directory(tmp_path).build_model()
    assert model.head.weight is model.token_embedding.weight


def test_rope_theta_of_versions_before_5(tokenizer_json: str, tmp_path: Path) -> None:
    their_model(THEIRS["llama-head_dim"], tokenizer_json, tmp_path)
    path = tmp_path / "config.json"
    edit_json(path, rope_theta=300.0, rope_parameters=None, rope_scaling=None)
    assert import_directory(tmp_path).model_config.rope_base == 300.0
    # And what we write has it where those versions look for it.
    export_directory(our_checkpoint(OURS["llama-head_dim"], tokenizer_json), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["rope_theta"] == 300.0


# -- what is refused


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("gpt2", {"model_type": "bert"}, "model_type is 'bert'"),
        ("gpt2", {"model_type": None}, "only gpt2, llama, qwen3"),
        ("gpt2", {"activation_function": "relu"}, "activation_function = 'relu'"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights"),
        ("gpt2", {"attn_pdrop": 0.3}, "one value for the three"),
        ("gpt2", {"n_embd": None}, "does not say n_embd"),
        ("gpt2", {"n_embd": "wide"}, "model.d_model = 'wide' is not allowed"),
        ("gpt2", {"n_head": 5}, "does not divide"),
        ("gpt2", {"n_layer": 10**9}, "model.n_layers"),
        ("gpt2", {"vocab_size": -1}, "vocab_size = -1"),
        ("gpt2", {"vocab_size": 20}, "do not belong together"),
        ("gpt2", {"vocab_size": 308}, r"shape \[307, 32\]"),
        ("gpt2", {"n_layer": 3}, "lacks weights .*h.2.*more"),
        ("gpt2", {"n_layer": 1}, "has weights .*h.1"),
        ("gpt2", {"tie_word_embeddings": False}, "lacks weights .*lm_head.weight"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ("llama", {"attention_bias": True}, "attention_bias = True and mlp_bias = False"),
        ("llama", {"tie_word_embeddings": True}, "a head of its own"),
        ("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0}}, "llama3"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ("llama", {"attention_dropout": 0.1}, "attention_dropout"),
        ("qwen3", {"attention_bias": True}, "attention_bias = True"),
        ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
        ("qwen3", {"layer_types": None, "use_sliding_window": True}, "sliding-window"),
        ("qwen3", {"head_dim": None}, "does not say head_dim"),
    ],
)
def test_a_configuration_that_is_not_ours_is_refused(
    name: str, changes: dict[str, Any], words: str, saved: Callable[[str, Path], None], tmp_path: Path
) -> None:
    saved(name, tmp_path)
    edit_json(tmp_path / "config.json", **changes)
    with pytest.raises(UserError, match=words):
        import_directory(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", None, "config.json"),
        ("config.json", b"{", "not valid JSON"),
        ("config.json", b"[" * 100_000, "not valid JSON"),
        ("config.json", b"\xff\xfe", "not valid JSON"),
        ("config.json", b"[]", "must hold a JSON object"),
        ("tokenizer.json", None, "save_pretrained"),
        ("tokenizer.json", b"{}", "tokenizer.json"),
        ("model.safetensors", None, "no model.safetensors"),
        ("model.safetensors", b"\x08\0\0\0\0\0\0\0{}", "Cannot read"),
        ("model.safetensors", b"", "Cannot read"),
    ],
)
def test_missing_and_damaged_files_are_named(
    file: str, content: bytes | None, words: str, saved: Callable[[str, Path], None], tmp_path: Path
) -> None:
    saved("llama", tmp_path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=words):
        import_directory(tmp_path)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        import_directory(tmp_path / "nowhere")


def test_pickled_weights_are_not_opened(saved: Callable[[str, Path], None], tmp_path: Path) -> None:
    saved("llama", tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin only.*safetensors"):
        import_directory(tmp_path)


def test_quantised_weights_are_refused(saved: Callable[[str, Path], None], tmp_path: Path) -> None:
    saved("llama", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"].to(torch.int8)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.norm\.weight is stored as torch\.int8"):
        import_directory(tmp_path)


@pytest.mark.parametrize(
    "shard", ["../outside.safetensors", "{folder}/outside.safetensors", "sub/x.safetensors", "..", 5]
)
def test_an_index_reaches_no_file_outside_its_folder(
    shard: Any, saved: Callable[[str, Path], None], tmp_path: Path
) -> None:
    saved("llama", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "outside.safetensors")
    (tmp_path / "model" / "sub").mkdir()
    shutil.copy(tmp_path / "outside.safetensors", tmp_path / "model" / "sub" / "x.safetensors")
    shard = shard.format(folder=tmp_path) if isinstance(shard, str) else shard
    index = {"weight_map": dict.fromkeys(load_file(tmp_path / "outside.safetensors"), shard)}
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="not to be trusted"):
        import_directory(tmp_path / "model")


@pytest.mark.parametrize(
    ("family", "switches"),
    [
        ("qwen3", {"norm": "layernorm"}),
        ("qwen3", {"bias": True}),
        ("llama", {"qk_norm": True}),
        ("llama", {"activation": "gelu"}),
        ("gpt2", {"position": "rope"}),
        ("gpt2", {"bias": False}),
        ("gpt2", {"n_kv_heads": 2}),
        ("gpt2", {"head_dim": 12}),
    ],
)
def test_switches_of_no_family_are_not_exported(
    family: Any, switches: dict[str, Any], tokenizer_json: str, tmp_path: Path
) -> None:
    checkpoint = our_checkpoint(ModelSettings(family=family, **SMALL | switches), tokenizer_json)
    with pytest.raises(UserError, match=f"the family's own switches.*{next(iter(switches))}"):
        export_directory(checkpoint, tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_a_width_that_their_llama_refuses_is_not_exported(tokenizer_json: str, tmp_path: Path) -> None:
    settings = ModelSettings(family="llama", **SMALL | {"n_heads": 3}, head_dim=8)
    with pytest.raises(UserError, match="d_model = 32 with n_heads = 3"):
        export_directory(our_checkpoint(settings, tokenizer_json), tmp_path / "out")


# -- the folder


def test_an_export_never_overwrites(tokenizer_json: str, tmp_path: Path) -> None:
    checkpoint = our_checkpoint(OURS["qwen3"], tokenizer_json)
    (tmp_path / "mine.txt").write_text("mine")
    for taken in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(UserError, match="exists already"):
            export_directory(checkpoint, taken)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_export_into_an_empty_folder(tokenizer_json: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export_directory(our_checkpoint(OURS["qwen3"], tokenizer_json), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_that_fails_leaves_nothing(
    tokenizer_json: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(weights: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface, "save_file", disk_full)
    with pytest.raises(JobFailed, match="disk is full"):
        export_directory(our_checkpoint(OURS["qwen3"], tokenizer_json), tmp_path / "out")
    assert not any(tmp_path.iterdir())


# -- the tokenizer


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3"])
def test_their_tokenizer_gives_the_same_ids(name: str, tokenizer_json: str, tmp_path: Path) -> None:
    export_directory(our_checkpoint(OURS[name], tokenizer_json), tmp_path / "out")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    core = Tokenizer.from_str(tokenizer_json)
    text = " The cat's  mat ,\n\nça 猫 🐈 12345\t.\n"
    assert theirs(text)["input_ids"] == core.encode(text).ids
    assert theirs.decode(theirs(text)["input_ids"]) == text
    assert theirs.eos_token_id == core.token_to_id("<|endoftext|>")
    assert theirs.pad_token_id == core.token_to_id("<|pad|>")
    assert len(theirs) == core.get_vocab_size()


def test_their_chat_template_gives_our_turns(tokenizer_json: str, tmp_path: Path) -> None:
    export_directory(our_checkpoint(OURS["qwen3"], tokenizer_json), tmp_path / "out")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    core = Tokenizer.from_str(tokenizer_json)
    turns = [("user", " Where is the cat?\n"), ("assistant", "There."), ("user", "And the rat?")]
    expected = []
    for role, content in turns:
        expected += [core.token_to_id(f"<|{role}|>"), *core.encode(content).ids, core.token_to_id("<|end|>")]
    messages = [{"role": role, "content": content} for role, content in turns]
    assert theirs.apply_chat_template(messages, return_dict=False) == expected
    replying = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert replying == [*expected, core.token_to_id("<|assistant|>")]


def test_a_tokenizer_without_turns_gets_no_chat_template(tokenizer_json: str, tmp_path: Path) -> None:
    description = json.loads(tokenizer_json.replace("<|user|>", "<|somebody|>"))
    export_directory(our_checkpoint(OURS["qwen3"], json.dumps(description)), tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template is None


def test_how_to_sample_travels_with_the_model(tokenizer_json: str, tmp_path: Path) -> None:
    checkpoint = our_checkpoint(OURS["qwen3"], tokenizer_json)
    generation = GenerationSettings(temperature=0.7, top_k=9, top_p=0.8, min_p=0.1, repetition_penalty=1.2)
    checkpoint.config = msgspec.structs.replace(checkpoint.config, generation=generation)
    export_directory(checkpoint, tmp_path / "out")
    theirs = GenerationConfig.from_pretrained(tmp_path / "out")
    core = Tokenizer.from_str(tokenizer_json)
    for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "max_new_tokens"):
        assert getattr(theirs, name) == getattr(generation, name), name
    assert theirs.do_sample
    assert theirs.eos_token_id == [core.token_to_id("<|endoftext|>"), core.token_to_id("<|end|>")]


def test_no_temperature_means_no_sampling(tokenizer_json: str, tmp_path: Path) -> None:
    checkpoint = our_checkpoint(OURS["qwen3"], tokenizer_json)
    checkpoint.config = msgspec.structs.replace(checkpoint.config, generation=GenerationSettings(temperature=0))
    export_directory(checkpoint, tmp_path / "out")
    assert GenerationConfig.from_pretrained(tmp_path / "out").do_sample is False
