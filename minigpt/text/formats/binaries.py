"""What is no text, and what it is instead."""

from __future__ import annotations

from minigpt.errors import UserError

PARQUET = b"PAR1"
_SAVE = "save its text as .txt first and add that"
_UNPACK = "unpack it and add the files in it"

# How files that are no text begin, what they are and what to do.
_MAGIC = (
    (b"%PDF", "a PDF", _SAVE),
    (b"%!PS", "a PostScript file", _SAVE),
    (b"{\\rtf", "an RTF document", _SAVE),
    (b"\xd0\xcf\x11\xe0", "an old office document", _SAVE),
    (b"AT&TFORM", "a DjVu document", _SAVE),
    (b"\x1f\x8b", "a gzip archive inside another", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive inside another", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ", "an xz archive", _UNPACK),
    (b"7z\xbc\xaf", "a 7-Zip archive", _UNPACK),
    (b"Rar!\x1a", "a RAR archive", _UNPACK),
    (b"\x04\x22\x4d\x18", "an LZ4 archive", _UNPACK),
    (PARQUET, "a Parquet file", "give it a name that ends in .parquet"),
    (b"ARROW1", "an Arrow file", "save it as .parquet"),
    (b"SQLite format 3", "a database", "save the text in it as .csv or .jsonl"),
    (b"\x89HDF", "an HDF5 file", "save the text in it as .csv or .jsonl"),
    (b"\x93NUMPY", "a NumPy array", "leave it out"),
    (b"\x89PNG", "an image", "leave it out"),
    (b"\xff\xd8\xff", "an image", "leave it out"),
    (b"GIF8", "an image", "leave it out"),
    (b"\x7fELF", "a program", "leave it out"),
    (b"\xcf\xfa\xed\xfe", "a program", "leave it out"),
    (b"\xca\xfe\xba\xbe", "a program", "leave it out"),
    (b"\0asm", "a program", "leave it out"),
)
# Text may begin like these too: they are asked about only where something else says that it is no text.
_MAGIC_OF_BINARIES = (
    (b"MZ", "a program"),
    (b"BM", "an image"),
    (b"RIFF", "sound, video or an image"),
    (b"OggS", "sound"),
    (b"ID3", "sound"),
    (b"fLaC", "sound"),
)
_TAR_AT, _TAR = 257, b"ustar"
_FILM_AT, _FILM = 4, b"ftyp"
_IN_OFFICE = (b"[Content_Types].xml", b"mimetypeapplication/vnd.oasis", b"word/", b"xl/", b"ppt/")


def refuse_known_binaries(head: bytes, name: str) -> None:
    """Raise UserError when a file begins like one that is no text, whatever its name says."""
    if head.startswith(b"PK\x03\x04"):
        what, advice = _kind_of_zip(head)
        raise UserError(f"{name} is {what}, not text: {advice}.")
    for magic, what, advice in _MAGIC:
        if head.startswith(magic):
            raise UserError(f"{name} is {what}, not text: {advice}.")
    if head[_TAR_AT:].startswith(_TAR):
        raise UserError(f"{name} is a tar archive, not text: {_UNPACK}.")


def kind_of_binary(head: bytes) -> str:
    """Return what a file that is no text begins like, "" when that says nothing."""
    kinds = (what for magic, what in _MAGIC_OF_BINARIES if head.startswith(magic))
    return next(kinds, "a film" if head[_FILM_AT:].startswith(_FILM) else "")


def binary_file(head: bytes, name: str, why: str) -> UserError:
    """Return what to say of a file that is no text by what is in it."""
    kind = kind_of_binary(head)
    return UserError(f"{name} is a binary file{', ' if kind else ''}{kind}, not text ({why}): leave it out.")


def _kind_of_zip(head: bytes) -> tuple[str, str]:
    if b"mimetypeapplication/epub" in head:
        return "an e-book (EPUB)", _SAVE
    if any(part in head for part in _IN_OFFICE):
        return "an office document", _SAVE
    return "a zip archive or an office document", "unpack it, or save its text as .txt, and add that"
