"""From weights to text: sampling with a key-value cache, streaming.

model = LoadedModel.open("best_model.pt")
for piece in model.stream("Once upon a time"):
    print(piece, end="", flush=True)
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from minigpt.config import Config, GenerationSettings
from minigpt.device import Device, choose, threads_at_most
from minigpt.errors import UserError
from minigpt.model.checkpoint import Checkpoint, load
from minigpt.model.gpt import GPT, KVCache
from minigpt.text.documents import Message
from minigpt.text.tokenizer import StreamDecoder, Tokenizer

# Dividing by less than this overflows, and the likeliest token is as good as certain.
GREEDY_BELOW = 1e-4
# In weights: the largest that was measured, on two cores with nothing else at work; one thread was as fast as two.
SMALL_NETWORK = 12_000_000


def filter_logits(logits: Tensor, settings: GenerationSettings) -> tuple[Tensor, Tensor]:
    """Return the probabilities of the tokens that may be chosen, and their ids, likeliest first: (batch, kept).

    Applied in the usual order: temperature, top-k, top-p, min-p.
    """
    kept = min(settings.top_k or logits.size(-1), logits.size(-1))
    values, ids = torch.topk(logits.float(), kept, dim=-1)
    probabilities = (values / settings.temperature).softmax(dim=-1)
    if settings.top_p < 1:
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities = probabilities.masked_fill(before >= settings.top_p, 0.0)
    if settings.min_p > 0:
        probabilities = probabilities.masked_fill(probabilities < settings.min_p * probabilities[:, :1], 0.0)
    return probabilities / probabilities.sum(dim=-1, keepdim=True), ids


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make the tokens in `seen` (batch, time) less likely: https://arxiv.org/abs/1909.05858, section 4.1."""
    scores = logits.gather(1, seen)
    return logits.scatter(1, seen, torch.where(scores > 0, scores / penalty, scores * penalty))


def choose_token(
    logits: Tensor, seen: Tensor, settings: GenerationSettings, generator: torch.Generator | None
) -> Tensor:
    """Choose one token a row: logits (batch, vocabulary), seen (batch, time) -> (batch, 1)."""
    if settings.repetition_penalty != 1:
        logits = penalise_repetition(logits.float(), seen, settings.repetition_penalty)
    if settings.temperature < GREEDY_BELOW:
        return logits.argmax(dim=-1, keepdim=True)
    probabilities, ids = filter_logits(logits, settings)
    return ids.gather(1, torch.multinomial(probabilities, 1, generator=generator))


