"""Unicode that was spoilt on its way, repaired: bytes read in the wrong encoding, control characters, broken line ends.

repair("cafÃ©")      # "café"
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from minigpt.text.documents import Document, Message
from minigpt.text.duplicates import extra

# All that ftfy could change in ASCII: control characters, and "\r" as the end of a line.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0d-\x1f\x7f]")


def repair(text: str) -> str:
    """Return text with its Unicode repaired by ftfy; raises UserError when that is not installed.

    Works line by line, so blocks of a long text may be repaired one after the other (best cut after newlines).
    """
    if text.isascii() and not _CONTROL.search(text):
        return text
    lines = text.split("\n")
    ended, last = [line + "\n" for line in lines[:-1]], lines[-1]
    return "".join(line if line.isascii() and not _CONTROL.search(line) else fixer()(line) for line in [*ended, last])


def repair_document(document: Document) -> Document:
    """Return the document with its text, or what its messages say, repaired; itself where nothing changes."""
    repaired = [repair(text) for text in document.texts()]
    if repaired == document.texts():
        return document
    if not document.messages:
        return Document(repaired[0])
    messages = zip(document.messages, repaired, strict=True)
    return Document(messages=tuple(Message(message.role, content) for message, content in messages))


@cache
def fixer() -> Callable[[str], str]:
    """Return ftfy's repair without what is a matter of taste, not of a wrong encoding; raises UserError as `repair`.

    Curly quotes are good English and full-width commas good Chinese, so both stay. "&lt;" stays too: in text about
    HTML it is meant, and unescaping it (ftfy decides that by the first "<" it sees) would depend on the lines before.
    """
    ftfy = extra("ftfy")
    config = ftfy.TextFixerConfig(unescape_html=False, uncurl_quotes=False, fix_character_width=False, explain=False)
    return lambda text: ftfy.fix_text(text, config)
