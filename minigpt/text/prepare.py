"""From a corpus to token shards, once: `prepare` tokenises it or finds it done.

prepared = prepare_for(resolve(workspace, "sample"), config)
prepared.split("train").read(0, 1000)

The shards lie in `data/<corpus>/shards/<key>/`, where the key is the hash of all that they depend on; `shards.toml`
says what they are, and the tokenizer.json beside them is the one that made them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from minigpt.config import Config, CorpusSettings
from minigpt.errors import JobFailed, UserError
from minigpt.lock import LOCK, RunLock
from minigpt.reserve import is_full
from minigpt.tasks import NOBODY, Task
from minigpt.text.building import JOURNAL, Dropout, build
from minigpt.text.cleaning import Cleaned, plan_cleaning, plan_cleaning_of_text
from minigpt.text.cleaning_report import CleaningSettings
from minigpt.text.corpus import Corpus
from minigpt.text.duplicates import across_splits
from minigpt.text.prepared import Prepared, ShardsManifest, complete_manifest, write_manifest
from minigpt.text.pretokenised import link_shards
from minigpt.text.recipes import TokenizerRecipe
from minigpt.text.shard_writer import SHARD_TOKENS
from minigpt.text.splits import SplitPlan
from minigpt.text.storage import fsync_tree, scratch_directory, shown, write_file
from minigpt.text.tokenizer import Tokenizer
from minigpt.workspace import make_folder, sync_folder

CLEANED, DECIDED = "cleaned", "decided"
# Raised whenever the same settings give other shards than before.
_FORMAT_VERSION = 2
_LOOK_SECONDS = 0.2
_KEPT_SECONDS = 7 * 86400


def prepare(
    corpus: Corpus,
    *,
    tokenizer_kind: str,
    vocab_size: int,
    validation_fraction: float,
    test_fraction: float,
    tokenizer: Tokenizer | None = None,
    cleaning: CleaningSettings | None = None,
    dropout: Dropout | None = None,
    task: Task = NOBODY,
    shard_tokens: int = SHARD_TOKENS,
) -> Prepared:
    """Return the corpus's token shards, making them when they are not there or anything they depend on changed.

    A lone text is split by position: train first, then validation, then test, without joins. Several documents are
    split by a hash of what each says, so that a document stays in its split when others are added. Without a
    `tokenizer` one is trained: char on the whole corpus (so that no character of the validation part is unknown), word
    and bpe on the train split. A process that was killed loses one shard at most. Raises UserError when the fractions
    leave nothing to train on, the vocabulary is too small or there is no room, JobFailed when the disk fills up.
    """
    if not (validation_fraction >= 0 and test_fraction >= 0 and validation_fraction + test_fraction < 1):
        raise UserError(
            f"validation_fraction {validation_fraction} and test_fraction {test_fraction} leave nothing to train on: "
            "choose fractions from 0 to 1 that add up to less than 1."
        )
    recipe = _recipe(corpus, tokenizer, tokenizer_kind, vocab_size)
    kind = recipe.given.kind if recipe.given else recipe.kind
    if dropout and dropout.share and kind != "bpe":
        raise UserError(
            f"corpus.bpe_dropout skips merges of a bpe tokenizer, and this one is {kind}: set it to 0, or choose "
            "tokenizer.kind bpe."
        )
    job = _Preparation(
        corpus,
        recipe,
        (validation_fraction, test_fraction),
        cleaning or CleaningSettings(),
        dropout or Dropout(),
        shard_tokens,
    )
    if complete_manifest(job.directory) is None:
        job.run(task)
    else:
        with suppress(OSError):  # a folder that is not ours to write in
            (job.directory / LOCK).unlink(missing_ok=True)  # of a process that was killed at the very end
    return Prepared.open(job.directory, corpus, recipe.note)


def prepare_for(corpus: Corpus, config: Config, tokenizer_json: str | None = None, task: Task = NOBODY) -> Prepared:
    """Tokenise a corpus as a configuration says, with a tokenizer of its own or (its JSON) that of a model."""
    settings = config.tokenizer
    fractions = config.corpus.validation_fraction, config.corpus.test_fraction
    tokenizer = None
    if tokenizer_json is not None:
        # The shards that the model was trained on are under the key of a trained tokenizer, if they are here.
        directory, note = shards_directory(corpus, config)
        if complete_manifest(directory) is not None:
            found = Prepared.open(directory, corpus, note)
            if found.tokenizer.to_json() == tokenizer_json:
                return found
        tokenizer = Tokenizer.from_json(tokenizer_json)
    return prepare(
        corpus,
        tokenizer_kind=settings.kind,
        vocab_size=settings.vocab_size,
        validation_fraction=fractions[0],
        test_fraction=fractions[1],
        tokenizer=tokenizer,
        cleaning=CleaningSettings.of(config.corpus),
        dropout=_dropout(config.corpus),
        task=task,
    )


def shards_directory(corpus: Corpus, config: Config) -> tuple[Path, str]:
    """Return where the shards of a configuration with a tokenizer of its own are, once made, and why it is that one."""
    recipe = _recipe(corpus, None, config.tokenizer.kind, config.tokenizer.vocab_size)
    fractions = config.corpus.validation_fraction, config.corpus.test_fraction
    cleaning, dropout = CleaningSettings.of(config.corpus), _dropout(config.corpus)
    return _Preparation(corpus, recipe, fractions, cleaning, dropout, SHARD_TOKENS).directory, recipe.note


def train_tokenizer(corpora: Sequence[Corpus], config: Config, task: Task = NOBODY) -> tuple[Tokenizer, str]:
    """Return one tokenizer for several corpora, learned from all of their training splits, and why it is this one."""
    with ExitStack() as stack:
        plans = [stack.enter_context(_plan_of(corpus, config.corpus, task)) for corpus in corpora]
        characters = sum(plan.characters for plan in plans)
        recipe = TokenizerRecipe.choose(None, config.tokenizer.kind, config.tokenizer.vocab_size, characters)
        return recipe.make(plans, task), recipe.note


@contextmanager
def _plan_of(corpus: Corpus, settings: CorpusSettings, task: Task) -> Iterator[SplitPlan]:
    """Plan the splits of a corpus as it is after cleaning, without making any shards."""
    cleaning = CleaningSettings.of(settings)
    with scratch_directory(corpus.directory / "plan") as scratch:
        cleaned = _decide(corpus, cleaning, scratch, task) if cleaning.any else None
        yield SplitPlan(corpus, settings.validation_fraction, settings.test_fraction, cleaned)


def _decide(corpus: Corpus, cleaning: CleaningSettings, scratch: Path, task: Task) -> Cleaned:
    if corpus.is_lone_text:
        return plan_cleaning_of_text(corpus.text_blocks, cleaning, task)
    return plan_cleaning(corpus.documents, cleaning, scratch, task, total=corpus.manifest.documents)


def held_out_notes(corpus: Corpus, settings: CorpusSettings, task: Task = NOBODY) -> list[str]:
    """Return, in words, how much of what is held out stands in the training text too. A reading of its own."""
    if corpus.is_tokenised:
        return []
    with _plan_of(corpus, settings, task) as plan:
        return across_splits(plan.whole_parts, task, lone=plan.lone).in_words()


def _recipe(corpus: Corpus, given: Tokenizer | None, kind: str, vocab_size: int) -> TokenizerRecipe:
    own = corpus.tokenizer()
    if own is not None and (given is None or given.to_json() == own.to_json()):
        return TokenizerRecipe(own, None, own.vocab_size, f"Tokenizer: {own.kind}, which the corpus came with.")
    return TokenizerRecipe.choose(given, kind, vocab_size, corpus.manifest.characters)


def _dropout(settings: CorpusSettings) -> Dropout:
    return Dropout(settings.bpe_dropout, settings.bpe_dropout_copies) if settings.bpe_dropout else Dropout()


@dataclass(frozen=True)
class _Preparation:
    """All that the shards depend on."""

    corpus: Corpus
    recipe: TokenizerRecipe
    fractions: tuple[float, float]
    cleaning: CleaningSettings
    dropout: Dropout
    shard_tokens: int

    @property
    def key(self) -> str:
        readings = [[source.reading.split, source.reading.field] for source in self.corpus.manifest.sources]
        cleaning = msgspec.structs.astuple(self.cleaning)
        settings = [_FORMAT_VERSION, self.corpus.manifest.content_hash, readings, self.fractions, cleaning]
        settings += [self.dropout.share, self.dropout.copies if self.dropout.share else 1, self.recipe.key]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]

    @property
    def directory(self) -> Path:
        return self.corpus.directory / "shards" / self.key

    def run(self, task: Task) -> None:
        """Make the shards, alone: another process that makes the same ones is waited for."""
        folder = self.directory.with_name(f".{self.directory.name}.building")
        while complete_manifest(self.directory) is None:
            lock = RunLock(folder)
            try:
                make_folder(folder)
                mine = lock.acquire()
            except FileNotFoundError:
                continue  # the other one has finished and moved the folder away
            if not mine:
                task.report("waiting for another process that prepares the same text")
                time.sleep(_LOOK_SECONDS)
                continue
            try:
                self._make(folder, task)
            except OSError as error:
                if is_full(error):
                    raise JobFailed(
                        f"The disk is full: free some space where {shown(self.corpus.directory)} lies and start again; "
                        "what is done is kept."
                    ) from error
                raise
            except UserError:
                # Refused rather than broken off: nobody will go on with it as it is.
                shutil.rmtree(folder, ignore_errors=True)
                raise
            finally:
                lock.release()
        shutil.rmtree(folder, ignore_errors=True)

    def _make(self, folder: Path, task: Task) -> None:
        if self.directory.exists():
            if complete_manifest(self.directory) is not None:
                return
            shutil.rmtree(self.directory)  # shards get their name when they are whole: these were damaged later
        _remove_other_attempts(folder)
        if complete_manifest(folder) is None:
            self._write_shards(folder, task)
        shutil.rmtree(folder / CLEANED, ignore_errors=True)
        (folder / JOURNAL).unlink(missing_ok=True)
        for leftover in folder.glob(".*.part"):  # of a killed process: no other one is at work here
            leftover.unlink()
        fsync_tree(folder)
        folder.rename(self.directory)
        sync_folder(self.directory.parent)
        # Not before: whoever waits would make a new one and begin again.
        (self.directory / LOCK).unlink(missing_ok=True)

    def _write_shards(self, folder: Path, task: Task) -> None:
        notes: list[str] = []
        if self._as_it_is():
            records = link_shards(self.corpus, folder, *self.fractions, task)
        else:
            plan = SplitPlan(self.corpus, *self.fractions, self._cleaned(folder, task))
            notes = plan.cleaned.report.in_words() if plan.cleaned else []
            records = build(folder, plan, self.recipe, self.dropout, task, self.shard_tokens)
        # By the manifest, a later process knows that nothing is left to do: the shards' names must be there first.
        fsync_tree(folder)
        write_manifest(folder, ShardsManifest(records, notes))

    def _as_it_is(self) -> bool:
        """Whether the corpus came as tokens of just this tokenizer."""
        own, given = self.corpus.tokenizer(), self.recipe.given
        changed = self.cleaning.any or self.dropout.share > 0
        return own is not None and given is not None and given.to_json() == own.to_json() and not changed

    def _cleaned(self, folder: Path, task: Task) -> Cleaned | None:
        if not self.cleaning.any:
            return None
        decisions = folder / CLEANED
        if not (decisions / DECIDED).exists():
            shutil.rmtree(decisions, ignore_errors=True)
            decisions.mkdir()
            cleaned = _decide(self.corpus, self.cleaning, decisions, task)
            cleaned.save(decisions)
            write_file(decisions / DECIDED, b"")
        cleaned = Cleaned.load(decisions)
        if cleaned.report.kept == 0:
            raise UserError(
                f"Cleaning leaves nothing of {self.corpus.name}: lower corpus.min_characters or set "
                "corpus.deduplicate to off."
            )
        return cleaned


def _remove_other_attempts(folder: Path) -> None:
    """Remove what killed processes left of other shards long ago; what one at work is making stays."""
    for other in folder.parent.glob(".*.building"):
        if other == folder or time.time() - other.stat().st_mtime < _KEPT_SECONDS:
            continue
        lock = RunLock(other)
        if lock.acquire():
            shutil.rmtree(other, ignore_errors=True)
            lock.release()
