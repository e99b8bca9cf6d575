"""Text to ids at speed: long texts in pieces side by side, single characters by a table.

encoder = Encoder(core, OUR_CUTS, np.dtype(np.uint16))
for text, ids in encoder.parts(blocks): ...

The ids are those of the core, a Hugging Face `tokenizers.Tokenizer`; joins and turns are the matter of our own.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tokenizers

from minigpt.errors import UserError, printable
from minigpt.text.pieces import PIECE, Cuts, ahead, batches, cut, without_surrogates
from minigpt.text.tokenizer_kinds import code_points


class Encoder:
    """Encodes text with a core, or by `table`, the id of every code point, where each character is a token."""

    def __init__(
        self, core: tokenizers.Tokenizer, cuts: Cuts, dtype: np.dtype[Any], table: np.ndarray | None = None
    ) -> None:
        """`cuts` are the places at which a text may be cut without changing its tokens (see `pieces`)."""
        self._core, self._cuts, self._dtype = core, cuts, dtype
        self._id_of_code_point = table
        self._id_of_byte = self._byte_table()

    def _byte_table(self) -> bytes | None:
        """Return the ids of the first 256 code points where each fits into a byte, for `bytes.translate`."""
        if self._id_of_code_point is None or self._id_of_code_point[:256].max() > 255:
            return None
        return self._id_of_code_point[:256].astype(np.uint8).tobytes()

    def parts(self, blocks: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the ids of one text that comes in blocks, each array with the text that it stands for."""
        if self._id_of_code_point is not None:
            for block in blocks:
                yield block, self._characters(block)
            return
        waiting: deque[str] = deque()

        def pieces() -> Iterator[str]:
            for piece in cut(blocks, self._cuts):
                waiting.append(piece)
                yield piece

        for ids in self._pieces(pieces()):
            yield waiting.popleft(), ids

    def with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the ids of a text, and for each which of its characters it came from: (start, end)."""
        text = without_surrogates(text)
        if self._id_of_code_point is not None:
            return self._characters(text).tolist(), [(i, i + 1) for i in range(len(text))]
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

    def segments(self, documents: list[list[str | int]]) -> tuple[np.ndarray, np.ndarray]:
        """Return all ids of documents, given as texts and ids between them, and how many each has."""
        text_ids, text_lengths = self._texts([part for parts in documents for part in parts if type(part) is str])
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
        ids = np.empty(position, self._dtype)
        is_text = np.ones(position, bool)
        is_text[places] = False
        ids[is_text] = text_ids
        ids[places] = joins
        return ids, np.array(lengths, np.int64)

    def _texts(self, texts: list[str]) -> tuple[np.ndarray, list[int]]:
        """Return the ids of many texts, all encoded in one call, one after another, and how many each has."""
        if self._id_of_code_point is not None:
            return self._characters("".join(texts)), list(map(len, texts))
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
        return np.array(ids, self._dtype), lengths

    def _pieces(self, pieces: Iterable[str]) -> Iterator[np.ndarray]:
        def encoded(batch: list[str]) -> list[np.ndarray]:
            with _library_errors():
                encodings = self._core.encode_batch_fast(batch, add_special_tokens=False)
            return [np.fromiter(encoding.ids, self._dtype) for encoding in encodings]

        return itertools.chain.from_iterable(ahead(batches(pieces, len), encoded))

    def _characters(self, text: str) -> np.ndarray:
        """Look every code point up in a table: the ids of tokenizer.json, twenty times as fast."""
        assert self._id_of_code_point is not None
        ids = np.empty(len(text), self._dtype)
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


def code_point_table(vocabulary: dict[str, int], unknown: int | None, dtype: np.dtype[Any]) -> np.ndarray:
    """Return the id of every code point, (0x110000,), of a tokenizer whose tokens are single characters."""
    assert unknown is not None
    table = np.full(0x110000, unknown, dtype=dtype)
    for token, token_id in vocabulary.items():
        if len(token) == 1:
            table[ord(token)] = token_id
    return table


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