@torch.inference_mode()
def generate_tokens(
    model: GPT,
    prompt: Tensor,
    settings: GenerationSettings,
    generator: torch.Generator | None = None,
    suppressed: Sequence[int] = (),
) -> Iterator[Tensor]:
    """Yield one new token a row, (batch, 1), for ever; prompt (batch, time) with at least one token.

    Tokens in `suppressed` are never chosen. When the context is full, its last half is read again and the text goes on.
    """
    never = torch.tensor(list(suppressed), dtype=torch.long, device=prompt.device)
    context = model.config.max_seq_len
    prompt = prompt[:, -context:]
    # The weights' own type: the cache must hold what the network computes.
    cache = KVCache(model.config, prompt.size(0), context, like=model.token_embedding.weight)
    logits = model(prompt, cache, last_only=True)[:, -1]
    text = prompt
    while True:
        if suppressed:
            logits.index_fill_(1, never, -torch.inf)
        token = choose_token(logits, text, settings, generator)
        text = torch.cat([text, token], dim=1)
        yield token
        fresh = token
        if cache.length == context:
            cache.length = 0
            fresh = text[:, -max(1, context // 2) :]
        logits = model(fresh, cache, last_only=True)[:, -1]


@dataclass
class Sample:
    """One continuation, and how it came about; `finish_reason` is length, stop (a stop string) or end (of text)."""

    prompt: str
    text: str = ""
    tokens: int = 0
    tokens_per_s: float = 0.0
    finish_reason: str = "length"


@dataclass
class LoadedModel:
    """A network with its tokenizer and settings, ready to use."""

    network: GPT
    tokenizer: Tokenizer
    config: Config
    device: Device
    conversations: bool = False
    separated: bool = True
    checkpoint: Checkpoint | None = None
    last: Sample = field(default_factory=lambda: Sample(""))

    @classmethod
    def open(cls, path: str | Path, device: str = "auto") -> LoadedModel:
        """Load a checkpoint file; raises UserError when it is missing, damaged or not a checkpoint."""
        checkpoint = load(path)
        place = choose(device)
        network = checkpoint.build_model(place.kind).eval().requires_grad_(False)
        tokenizer = Tokenizer.from_json(checkpoint.tokenizer)
        return cls(
            network, tokenizer, checkpoint.config, place, checkpoint.conversations, checkpoint.separated, checkpoint
        )

    @property
    def threads(self) -> int:
        """How many threads of the processor are worth having for one token after another.

        The products of a small network are so short that two threads are no faster than one, and many times slower
        where another program, such as a trainer, keeps one of them waiting at every product.
        """
        return 1 if self.network.parameter_count() <= SMALL_NETWORK else self.device.threads

    def settings(self, **changes: object) -> GenerationSettings:
        """Return the model's own generation settings, with changes; raises UserError on an unknown name."""
        unknown = set(changes) - set(GenerationSettings.__struct_fields__)
        if unknown:
            known = ", ".join(GenerationSettings.__struct_fields__)
            raise UserError(f"There is no generation setting {sorted(unknown)[0]!r}: there are {known}.")
        return msgspec.structs.replace(self.config.generation, **changes)

    def generate(self, prompt: str = "", **changes: object) -> str:
        """Return the model's continuation of `prompt`, without the prompt."""
        return "".join(self.stream(prompt, **changes))

    def stream(self, prompt: str = "", **changes: object) -> Iterator[str]:
        """Yield the continuation piece by piece; afterwards `last` says how it ended."""
        return self.stream_tokens(self.encode_prompt(prompt), prompt, self.settings(**changes))

    def reply(self, messages: Sequence[Message], **changes: object) -> Iterator[str]:
        """Yield the answer to a conversation, in the template the model was trained with."""
        ids = self.tokenizer.encode_chat(messages, reply=True)
        return self.stream_tokens(ids, messages[-1].content, self.settings(**changes))

    def encode_prompt(self, prompt: str) -> list[int]:
        """Return the prompt's token ids; for an empty one, what stands before a text in the training data."""
        ids = self.tokenizer.encode(prompt)
        if not ids and self.separated and self.tokenizer.end_of_text is not None:
            return [self.tokenizer.end_of_text]
        ids = ids or self.tokenizer.encode("\n")
        if not ids:
            raise UserError("This model knows no mark for the start of a text: give a --prompt to go on from.")
        return ids

    def stream_tokens(self, ids: list[int], prompt: str, settings: GenerationSettings) -> Iterator[str]:
        """Yield the text that follows the token ids; afterwards `last` holds the whole of it and its figures."""
        self.last = sample = Sample(prompt)
        decoder, waiting = StreamDecoder(self.tokenizer), ""
        # A stop string may arrive in pieces: hold back as much as could be the beginning of one.
        held = max((len(stop) for stop in settings.stop), default=1) - 1
        started = time.perf_counter()
        try:
            ends = (self.tokenizer.end_of_text, self.tokenizer.end)
            for token in self._tokens(ids, settings):
                if token in ends:
                    sample.finish_reason = "end"
                    break
                sample.tokens += 1
                waiting += decoder.add(token)
                found = [at for stop in settings.stop if stop and (at := waiting.find(stop)) >= 0]
                if found:
                    sample.finish_reason, waiting, held = "stop", waiting[: min(found)], 0
                    break
                ready, waiting = waiting[: len(waiting) - held], waiting[len(waiting) - held :]
                if ready:
                    sample.text += ready
                    yield ready
            if sample.finish_reason != "stop":
                waiting += decoder.finish()
            if waiting:
                sample.text += waiting
                yield waiting
        finally:
            sample.tokens_per_s = sample.tokens / max(time.perf_counter() - started, 1e-9)

    def _tokens(self, ids: list[int], settings: GenerationSettings) -> Iterator[int]:
        kind = self.device.kind
        generator = torch.Generator(kind if kind == "cuda" else "cpu")
        generator.manual_seed(secrets.randbits(63) if settings.seed is None else settings.seed)
        prompt = torch.tensor([ids], device=kind)
        # Who speaks is decided by the conversation, not by the model; the other two say nothing at all.
        marks = (self.tokenizer.user, self.tokenizer.assistant, self.tokenizer.unknown, self.tokenizer.pad)
        suppressed = [mark for mark in marks if mark is not None]
        tokens = generate_tokens(self.network, prompt, settings, generator if kind != "mps" else None, suppressed)
        threads = self.threads
        for _ in range(settings.max_new_tokens):
            with threads_at_most(threads):
                token = int(next(tokens))
            yield token

    @torch.inference_mode()
    def predict(self, prompt: str, top: int = 10) -> list[tuple[int, float]]:
        """Return the likeliest next tokens as (id, probability), likeliest first."""
        ids = self.encode_prompt(prompt)[-self.network.config.max_seq_len :]
        logits = self.network(torch.tensor([ids], device=self.device.kind), last_only=True)[0, -1]
        probabilities = logits.float().softmax(dim=-1)
        values, indices = probabilities.topk(min(top, len(probabilities)))
        return list(zip(indices.tolist(), values.tolist(), strict=True))
