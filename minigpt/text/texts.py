"""What a run learns from: its corpus, or the several of its mixture, cut into tokens by one tokenizer.

texts = gather(workspace, find_corpora(workspace, config), config)
inputs, targets = texts.windows(config, seq_len=256).batch(position, 16)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minigpt.config import Config
from minigpt.errors import UserError, printable
from minigpt.tasks import NOBODY, Task
from minigpt.text.corpora import resolve
from minigpt.text.corpus import Corpus
from minigpt.text.mixture import Mixture, parse_mixture
from minigpt.text.prepare import prepare_for, train_tokenizer
from minigpt.text.prepared import Prepared
from minigpt.text.shards import TokenSplit
from minigpt.text.storage import shown
from minigpt.text.tokenizer import Tokenizer
from minigpt.text.tokenizer_facts import tokenizer_path
from minigpt.text.windows import Windows
from minigpt.workspace import Workspace


def find_corpora(workspace: Workspace, config: Config) -> list[Corpus]:
    """Return the corpora that a configuration names: those of its mixture, else the one.

    Raises UserError when one is not there, or comes twice.
    """
    if not config.corpus.mixture:
        return [resolve(workspace, config.corpus.name)]
    corpora: list[Corpus] = []
    for name, _ in parse_mixture(config.corpus.mixture):
        corpus = resolve(workspace, name)
        if any(corpus.directory.samefile(other.directory) for other in corpora):
            raise UserError(
                f"corpus.mixture names {printable(corpus.name)} twice: name it once, with the sum of its weights."
            )
        corpora.append(corpus)
    return corpora


@dataclass(frozen=True)
class Texts:
    """The corpora of a run, all cut into tokens by one tokenizer; `note` says which tokenizer, and why.

    `weights` are theirs in the mixture, [1.0] for a lone corpus.
    """

    prepared: list[Prepared]
    weights: list[float]
    note: str

    @property
    def name(self) -> str:
        return joint_name([prepared.corpus for prepared in self.prepared])

    @property
    def tokenizer(self) -> Tokenizer:
        return self.prepared[0].tokenizer

    @property
    def conversations(self) -> bool:
        return any(prepared.conversations for prepared in self.prepared)

    @property
    def separated(self) -> bool:
        """Whether documents follow one another somewhere, each begun by the end of another."""
        return any(not prepared.corpus.is_lone_text for prepared in self.prepared)

    @property
    def content_hash(self) -> str:
        return joint_hash([prepared.corpus for prepared in self.prepared])

    def windows(self, config: Config, seq_len: int) -> Windows | Mixture:
        """Return the training stream; raises UserError where a corpus is too small (or too large) for it."""
        names = [prepared.corpus.name for prepared in self.prepared]
        if len(names) == 1:
            return self._windows_of(self.prepared[0].split("train"), config, seq_len, config.training.seed)
        parts = []
        for number, (name, prepared) in enumerate(zip(names, self.prepared, strict=True)):
            split = TokenSplit(prepared.split("train").shards, f"{name} train")
            # Each its own seed: corpora of one size are not to be read in one order.
            parts.append(self._windows_of(split, config, seq_len, (config.training.seed + number) % 2**63))
        return Mixture(parts, names, self.weights, config.training.seed)

    def _windows_of(self, split: TokenSplit, config: Config, seq_len: int, seed: int) -> Windows:
        settings, end_of_text = config.corpus, self.tokenizer.end_of_text
        if settings.shuffle_documents and end_of_text is None:
            raise UserError(
                "corpus.shuffle_documents needs to know where documents end, and this tokenizer has no end-of-text "
                "token: switch it off."
            )
        return Windows(
            split,
            seq_len,
            seed,
            random_offsets=settings.random_offsets,
            end_of_text=end_of_text if settings.shuffle_documents else None,
        )

    @property
    def notes(self) -> list[str]:
        """What is to be said of the tokenizer, and of what cleaning has left out."""
        several = len(self.prepared) > 1
        cleaned = [
            f"{prepared.corpus.name}: {note}" if several else note
            for prepared in self.prepared
            for note in prepared.notes
        ]
        return [f"{self.note} Vocabulary: {self.tokenizer.vocab_size:,} tokens.", *cleaned]

    def split(self, name: str, first: int | None = None) -> TokenSplit:
        """Return one split of all corpora together.

        Its `first` tokens are of all corpora, as many of each as its part of all validation text, so that whoever
        looks no further has seen all, and has seen the same of each split.
        """
        splits = [prepared.split(name) for prepared in self.prepared]
        if len(splits) == 1 or not first:
            return TokenSplit([shard for split in splits for shard in split.shards], name)
        sizes = [prepared.tokens["validation"] for prepared in self.prepared]
        if not any(sizes):
            sizes = [split.tokens for split in splits]
        heads, rests = [], []
        for split, size in zip(splits, sizes, strict=True):
            left = 1 + first * size // max(1, sum(sizes))  # the first token is not predicted
            for shard in split.shards:
                heads.append(shard[:left])
                rests.append(shard[left:])
                left -= len(heads[-1])
        return TokenSplit([piece for piece in (*heads, *rests) if len(piece)], name)


def gather(
    workspace: Workspace,
    corpora: Sequence[Corpus],
    config: Config,
    tokenizer_json: str | None = None,
    task: Task = NOBODY,
) -> Texts:
    """Cut corpora that a configuration names into tokens: by a model's tokenizer (its JSON) where one is given.

    Else by the one of tokenizer.file; else corpora that are mixed get that of the first one that came as tokens, or one
    that is learned from all of them. Raises UserError.
    """
    weights = [1.0] if len(corpora) == 1 else [weight for _, weight in parse_mixture(config.corpus.mixture)]
    note = ""
    if tokenizer_json is None and config.tokenizer.file:
        path = tokenizer_path(workspace, config.tokenizer.file)
        tokenizer_json = Tokenizer.load(path).to_json()
        note = f"Tokenizer: that of {shown(path)}."
    if tokenizer_json is None and len(corpora) > 1:
        tokenizer, note = _joint_tokenizer(corpora, config, task)
        tokenizer_json = tokenizer.to_json()
    prepared = [prepare_for(corpus, config, tokenizer_json, task=task) for corpus in corpora]
    return Texts(prepared, weights, note or prepared[0].tokenizer_note)


def _joint_tokenizer(corpora: Sequence[Corpus], config: Config, task: Task) -> tuple[Tokenizer, str]:
    for corpus in corpora:
        own = corpus.tokenizer()
        if own is not None:
            return own, f"Tokenizer: {own.kind}, which {printable(corpus.name)} came with."
    return train_tokenizer(corpora, config, task)


def joint_name(corpora: Sequence[Corpus]) -> str:
    """Return what a run's text is called: stories+facts."""
    return "+".join(corpus.name for corpus in corpora)


def joint_hash(corpora: Sequence[Corpus]) -> str:
    """Return what tells whether the text is still the same."""
    return "+".join(corpus.manifest.content_hash for corpus in corpora)
