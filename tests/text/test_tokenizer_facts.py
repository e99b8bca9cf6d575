from __future__ import annotations

import os
from pathlib import Path
from string import ascii_lowercase

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from minigpt.errors import UserError
from minigpt.text.corpus import Corpus
from minigpt.text.painting import paint
from minigpt.text.prepare import prepare
from minigpt.text.sources import add_path
from minigpt.text.tokenizer import Tokenizer
from minigpt.text.tokenizer_facts import (
    ReferenceText,
    describe,
    load_tokenizer,
    measure,
    reference_text,
    tokenizer_path,
)
from minigpt.text.tokenizer_kinds import KINDS
from minigpt.text.tokenizer_training import train_on
from minigpt.workspace import Workspace
from tests.conftest import tale

TEXT = tale() + "Größe – 你好, 12 €!\n"
REFERENCE = ReferenceText("a tale", [TEXT, "The cat.", ""])


def unigram() -> Tokenizer:
    core = tokenizers.Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    core.train_from_iterator([tale()], trainer)
    return Tokenizer.from_json(core.to_str())


def byte_fallback() -> Tokenizer:
    """As Llama 2's: a mark before every text, bytes where a character is missing."""
    tokens = ["<unk>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "T", "h", "e", "▁T", "▁Th", "▁The"]
    merges = [("▁", "T"), ("▁T", "h"), ("▁Th", "e")]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    core = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return Tokenizer.from_json(core.to_str())


def word_piece() -> Tokenizer:
    """As BERT's: lower case, accents and blanks dropped."""
    core = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "the": 1, "cat": 2, "##s": 3, ".": 4}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return Tokenizer.from_json(core.to_str())


TOKENIZERS = {
    **{kind: Tokenizer.train(kind, [TEXT], 300) for kind in KINDS},
    "unigram": unigram(),
    "byte fallback": byte_fallback(),
    "word piece": word_piece(),
}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]


