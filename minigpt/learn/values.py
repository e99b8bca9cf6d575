"""The figures of a run as words, for the section "In your run" of a topic.

values = run_values(history, config_of(directory))
print(topic("loss").markdown(values))
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from minigpt.config import Config, settings
from minigpt.errors import UserError, printable
from minigpt.narration import duration, number, size
from minigpt.presets import read_file
from minigpt.runs import CONFIG

if TYPE_CHECKING:
    from minigpt.history import RunHistory

# Name -> what it is. A topic may also name any setting by its key.
PLACEHOLDERS = {
    "run": "the run's name",
    "state": "what it is doing",
    "corpus": "the text it learns from",
    "device": "what computes",
    "step": "steps done",
    "planned_steps": "steps in all",
    "epoch": "passes over the text so far",
    "planned_epochs": "passes in all",
    "tokens": "tokens read so far",
    "planned_tokens": "tokens to be read in all",
    "text_tokens": "tokens of the training text",
    "tokens_per_step": "tokens read for one step",
    "parameters": "weights of the model",
    "tokens_per_parameter": "tokens read so far, for each weight",
    "text_per_parameter": "tokens of training text, for each weight",
    "loss": "the latest training loss, in nats a token",
    "validation": "the latest validation loss",
    "best": "the lowest validation loss",
    "best_step": "the step of the lowest validation loss",
    "perplexity": "perplexity on the validation text",
    "bits_per_byte": "bits for each byte of the validation text",
    "accuracy": "share of the validation tokens guessed right",
    "gap": "validation minus training loss",
    "lr": "the learning rate of the last step",
    "lr_scale": "by how much the person has scaled it",
    "grad_norm": "length of the last gradient",
    "tokens_per_s": "tokens read a second",
    "mfu": "share of the device's peak that is used",
    "left": "how long the rest takes",
    "memory": "memory in use on the computing device",
    "ram": "memory of the machine in use",
    "disk_free": "room left for checkpoints",
    "vocabulary": "number of different tokens",
    "uniform": "loss of guessing blindly",
    "unigram": "loss of knowing how often each token comes",
    "bigram": "loss of knowing the token before too",
    "rung": "which of these the model has passed",
}
# Characters that Markdown would take for its own.
_MARKUP = re.compile(r"([\\`*\[\]<>])")


def run_values(history: RunHistory, config: Config | None = None) -> dict[str, str]:
    """Return what is known of a run's figures, and of its settings, where `config` gives them; no file is read."""
    found = {**_told(history), **_measured(history), **_evaluated(history), **_of_the_device(history)}
    found |= _ladder(history, found)
    if config is not None:
        tokens = config.training.batch_size * config.training.gradient_accumulation_steps * config.model.max_seq_len
        found["tokens_per_step"] = f"{tokens:,}"
        for key, item in settings().items():
            value = item.value_in(config)
            if value not in (None, "", []):
                found[key] = _said(value)
    return {name: _MARKUP.sub(r"\\\1", printable(text, single_line=True)) for name, text in found.items()}


def config_of(directory: Path) -> Config | None:
    """Return the configuration that a run was started with, or None where it cannot be read."""
    try:
        return read_file(directory / CONFIG)
    except (UserError, OSError):
        return None


def _told(history: RunHistory) -> dict[str, str]:
    summary, start = history.summary, history.start
    found = {"run": summary.run, "state": summary.state}
    found |= {name: told for name in ("corpus", "device") if (told := getattr(summary, name))}
    counts = {
        "step": summary.step or None,
        "planned_steps": summary.planned_steps,
        "tokens": summary.tokens,
        "planned_tokens": summary.planned_tokens,
        "text_tokens": start.get("tokens"),
        "parameters": summary.parameters,
        "vocabulary": start.get("vocab_size"),
    }
    found |= {name: f"{count:,.0f}" for name, count in counts.items() if _is_number(count)}
    epochs = {"epoch": summary.epoch, "planned_epochs": summary.planned_epochs}
    found |= {name: f"{count:.3g}" for name, count in epochs.items() if _is_number(count)}
    for name, tokens in (("tokens_per_parameter", summary.tokens), ("text_per_parameter", start.get("tokens"))):
        if summary.parameters and tokens is not None and _is_number(tokens):
            found[name] = f"{tokens / summary.parameters:.2g}"
    left = history.pace.seconds_left if summary.ended is None else None
    return found | ({"left": duration(left)} if left is not None else {})


