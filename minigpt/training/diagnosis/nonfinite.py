"""Where numbers stopped being finite: the batch of a bad step once more, with an ear at every layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minigpt.model.gpt import GPT


class Culprit(NamedTuple):
    """The first place that was not finite: weights, an output or a gradient, and of which part of the network."""

    kind: str
    name: str

    def in_words(self) -> str:
        """Return a sentence of what it means, or of what was seen."""
        part = part_in_words(self.name)
        if self.kind == "weights":
            return f"The weights of {part} are not finite: an earlier update was far too large."
        if self.kind == "output":
            return f"The numbers overflow in {part}: activations have grown too large, as a rule by too high a rate."
        if self.kind == "gradient":
            return f"The loss is finite; the gradient overflows on its way back at {part}: too steep a place, or rate."
        return "The same batch again gave finite numbers: it was a step too far that has passed, or faulty hardware."


NOTHING = Culprit("", "")


def find_culprit(model: GPT, parts: Callable[[], Iterator[tuple[Tensor, Tensor, float]]], context: Any) -> Culprit:
    """Repeat a batch and return the first place that is not finite; weights, gradients and random numbers stay.

    `parts` yields inputs, targets and what the loss is multiplied by; `context()` gives the precision of training.
    """
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return Culprit("weights", name)
    devices = [next(model.parameters()).device] if torch.cuda.is_available() else []
    devices = [device for device in devices if device.type == "cuda"]
    was_training = model.training
    with torch.random.fork_rng(devices), _listening(model) as found:
        model.train()
        try:
            for inputs, targets, scale in parts():
                with context():
                    loss = model.loss(inputs, targets) * scale
                if not found:
                    loss.backward()
                if found:
                    return found[0]
        finally:
            model.train(was_training)
            for parameter in model.parameters():
                parameter.grad = None
    return NOTHING


@contextmanager
def _listening(model: GPT) -> Iterator[list[Culprit]]:
    """Collect what is not finite, in the order of computation."""
    found: list[Culprit] = []
    handles = []

    def on_output(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hear(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and isinstance(output, Tensor) and not output.isfinite().all():
                found.append(Culprit("output", name))

        return hear

    def on_gradient(name: str) -> Callable[[Tensor], None]:
        def hear(parameter: Tensor) -> None:
            if not found and parameter.grad is not None and not parameter.grad.isfinite().all():
                found.append(Culprit("gradient", name))

        return hear

    for name, module in model.named_modules():
        if name:
            handles.append(module.register_forward_hook(on_output(name)))
    for name, parameter in model.named_parameters():
        handles.append(parameter.register_post_accumulate_grad_hook(on_gradient(name)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def part_in_words(name: str) -> str:
    """Return the name of a module or parameter as people count: layer 3, MLP (blocks.2.mlp.down.weight)."""
    parts = name.split(".")
    if parts[0] == "blocks" and len(parts) > 1:
        kind = {"attention": "attention", "mlp": "MLP", "attention_norm": "norm", "mlp_norm": "norm"}
        return ", ".join([f"layer {int(parts[1]) + 1}", *(kind[part] for part in parts[2:3] if part in kind)]) + (
            f" ({name})"
        )
    words = {"token_embedding": "the token embedding", "position_embedding": "the positions", "head": "the output head"}
    return f"{words.get(parts[0], 'the last norm')} ({name})"
