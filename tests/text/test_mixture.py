from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from minigpt.config import Config
from minigpt.errors import UserError
from minigpt.presets import with_values
from minigpt.text.mixture import Mixture, largest_remainder, parse_mixture, remarks
from minigpt.text.shards import TokenSplit
from minigpt.text.texts import Texts, find_corpora, gather
from minigpt.text.tokenizer import Tokenizer
from minigpt.text.windows import Windows
from minigpt.workspace import Workspace
from tests.text import reference


def part(number: int, windows: int, seq_len: int = 2) -> Windows:
    """A corpus of so many windows, whose tokens say which corpus and where in it."""
    tokens = (number * 10_000 + np.arange(windows * seq_len + 1)).astype(np.uint32)
    return Windows(TokenSplit([tokens], f"corpus {number} train"), seq_len, number)


def make_mixture(windows: list[int], weights: list[float], seed: int = 0) -> Mixture:
    parts = [part(number, count) for number, count in enumerate(windows)]
    return Mixture(parts, [f"corpus {number}" for number in range(len(parts))], weights, seed)


# The stream


@pytest.mark.parametrize("weights", [[0.7, 0.3], [1, 1, 1], [1e9, 5e8, 3e9], [0.123, 2.5, 0.01, 7]])
def test_within_each_block_the_shares_are_exact(weights: list[float]) -> None:
    mixture = make_mixture([40, 50, 60, 70][: len(weights)], weights)
    assert sum(mixture.shares) == 1
    for share, weight in zip(mixture.shares, weights, strict=True):
        assert abs(share - weight / sum(weights)) < 1 / mixture.block
    for block in range(5):
        corpora, _ = mixture.order(block * mixture.block, mixture.block)
        assert np.bincount(corpora).tolist() == mixture.counts


def test_of_each_corpus_its_own_stream_is_read_in_order() -> None:
    mixture = make_mixture([40, 700], [0.75, 0.25])
    inputs, targets = mixture.batch(0, 3000)
    for number, own in enumerate(mixture.parts):
        rows = inputs[:, 0] // 10_000 == number
        expected = own.batch(0, int(rows.sum()))
        assert np.array_equal(inputs[rows], expected[0])
        assert np.array_equal(targets[rows], expected[1])


@pytest.mark.parametrize("sizes", [[1] * 50, [700, 700, 1, 2100, 499], [2500, 1500]])
def test_the_stream_depends_on_the_position_alone(sizes: list[int]) -> None:
    whole = make_mixture([40, 50, 300], [3, 2, 1]).batch(0, 4000)
    parted, position = make_mixture([40, 50, 300], [3, 2, 1]), 0
    for size in sizes:
        for ours, expected in zip(parted.batch(position, size), whole, strict=True):
            assert np.array_equal(ours, expected[position : position + size])
        position += size


@pytest.mark.parametrize("position", [0, 1, 1023, 1024, 2047, 3999])
def test_from_any_position_it_goes_on_as_if_it_had_not_stopped(position: int) -> None:
    whole = make_mixture([40, 50, 300], [3, 2, 1]).batch(0, 5000)
    resumed = make_mixture([40, 50, 300], [3, 2, 1]).batch(position, 1000)
    assert np.array_equal(resumed[0], whole[0][position : position + 1000])
    assert np.array_equal(resumed[1], whole[1][position : position + 1000])


@pytest.mark.parametrize("seed", [0, 42, 2**63 - 1])
def test_the_pattern_is_what_the_reference_says(seed: int) -> None:
    mixture = make_mixture([40, 50, 60], [0.2, 0.5, 0.3], seed)
    corpora, windows = mixture.order(0, 2500)
    assert list(zip(corpora.tolist(), windows.tolist(), strict=True)) == reference.mixture([205, 512, 307], seed, 2500)


def test_no_block_is_laid_out_like_another() -> None:
    mixture = make_mixture([40, 50], [1, 1])
    patterns = {tuple(mixture.order(block * 1024, 1024)[0].tolist()) for block in range(5)}
    assert len(patterns) == 5
    assert tuple(make_mixture([40, 50], [1, 1], seed=1).order(0, 1024)[0].tolist()) not in patterns


def test_no_windows_are_no_trouble() -> None:
    inputs, targets = make_mixture([40, 50], [1, 1]).batch(5, 0)
    assert inputs.shape == targets.shape == (0, 2)


