"""The main text of a web page, and what a page looks like that has hardly any."""

from __future__ import annotations

import codecs
import logging
import re
import time
from contextlib import closing
from dataclasses import dataclass

from minigpt.errors import UserError, printable
from minigpt.tasks import Task
from minigpt.text.waiting import Worker

# Some pages keep the libraries busy for ever.
PATIENCE_SECONDS = 120.0
# Above this, second opinions on what the main text is take minutes.
_FAST_CHARACTERS = 2_000_000
_TITLE_CHARACTERS = 200
# A page with less text than this is looked at with suspicion; with a password field, already with less than that.
SHORT = 200
_SHORT_LOGIN = 600
_SHORT_AT_LOGIN_URL = 2000

_START = re.compile(
    r"\s*(<\?xml[^>]{0,200}>\s*)?(<!--.{0,2000}?-->\s*){0,5}<(!doctype\s+html|html|head|body)\b", re.I | re.S
)
_TAG = re.compile(r"<(html|head|body|title|meta|div|p|h1|table|span|a\s)\b", re.I)
_META_CHARSET = re.compile(rb"<meta[^>]{0,300}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.I)
_META_BYTES = 4096
# A server must not choose among all of Python's codecs.
_WEB_ENCODINGS = re.compile(r"(utf-(8|16|32)|cp\d|iso8859|iso2022|ascii|koi8|mac|big5|gb|euc_|shift_jis|tis).*")
# Names that nearly everybody uses for more than they say.
_MEANT = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932"}

_PASSWORD = re.compile(r"<input\b[^>]{0,500}\btype\s*=\s*[\"']?password", re.I)
_LOGIN_URL = re.compile(r"log[-_]?in\b|sign[-_]?in\b|/auth\b|/sso\b", re.I)
_ROBOT_CHECK = re.compile(r"captcha|cf-challenge|challenge-platform|are you (a )?(human|robot)", re.I)
_CONSENT = re.compile(
    r"consent|before you continue|(accept|allow|agree to)( all)? cookies|cookie (notice|policy)", re.I
)
_SCRIPTED = re.compile(
    r"(enable|requires?|needs?|without|turn on) javascript|<div\s[^>]{0,200}id=[\"']?(root|app|__next|__nuxt)\b", re.I
)

_NOBODY_HEARS = logging.NullHandler()


@dataclass(frozen=True)
class MainText:
    """What a page says. `doubt` is what it looks like in place of a page with text, "" when nothing is odd."""

    text: str
    title: str
    doubt: str = ""


def is_html(head: str, media_type: str) -> bool:
    """Whether text that begins so is a web page; what its server says counts unless the text speaks against it."""
    if media_type in ("text/html", "application/xhtml+xml"):
        return bool(_TAG.search(head))
    return bool(_START.match(head))


def meant_encoding(label: str) -> str:
    """Return the encoding that is meant by a name from the web, as its standard has browsers read it."""
    try:
        name = codecs.lookup(label.strip()).name
    except (LookupError, ValueError):
        return ""
    return _MEANT.get(name, name) if _WEB_ENCODINGS.fullmatch(name) else ""


def meta_charset(head: bytes) -> str:
    """Return the encoding that a page names for itself, "" when it names none."""
    found = _META_CHARSET.search(head[:_META_BYTES])
    return found[1].decode("ascii", "replace") if found else ""


def main_text(source: str, url: str, task: Task) -> MainText:
    """Return the main text of a page, without navigation and the like; raises UserError when that takes too long."""
    began = time.monotonic()

    def meanwhile() -> None:
        task.report("looking for the main text")
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise UserError(
                "This page is too intricate for its main text to be found: add --as-is to keep its source as it is, or "
                "save its text as a file and add that."
            )

    with closing(Worker()) as worker:
        text, title = worker.call(lambda: _extract(source), meanwhile)
    return MainText(text, printable(title, single_line=True)[:_TITLE_CHARACTERS], _doubt(source, text, url))


def _extract(source: str) -> tuple[str, str]:
    """Return the main text, with the title before it, and the title."""
    import trafilatura

    # Its complaints about odd pages would end up on the screen.
    logging.getLogger("trafilatura").addHandler(_NOBODY_HEARS)
    large = len(source) > _FAST_CHARACTERS
    # Metadata means looking for dates, too, which takes as long as the text.
    found = trafilatura.bare_extraction(source, include_comments=False, fast=large, with_metadata=not large)
    if found is None or isinstance(found, dict) or not (found.text or "").strip():
        return str(trafilatura.html2txt(source)).strip(), ""
    title, text = " ".join((found.title or "").split()), str(found.text).strip()
    return text if not title or text.startswith(title) else f"{title}\n\n{text}", title


def _doubt(source: str, text: str, url: str) -> str:
    source = source[:_FAST_CHARACTERS]  # patterns are slow on hostile pages
    short_login = _SHORT_AT_LOGIN_URL if _LOGIN_URL.search(url) else _SHORT_LOGIN
    if len(text) < short_login and _PASSWORD.search(source):
        return "a login page"
    if len(text) >= SHORT:
        return ""
    if _ROBOT_CHECK.search(source):
        return "a check whether you are human"
    if _SCRIPTED.search(source):
        return "a page that shows its text by JavaScript only"
    if _CONSENT.search(source):
        return "a page that asks for consent first"
    return "" if text else "a page without text"
