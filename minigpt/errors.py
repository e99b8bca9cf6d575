"""What goes wrong by a user's hand, and how text that we did not write reaches a terminal."""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


class UserError(Exception):
    """One clear sentence: what, where, what is allowed, what to do. The command line exits with code 2."""


class JobFailed(Exception):
    """A job that began well and could not be finished, in one sentence. The command line exits with code 1."""


def printable(text: str, single_line: bool = False) -> str:
    """Return text with control and direction-changing characters shown as \\x.., newline and tab kept.

    Everything from a file, a URL, a prompt or a model passes through here before a terminal sees it.
    With `single_line`, newlines and tabs are shown as \\n and \\t too.
    """
    if single_line:
        text = text.replace("\n", "\\n").replace("\t", "\\t")
    text = _UNSAFE.sub(lambda match: match.group().encode("unicode_escape").decode(), text)
    # Lone surrogates (undecodable file names) would make print() raise.
    return text.encode("utf-8", "backslashreplace").decode()


def one_line(name: object) -> str:
    """Return a name or a path as it may stand in a sentence: whatever is in it, it makes no line of its own."""
    return printable(str(name), single_line=True)


def safe_json(text: str) -> str:
    """Return JSON as a terminal may see it: what JSON leaves as it is and a terminal obeys is written \\u.., which is
    the same to whoever reads it.
    """
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