def test_an_epoch_is_as_many_windows_as_all_have() -> None:
    mixture = make_mixture([100, 300], [0.75, 0.25])
    assert mixture.count == 400
    assert mixture.epoch_at(600) == 1.5
    assert mixture.epochs_of_parts(800) == [6.0, pytest.approx(2 / 3)]


@pytest.mark.parametrize("total", [1, 7, 1024])
@pytest.mark.parametrize("weights", [[1.0], [0.1] * 10, [3, 3, 1], [1e-9, 1], [0.7, 0.2, 0.1]])
def test_the_rest_goes_to_the_largest_fractions(weights: list[float], total: int) -> None:
    counts = largest_remainder(weights, total)
    assert sum(counts) == total
    quotas = [Fraction(weight) * total / sum(map(Fraction, weights)) for weight in weights]
    assert all(count in (int(quota), int(quota) + 1) for count, quota in zip(counts, quotas, strict=True))
    rounded_up = [quota % 1 for count, quota in zip(counts, quotas, strict=True) if count > quota]
    rounded_down = [quota % 1 for count, quota in zip(counts, quotas, strict=True) if count <= quota]
    assert not rounded_up or min(rounded_up) >= max(rounded_down)


def test_a_small_share_has_larger_blocks() -> None:
    mixture = make_mixture([40, 50], [999, 1])
    assert mixture.block == 8192
    assert mixture.counts == [8184, 8]


def test_next_to_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"weight of corpus 1 .* less than one window in 65,536"):
        make_mixture([40, 50], [1e9, 1])


# What is worth a word


def test_it_is_said_how_often_each_corpus_is_read() -> None:
    ((severity, code, message),) = remarks(make_mixture([100, 300], [0.75, 0.25]), 800)
    assert (severity, code) == ("info", "mixture")
    assert message == "Mixture: corpus 0 75% (6 epochs of it), corpus 1 25% (0.667 epochs of it)."


def test_a_small_corpus_that_is_read_fifty_times_deserves_a_word() -> None:
    told = list(remarks(make_mixture([10, 1000], [0.5, 0.5]), 1000))
    assert [(severity, code) for severity, code, _ in told] == [("info", "mixture"), ("warning", "corpus-repeated")]
    assert "All of corpus 0 is read 50 times" in told[1][2]


def test_one_document_cannot_be_shuffled_and_it_is_said() -> None:
    windows = Windows(TokenSplit([np.arange(30)], "train"), 4, 0, end_of_text=99)
    ((_, code, message),) = remarks(windows, 100)
    assert code == "nothing-to-shuffle"
    assert "the train split is one document" in message


# What a person writes


def test_weights_are_any_positive_numbers() -> None:
    assert parse_mixture(["a:2", "b:0.5", "/some:where/c.txt:1e3"]) == [
        ("a", 2),
        ("b", 0.5),
        ("/some:where/c.txt", 1000),
    ]


@pytest.mark.parametrize(
    "entry", ["facts", "facts:", ":1", "facts:much", "facts:0", "facts:-1", "facts:nan", "facts:inf"]
)
def test_what_is_no_name_and_weight_is_refused(entry: str) -> None:
    with pytest.raises(UserError, match=r"corpus\.mixture: .* not NAME:WEIGHT .* stories:0\.7"):
        parse_mixture(["stories:1", entry])


def test_a_mixture_of_one_is_refused() -> None:
    with pytest.raises(UserError, match="'stories', and a mixture takes two or more"):
        parse_mixture(["stories:1"])


# From corpora to tokens


STORIES = "the cat sees the dog and the dog sees the cat again. "
FACTS = "7 × 6 = 42; "


@pytest.fixture
def two(tmp_path: Path) -> Workspace:
    """A workspace beside two texts, stories.txt and facts.txt."""
    (tmp_path / "stories.txt").write_text(STORIES * 40)
    (tmp_path / "facts.txt").write_text(FACTS * 30)
    workspace = Workspace(tmp_path)
    workspace.require_writable()
    return workspace


def config_of(workspace: Workspace, *entries: str, **changes: object) -> Config:
    mixture = [str(workspace.root / entry) for entry in entries or ("stories.txt:0.7", "facts.txt:0.3")]
    values = {key.replace("__", "."): value for key, value in changes.items()}
    fractions = {"corpus.validation_fraction": 0.2, "corpus.test_fraction": 0.1, "tokenizer.kind": "char"}
    return with_values(Config(), {"corpus.mixture": mixture, **fractions, **values}, "test")


def texts_of(workspace: Workspace, config: Config) -> Texts:
    return gather(workspace, find_corpora(workspace, config), config)


