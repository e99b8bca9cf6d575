"""Text to token ids and back: by character, by word or by byte-pair encoding.

All three are one Hugging Face `tokenizers.Tokenizer` and one tokenizer.json; what is added is speed on long text (see
`encoder`), and here safety against special tokens in it, and the joins between documents and turns:

a text is followed by <|endoftext|>; a conversation is
<|user|> question <|end|> <|assistant|> answer <|end|> ... <|endoftext|>
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import AddedToken

from minigpt.errors import UserError, printable
from minigpt.text.documents import Document, Message
from minigpt.text.encoder import Encoder, code_point_table
from minigpt.text.pieces import ahead, batches, safe_cuts
from minigpt.text.storage import shown, write_file
from minigpt.text.tokenizer_json import parse_core, read_json_text
from minigpt.text.tokenizer_kinds import SPECIAL_TOKENS, Kind, foreign_unknown, kind_of, trained_core

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
        table = code_point_table(vocabulary, self.unknown, self.dtype) if self.kind == "char" else None
        self._encoder = Encoder(core, safe_cuts(self.kind, description), self.dtype, table)

    # -- making, saving, loading

    @classmethod
    def train(cls, kind: Kind, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Make a tokenizer from texts.

        char: every character that occurs, whatever `vocab_size`; word: the most frequent words; bpe: as many merges as
        fit. Raises UserError when `vocab_size` is too small for the kind.
        """
        return cls(trained_core(kind, texts, vocab_size))

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Open a tokenizer.json, ours or another's; raises UserError when it is missing or damaged."""
        return cls.from_json(read_json_text(Path(path)), origin=shown(Path(path)))

    @classmethod
    def from_json(cls, text: str, origin: str = "The tokenizer") -> Tokenizer:
        """Make a tokenizer from the text of a tokenizer.json; raises UserError when it is not one."""
        return cls(*parse_core(text, origin))

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
        arrays = list(self.encode_stream([text]))
        return arrays[0] if len(arrays) == 1 else np.concatenate([*arrays, np.empty(0, self.dtype)])

    def encode_stream(self, blocks: Iterable[str]) -> Iterator[np.ndarray]:
        """Yield the ids of one text that comes in blocks; the blocks' borders leave no trace."""
        return (ids for _, ids in self.encode_parts(blocks))

    def encode_parts(self, blocks: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Like `encode_stream`, each array of ids with the text that it stands for."""
        return self._encoder.parts(blocks)

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the ids of a text, and for each which of its characters it came from: (start, end).

        Tokens that are parts of one character all have that character; a half character (a lone surrogate) counts as
        U+FFFD; what a foreign tokenizer drops belongs to none.
        """
        return self._encoder.with_offsets(text)

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
            return EncodedBatch(item[0], *self._encoder.segments(item[1]))

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


def _bytes_of_characters() -> dict[str, bytes]:
    """GPT-2's mapping of bytes to printable characters, reversed."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printing]
    characters = [chr(byte) for byte in printing] + [chr(256 + i) for i in range(len(others))]
    return dict(zip(characters, (bytes([byte]) for byte in printing + others), strict=True))


_BYTE_OF_CHARACTER = _bytes_of_characters()
