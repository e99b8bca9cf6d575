"""How files of many formats are read: each is named by how its file's name ends, with or without .gz or .zst."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Format = Literal["text", "html", "json", "jsonl", "csv", "parquet"]

_FORMATS: dict[str, Format] = {
    ".txt": "text",
    ".md": "text",
    ".html": "html",
    ".htm": "html",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
PACKED_SUFFIXES = (".gz", ".zst")
SUFFIXES = tuple(_FORMATS)
ROW_FORMATS: tuple[Format, ...] = ("json", "jsonl", "csv", "parquet")


def suffix_of(path: Path) -> str:
    """Return what a file's name ends with, in lower case, without .gz or .zst."""
    name = Path(path.name.lower())
    return Path(name.stem).suffix if name.suffix in PACKED_SUFFIXES else name.suffix


def format_of(path: Path) -> Format:
    """Return the format that a file's name tells; one that tells nothing is plain text."""
    return _FORMATS.get(suffix_of(path), "text")


def is_readable(path: Path) -> bool:
    """Whether a file's name says that there is text in it."""
    return suffix_of(path) in _FORMATS


def has_rows(path: Path) -> bool:
    """Whether a file holds rows (JSON, CSV, Parquet) rather than running text."""
    return format_of(path) in ROW_FORMATS
