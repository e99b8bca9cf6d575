from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from minigpt.errors import UserError
from minigpt.text.documents import Document, Message
from minigpt.text.tokenizer import StreamDecoder, Tokenizer
from minigpt.text.tokenizer_kinds import KINDS, SPECIAL_TOKENS, choose_kind, fitting_vocab_size

TEXT = (
    "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n\n"
    "“Größe” – 12,345 €! 你好,世界。 It's we'll\t<|endoftext|> <|user|>\n    def f(x):\n        return x + 1\n\n\n"
) * 20
CONVERSATION = (Message("user", "hear me"), Message("assistant", "Speak, speak."))

CODE = Path(tokenizers.__file__).read_text(encoding="utf-8") + Path(__file__).read_text(encoding="utf-8")


def make(kind: str) -> Tokenizer:
    # Round trips through JSON, so that all tests see what a loaded tokenizer does.
    return Tokenizer.from_json(Tokenizer.train(kind, [TEXT], 600).to_json())  # type: ignore[arg-type]


TOKENIZERS = {kind: make(kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]


def plain(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """The library's own object, made from the same tokenizer.json."""
    core = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    core.encode_special_tokens = True
    return core


def encoded_documents(tokenizer: Tokenizer, documents: Iterable[Document]) -> Iterator[np.ndarray]:
    """Yield each document's ids with its joins."""
    for batch in tokenizer.encode_batches(documents):
        yield from np.split(batch.ids, np.cumsum(batch.lengths)[:-1])


def pieces_of_text() -> st.SearchStrategy[str]:
    spaces = ["\n", "\n\n", "\r\n", " \n", "\n ", "  ", "\t", "\x1c", "\x85"]
    words = st.sampled_from([*spaces, "speak", " hear", "'s", "'", "12", ".", "!\n", "é", "你", "x", "\u0301"])
    return st.lists(st.one_of(words, st.text(max_size=5)), max_size=40).map("".join)


def test_special_tokens_have_the_same_ids_in_all_kinds(tokenizer: Tokenizer) -> None:
    core = plain(tokenizer)
    assert [core.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4, 5]
    ids = (tokenizer.end_of_text, tokenizer.unknown, tokenizer.pad, tokenizer.user, tokenizer.assistant, tokenizer.end)
    assert ids == (0, 1, 2, 3, 4, 5)
    assert tokenizer.vocab_size == core.get_vocab_size()
    assert all(tokenizer.is_special(i) for i in range(6))
    assert not tokenizer.is_special(6)


@given(st.text())
@settings(max_examples=70, deadline=None)
def test_bpe_loses_nothing_of_any_text(text: str) -> None:
    assert TOKENIZERS["bpe"].decode(TOKENIZERS["bpe"].encode(text)) == text


def test_bpe_has_all_bytes_though_it_saw_none() -> None:
    tokenizer = Tokenizer.train("bpe", [], 300)
    assert tokenizer.vocab_size == 6 + 256
    assert {tokenizer.token_bytes(i) for i in range(6, 262)} == {bytes([i]) for i in range(256)}


@given(st.text(alphabet=sorted(set(TEXT))))
@settings(max_examples=40, deadline=None)
def test_char_loses_nothing_of_its_characters(text: str) -> None:
    assert TOKENIZERS["char"].decode(TOKENIZERS["char"].encode(text)) == text


@given(pieces_of_text())
@settings(max_examples=40, deadline=None)
def test_word_loses_nothing_of_what_it_covers(text: str) -> None:
    tokenizer = Tokenizer.train("word", [text], 100_000)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.unknown not in tokenizer.encode(text)


@pytest.mark.parametrize("kind", KINDS)
@given(text=pieces_of_text())
@settings(max_examples=40, deadline=None)
def test_ids_are_those_of_the_library(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    assert tokenizer.encode(text) == plain(tokenizer).encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    "text",
    [TEXT, CODE, TEXT.replace("\n", " "), "no\n\nsingle\n\n", "a b"],
    ids=["text", "code", "one line", "short lines", "words"],
)
def test_long_text_in_pieces_has_the_ids_of_the_whole(tokenizer: Tokenizer, text: str) -> None:
    text = text * (1 + 150_000 // len(text))
    expected = plain(tokenizer).encode(text, add_special_tokens=False).ids
    array = tokenizer.encode_array(text)
    assert array.dtype == np.uint16
    assert array.tolist() == expected
    blocks = [text[i : i + 7777] for i in range(0, len(text), 7777)]
    assert np.concatenate(list(tokenizer.encode_stream(blocks))).tolist() == expected


@given(pieces_of_text())
@example(CODE)
@example("世界" * 900)
@settings(max_examples=70, deadline=None)
def test_every_cut_that_is_allowed_leaves_the_tokens(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minigpt.text.pieces.PIECE", 1)
        patch.setattr("minigpt.text.pieces.BATCH", 40)
        patch.setattr("minigpt.text.tokenizer_kinds._CODE_POINTS", 3)
        for tokenizer in TOKENIZERS.values():
            expected = plain(tokenizer).encode(text, add_special_tokens=False).ids
            assert tokenizer.encode_array(text).tolist() == expected


def test_special_tokens_never_come_out_of_text(tokenizer: Tokenizer) -> None:
    text = "".join(f"{token} a{token}\n" for token in SPECIAL_TOKENS)
    assert not {0, 2, 3, 4, 5} & set(tokenizer.encode(text))
    assert not {0, 2, 3, 4, 5} & set(tokenizer.encode_array(text * 3000).tolist())
    documents = [Document(text), Document(messages=(Message("user", text), Message("assistant", text)))]
    first, second = (ids.tolist() for ids in encoded_documents(tokenizer, documents))
    assert [i for i in first if tokenizer.is_special(i) and i != 1] == [0]
    assert [i for i in second if tokenizer.is_special(i) and i != 1] == [3, 5, 4, 5, 0]


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_written_special_tokens_are_kept_as_text(kind: str) -> None:
    text = "a<|endoftext|> <|user|>\n"
    tokenizer = TOKENIZERS[kind]
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_what_is_not_covered_is_unknown() -> None:
    assert TOKENIZERS["char"].encode("aЖ\U0001f600a").count(1) == 2
    assert TOKENIZERS["word"].encode(" hear Zanzibar")[1:] == [1]
    assert TOKENIZERS["word"].unknown_share(np.array([1, 7, 1, 8])) == 0.5
    assert TOKENIZERS["word"].unknown_share(np.array([])) == 0


def test_word_keeps_the_most_frequent_words() -> None:
    tokenizer = Tokenizer.train("word", [" a b b c c c"], 6 + 2)
    assert tokenizer.vocab_size == 8
    assert tokenizer.decode(tokenizer.encode(" a b c")) == " b c"


def test_half_characters_do_no_harm(tokenizer: Tokenizer) -> None:
    assert "x" in tokenizer.decode(tokenizer.encode("\ud800x")) or tokenizer.kind == "word"
    assert Tokenizer.train("char", ["\ud800x"], 0).encode("x") != [1]


def test_conversations_follow_the_template(tokenizer: Tokenizer) -> None:
    question, answer = (tokenizer.encode(message.content) for message in CONVERSATION)
    chat = [3, *question, 5, 4, *answer, 5]
    assert tokenizer.encode_chat(CONVERSATION) == chat
    assert tokenizer.encode_chat(CONVERSATION[:1], reply=True) == [3, *question, 5, 4]
    assert [ids.tolist() for ids in encoded_documents(tokenizer, [Document(messages=CONVERSATION)])] == [[*chat, 0]]


def test_documents_keep_their_order_whatever_the_batches(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["speak", "", "hear me\nspeak\n\n", *(TEXT[i : i + 99] for i in range(0, 900, 9))]
    documents = [Document(text) for text in texts] + [Document(messages=CONVERSATION)]
    expected = [[*tokenizer.encode(text), 0] for text in texts] + [[*tokenizer.encode_chat(CONVERSATION), 0]]
    assert [ids.tolist() for ids in encoded_documents(tokenizer, documents)] == expected
    monkeypatch.setattr("minigpt.text.pieces.BATCH", 100)
    monkeypatch.setattr("minigpt.text.pieces.PIECE", 8)
    assert [ids.tolist() for ids in encoded_documents(tokenizer, iter(documents))] == expected


def test_documents_are_read_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.text.pieces.BATCH", 10)
    read = []

    def endless() -> object:
        while True:
            read.append(1)
            yield Document("speak")

    stream = encoded_documents(TOKENIZERS["bpe"], endless())  # type: ignore[arg-type]
    assert len(next(stream)) > 1
    assert len(read) == 4  # one batch, and the next, which is encoded meanwhile


@pytest.mark.parametrize("kind", KINDS)
@given(ids=st.lists(st.integers(min_value=0, max_value=260), max_size=30))
@settings(max_examples=60, deadline=None)
def test_the_stream_decoder_gives_what_decode_gives(kind: str, ids: list[int]) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = [i % tokenizer.vocab_size for i in ids]
    stream = StreamDecoder(tokenizer)
    assert "".join([stream.add(i) for i in ids] + [stream.finish()]) == tokenizer.decode(ids)


def test_the_stream_decoder_waits_for_whole_characters() -> None:
    tokenizer = Tokenizer.train("bpe", [], 300)
    stream = StreamDecoder(tokenizer)
    assert [stream.add(i) for i in tokenizer.encode("é€")] == ["", "é", "", "", "€"]
    assert stream.finish() == ""
    assert stream.add(tokenizer.encode("é")[0]) == ""
    assert stream.finish() == "\ufffd"


def test_tokens_show_their_text_and_bytes(tokenizer: Tokenizer) -> None:
    text = "Speak, 你好\n"
    ids = tokenizer.encode(text)
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    lengths = tokenizer.token_byte_lengths()
    assert lengths.shape == (tokenizer.vocab_size,)
    assert lengths[ids].sum() == len(text.encode())
    assert lengths[:6].sum() == 0
    assert tokenizer.token_text(0) == "<|endoftext|>"
    assert tokenizer.token_bytes(0) == b""
    assert tokenizer.token_text(ids[-1]) == "\n"
    assert tokenizer.token_text(99_999) == ""


def test_part_of_a_character_shows_as_bytes() -> None:
    tokenizer = Tokenizer.train("bpe", ["\x1b"], 300)
    assert [tokenizer.token_text(i) for i in tokenizer.encode("€\x1b")] == ["\\xe2", "\\x82", "\\xac", "\\x1b"]


def test_saving_and_loading_changes_nothing(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.to_json() == tokenizer.to_json()
    assert (loaded.kind, loaded.vocab_size) == (tokenizer.kind, tokenizer.vocab_size)
    assert loaded.encode(TEXT) == tokenizer.encode(TEXT)
    assert list(tmp_path.iterdir()) == [tmp_path / "tokenizer.json"]


def test_transformers_reads_our_file_and_agrees(tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path / "tokenizer.json")
    other = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    text = "Speak, speak.\n\n  12 hear me"
    assert other(text)["input_ids"] == tokenizer.encode(text)
    assert other.decode(tokenizer.encode(text)) == tokenizer.decode(tokenizer.encode(text), skip_special_tokens=False)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"no json", b"\xff\xfe", b'{"model": {"type": "Best"}}'])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"not a (valid )?tokenizer\.json"):
        Tokenizer.load(path)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Cannot read the tokenizer"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def foreign(pattern: str | None, end_of_text: str = "<|endoftext|>") -> tokenizers.Tokenizer:
    """A tokenizer as GPT-2's or Qwen's come: byte-level, its end token last, cutting and padding in the file."""
    core = tokenizers.Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    if pattern is None:
        core.pre_tokenizer = byte_level
    else:
        core.normalizer = normalizers.NFC()
        core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level])
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator([TEXT], trainer)
    core.add_special_tokens([end_of_text])
    core.add_tokens(["<tool>"])
    special_tokens = [(end_of_text, core.token_to_id(end_of_text))]
    core.post_processor = processors.TemplateProcessing(f"{end_of_text} $A", special_tokens=special_tokens)
    core.enable_truncation(8)
    core.enable_padding(length=12)
    return core


QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@pytest.mark.parametrize("pattern", [None, QWEN, r"\w+\W*"])
def test_foreign_tokenizers_work_as_they_are(pattern: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    core = foreign(pattern)
    end = core.token_to_id("<|endoftext|>")
    tokenizer = Tokenizer.from_json(core.to_str())
    assert (tokenizer.kind, tokenizer.vocab_size, tokenizer.end_of_text) == ("bpe", end + 2, end)
    assert (tokenizer.user, tokenizer.assistant, tokenizer.end, tokenizer.pad) == (None, None, None, None)

    core.no_truncation()
    core.no_padding()
    core.encode_special_tokens = True
    monkeypatch.setattr("minigpt.text.pieces.PIECE", 1)
    for text in (TEXT, CODE):
        expected = core.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text) == expected
        assert [ids.tolist() for ids in encoded_documents(tokenizer, [Document(text)])] == [[*expected, end]]
    assert tokenizer.token_bytes(end + 1) == b"<tool>"
    with pytest.raises(UserError, match="no token"):
        tokenizer.encode_chat(CONVERSATION)


def sentencepiece_like() -> Tokenizer:
    """As Llama 2 and Gemma have it: spaces as underlines, bytes where a character is missing."""
    tokens = ["<unk>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "h", "i", "▁h", "▁hi", "hi"]
    merges = [("▁", "h"), ("▁h", "i"), ("h", "i")]
    core = tokenizers.Tokenizer(
        models.BPE({token: i for i, token in enumerate(tokens)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.add_special_tokens(["</s>"])
    return Tokenizer.from_json(core.to_str())


def test_sentencepiece_tokenizers_stream_too() -> None:
    tokenizer = sentencepiece_like()
    assert (tokenizer.kind, tokenizer.end_of_text) == ("other", 1)
    for text in ("hi hi", "hi é€ hi\n\nhi" * 30, "€"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        stream = StreamDecoder(tokenizer)
        parts = [stream.add(i) for i in ids]
        assert "\ufffd" not in "".join(parts)
        assert "".join(parts) + stream.finish() == text
    assert tokenizer.token_bytes(tokenizer.encode(" hi")[-1]) == b" hi"
    assert tokenizer.token_bytes(2 + 0xE9) == b"\xe9"


def test_the_same_texts_give_the_same_tokenizer_however_they_are_cut() -> None:
    texts = [TEXT[i : i + 300] for i in range(0, len(TEXT), 300)]
    random.Random(0).shuffle(texts)
    for kind in KINDS:
        assert json.loads(Tokenizer.train(kind, texts, 500).to_json()) == json.loads(
            Tokenizer.train(kind, iter(texts), 500).to_json()
        )


@pytest.mark.parametrize(("kind", "size"), [("bpe", 261), ("word", 6)])
def test_a_vocabulary_can_be_too_small(kind: str, size: int) -> None:
    with pytest.raises(UserError, match=f"at least {size + 1}"):
        Tokenizer.train(kind, ["a"], size)  # type: ignore[arg-type]


def test_the_kind_is_chosen_by_the_size_of_the_text() -> None:
    assert choose_kind("auto", 1_115_394)[0] == "char"
    assert choose_kind("auto", 50_000_000)[0] == "bpe"
    assert choose_kind("word", 100) == ("word", "Tokenizer: word, as asked for.")
    assert "1,115,394" in choose_kind("auto", 1_115_394)[1]


def test_the_vocabulary_fits_the_text() -> None:
    assert fitting_vocab_size(8192, 1_000_000_000) == 8192
    sizes = [fitting_vocab_size(32_768, characters) for characters in (0, 10_000, 1_000_000, 10_000_000)]
    assert sizes == sorted(sizes)
    assert 262 <= sizes[0] < sizes[-1] <= 32_768
    assert fitting_vocab_size(300, 10) == 300