def _measured(history: RunHistory) -> dict[str, str]:
    curves = history.curves
    if not len(curves):
        return {}
    forms = {
        "loss": ("loss", "{:.3f}"),
        "lr": ("learning_rate", "{:.3g}"),
        "grad_norm": ("grad_norm", "{:.3g}"),
        "tokens_per_s": ("tokens_per_s", "{:,.0f}"),
        "mfu": ("mfu", "{:.0%}"),
    }
    last = {name: (float(curves[column][-1]), form) for name, (column, form) in forms.items()}
    found = {name: form.format(value) for name, (value, form) in last.items() if math.isfinite(value)}
    return found | {"lr_scale": f"{history.lr_scale:g}"}


def _evaluated(history: RunHistory) -> dict[str, str]:
    summary = history.summary
    found: dict[str, str] = {}
    if summary.best_val_loss is not None and summary.best_step is not None:
        found |= {"best": number(summary.best_val_loss), "best_step": f"{summary.best_step:,}"}
    validation = _latest(history, "validation")
    forms = {"loss": "{:.3f}", "perplexity": "{:.2f}", "bits_per_byte": "{:.3f}", "accuracy": "{:.0%}"}
    for name, form in forms.items():
        if _is_number(validation.get(name)):
            found["validation" if name == "loss" else name] = form.format(validation[name])
    train = _latest(history, "train", validation.get("step"))
    if _is_number(train.get("loss")) and _is_number(validation.get("loss")):
        found["gap"] = f"{validation['loss'] - train['loss']:.3f}"
    return found


def _of_the_device(history: RunHistory) -> dict[str, str]:
    told, host = history.device, history.device.get("host")
    host = host if isinstance(host, dict) else {}
    found: dict[str, str] = {}
    for name, where, used, total in (
        ("memory", told, "memory", "memory_total"),
        ("ram", host, "memory_used", "memory_total"),
    ):
        if _is_number(where.get(used)):
            of = f" of {size(where[total])}" if _is_number(where.get(total)) else ""
            found[name] = size(where[used]) + of
    if _is_number(host.get("disk_free")):
        found["disk_free"] = size(host["disk_free"])
    return found


def _ladder(history: RunHistory, known: Mapping[str, str]) -> dict[str, str]:
    told, vocabulary = history.start.get("ladder"), history.start.get("vocab_size")
    rungs: dict[str, float] = {"uniform": math.log(vocabulary)} if _is_number(vocabulary) and vocabulary > 0 else {}
    if isinstance(told, dict):
        rungs |= {name: told[name] for name in ("uniform", "unigram", "bigram") if _is_number(told.get(name))}
    found = {name: number(value) for name, value in rungs.items()}
    if len(rungs) == 3 and "validation" in known:
        passed = [name for name, value in rungs.items() if float(known["validation"]) < value]
        words = {
            "bigram": "below the bigram: it uses more than the one token before",
            "unigram": "below the unigram, not yet below the bigram: it knows common tokens, and little of their order",
            "uniform": "below blind guessing only: it does not yet know which tokens are common",
        }
        found["rung"] = words[passed[-1]] if passed else "above blind guessing: it has learned nothing of use yet"
    return found


def _latest(history: RunHistory, split: str, step: object = None) -> Mapping[str, Any]:
    for event in reversed(history.summary.evaluations):
        if event.get("split") == split and (step is None or event.get("step") == step):
            return event
    return {}


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