def plain(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """The library's own object, made from the same tokenizer.json."""
    core = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    core.encode_special_tokens = True
    return core


# -- figures


def test_the_figures_are_those_of_the_library(tokenizer: Tokenizer) -> None:
    encodings = [plain(tokenizer).encode(text, add_special_tokens=False) for text in REFERENCE.texts]
    ids = [i for encoding in encodings for i in encoding.ids]
    figures = measure(tokenizer, REFERENCE)
    assert (figures.measured_on, figures.tokens) == ("a tale", len(ids))
    assert figures.characters_per_token == pytest.approx(sum(map(len, REFERENCE.texts)) / len(ids))
    assert figures.bytes_per_token == pytest.approx(sum(len(text.encode()) for text in REFERENCE.texts) / len(ids))
    unknown = {plain(tokenizer).token_to_id(name) for name in ("<|unk|>", "<unk>", "[UNK]")}
    assert figures.unknown_rate == pytest.approx(sum(i in unknown for i in ids) / len(ids))
    most = figures.most_frequent[0]
    assert most.share == pytest.approx(max(map(ids.count, set(ids))) / len(ids))
    assert ids.count(most.id) == max(map(ids.count, set(ids)))


def test_a_text_without_tokens_has_no_ratios() -> None:
    figures = measure(TOKENIZERS["bpe"], ReferenceText("nothing", [""]))
    assert (figures.tokens, figures.characters_per_token, figures.bytes_per_token) == (0, None, None)
    assert (figures.unknown_rate, figures.most_frequent) == (0.0, [])


def test_facts_tell_what_a_tokenizer_is(tokenizer: Tokenizer) -> None:
    facts = describe(tokenizer)
    core = plain(tokenizer)
    assert facts.vocab_size == core.get_vocab_size()
    lengths = [token.characters for token in facts.longest_tokens]
    assert lengths == sorted(lengths, reverse=True)
    assert not {token.text for token in facts.longest_tokens} & set(facts.special_tokens)
    assert facts.special_count == sum(token.special for token in core.get_added_tokens_decoder().values())


def test_the_longest_tokens_and_first_merges() -> None:
    tokenizer = Tokenizer.train("bpe", ["aaab " * 9], 6 + 256 + 3)
    facts = describe(tokenizer)
    assert (facts.kind, facts.model) == ("bpe", "BPE")
    assert facts.merges[0] == ("a", "a")
    assert [left + right for left, right in facts.merges][-1] in {token.text for token in facts.longest_tokens}
    assert describe(TOKENIZERS["unigram"]).model == "Unigram"


def test_what_a_hostile_vocabulary_holds_is_shown_harmlessly() -> None:
    core = tokenizers.Tokenizer(
        models.WordLevel({"\x1b[2J": 0, "\u202e" + "x" * 1_000_000: 1, "<unk>": 2}, unk_token="<unk>")
    )
    core.add_special_tokens(["\x1b]0;owned\x07"])
    tokenizer = Tokenizer.from_json(core.to_str())
    facts = describe(tokenizer)
    shown = [
        *facts.special_tokens,
        *(token.text for token in facts.longest_tokens),
        *paint(tokenizer, "\x1b[2J").tokens,
    ]
    assert [text for text in shown if not text.isprintable() or len(text) > 60] == []
    assert facts.longest_tokens[0].characters == 1_000_001


def test_a_tokenizer_that_cannot_cut_a_text_says_so() -> None:
    core = tokenizers.Tokenizer(models.WordLevel({"cat": 0}, unk_token="<unk>"))
    with pytest.raises(UserError, match="cannot cut that text"):
        measure(Tokenizer.from_json(core.to_str()), REFERENCE)


def test_the_reference_text_is_bounded_and_spread_over_the_corpus(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigpt.text.tokenizer_facts._REFERENCE_CHARACTERS", 200)
    corpus = Corpus.open(workspace.data / "tale")
    reference = reference_text(corpus)
    assert reference.name == "the corpus tale"
    assert [len(text) for text in reference.texts] == [100, 100]
    assert reference.texts[1] == tale()[365:465]
    assert reference_text().texts == reference_text().texts


# -- spans


def covered(spans: list[tuple[int, int]], text: str) -> bool:
    ends = [0, *(end for _, end in spans)]
    return [start for start, _ in spans] == ends[:-1] and ends[-1] == len(text)


@given(st.text(max_size=40))
@settings(max_examples=100, deadline=None)
def test_spans_cover_any_text_without_gaps(text: str) -> None:
    for name, tokenizer in TOKENIZERS.items():
        painted = paint(tokenizer, text)
        assert painted.ids == tokenizer.encode(text)
        assert len(painted.tokens) == len(painted.spans) == len(painted.ids)
        if painted.ids:
            assert covered(painted.spans, painted.text), name
            assert "".join(part for _, part in painted.parts()) == painted.text


def test_spans_are_where_the_tokens_are() -> None:
    painted = paint(TOKENIZERS["word"], " cat Zanzibar.\n")
    assert [painted.text[start:end] for start, end in painted.spans] == [" cat", " Zanzibar", ".", "\n"]
    assert painted.tokens == [" cat", "<|unk|>", ".", "\n"]


def test_the_parts_of_a_character_are_painted_as_one() -> None:
    painted = paint(Tokenizer.train("bpe", [], 300), "a€b")
    assert painted.tokens == ["a", "\\xe2", "\\x82", "\\xac", "b"]
    assert painted.spans == [(0, 1), (1, 2), (2, 2), (2, 2), (2, 3)]
    assert [part for _, part in painted.parts()] == ["a", "€", "b"]


def test_what_a_tokenizer_drops_is_painted_with_what_follows() -> None:
    painted = paint(TOKENIZERS["word piece"], "The  cats ")
    assert painted.tokens == ["the", "cat", "##s"]
    assert [painted.text[start:end] for start, end in painted.spans] == ["The", "  cat", "s "]


def test_spans_of_long_text_count_from_its_beginning() -> None:
    text = TEXT * 150
    painted = paint(TOKENIZERS["bpe"], text)
    assert covered(painted.spans, text)
    expected = plain(TOKENIZERS["bpe"]).encode(text, add_special_tokens=False)
    assert TOKENIZERS["bpe"].encode_with_offsets(text) == (expected.ids, expected.offsets)


def test_rows_of_tokens_and_numbers_fit_the_width() -> None:
    painted = paint(TOKENIZERS["bpe"], TEXT)
    rows = list(painted.interlinear(30))
    assert all(len(tokens) <= 30 and len(ids) <= 30 for tokens, ids in rows)
    assert [int(i) for _, ids in rows for i in ids.split()] == painted.ids


# -- which tokenizer a name means


def saved(path: Path, kind: str = "char") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    TOKENIZERS[kind].save(path)
    return path


def test_a_tokenizer_is_found_by_file_folder_run_and_corpus(workspace: Workspace) -> None:
    file = saved(workspace.root / "mine.json")
    run = saved(workspace.checkpoints / "first" / "tokenizer.json", "word")
    assert tokenizer_path(workspace, str(file)) == file
    assert tokenizer_path(workspace, "first") == run
    assert tokenizer_path(workspace, str(run.parent)) == run
    assert load_tokenizer(workspace, "first").kind == "word"

    corpus = Corpus.open(workspace.data / "tale")
    fractions = {"validation_fraction": 0.1, "test_fraction": 0.0}
    old = prepare(corpus, tokenizer_kind="word", vocab_size=300, **fractions)
    new = prepare(corpus, tokenizer_kind="char", vocab_size=300, **fractions)
    os.utime(old.directory / "tokenizer.json", (1, 1))
    assert tokenizer_path(workspace, "tale") == new.directory / "tokenizer.json"
    assert tokenizer_path(workspace, str(corpus.directory)) == new.directory / "tokenizer.json"
    assert load_tokenizer(workspace, "tale").to_json() == new.tokenizer.to_json()
    saved(workspace.checkpoints / "tale" / "tokenizer.json")
    assert tokenizer_path(workspace, "tale").parent.parent == workspace.checkpoints


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tale", r"not prepared yet: run `minigpt corpus prepare tale`"),
        ("tail", r"is no tokenizer: name a run, .* Did you mean 'tale'\?"),
        ("", "is no tokenizer"),
        ("a\0b\x1b", r"'a\\x00b\\x1b' is no tokenizer"),
        ("~nobody-of-this-name/x.json", "is no tokenizer"),
        ("x" * 5000, "Cannot look up"),
        ("tale.txt", "not a valid tokenizer.json"),
    ],
)
def test_a_name_that_means_no_tokenizer_is_one_sentence(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(workspace.root)
    with pytest.raises(UserError, match=said):
        load_tokenizer(workspace, name)


def test_a_huge_file_is_not_read(workspace: Workspace) -> None:
    path = workspace.root / "huge.json"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(UserError, match="too large"):
        load_tokenizer(workspace, str(path))


# -- learning


def test_a_tokenizer_learns_from_a_part_or_all_of_a_corpus(workspace: Workspace) -> None:
    corpus = Corpus.open(workspace.data / "tale")
    assert train_on(corpus, "char", 0, 10).unknown_share(train_on(corpus, "char", 0).encode_array(tale())) == 0
    assert train_on(corpus, "bpe", 300).encode(tale()) == Tokenizer.train("bpe", [tale()], 300).encode(tale())
    (workspace.root / "pairs.txt").write_text("".join(f" {a}{b}" for a in ascii_lowercase for b in ascii_lowercase))
    pairs = add_path(workspace, workspace.root / "pairs.txt")
    assert train_on(pairs, "word", 2000).vocab_size == 6 + 26 * 26
    assert 6 + 60 < train_on(pairs, "word", 2000, 200).vocab_size < 6 + 80
