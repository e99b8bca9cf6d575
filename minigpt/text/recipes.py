"""Which tokenizer a corpus gets: one that is given, or one that is learned from its training split."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minigpt.tasks import Task
from minigpt.text.splits import SPLITS, SplitPlan
from minigpt.text.tokenizer import Tokenizer
from minigpt.text.tokenizer_kinds import Kind, choose_kind, fitting_vocab_size
from minigpt.text.tokenizer_training import learning_sample, watched


@dataclass(frozen=True)
class TokenizerRecipe:
    """A tokenizer that is given, or how to train one; `note` says in a sentence which and why."""

    given: Tokenizer | None
    kind: Kind | None
    vocab_size: int
    note: str

    @classmethod
    def choose(cls, given: Tokenizer | None, kind: str, vocab_size: int, characters: int) -> TokenizerRecipe:
        if given is not None:
            return cls(given, None, given.vocab_size, f"Tokenizer: {given.kind}, as given.")
        chosen, note = choose_kind(kind, characters)
        if chosen == "char":
            return cls(None, chosen, 0, note)
        fitting = fitting_vocab_size(vocab_size, characters) if chosen == "bpe" else vocab_size
        if fitting < vocab_size:
            note += f" Its vocabulary is {fitting:,} instead of {vocab_size:,}, because rarer tokens are not learned."
        return cls(None, chosen, fitting, note)

    @property
    def key(self) -> Any:
        """What the tokens depend on."""
        return self.given.to_json() if self.given else [self.kind, self.vocab_size]

    def make(self, plans: Sequence[SplitPlan], task: Task) -> Tokenizer:
        """Return the tokenizer, learned from the training splits of all plans where none was given.

        char learns from all splits, so that no character of the validation part is unknown.
        """
        if self.given is not None:
            return self.given
        assert self.kind is not None
        characters = sum(plan.characters for plan in plans)
        splits: Sequence[str] = SPLITS if self.kind == "char" else ("train",)
        phase = "reading characters" if self.kind == "char" else "training the tokenizer"
        texts = watched(itertools.chain.from_iterable(plan.texts(splits) for plan in plans), characters, phase, task)
        if self.kind != "char":
            texts = learning_sample(texts, characters)
        return Tokenizer.train(self.kind, texts, self.vocab_size)
