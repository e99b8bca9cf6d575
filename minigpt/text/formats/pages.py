"""Web pages: what an article says, without menus and advertisements."""

from __future__ import annotations

import logging
import re

from minigpt.text.formats.encodings import SAMPLE_BYTES, TextFacts, decode

_DECLARED = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w:.-]{1,40})", re.IGNORECASE)
_NOBODY_HEARS = logging.NullHandler()


def page_source(data: bytes, name: str, facts: TextFacts) -> str:
    """Return a page's HTML in the encoding it has or says it has."""
    declared = _DECLARED.search(data[:SAMPLE_BYTES])
    return "".join(decode([data], name, facts, declared.group(1).decode("ascii", "replace") if declared else ""))


def page_text(html: str) -> str:
    """Return a page's title and main text, or all text on it where there is no main part."""
    import trafilatura

    # Its complaints about odd pages would end up on the screen.
    logging.getLogger("trafilatura").addHandler(_NOBODY_HEARS)
    if not html.strip():
        return ""
    found = trafilatura.bare_extraction(html, with_metadata=True, include_comments=False)
    if found is None or isinstance(found, dict) or not (found.text or "").strip():
        return str(trafilatura.html2txt(html) or "").strip()
    title, text = (found.title or "").strip(), str(found.text).strip()
    return text if not title or text.splitlines()[0].strip() == title else f"{title}\n\n{text}"
