"""Text to token ids and back: by character, by word or by byte-pair encoding.

All three are one Hugging Face `tokenizers.Tokenizer` and one tokenizer.json; what is added here is speed on long
text, safety against special tokens in it, and the joins between documents and turns:

a text is followed by <|endoftext|>; a conversation is
<|user|> question <|end|> <|assistant|> answer <|end|> ... <|endoftext|>
"""

from __future__ import annotations

import codecs
import itertools
import json
import math
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import AddedToken, trainers

from minigpt.errors import UserError, printable
from minigpt.events import open_file
from minigpt.text.documents import Document, Message
from minigpt.text.pieces import (
    OUR_CUTS,
    PIECE,
    ahead,
    batches,
    cut,
    safe_cuts,
    without_long_words,
    without_surrogates,
)
from minigpt.text.storage import shown, write_file
from minigpt.text.tokenizer_kinds import (
    BYTE_ALPHABET,
    SMALLEST_BPE,
    SPECIAL_TOKENS,
    Kind,
    bpe_core,
    char_core,
    code_points,
    foreign_unknown,
    kind_of,
    word_core,
)

# The largest of other people's are a tenth of that.
_LARGEST_BYTES = 1 << 28
_LARGEST_ID = 1 << 24
_MOST_GROWTH = 1000
# Names of the end-of-text token in other people's tokenizers.
_FOREIGN_END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")


