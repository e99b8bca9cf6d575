"""The config.json of Hugging Face models, to and from our configuration.

What our network cannot compute, or their classes cannot, is refused in words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import msgspec

from minigpt.config import Config
from minigpt.errors import UserError
from minigpt.model.gpt import FAMILIES, GPTConfig
from minigpt.presets import with_values

_CLASSES = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}

# Their names of our settings.
_LLAMA_SETTINGS = {
    "hidden_size": "d_model",
    "intermediate_size": "d_ff",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads",
    "head_dim": "head_dim",
    "max_position_embeddings": "max_seq_len",
    "rms_norm_eps": "norm_epsilon",
}
_SETTINGS = {
    "gpt2": {
        "n_embd": "d_model",
        "n_inner": "d_ff",
        "n_layer": "n_layers",
        "n_head": "n_heads",
        "n_positions": "max_seq_len",
        "layer_norm_epsilon": "norm_epsilon",
    },
    "llama": _LLAMA_SETTINGS,
    "qwen3": _LLAMA_SETTINGS,
}
# What `transformers` takes where config.json is silent; None: derived from the other settings, as we derive it.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_inner": None, "layer_norm_epsilon": 1e-5},
    "llama": {"num_key_value_heads": None, "head_dim": None, "rms_norm_eps": 1e-6},
    "qwen3": {"rms_norm_eps": 1e-6},
}
# Far beyond any there is.
LARGEST_VOCABULARY = 1 << 24
_DEFAULT_ROPE_BASE = 10000.0
_GPT2_DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
_DEFAULT_GPT2_DROPOUT = 0.1
# What our network takes for granted, which is also what they take where config.json is silent.
_FIXED: dict[str, dict[str, Any]] = {
    "gpt2": {
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    },
    "llama": {"hidden_act": "silu", "attention_dropout": 0.0},
    "qwen3": {"hidden_act": "silu", "attention_dropout": 0.0, "attention_bias": False},
}


def import_config(theirs: dict[str, Any], path: Path) -> tuple[Config, GPTConfig]:
    """Return our configuration of the model that the config.json at `path` describes; raises UserError."""
    family = theirs.get("model_type")
    if not isinstance(family, str) or family not in _SETTINGS:
        raise UserError(f"{path}: model_type is {family!r}, and only {', '.join(_SETTINGS)} can be imported.")
    for name, needed in _FIXED[family].items():
        if theirs.get(name, needed) != needed:
            _refuse(path, f"{name} = {theirs[name]!r}", f"only {needed!r} is possible")
    found = _DEFAULTS[family] | {name: theirs[name] for name in _SETTINGS[family] if theirs.get(name) is not None}
    if missing := _SETTINGS[family].keys() - found.keys():
        raise UserError(f"{path} does not say {', '.join(sorted(missing))}: complete it, or download it again.")
    values = {f"model.{ours}": found[name] for name, ours in _SETTINGS[family].items()}
    values["model.family"] = family
    values["model.tied_embeddings"] = theirs.get("tie_word_embeddings", FAMILIES[family]["tied_embeddings"])
    if family == "gpt2":
        values["model.dropout"] = _gpt2_dropout(theirs, path)
    else:
        values["model.rope_base"] = _rope_base(theirs, path)
        values["model.bias"] = _llama_bias(theirs, path)
        _refuse_sliding_window(theirs, path)
    vocab_size = theirs.get("vocab_size")
    if type(vocab_size) is not int or not 1 <= vocab_size <= LARGEST_VOCABULARY:
        raise UserError(
            f"{path}: vocab_size = {str(vocab_size)[:40]} is not allowed: it must be a whole number from 1 to "
            f"{LARGEST_VOCABULARY:,}."
        )
    config = with_values(Config(), values, str(path))
    model_config = GPTConfig.from_settings(config.model, vocab_size)
    return msgspec.structs.replace(config, model=model_config.to_settings()), model_config


def _refuse(path: Path, what: str, allowed: str) -> NoReturn:
    raise UserError(f"{path}: this model has {what}, which MiniGPT's network cannot compute: {allowed}.")


def _gpt2_dropout(theirs: dict[str, Any], path: Path) -> Any:
    rates = [theirs.get(name, _DEFAULT_GPT2_DROPOUT) for name in _GPT2_DROPOUTS]
    if rates != rates[:1] * len(rates):
        raise UserError(
            f"{path}: {', '.join(_GPT2_DROPOUTS)} differ, and MiniGPT has one dropout for all: write one value for "
            "the three (it only matters for further training)."
        )
    return rates[0]


def _rope_base(theirs: dict[str, Any], path: Path) -> Any:
    # transformers 5 keeps all of it in rope_parameters; before, there were rope_theta and rope_scaling.
    base = theirs.get("rope_theta", _DEFAULT_ROPE_BASE)
    for name in ("rope_parameters", "rope_scaling"):
        rope = theirs.get(name) or {}
        nested = not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values())
        if nested or rope.get("rope_type", rope.get("type", "default")) != "default":
            _refuse(path, f"{name} = {rope!r}", "only the default rope_type is possible, the same in all layers")
        if (rope.get("partial_rotary_factor") or theirs.get("partial_rotary_factor") or 1) != 1:
            _refuse(path, "a partial_rotary_factor other than 1", "heads are rotated whole")
        base = rope.get("rope_theta", base)
    return base


def _llama_bias(theirs: dict[str, Any], path: Path) -> Any:
    attention, mlp = (theirs.get(name, False) for name in ("attention_bias", "mlp_bias"))
    if attention != mlp:
        _refuse(path, f"attention_bias = {attention} and mlp_bias = {mlp}", "both have biases, or neither")
    return attention


def _refuse_sliding_window(theirs: dict[str, Any], path: Path) -> None:
    kinds = theirs.get("layer_types")
    if kinds is None and theirs.get("use_sliding_window"):
        _refuse(path, "sliding-window attention", "every token sees all tokens before it")
    if kinds is not None and not (isinstance(kinds, list) and all(kind == "full_attention" for kind in kinds)):
        _refuse(path, f"layer_types = {kinds!r}", "every layer has full attention")


def export_config(config: GPTConfig) -> dict[str, Any]:
    """Return the config.json of a network; raises UserError where `transformers` has no class for it."""
    _refuse_foreign_switches(config)
    ours = msgspec.structs.asdict(config)
    theirs = {
        "architectures": [_CLASSES[config.family]],
        "model_type": config.family,
        "torch_dtype": "float32",
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tied_embeddings,
        **{name: ours[key] for name, key in _SETTINGS[config.family].items()},
        **_FIXED[config.family],
    }
    if config.family == "gpt2":
        return theirs | dict.fromkeys(_GPT2_DROPOUTS, config.dropout)
    # The first is for transformers before version 5, the second from then on.
    theirs["rope_theta"] = config.rope_base
    theirs["rope_parameters"] = {"rope_type": "default", "rope_theta": config.rope_base}
    if config.family == "llama":
        theirs["attention_bias"] = theirs["mlp_bias"] = config.bias
    return theirs


def _refuse_foreign_switches(config: GPTConfig) -> None:
    switches = ["norm", "position", "activation", "qk_norm"] + ["bias"] * (config.family != "llama")
    needed = {name: FAMILIES[config.family][name] for name in switches}
    if config.family == "gpt2":
        needed |= {"n_kv_heads": config.n_heads, "head_dim": config.d_model // config.n_heads}
    others = [f"{name} = {value}" for name, value in needed.items() if getattr(config, name) != value]
    if others:
        raise UserError(
            f"The export needs the family's own switches, and {_CLASSES[config.family]} has {', '.join(others)}, "
            "unlike this model: train one that leaves them as the family sets them."
        )
    if config.family == "llama" and config.d_model % config.n_heads:
        raise UserError(
            f"{_CLASSES[config.family]} needs a width that its heads divide, and this model has d_model = "
            f"{config.d_model} with n_heads = {config.n_heads}: train one where they fit."
        )
