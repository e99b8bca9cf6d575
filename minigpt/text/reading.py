"""How a file becomes documents, and what was passed over on the way.

Reading(split="field", field="story")     # one document a row, from that field of JSON, CSV or Parquet
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import msgspec

# file: all of it is one document. line: each line is one. paragraph: blank lines part them. endoftext: <|endoftext|>
# parts them. field: a column of rows. messages: conversations, one a row. auto: guessed by file.
Split = Literal["auto", "file", "line", "paragraph", "endoftext", "field", "messages"]
SPLIT_CHOICES: tuple[str, ...] = get_args(Split)

EXAMPLES = 3


class Reading(msgspec.Struct, frozen=True):
    """How files are split into documents; `field` is the row's field that holds the text (or the messages).

    Of conversations that are a question and its answer, `field` names both, the answer last: "instruction+output".
    """

    split: Split = "auto"
    field: str = ""


AUTO = Reading()


@dataclass
class Passed:
    """What a reader could not use: how many rows or lines, and the first few of them in words."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, what: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(what)