class Tokenizer:
    """One tokenizer. `kind` is char, word, bpe, or other (a foreign one of another make).

    The ids `end_of_text`, `user`, `assistant`, `end`, `unknown` and `pad` are None where a foreign tokenizer has none.
    `vocab_size` is the largest id plus one.
    """

    def __init__(self, core: tokenizers.Tokenizer, vocabulary: dict[str, int] | None = None) -> None:
        """`vocabulary` is the core's own where the caller has it already: a large one takes a second."""
        # These are settings of the moment that tokenizer.json does not keep, or keeps for somebody else's purpose.
        core.encode_special_tokens = True
        core.no_truncation()
        core.no_padding()
        self._core = core
        description = json.loads(core.to_str())
        self.kind: str = kind_of(description)
        self._cuts = safe_cuts(self.kind, description)
        vocabulary = core.get_vocab(with_added_tokens=True) if vocabulary is None else vocabulary
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        self._added: dict[int, AddedToken] = core.get_added_tokens_decoder()
        self.end_of_text = next((vocabulary[name] for name in _FOREIGN_END_OF_TEXT if name in vocabulary), None)
        self.unknown, self.pad, self.user, self.assistant, self.end = map(vocabulary.get, SPECIAL_TOKENS[1:])
        if self.kind == "other":
            unknown = foreign_unknown(description["model"], vocabulary)
            # Some have one token for both; the end is then the meaning that matters.
            self.unknown = None if unknown == self.end_of_text else unknown
        self.dtype = np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)
        self._id_of_code_point = self._code_point_table(vocabulary) if self.kind == "char" else None
        self._id_of_byte = self._byte_table()

    def _code_point_table(self, vocabulary: dict[str, int]) -> np.ndarray:
        assert self.unknown is not None
        table = np.full(0x110000, self.unknown, dtype=self.dtype)
        for token, token_id in vocabulary.items():
            if len(token) == 1:
                table[ord(token)] = token_id
        return table

    def _byte_table(self) -> bytes | None:
        """Return the ids of the first 256 code points where each fits into a byte, for `bytes.translate`."""
        if self._id_of_code_point is None or self._id_of_code_point[:256].max() > 255:
            return None
        return self._id_of_code_point[:256].astype(np.uint8).tobytes()

    # -- making, saving, loading

    @classmethod
    def train(cls, kind: Kind, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Make a tokenizer from texts.

        char: every character that occurs, whatever `vocab_size`; word: the most frequent words; bpe: as many merges as
        fit. Raises UserError when `vocab_size` is too small for the kind.
        """
        special_tokens = [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
        if kind == "char":
            return cls(char_core(texts, special_tokens))
        smallest = SMALLEST_BPE if kind == "bpe" else len(SPECIAL_TOKENS) + 1
        if vocab_size < smallest:
            raise UserError(
                f"A {kind} tokenizer needs a vocabulary of at least {smallest}: raise tokenizer.vocab_size."
            )
        core = bpe_core() if kind == "bpe" else word_core()
        trainer = (
            trainers.BpeTrainer(
                vocab_size=vocab_size,
                special_tokens=special_tokens,
                initial_alphabet=BYTE_ALPHABET,
                show_progress=False,
            )
            if kind == "bpe"
            else trainers.WordLevelTrainer(vocab_size=vocab_size, special_tokens=special_tokens, show_progress=False)
        )
        pieces = (part for text in texts for piece in cut([text], OUR_CUTS) for part in without_long_words(piece))
        core.train_from_iterator(pieces, trainer)
        return cls(core)

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Open a tokenizer.json, ours or another's; raises UserError when it is missing or damaged."""
        path = Path(path)
        try:
            with open_file(path) as file:
                content = file.read(_LARGEST_BYTES + 1) or b""
            if len(content) > _LARGEST_BYTES:
                raise UserError(f"{shown(path)} is larger than any tokenizer.json: name another file.")
            text = content.decode("utf-8")
        except OSError as error:
            raise UserError(f"Cannot read the tokenizer {shown(path)} ({error.strerror}): check the path.") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{shown(path)} is not a tokenizer.json (it is not text): name another file.") from error
        return cls.from_json(text, origin=shown(path))

    @classmethod
    def from_json(cls, text: str, origin: str = "The tokenizer") -> Tokenizer:
        """Make a tokenizer from the text of a tokenizer.json; raises UserError when it is not one."""
        try:
            core = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception, nothing narrower
            reason = printable(str(error), single_line=True)
            raise UserError(f"{origin} is not a valid tokenizer.json ({reason}): name another file.") from error
        # Before it is written out again, which takes a place for every id up to the largest.
        vocabulary: dict[str, int] = core.get_vocab(with_added_tokens=True)
        if max(vocabulary.values(), default=0) > _LARGEST_ID:
            raise UserError(f"{origin} has a token with an id above {_LARGEST_ID:,}: name another file.")
        for part, when in ((core.normalizer, "before it is cut into tokens"), (core.decoder, "made of tokens")):
            if part is not None and _growth(json.loads(part.__getstate__())) > _MOST_GROWTH:
                raise UserError(
                    f"{origin} makes more than {_MOST_GROWTH} times as much of a text {when}: that is a trap for "
                    "memory, name another file."
                )
        return cls(core, vocabulary)

    def to_json(self) -> str:
        return str(self._core.to_str())

    def save(self, path: str | Path) -> None:
        """Write tokenizer.json, whole or not at all."""
        write_file(Path(path), self.to_json().encode())

    # -- encoding

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; no special token ever comes out of it."""
        return self.encode_array(text).tolist()

    def encode_array(self, text: str) -> np.ndarray:
        """Return the ids of a text of any length as an array of `dtype` (uint16 or uint32)."""
        return self._joined(list(self.encode_stream([text])))

    def encode_stream(self, blocks: Iterable[str]) -> Iterator[np.ndarray]:
        """Yield the ids of one text that comes in blocks; the blocks' borders leave no trace."""
        return (ids for _, ids in self.encode_parts(blocks))

    def encode_parts(self, blocks: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Like `encode_stream`, each array of ids with the text that it stands for."""
        if self._id_of_code_point is not None:
            for block in blocks:
                yield block, self._encode_characters(block)
            return
        waiting: deque[str] = deque()

        def pieces() -> Iterator[str]:
            for piece in cut(blocks, self._cuts):
                waiting.append(piece)
                yield piece

        for ids in self._encode_pieces(pieces()):
            yield waiting.popleft(), ids

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the ids of a text, and for each which of its characters it came from: (start, end).

        Tokens that are parts of one character all have that character; a half character (a lone surrogate) counts as
        U+FFFD; what a foreign tokenizer drops belongs to none.
        """
        text = without_surrogates(text)
        if self._id_of_code_point is not None:
            return self.encode(text), [(i, i + 1) for i in range(len(text))]
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        position = 0
        for batch in batches(cut([text], self._cuts), len):
            with _library_errors():
                encodings = self._core.encode_batch(batch, add_special_tokens=False)
            for piece, encoding in zip(batch, encodings, strict=True):
                ids += encoding.ids
                offsets += [(position + start, position + end) for start, end in encoding.offsets]
                position += len(piece)
        return ids, offsets

    @contextmanager
    def dropout(self, share: float) -> Iterator[None]:
        """Skip this share of BPE merges by chance for as long as the context lasts (Provilkov et al., 2020)."""
        self._core.model.dropout = share
        try:
            yield
        finally:
            self._core.model.dropout = None

    def encode_batches(self, documents: Iterable[Document]) -> Iterator[EncodedBatch]:
        """Yield documents with their ids and joins, some millions of characters at a time, the next ones encoding."""

        def prepared() -> Iterator[tuple[list[Document], list[list[str | int]]]]:
            for batch in batches(documents, lambda document: sum(map(len, document.texts()))):
                yield batch, [self._segments(document) for document in batch]

        def encoded(item: tuple[list[Document], list[list[str | int]]]) -> EncodedBatch:
            return EncodedBatch(item[0], *self._encode_segments(item[1]))

        return ahead(prepared(), encoded)

    def encode_chat(self, messages: Sequence[Message], reply: bool = False) -> list[int]:
        """Return the ids of a conversation; with `reply` it ends where the assistant is to speak.

        Raises UserError when a foreign tokenizer lacks the tokens of the chat template.
        """
        ids: list[int] = []
        for part in self._chat_segments(messages):
            ids += self.encode(part) if isinstance(part, str) else [part]
        return [*ids, self._chat_id("assistant")] if reply else ids

    def _segments(self, document: Document) -> list[str | int]:
        parts = [document.text] if not document.messages else self._chat_segments(document.messages)
        return [*parts] if self.end_of_text is None else [*parts, self.end_of_text]

    def _chat_segments(self, messages: Sequence[Message]) -> list[str | int]:
        end = self._chat_id("end")
        return [part for m in messages for part in (self._chat_id(m.role), m.content, end)]

    def _chat_id(self, name: str) -> int:
        assert name in ("user", "assistant", "end"), name
        token_id: int | None = getattr(self, name)
        if token_id is None:
            raise UserError(
                f"This tokenizer has no token <|{name}|> for conversations: "
                "train one of your own, or use plain text with it."
            )
        return token_id

    def _encode_segments(self, documents: list[list[str | int]]) -> tuple[np.ndarray, np.ndarray]:
        """Return all ids of documents, given as texts and ids between them, and how many each has."""
        text_ids, text_lengths = self._encode_texts(
            [part for parts in documents for part in parts if type(part) is str]
        )
        lengths, joins, places = [], [], []
        position = begin = text = 0
        for parts in documents:
            for part in parts:
                if isinstance(part, str):
                    position += text_lengths[text]
                    text += 1
                else:
                    joins.append(part)
                    places.append(position)
                    position += 1
            lengths.append(position - begin)
            begin = position
        ids = np.empty(position, self.dtype)
        is_text = np.ones(position, bool)
        is_text[places] = False
        ids[is_text] = text_ids
        ids[places] = joins
        return ids, np.array(lengths, np.int64)

    def _encode_texts(self, texts: list[str]) -> tuple[np.ndarray, list[int]]:
        """Return the ids of many texts, all encoded in one call, one after another, and how many each has."""
        if self._id_of_code_point is not None:
            return self._encode_characters("".join(texts)), list(map(len, texts))
        pieces: list[str] = []
        counts = []
        for text in texts:
            before = len(pieces)
            pieces.extend([without_surrogates(text)] if len(text) <= PIECE else cut([text], self._cuts))
            counts.append(len(pieces) - before)
        ids: list[int] = []
        lengths = []
        with _library_errors():
            encodings = iter(self._core.encode_batch_fast(pieces, add_special_tokens=False))
        for count in counts:
            before = len(ids)
            for encoding in itertools.islice(encodings, count):
                ids += encoding.ids
            lengths.append(len(ids) - before)
        return np.array(ids, self.dtype), lengths

    def _joined(self, arrays: list[np.ndarray]) -> np.ndarray:
        return arrays[0] if len(arrays) == 1 else np.concatenate([*arrays, np.empty(0, self.dtype)])

    def _encode_pieces(self, pieces: Iterable[str]) -> Iterator[np.ndarray]:
        def encoded(batch: list[str]) -> list[np.ndarray]:
            with _library_errors():
                encodings = self._core.encode_batch_fast(batch, add_special_tokens=False)
            return [np.fromiter(encoding.ids, self.dtype) for encoding in encodings]

        return itertools.chain.from_iterable(ahead(batches(pieces, len), encoded))

    def _encode_characters(self, text: str) -> np.ndarray:
        """Look every code point up in a table: the ids of tokenizer.json, twenty times as fast."""
        assert self._id_of_code_point is not None
        ids = np.empty(len(text), self.dtype)
        start = 0
        for codes in code_points(text):
            stop = start + len(codes)
            if codes.dtype == np.uint8 and self._id_of_byte is not None:
                # Nearly twice as fast as numpy's look-up.
                ids[start:stop] = np.frombuffer(codes.tobytes().translate(self._id_of_byte), np.uint8)
            else:
                # Without a mode numpy copies through a buffer; the table has an id for every code point.
                self._id_of_code_point.take(codes, out=ids[start:stop], mode="clip")
            start = stop
        return ids

    # -- decoding

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Return the text of ids; bytes that are no UTF-8 become U+FFFD."""
        return str(self._core.decode([int(i) for i in ids], skip_special_tokens=skip_special_tokens))

    def token_text(self, token_id: int) -> str:
        """Return one token as a terminal may see it, part of a character as \\x.. bytes."""
        added = self._added.get(token_id)
        text = added.content if added else self.token_bytes(token_id).decode("utf-8", "backslashreplace")
        return printable(text)

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of text that a token stands for: none for special tokens and unused ids."""
        added = self._added.get(token_id)
        if added is not None:
            return b"" if added.special else added.content.encode()
        token: str | None = self._core.id_to_token(token_id)
        if token is None:
            return b""
        if self.kind == "bpe":
            return b"".join(_BYTE_OF_CHARACTER.get(c, c.encode()) for c in token)
        if self.kind == "other":
            hexadecimal = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", token)
            return bytes.fromhex(hexadecimal[1]) if hexadecimal else token.replace("▁", " ").encode()
        return token.encode()

    def token_byte_lengths(self) -> np.ndarray:
        """Return for each id how many bytes of text it stands for, int64 (vocab_size,): for bits per byte."""
        return np.array([len(self.token_bytes(i)) for i in range(self.vocab_size)], dtype=np.int64)

    def is_special(self, token_id: int) -> bool:
        """Return whether an id stands for no text: a join, a turn, padding or the unknown."""
        added = self._added.get(token_id)
        return added is not None and bool(added.special)

    def unknown_share(self, ids: np.ndarray) -> float:
        """Return which share of ids is the unknown token."""
        return 0.0 if self.unknown is None or len(ids) == 0 else float(np.mean(ids == self.unknown))


@dataclass(frozen=True)
class EncodedBatch:
    """Documents, all their ids one after another, and how many each has, int64 (documents,)."""

    documents: list[Document]
    ids: np.ndarray
    lengths: np.ndarray


class StreamDecoder:
    """Decodes ids as they come: all that it returns, joined, is what `Tokenizer.decode` returns."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        # For foreign kinds, whose decoding depends on neighbours: the ids shown last, and those since.
        self._shown: list[int] = []
        self._waiting: list[int] = []

    def add(self, token_id: int) -> str:
        """Return the text that became complete with this token; never part of a character."""
        if self._tokenizer.kind != "other":
            return self._utf8.decode(self._tokenizer.token_bytes(token_id))
        self._waiting.append(token_id)
        text = self._new_text()
        if not text or text.endswith("\ufffd"):
            return ""
        self._shown, self._waiting = self._waiting, []
        return text

    def finish(self) -> str:
        """Return what is left: a character that never became complete shows as U+FFFD."""
        return self._new_text() if self._tokenizer.kind == "other" else self._utf8.decode(b"", True)

    def _new_text(self) -> str:
        before = self._tokenizer.decode(self._shown)
        return self._tokenizer.decode(self._shown + self._waiting)[len(before) :]


@contextmanager
def _library_errors() -> Iterator[None]:
    """Turn what the library cannot do into a sentence: some foreign tokenizers have no token for the unknown."""
    try:
        yield
    except BaseException as error:  # the library raises bare Exception, and what its Rust panics with is not even that
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = printable(str(error), single_line=True)
        raise UserError(f"This tokenizer cannot cut that text ({reason}): use another tokenizer.json.") from error


def _growth(step: Any) -> float:
    """Return how many times as long a text may become by what a tokenizer.json does to it first, or last."""
    if not isinstance(step, dict):
        return 1
    if step.get("type") == "Sequence":
        return math.prod(map(_growth, step.get("normalizers") or step.get("decoders") or []))
    if step.get("type") == "Replace":
        return 1.0 + len(step.get("content") or "") / max(1, len(step["pattern"].get("String") or ""))
    return 1.0 + len(step.get("prepend") or "")


def _bytes_of_characters() -> dict[str, bytes]:
    """GPT-2's mapping of bytes to printable characters, reversed."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printing]
    characters = [chr(byte) for byte in printing] + [chr(256 + i) for i in range(len(others))]
    return dict(zip(characters, (bytes([byte]) for byte in printing + others), strict=True))


_BYTE_OF_CHARACTER = _bytes_of_characters()
