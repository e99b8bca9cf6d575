"""Bytes to text: in which encoding, decided while reading, and what could not be read in it.

Text is taken for UTF-8 until a byte says otherwise, so that gigabytes of it are read once. A first invalid byte is
either damage to UTF-8 or the first accent of an older encoding. UTF-8 with damage has valid characters beyond ASCII
too, and more of them than invalid bytes: it is read on with U+FFFD in place of what is damaged. Older encodings hardly
ever form such characters by chance; and as all before was ASCII, it stands in the new encoding as well.
"""

from __future__ import annotations

import codecs
import itertools
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from minigpt.errors import UserError
from minigpt.text.formats.binaries import binary_file, kind_of_binary, refuse_known_binaries

SAMPLE_BYTES = 1 << 16
USUAL_ENCODINGS = ("utf-8", "utf-8-sig")

_MARKS = (  # UTF-32's mark begins like UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# A NUL now and then is a slip (a crashed log, a field of fixed width); more than this share make a binary file.
_NULS = 1 / 100
# The same for what is invalid in a file that says it is UTF-16 or UTF-32, and for control characters in no UTF-8.
_INVALID = 1 / 100
_CONTROLS = 1 / 50
_CONTROL_BYTES = bytes([*range(1, 9), *range(14, 27), *range(28, 32), 127])

_REPLACEMENT = "\ufffd"
_BEYOND_ASCII = re.compile(f"[^\x00-\x7f{_REPLACEMENT}]")

# What text without Unicode comes in. The others that a detector knows differ from these by a few rare characters.
_WESTERN = ["cp1252", "mac_roman", "cp850"]
_OTHER_ALPHABETS = ["cp1250", "iso8859_2", "cp1251", "koi8_r", "cp866", "iso8859_5", "cp1253", "cp1255", "cp1256"]
_EAST_ASIAN = ["cp932", "euc_jp", "gb18030", "big5", "cp949"]
_LEGACY = [*_WESTERN, *_OTHER_ALPHABETS, *_EAST_ASIAN]
# With fewer bytes beyond ASCII a detector guesses at random; within this much, it cannot tell two encodings apart.
_ENOUGH_BYTES = 12
_AS_GOOD = 0.02

# The five bytes that cp1252 leaves open are what they are in Latin-1, as browsers read them.
_AS_LATIN_1 = "minigpt-as-latin-1"


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error(_AS_LATIN_1, _as_latin_1)


@dataclass
class TextFacts:
    """What was found while reading a text. `invalid` places became U+FFFD, `dropped` NUL characters were left out."""

    encoding: str = "utf-8"
    invalid: int = 0
    dropped: int = 0

    def notes(self, name: str) -> list[str]:
        """Return what a user should know of the file of that name, a sentence each."""
        notes = []
        if self.encoding not in USUAL_ENCODINGS:
            notes.append(f"{name} is not UTF-8 and was read as {self.encoding}.")
        if self.invalid:
            notes.append(f"{name} is damaged in {self.invalid:,} places (not valid {self.encoding}): read as U+FFFD.")
        if self.dropped:
            notes.append(f"{name} has {self.dropped:,} NUL characters: they were left out.")
        return notes


def decode(blocks: Iterable[bytes], name: str, facts: TextFacts, declared: str = "") -> Iterator[str]:
    """Yield the text of bytes, "\\r\\n" read as "\\n"; raises UserError when they are no text.

    A `declared` encoding (a web page's) is believed where the text is not Unicode.
    """
    blocks = iter(blocks)
    head = _gathered(b"", blocks)
    facts.encoding = codec = _unicode_encoding(head[:SAMPLE_BYTES], name)
    blocks = itertools.chain([head], blocks)
    if codec not in USUAL_ENCODINGS:
        return _tidied(_tolerant(blocks, codec, name, facts), name, facts)
    return _tidied(_utf8_until_otherwise(blocks, name, facts, declared), name, facts)


def encoding_of_beginning(head: bytes, name: str) -> str:
    """Return the encoding that a file's first bytes show, "utf-8" for plain ASCII; raises UserError for a binary."""
    encoding = _unicode_encoding(head, name)
    if encoding in USUAL_ENCODINGS:
        strict = _StrictUtf8(encoding)
        for _ in strict.texts([head], whole=False):
            pass
        if strict.rest is not None:
            encoding = _encoding_of_invalid(strict.rest, strict.valid, name, "") or encoding
    return encoding


def _utf8_until_otherwise(blocks: Iterator[bytes], name: str, facts: TextFacts, declared: str) -> Iterator[str]:
    strict = _StrictUtf8(facts.encoding)
    yield from strict.texts(blocks, whole=True)
    if strict.rest is None:
        return
    rest = _gathered(strict.rest, blocks)
    legacy = _encoding_of_invalid(rest[:SAMPLE_BYTES], strict.valid, name, declared)
    facts.encoding = legacy or facts.encoding
    yield from _tolerant(itertools.chain([rest], blocks), legacy or "utf-8", name, facts)


class _StrictUtf8:
    """Valid UTF-8, up to the first byte that is not: from there on, the bytes are in `rest`.

    `valid` tells how many bytes before it were of characters beyond ASCII, but for the first byte of each.
    """

    def __init__(self, encoding: str) -> None:
        self.rest: bytes | None = None
        self.valid = 0
        self._bytes = self._characters = 0
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def texts(self, blocks: Iterable[bytes], whole: bool) -> Iterator[str]:
        """`whole` says that a character which the last block cuts through is damaged."""
        try:
            for block in blocks:
                self._bytes += len(block)
                text = self._decoder.decode(block)
                self._characters += len(text)
                yield text
            self._decoder.decode(b"", whole)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode()
            self.rest = error.object[error.start :]
            self.valid = self._bytes - len(self.rest) - self._characters - len(before)
            yield before


def _tolerant(blocks: Iterator[bytes], codec: str, name: str, facts: TextFacts) -> Iterator[str]:
    """Decode whatever comes, with U+FFFD, counted, for what is invalid."""
    decoder = codecs.getincrementaldecoder(codec)(_AS_LATIN_1 if codec == "cp1252" else "strict")
    characters = 0
    for block, last in itertools.chain(((block, False) for block in blocks), [(b"", True)]):
        before = decoder.getstate()
        try:
            text = decoder.decode(block, last)
        except UnicodeDecodeError:
            decoder.setstate(before)
            decoder.errors = "replace"
            text = decoder.decode(block, last)
            decoder.errors = "strict"
            intended = block.count(_REPLACEMENT.encode()) if codec == "utf-8" else 0
            facts.invalid += text.count(_REPLACEMENT) - intended
        characters += len(text)
        if codec.startswith(("utf-16", "utf-32")) and facts.invalid > _INVALID * characters:
            said = codec[: len("utf-16")].upper()
            raise UserError(f"{name} is not valid {said} text: save it as UTF-8 and add it again.")
        yield text


def _tidied(texts: Iterator[str], name: str, facts: TextFacts) -> Iterator[str]:
    held = ""
    characters = 0
    for text in texts:
        characters += len(text)
        if "\0" in text:
            facts.dropped += text.count("\0")
            if facts.dropped > _NULS * characters:
                raise binary_file(b"", name, "it holds NUL bytes")
            text = text.replace("\0", "")
        if held or "\r" in text:
            # A "\r" at the end may be the first half of a "\r\n".
            text = held + text
            held = "\r" if text.endswith("\r") else ""
            text = text[: len(text) - len(held)].replace("\r\n", "\n")
        if text:
            yield text
    if held:
        yield held


def _gathered(data: bytes, blocks: Iterator[bytes]) -> bytes:
    """Return the data and as many blocks as make a sample of it."""
    if len(data) >= SAMPLE_BYTES:
        return data
    parts, size = [data], len(data)
    for block in blocks:
        parts.append(block)
        size += len(block)
        if size >= SAMPLE_BYTES:
            break
    return b"".join(parts)


def _unicode_encoding(head: bytes, name: str) -> str:
    """Return which Unicode encoding a file shows at its beginning, "utf-8" when none; raises UserError for a binary."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    refuse_known_binaries(head, name)
    if head.count(0) > _NULS * len(head):
        unmarked = _unmarked_unicode(head)
        if unmarked is None or kind_of_binary(head):
            raise binary_file(head, name, "it holds NUL bytes")
        return unmarked
    return "utf-8"


def _unmarked_unicode(head: bytes) -> str | None:
    """Return the encoding of UTF-16 or UTF-32 without a mark: in most alphabets the same bytes of each are zero."""
    for encoding, width in (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2)):
        zeros = [head[i::width].count(0) * width / len(head) for i in range(width)]
        if encoding.endswith("be"):
            zeros.reverse()
        if zeros[-1] > 0.4 and zeros[0] < _NULS and (width == 2 or zeros[-2] > 0.9):
            with suppress(UnicodeDecodeError):
                head[: len(head) // width * width - width].decode(encoding)
                return encoding
    return None


def _encoding_of_invalid(sample: bytes, valid_before: int, name: str, declared: str) -> str:
    """Return what a text is in that is not valid UTF-8 from here on, "" for UTF-8 with damage."""
    if len(sample) - len(sample.translate(None, _CONTROL_BYTES)) > _CONTROLS * len(sample):
        raise binary_file(b"", name, "it is full of control characters")
    as_utf8 = sample.decode("utf-8", "replace")
    invalid = as_utf8.count(_REPLACEMENT) - sample.count(_REPLACEMENT.encode())
    if valid_before + len(_BEYOND_ASCII.findall(as_utf8)) >= invalid:
        return ""
    with suppress(LookupError, UnicodeDecodeError):
        if declared and b"<html>".decode(declared) == "<html>":
            sample[: len(sample) // 2].decode(declared)
            return codecs.lookup(declared).name
    return _legacy_encoding(sample)


def _legacy_encoding(sample: bytes) -> str:
    words = b" ".join(word for word in sample.split() if not word.isascii())
    if sum(byte >= 0x80 for byte in words) < _ENOUGH_BYTES:
        return "cp1252"
    import charset_normalizer

    matches = list(charset_normalizer.from_bytes(words, cp_isolation=_LEGACY))
    if not matches:
        return "cp1252"
    best = matches[0]
    for match in matches:
        as_good = match.chaos <= best.chaos + _AS_GOOD and match.coherence >= best.coherence - _AS_GOOD
        if as_good and "cp1252" in match.could_be_from_charset:
            return "cp1252"  # by far the commonest, where a text does not tell
    return best.encoding
