"""Generation speed: tokens a second, one text at a time, ours with its cache against the textbook loop without."""

from __future__ import annotations

import string
import time
from pathlib import Path
from typing import Any

import torch

from minigpt.bench import baseline as textbook
from minigpt.bench.measure import Bench, Result, Row, Task, compare, measure
from minigpt.config import Config, GenerationSettings
from minigpt.device import choose, cpu_threads, threads_at_most, tune_process
from minigpt.inference.generate import LoadedModel, generate_tokens
from minigpt.model.checkpoint import Checkpoint, save
from minigpt.model.gpt import GPT, GPTConfig
from minigpt.presets import with_values
from minigpt.text.tokenizer import StreamDecoder, Tokenizer
from minigpt.text.tokenizer_kinds import SPECIAL_TOKENS

REPEATS = 5
TOKENS = 500
WARMUP_TOKENS = 20
PROMPT_TOKENS = 16
TEMPERATURE, TOP_K = 0.8, 200
VOCAB_SIZE = 65  # tinyshakespeare's characters

SHAPE = {"n_layers": 6, "n_heads": 6, "width": 384, "context": 256}
QUICK_SHAPE = {"n_layers": 1, "n_heads": 2, "width": 32, "context": 32}
# The baseline's own network, and the family of our own presets at the same depth and width.
NETWORKS: dict[str, dict[str, Any]] = {
    "gpt2": {"model.family": "gpt2", "model.bias": False},
    "qwen3": {"model.family": "qwen3"},
}


def rows(bench: Bench) -> list[Row]:
    """Measure each network."""
    common = {
        "shape": QUICK_SHAPE if bench.quick else SHAPE,
        "tokens": QUICK_SHAPE["context"] + 8 if bench.quick else TOKENS,
    }
    tasks = {"baseline": Task("generate.baseline", common)}
    for name in ["gpt2"] if bench.quick else NETWORKS:
        tasks[name] = Task("generate.ours", {**common, "folder": str(bench.folder), "settings": NETWORKS[name]})
    results = measure(bench, "generate", tasks, REPEATS)
    found = []
    for name in [side for side in tasks if side != "baseline"]:
        title = f"generate {results[name][0]['parameters'] / 1e6:.1f}M: {name}, {results[name][0]['precision']}"
        sides = results[name], results["baseline"]
        found.append(compare(title, "tokens/s", "tokens_per_s", *sides, baseline_name="textbook loop without a cache"))
    return found


def ours(folder: str, shape: dict[str, int], tokens: int, settings: dict[str, Any]) -> Result:
    """Save a network, open it as a user would, and time what streaming a continuation takes."""
    tune_process(choose())
    model = LoadedModel.open(_checkpoint(Path(folder) / "generate.pt", shape, settings))
    _our_seconds(model, WARMUP_TOKENS)
    seconds = _our_seconds(model, tokens)
    return {
        "tokens_per_s": tokens / seconds,
        "parameters": model.network.parameter_count(),
        "precision": str(model.network.head.weight.dtype).removeprefix("torch."),
    }


def _checkpoint(path: Path, shape: dict[str, int], settings: dict[str, Any]) -> Path:
    values = {
        "model.n_layers": shape["n_layers"],
        "model.n_heads": shape["n_heads"],
        "model.d_model": shape["width"],
        "model.max_seq_len": shape["context"],
        **settings,
    }
    config = with_values(Config(), values, "the benchmark")
    tokenizer = Tokenizer.train("char", [string.printable[: VOCAB_SIZE - len(SPECIAL_TOKENS)]], 0)
    network = GPT(GPTConfig.from_settings(config.model, tokenizer.vocab_size))
    save(path, Checkpoint(config, network.config, network.state_dict(), tokenizer.to_json()))
    return path


def _our_seconds(model: LoadedModel, tokens: int) -> float:
    # As LoadedModel.stream_tokens, but it would end at an end-of-text mark, which random weights often choose.
    settings = GenerationSettings(temperature=TEMPERATURE, top_k=TOP_K, top_p=1.0)
    prompt = torch.arange(PROMPT_TOKENS, device=model.device.kind)[None] % VOCAB_SIZE
    decoder = StreamDecoder(model.tokenizer)
    started = time.perf_counter()
    stream = generate_tokens(model.network, prompt, settings)
    threads = model.threads
    for _ in range(tokens):
        with threads_at_most(threads):
            token = int(next(stream))
        decoder.add(token)
    return time.perf_counter() - started


def baseline(shape: dict[str, int], tokens: int) -> Result:
    """Time the textbook loop."""
    torch.set_num_threads(cpu_threads())
    kind = choose().kind
    recipe = textbook.Recipe(shape["n_layers"], shape["n_heads"], shape["width"], shape["context"])
    model = textbook.TextbookGPT(recipe, VOCAB_SIZE).to(kind).eval()
    _baseline_seconds(model, kind, WARMUP_TOKENS)
    return {"tokens_per_s": tokens / _baseline_seconds(model, kind, tokens)}


def _baseline_seconds(model: textbook.TextbookGPT, kind: str, tokens: int) -> float:
    prompt = torch.arange(PROMPT_TOKENS, device=kind)[None] % VOCAB_SIZE
    started = time.perf_counter()
    for token in textbook.generate(model, prompt, tokens, TEMPERATURE, TOP_K):
        int(token)
    return time.perf_counter() - started
