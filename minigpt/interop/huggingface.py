"""Hugging Face directories (config.json, model.safetensors, tokenizer.json), in and out.

    checkpoint = import_directory(Path("downloads/gpt2"))
    export_directory(checkpoint, Path("my-model"))

Each family computes the same function as GPT2LMHeadModel, LlamaForCausalLM or Qwen3ForCausalLM of `transformers`.
What cannot be the same function on the other side is refused, never approximated.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from minigpt.config import GenerationSettings
from minigpt.errors import UserError
from minigpt.events import open_file
from minigpt.interop.huggingface_config import export_config, import_config
from minigpt.model.checkpoint import Checkpoint
from minigpt.model.gpt import GPT, GPTConfig
from minigpt.text.storage import atomic_directory
from minigpt.text.tokenizer import Tokenizer

# Their modules that make up one of ours: several are stacked in ours, row upon row.
_LLAMA_MODULES = {
    "token_embedding": ["model.embed_tokens"],
    "norm": ["model.norm"],
    "head": ["lm_head"],
    "blocks.{}.attention_norm": ["model.layers.{}.input_layernorm"],
    "blocks.{}.attention.qkv": [f"model.layers.{{}}.self_attn.{part}_proj" for part in "qkv"],
    "blocks.{}.attention.q_norm": ["model.layers.{}.self_attn.q_norm"],
    "blocks.{}.attention.k_norm": ["model.layers.{}.self_attn.k_norm"],
    "blocks.{}.attention.output": ["model.layers.{}.self_attn.o_proj"],
    "blocks.{}.mlp_norm": ["model.layers.{}.post_attention_layernorm"],
    "blocks.{}.mlp.up": ["model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.up_proj"],
    "blocks.{}.mlp.down": ["model.layers.{}.mlp.down_proj"],
}
_MODULES = {
    "gpt2": {
        "token_embedding": ["transformer.wte"],
        "position_embedding": ["transformer.wpe"],
        "norm": ["transformer.ln_f"],
        "head": ["lm_head"],
        "blocks.{}.attention_norm": ["transformer.h.{}.ln_1"],
        "blocks.{}.attention.qkv": ["transformer.h.{}.attn.c_attn"],
        "blocks.{}.attention.output": ["transformer.h.{}.attn.c_proj"],
        "blocks.{}.mlp_norm": ["transformer.h.{}.ln_2"],
        "blocks.{}.mlp.up": ["transformer.h.{}.mlp.c_fc"],
        "blocks.{}.mlp.down": ["transformer.h.{}.mlp.c_proj"],
    },
    "llama": _LLAMA_MODULES,
    "qwen3": _LLAMA_MODULES,
}
# GPT-2 keeps the matrices of its blocks the other way round: (inputs, outputs).
_GPT2_TRANSPOSED = re.compile(r"\.(attention|mlp)\.\w+\.weight$")
# What is turned by RoPE, or scaled before it is.
_ROTATED = re.compile(r"\.self_attn\.(q|k)_(proj|norm)\.")
# Tables that older versions saved although they follow from the configuration.
_COMPUTED = re.compile(r"\.attn\.(masked_)?bias$|\.rotary_emb\.inv_freq$")
_LARGEST_JSON = 1 << 26
_SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")

_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['user', 'assistant'] %}"
    "{{ raise_exception('This model knows the roles user and assistant only.') }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def import_directory(directory: Path) -> Checkpoint:
    """Read a model of `transformers` (gpt2, llama or qwen3); its weights become float32.

    Raises UserError where something is missing or damaged, or our network cannot compute the same function.
    """
    if not directory.is_dir():
        raise UserError(
            f"There is no folder {directory}: name one with config.json, model.safetensors, tokenizer.json."
        )
    config, model_config = import_config(_read_json(directory / "config.json"), directory / "config.json")
    tokenizer = _read_tokenizer(directory / "tokenizer.json", model_config.vocab_size)
    weights = _import_weights(model_config, _read_weights(directory), directory)
    return Checkpoint(config=config, model_config=model_config, weights=weights, tokenizer=tokenizer)


def export_directory(checkpoint: Checkpoint, directory: Path) -> None:
    """Write a folder that `transformers` loads: the model in float32, its tokenizer, and how to sample from it.

    The folder appears whole or not at all. Raises UserError where it exists with something in it, or where
    `transformers` has no class for the network; JobFailed where the disk is full, OSError where it may not be written.
    """
    # The folder itself, not a link to it: an empty folder can be replaced by renaming, a link cannot.
    directory = directory.resolve()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} exists already: name a new folder for the export.")
    tokenizer = Tokenizer.from_json(checkpoint.tokenizer)
    files = {
        "config.json": export_config(checkpoint.model_config) | _special_tokens(tokenizer),
        "generation_config.json": _generation_config(checkpoint.config.generation, tokenizer),
        "tokenizer_config.json": _tokenizer_config(tokenizer, checkpoint.model_config.max_seq_len),
    }
    weights = _export_weights(checkpoint)
    with atomic_directory(directory) as beside:
        for name, values in files.items():
            (beside / name).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (beside / "tokenizer.json").write_text(checkpoint.tokenizer, encoding="utf-8")
        _write_weights(weights, beside / "model.safetensors")


def _write_weights(weights: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(weights, path, metadata={"format": "pt"})
    except SafetensorError as error:
        # What the system refuses is told as a text only: "... (os error 28)".
        refused = re.search(r"\(os error (\d+)\)", str(error))
        if refused is None:
            raise
        raise OSError(int(refused[1]), os.strerror(int(refused[1])), str(path)) from error
    # Some versions of the library make a file for its owner alone, whatever the umask.
    path.chmod((path.parent / "config.json").stat().st_mode)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        with open_file(path) as file:
            data = file.read(_LARGEST_JSON + 1) or b""
        content = json.loads(data.decode("utf-8")) if len(data) <= _LARGEST_JSON else None
    except OSError as error:
        raise UserError(f"Cannot read {path} ({error.strerror}): a Hugging Face model's folder has one.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: copy or download it again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a JSON object of a few kilobytes: copy or download it again.")
    return content


# -- weights


def _read_weights(directory: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for path in _weight_files(directory):
        try:
            weights.update(load_file(path))
        except (SafetensorError, OSError) as error:
            raise UserError(f"Cannot read {path} ({error}): copy or download it again.") from error
    return weights


def _weight_files(directory: Path) -> list[Path]:
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.exists():
        pickled = sorted(path.name for path in (*directory.glob("*.bin"), *directory.glob("*.pt*")))
        if pickled:
            raise UserError(
                f"{directory} has its weights as {pickled[0]} only, a format that can run programs when opened: "
                "get the model as safetensors (`save_pretrained` of transformers writes them)."
            )
        raise UserError(f"{directory} has no model.safetensors: download the model's safetensors files too.")
    names = _read_json(index).get("weight_map")
    if not isinstance(names, dict):
        raise UserError(f"{index} has no weight_map: copy or download it again.")
    for name in names.values():
        if not isinstance(name, str) or not _SHARD_NAME.fullmatch(name):
            raise UserError(
                f"{index} names {name!r}, which is not a safetensors file beside it: it is not to be trusted."
            )
    files = [directory / name for name in sorted(set(names.values()))]
    if lost := next((path for path in files if not path.is_file()), None):
        raise UserError(f"{lost} is missing, which {index.name} names: download it too.")
    return files


def _their_names(config: GPTConfig, name: str) -> list[str]:
    """Return their names of the weights that make up one of ours."""
    module, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        module, kind = name, "weight"
    layer = "".join(re.findall(r"^blocks\.(\d+)", module))
    modules = _MODULES[config.family][re.sub(r"^blocks\.\d+", "blocks.{}", module)]
    return [f"{theirs.format(layer)}.{kind}" for theirs in modules]


def _row_counts(config: GPTConfig, rows: int, parts: int) -> list[int]:
    if parts == len("qkv"):
        return [heads * config.head_dim for heads in (config.n_heads, config.n_kv_heads, config.n_kv_heads)]
    return [rows // parts] * parts


def _transposed(config: GPTConfig, name: str) -> bool:
    return config.family == "gpt2" and bool(_GPT2_TRANSPOSED.search(name))


def _import_weights(config: GPTConfig, theirs: dict[str, Tensor], directory: Path) -> dict[str, Tensor]:
    with torch.device("meta"):
        blank = GPT(config).state_dict()
    theirs = {name: tensor for name, tensor in theirs.items() if not _COMPUTED.search(name)}
    if config.family == "gpt2" and "wte.weight" in theirs:
        # Saved without the head around it, as the first GPT-2 was.
        theirs = {name if name.startswith("lm_head.") else f"transformer.{name}": t for name, t in theirs.items()}
    if config.tied_embeddings:
        embedding, head = _their_names(config, "token_embedding.weight")[0], "lm_head.weight"
        if embedding in theirs and not torch.equal(theirs.setdefault(head, theirs[embedding]), theirs[embedding]):
            raise UserError(
                f"{directory} has a head of its own although config.json has tie_word_embeddings: set it to false."
            )
    names = {ours: _their_names(config, ours) for ours in blank}
    expected = {name for parts in names.values() for name in parts}
    if missing := expected - theirs.keys():
        raise UserError(f"{directory} lacks weights that its config.json calls for: {_some(missing)}.")
    if extra := theirs.keys() - expected:
        raise UserError(f"{directory} has weights that MiniGPT's network has no place for: {_some(extra)}.")
    weights = {}
    for ours, like in blank.items():
        rows = _row_counts(config, len(like), len(names[ours]))
        parts = []
        for name, count in zip(names[ours], rows, strict=True):
            shape = [count, *like.shape[1:]]
            part = _checked(theirs[name], name, shape[::-1] if _transposed(config, ours) else shape, directory)
            part = part.t() if _transposed(config, ours) else part
            parts.append(_reordered(part, 2, config) if _ROTATED.search(name) else part)
        # A copy in memory of our own, whatever becomes of the file.
        weights[ours] = torch.cat(parts).to(torch.float32).contiguous()
    if config.tied_embeddings:
        weights["head.weight"] = weights["token_embedding.weight"]
    return weights


def _checked(tensor: Tensor, name: str, shape: list[int], directory: Path) -> Tensor:
    if list(tensor.shape) != shape:
        raise UserError(f"{directory}: {name} has the shape {list(tensor.shape)} where config.json means {shape}.")
    if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise UserError(
            f"{directory}: {name} is stored as {tensor.dtype}: get the model in float32, bfloat16 or float16."
        )
    return tensor


def _reordered(rows: Tensor, groups: int, config: GPTConfig) -> Tensor:
    """Deal each head's rows out: of `groups` groups, the first row of each, then the second of each, and so on.

    RoPE turns pairs of rows. Theirs stand half a head apart, ours side by side: 2 groups bring theirs into our order,
    head_dim / 2 groups bring ours into theirs.
    """
    heads = rows.reshape(-1, groups, config.head_dim // groups, *rows.shape[1:])
    return heads.transpose(1, 2).reshape(rows.shape)


def _export_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    config = checkpoint.model_config
    theirs = {}
    for ours, tensor in checkpoint.build_model().state_dict().items():
        if ours == "head.weight" and config.tied_embeddings:
            continue
        names = _their_names(config, ours)
        for name, part in zip(names, tensor.split(_row_counts(config, len(tensor), len(names))), strict=True):
            part = part.t() if _transposed(config, ours) else part
            part = _reordered(part, config.head_dim // 2, config) if _ROTATED.search(name) else part
            theirs[name] = part.to(torch.float32).clone(memory_format=torch.contiguous_format)
    return theirs


def _some(names: set[str]) -> str:
    first = ", ".join(sorted(names)[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"


# -- tokenizer


def _read_tokenizer(path: Path, vocab_size: int) -> str:
    if not path.exists():
        raise UserError(
            f"{path} is missing: download it from where the model came from, or let transformers make it with "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)."
        )
    tokenizer = Tokenizer.load(path)
    if tokenizer.vocab_size > vocab_size:
        raise UserError(
            f"{path} has {tokenizer.vocab_size} tokens and the model only {vocab_size}: they do not belong together."
        )
    return path.read_text(encoding="utf-8")


def _special_tokens(tokenizer: Tokenizer) -> dict[str, int | None]:
    end = tokenizer.end_of_text
    # <|endoftext|> stands between texts and so begins them, too; other names of the end do not say so.
    begins = end is not None and tokenizer.token_text(end) == "<|endoftext|>"
    return {"bos_token_id": end if begins else None, "eos_token_id": end, "pad_token_id": tokenizer.pad}


def _generation_config(settings: GenerationSettings, tokenizer: Tokenizer) -> dict[str, Any]:
    theirs: dict[str, Any] = _special_tokens(tokenizer)
    theirs["eos_token_id"] = [token for token in (tokenizer.end_of_text, tokenizer.end) if token is not None] or None
    theirs["max_new_tokens"] = settings.max_new_tokens
    theirs["repetition_penalty"] = settings.repetition_penalty
    theirs["do_sample"] = settings.temperature > 0
    if theirs["do_sample"]:
        theirs |= {name: getattr(settings, name) for name in ("temperature", "top_k", "top_p", "min_p")}
    return theirs


def _tokenizer_config(tokenizer: Tokenizer, context: int) -> dict[str, Any]:
    tokens = _special_tokens(tokenizer) | {"unk_token_id": tokenizer.unknown}
    theirs: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        **{name.removesuffix("_id"): tokenizer.token_text(i) for name, i in tokens.items() if i is not None},
    }
    if None not in (tokenizer.user, tokenizer.assistant, tokenizer.end):
        theirs["chat_template"] = _CHAT_TEMPLATE
    return theirs