def test_one_tokenizer_knows_the_characters_of_all(two: Workspace) -> None:
    texts = texts_of(two, config_of(two))
    assert texts.name == "stories+facts"
    assert len({prepared.tokenizer.to_json() for prepared in texts.prepared}) == 1
    for text in (STORIES, FACTS):
        assert texts.tokenizer.decode(texts.tokenizer.encode(text)) == text


def test_the_same_shards_serve_the_same_mixture_again(two: Workspace) -> None:
    directories = [prepared.directory for prepared in texts_of(two, config_of(two)).prepared]
    other_weights = config_of(two, "stories.txt:1", "facts.txt:9")
    assert [prepared.directory for prepared in texts_of(two, other_weights).prepared] == directories


def test_windows_of_a_mixture_come_from_its_corpora_by_their_weights(two: Workspace) -> None:
    config = config_of(two)
    texts = texts_of(two, config)
    windows = texts.windows(config, 8)
    assert isinstance(windows, Mixture)
    inputs, _ = windows.batch(0, 1024)
    digits = [("=" in (text := texts.tokenizer.decode(row)) or "×" in text) for row in inputs]
    assert sum(digits) == 307 == windows.counts[1]


def test_corpora_of_one_size_are_read_in_different_orders(two: Workspace) -> None:
    (two.root / "tales.txt").write_text(STORIES.upper() * 40)
    config = config_of(two, "stories.txt:1", "tales.txt:1")
    windows = texts_of(two, config).windows(config, 8)
    assert isinstance(windows, Mixture)
    first, second = windows.parts
    assert first.count == second.count
    assert first.order(0, first.count).tolist() != second.order(0, first.count).tolist()


def test_settings_for_little_text_reach_every_corpus(two: Workspace) -> None:
    config = config_of(two, corpus__random_offsets=True, corpus__shuffle_documents=True)
    windows = texts_of(two, config).windows(config, 8)
    assert isinstance(windows, Mixture)
    assert all(part.random_offsets and part.documents is not None for part in windows.parts)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_splits_together_hold_all_tokens_once(two: Workspace, split: str) -> None:
    texts = texts_of(two, config_of(two))
    whole = [prepared.split(split).read(0, 10**6) for prepared in texts.prepared]
    assert np.array_equal(texts.split(split).read(0, 10**6), np.concatenate(whole))
    looked_at = texts.split(split, 100)
    assert looked_at.name == split
    assert sorted(looked_at.read(0, 10**6).tolist()) == sorted(np.concatenate(whole).tolist())


def test_the_first_tokens_of_a_split_are_of_all_corpora(two: Workspace) -> None:
    texts = texts_of(two, config_of(two))
    sizes = [prepared.tokens["validation"] for prepared in texts.prepared]
    for split in ("train", "validation"):
        heads = [len(shard) for shard in texts.split(split, 60).shards[:2]]
        assert heads == [1 + 60 * size // sum(sizes) for size in sizes]


def test_a_tokenizer_may_be_given(two: Workspace) -> None:
    path = two.root / "other.json"
    Tokenizer.train("char", ["abcdefghijklmnopqrstuvwxyz .0123456789×=;!?"], 0).save(path)
    texts = texts_of(two, config_of(two, tokenizer__file=str(path)))
    assert all(prepared.tokenizer.to_json() == path.read_text() for prepared in texts.prepared)
    assert str(path) in texts.note


def test_a_tokenizer_file_that_is_not_there_is_refused(two: Workspace) -> None:
    with pytest.raises(UserError, match=r"'missing\.json' is no tokenizer"):
        texts_of(two, config_of(two, tokenizer__file="missing.json"))


def test_an_unknown_corpus_is_named(two: Workspace) -> None:
    with pytest.raises(UserError, match=r"nowhere\.txt"):
        find_corpora(two, config_of(two, "stories.txt:1", "nowhere.txt:1"))


def test_the_same_corpus_twice_is_refused(two: Workspace) -> None:
    config = config_of(two, "stories.txt:1", "facts.txt:1", "stories.txt:2")
    with pytest.raises(UserError, match=r"names stories twice: .* sum of its weights"):
        find_corpora(two, config)


def test_a_corpus_too_small_for_a_window_is_named(two: Workspace) -> None:
    (two.root / "note.txt").write_text("Too little.")
    config = config_of(two, "stories.txt:1", "note.txt:1")
    with pytest.raises(UserError, match=r"The note train split has 7 tokens and one window needs 65"):
        texts_of(two, config).windows(config, 64)
