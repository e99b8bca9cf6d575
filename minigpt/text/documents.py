"""What a document is, and how documents are read from files.

A .jsonl file holds one document a line, {"text": ...} or {"messages": [{"role": ..., "content": ...}, ...]}; any other
file is one plain text.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

import msgspec

from minigpt.errors import UserError, printable
from minigpt.text.storage import shown

ROLES = ("user", "assistant")
BLOCK_BYTES = 1 << 23
_SNIFFED_BYTES = 1 << 16

# How files that are no text begin, and what they are.
_MAGIC = {
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive or an office document",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "a database",
    b"{\\rtf": "an RTF document",
    b"\xd0\xcf\x11\xe0": "an old office document",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"\x7fELF": "a program",
}
_CONTROL_BYTES = bytes([*range(1, 9), *range(14, 27), *range(28, 32), 127])


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation; `role` is "user" or "assistant"."""

    role: str
    content: str


class Document(msgspec.Struct, frozen=True):
    """One document: a plain text or a conversation (one of the two is set)."""

    text: str = ""
    messages: tuple[Message, ...] = ()

    def texts(self) -> list[str]:
        """Return the text, or what each message says, without any join."""
        return [message.content for message in self.messages] if self.messages else [self.text]


def read_documents(path: Path) -> Iterator[Document]:
    """Yield the documents of one file, "\\r\\n" read as "\\n"; those without any text are left out.

    Raises UserError naming the file (and line) when it is not readable text or not the expected JSON.
    """
    if is_jsonl(path):
        yield from _read_jsonl(path)
    else:
        text = "".join(read_text_blocks(path))
        if text:
            yield Document(text=text)


def read_text_blocks(path: Path) -> Iterator[str]:
    """Yield a text file's characters in blocks, "\\r\\n" read as "\\n"."""
    held = ""
    for block in _blocks(path, detect_encoding(path)):
        block = held + block
        # A "\r" at the end may be the first half of a "\r\n".
        held = "\r" if block.endswith("\r") else ""
        yield block[: len(block) - len(held)].replace("\r\n", "\n")
    if held:
        yield held


def detect_encoding(path: Path) -> str:
    """Return the codec a text file reads with: by its byte-order mark, else UTF-8, else cp1252 or Latin-1.

    Raises UserError when the file cannot be read or is not text.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_SNIFFED_BYTES)
            for magic, what in _MAGIC.items():
                if head.startswith(magic):
                    raise UserError(f"{shown(path)} is {what}, not text: save its text as .txt first and add that.")
            if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                if not _decodes(path, "utf-16"):
                    raise UserError(f"{shown(path)} is not valid UTF-16 text: save it as UTF-8 and add it again.")
                return "utf-16"
            file.seek(0)
            if any(b"\0" in block for block in iter(lambda: file.read(BLOCK_BYTES), b"")):
                raise UserError(f"{shown(path)} is a binary file, not text (it holds NUL bytes): leave it out.")
        for encoding in ("utf-8-sig" if head.startswith(codecs.BOM_UTF8) else "utf-8", "cp1252"):
            if _decodes(path, encoding):
                break
            if len(head) - len(head.translate(None, _CONTROL_BYTES)) > len(head) // 50:
                raise UserError(f"{shown(path)} is a binary file, not text: leave it out.")
        else:
            encoding = "latin-1"
    except OSError as error:
        raise UserError(f"Cannot read {shown(path)} ({error.strerror}): check the path and its permissions.") from error
    return encoding


def _decodes(path: Path, encoding: str) -> bool:
    try:
        for _ in _blocks(path, encoding):
            pass
    except UnicodeDecodeError:
        return False
    return True


def _blocks(path: Path, encoding: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield decoder.decode(block)
        yield decoder.decode(b"", True)


class _Line(msgspec.Struct):
    text: str | None = None
    messages: list[Message] | None = None


def _read_jsonl(path: Path) -> Iterator[Document]:
    decoder = msgspec.json.Decoder(_Line)
    for number, line in enumerate(_lines(path), start=1):
        if not line or line.isspace():
            continue
        try:
            document = _document(decoder.decode(line))
        except (msgspec.DecodeError, ValueError) as error:
            raise UserError(
                f"{shown(path)}, line {number}: {printable(str(error), single_line=True)}; each line must be "
                '{"text": "..."} or {"messages": [{"role": "user" or "assistant", "content": "..."}, ...]}.'
            ) from error
        if any(document.texts()):
            yield document


def _lines(path: Path) -> Iterator[str]:
    rest = ""
    for block in _blocks(path, detect_encoding(path)):
        *lines, rest = (rest + block).split("\n")
        yield from lines
    yield rest


def _document(line: _Line) -> Document:
    if (line.text is None) == (line.messages is None):
        raise ValueError('one of "text" and "messages" is needed')
    messages = tuple(Message(m.role, m.content.replace("\r\n", "\n")) for m in line.messages or ())
    for message in messages:
        if message.role not in ROLES:
            raise ValueError(f"unknown role {message.role!r}")
    return Document((line.text or "").replace("\r\n", "\n"), messages)


def is_jsonl(path: Path) -> bool:
    return path.suffix.lower() == ".jsonl"
