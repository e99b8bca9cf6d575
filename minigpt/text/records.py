"""Small files of our own that anybody may have written since: read in bounded memory, or refused.

manifest = read_toml(folder / "corpus.toml", Manifest)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from minigpt.events import open_file

Record = TypeVar("Record")
LARGEST_TOML = 1 << 23
LARGEST_JSON = 1 << 28


def read_toml(path: Path, kind: type[Record]) -> Record:
    """Read a TOML file as a `kind`; raises OSError, and msgspec.DecodeError for whatever is wrong with what it says."""
    return _read(path, LARGEST_TOML, lambda data: msgspec.toml.decode(data, type=kind))


def read_json(path: Path, kind: type[Record]) -> Record:
    """Read a JSON file as a `kind`; raises OSError, and msgspec.DecodeError for whatever is wrong with what it says."""
    return _read(path, LARGEST_JSON, lambda data: msgspec.json.decode(data, type=kind))


def _read(path: Path, largest: int, decode: Callable[[bytes], Record]) -> Record:
    with open_file(path) as file:
        data = file.read(largest + 1) or b""
    if len(data) > largest:
        raise msgspec.DecodeError(f"it is larger than {largest / 1e6:,.0f} MB")
    try:
        return decode(data)
    except RecursionError as error:
        raise msgspec.DecodeError("it is nested too deeply") from error
    except ValueError as error:  # no UTF-8, or a number of thousands of digits
        if isinstance(error, msgspec.DecodeError):
            raise
        raise msgspec.DecodeError(str(error)) from error
