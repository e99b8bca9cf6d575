"""What a session trains on: the corpora that its configuration names, as text for the trainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import msgspec

from minigpt.config import Config
from minigpt.errors import UserError
from minigpt.model.gpt import GPTConfig
from minigpt.text.corpus import Corpus
from minigpt.text.ladder import Ladder, ladder
from minigpt.text.mixture import Mixture
from minigpt.text.prepared import Prepared
from minigpt.text.shards import TokenSplit
from minigpt.text.texts import Texts, find_corpora, joint_hash, joint_name
from minigpt.text.tokenizer import Tokenizer
from minigpt.text.tokenizer_facts import tokenizer_path
from minigpt.text.tokenizer_kinds import KINDS
from minigpt.text.windows import Windows
from minigpt.training.plan import Plan
from minigpt.training.resuming import fork_command
from minigpt.workspace import Workspace


@dataclass(frozen=True)
class TrainingText:
    """What a run learns from, as tokens, and what it is shown on the way."""

    tokenizer: Tokenizer
    windows: Windows | Mixture
    train: TokenSplit
    validation: TokenSplit
    conversations: bool
    separated: bool  # many documents, rather than one
    prompts: tuple[str, ...]
    content_hash: str

    @cached_property
    def ladder(self) -> Ladder | None:
        """How well the simplest models predict it, to judge losses by."""
        return ladder(self.train, self.validation, self.tokenizer.vocab_size)


def told_corpora(workspace: Workspace, config: Config, say: Callable[[str], None]) -> list[Corpus]:
    """Return the corpora that a configuration names, having said what was done to find them. Raises UserError."""
    corpora = find_corpora(workspace, config)
    for corpus in corpora:
        if corpus.note:
            say(corpus.note)
    return corpora


def require_unchanged(corpora: list[Corpus], before: str, directory: Path) -> None:
    """Raise UserError unless the text is what it was (by its joint hash then) when the run in `directory` was saved."""
    if joint_hash(corpora) == before:
        return
    pairs = zip(corpora, before.split("+"), strict=False)
    changed = [corpus for corpus, content_hash in pairs if corpus.manifest.content_hash != content_hash]
    raise UserError(
        f"The corpus {joint_name(changed)} has changed since this run was saved, so it cannot go on as if nothing had "
        f"happened: bring the old text back, or start anew with {fork_command(directory)}."
    )


def resolved(workspace: Workspace, config: Config, texts: Texts, shape: GPTConfig) -> Config:
    """Return the configuration with everything decided that was left open: enough to repeat the run."""
    names = [_found_again(workspace, prepared.corpus) for prepared in texts.prepared]
    # A mixture is found again by its entries; its name is for people.
    weights = [entry.rpartition(":")[2] for entry in config.corpus.mixture]
    mixture = [f"{name}:{weight}" for name, weight in zip(names, weights, strict=True)] if weights else []
    tokenizer, kind = config.tokenizer, texts.tokenizer.kind
    file = str(tokenizer_path(workspace, tokenizer.file).absolute()) if tokenizer.file else ""
    return msgspec.structs.replace(
        config,
        corpus=msgspec.structs.replace(config.corpus, name=texts.name if mixture else names[0], mixture=mixture),
        tokenizer=msgspec.structs.replace(tokenizer, kind=kind if kind in KINDS else tokenizer.kind, file=file),
        model=shape.to_settings(),
    )


def _found_again(workspace: Workspace, corpus: Corpus) -> str:
    return corpus.name if corpus.directory.parent == workspace.data else str(corpus.directory.absolute())


def training_text(texts: Texts, config: Config, windows: Windows | Mixture, plan: Plan) -> TrainingText:
    """Return what the trainer reads, evaluates on and samples from."""
    prompts = chain.from_iterable(map(_prompts, texts.prepared))
    return TrainingText(
        tokenizer=texts.tokenizer,
        windows=windows,
        train=texts.split("train", plan.eval_tokens),
        validation=texts.split("validation", plan.eval_tokens),
        conversations=texts.conversations,
        separated=texts.separated,
        prompts=tuple(config.training.sample_prompts) or tuple(dict.fromkeys(prompts)),
        content_hash=texts.content_hash,
    )


def _prompts(prepared: Prepared) -> tuple[str, ...]:
    """Return beginnings to sample from: the built-in corpus has its own, other text gives its first words."""
    from minigpt.text import sample

    if any(source.kind == "sample" for source in prepared.corpus.manifest.sources):
        return sample.prompts()
    split = prepared.split("validation")
    if split.tokens < 2:
        split = prepared.split("train")
    opening = prepared.tokenizer.decode(split.read(0, 64)).strip()
    return (" ".join(opening.split()[:4]) or opening,)
