"""A tokenizer.json, ours or another's: read, and refused where it is damaged or a trap for memory.

core, vocabulary = parse_core(read_json_text(path), origin=shown(path))
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import tokenizers

from minigpt.errors import UserError, printable
from minigpt.events import open_file
from minigpt.text.storage import shown

# The largest of other people's are a tenth of that.
_LARGEST_BYTES = 1 << 28
_LARGEST_ID = 1 << 24
_MOST_GROWTH = 1000


def read_json_text(path: Path) -> str:
    """Return the text of a tokenizer.json; raises UserError when it is missing, too large or no text."""
    try:
        with open_file(path) as file:
            content = file.read(_LARGEST_BYTES + 1) or b""
        if len(content) > _LARGEST_BYTES:
            raise UserError(f"{shown(path)} is larger than any tokenizer.json: name another file.")
        return content.decode("utf-8")
    except OSError as error:
        raise UserError(f"Cannot read the tokenizer {shown(path)} ({error.strerror}): check the path.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{shown(path)} is not a tokenizer.json (it is not text): name another file.") from error


def parse_core(text: str, origin: str) -> tuple[tokenizers.Tokenizer, dict[str, int]]:
    """Return what the text of a tokenizer.json describes, with its vocabulary; raises UserError when it is not one."""
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
    return core, vocabulary


def _growth(step: Any) -> float:
    """Return how many times as long a text may become by what a tokenizer.json does to it first, or last."""
    if not isinstance(step, dict):
        return 1
    if step.get("type") == "Sequence":
        return math.prod(map(_growth, step.get("normalizers") or step.get("decoders") or []))
    if step.get("type") == "Replace":
        return 1.0 + len(step.get("content") or "") / max(1, len(step["pattern"].get("String") or ""))
    return 1.0 + len(step.get("prepend") or "")
