"""Text from a URL: the main text of a web page, or a file of text as it is.

page = fetch_page("https://en.wikipedia.org/wiki/Ada_Lovelace", folder)
page.path.read_text()
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from minigpt.errors import UserError
from minigpt.tasks import NOBODY, Task
from minigpt.text.fetching import DEFAULT_LIMITS, Limits, Reply, TooLarge, open_url, shown_url
from minigpt.text.formats import PACKED_SUFFIXES, Format, format_of, is_readable, suffix_of
from minigpt.text.formats.encodings import SAMPLE_BYTES, TextFacts, decode, encoding_of_beginning
from minigpt.text.formats.opening import LIMITS as READING_LIMITS
from minigpt.text.manifest import SourceRecord
from minigpt.text.reading import Reading
from minigpt.text.sources import PathSource, require_room
from minigpt.text.unpacking import GZIP, Damaged, is_packed, unpacked, with_head
from minigpt.text.web_page import SHORT, is_html, main_text, meant_encoding, meta_charset

HTML_BYTES = 20_000_000
_PARQUET = b"PAR1"
_NAME_BYTES = 150  # a file's name may have 255
_READ_BYTES = 1 << 20
_MEDIA_SUFFIXES = {
    "application/json": ".json",
    "application/x-ndjson": ".jsonl",
    "application/ndjson": ".jsonl",
    "application/jsonl": ".jsonl",
    "application/jsonlines": ".jsonl",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "text/markdown": ".md",
}
# Sites that show a file in a page of their own, and where the file itself is.
_FILE_PAGES = {"github.com": "/raw/", "huggingface.co": "/resolve/"}


@dataclass(frozen=True)
class Page:
    """What a URL holds, as it lies in a file: text is UTF-8. `url` is where redirects led, `title` may be "".

    `characters` is None where nobody knows before the file is read (Parquet).
    """

    path: Path
    url: str
    title: str
    kind: Format
    characters: int | None
    notes: tuple[str, ...]


class UrlSource:
    """What a URL holds, as a source of a corpus: see `fetch_page`."""

    kind = "url"

    def __init__(
        self, url: str, *, allow_private: bool = False, as_is: bool = False, reading: Reading | None = None
    ) -> None:
        self.origin = shown_url(url)
        self._url = url
        self._allow_private = allow_private
        self._as_is = as_is
        self._reading = reading or Reading()

    def write(self, folder: Path, task: Task) -> SourceRecord:
        """Raises UserError and JobFailed as `fetch_page` does."""
        page = fetch_page(self._url, folder, allow_private=self._allow_private, as_is=self._as_is, task=task)
        reading = self._reading
        if page.kind == "html" and reading.split == "auto":
            reading = Reading("file")
        source = PathSource(page.path, reading)
        notes = [f"The page's title is {page.title}."] if page.kind == "html" and page.title else []
        return SourceRecord(self.kind, self.origin, [*notes, *page.notes, *source.notes], source.reading)


def fetch_page(
    url: str,
    into: Path,
    *,
    allow_private: bool = False,
    as_is: bool = False,
    task: Task = NOBODY,
    limits: Limits = DEFAULT_LIMITS,
) -> Page:
    """Put what a URL holds into a folder, as one file in a format that documents are read from.

    Of a web page that is its main text or, with `as_is`, its source. Raises UserError for what cannot be had, is too
    large, no text, or a page that asks for a login and the like, JobFailed for what breaks off; no file is left then.
    """

    def watch(received: int, total: int | None) -> None:
        task.report("downloading", received, total, "bytes")

    into.mkdir(parents=True, exist_ok=True)
    with open_url(url, allow_private=allow_private, limits=limits, watch=watch) as reply:
        return _Download(reply, into, task).page(as_is)


class _Download:
    """A reply on its way into a file."""

    def __init__(self, reply: Reply, folder: Path, task: Task) -> None:
        """Raises UserError when there is no room for it, or nothing in it."""
        self._reply, self._folder, self._task = reply, folder, task
        self._shown = shown_url(reply.url)
        require_room(folder, reply.length or 0, self._shown)
        self._head, self._blocks = with_head(reply.blocks(), SAMPLE_BYTES)
        if not self._head:
            raise self._empty()
        self._name = _safe_name(reply.file_name or unquote(urlsplit(reply.url).path.rpartition("/")[2]))
        self._name = self._name or _safe_name(urlsplit(reply.url).hostname or "") or "page"

    def page(self, as_is: bool) -> Page:
        if self._head.startswith(_PARQUET):
            return self._parquet()
        if is_packed(self._head):
            return self._packed()
        head = self._head[:SAMPLE_BYTES]
        beginning = head.decode(encoding_of_beginning(head, self._shown), "replace")
        # What a name promises counts unless a whole page stands in its place.
        named = is_readable(Path(self._name)) and format_of(Path(self._name)) != "html"
        if not is_html(beginning, "" if named else self._reply.media_type):
            return self._text(self._suffix(), self._reply.charset)
        charset = self._reply.charset or meta_charset(head)
        return self._text(".txt", charset) if as_is else self._html(charset)

    def _suffix(self) -> str:
        """Return how the name of a file of text should end."""
        path = Path(self._name)
        if is_readable(path) and format_of(path) not in ("html", "parquet"):
            return suffix_of(path)
        return _MEDIA_SUFFIXES.get(self._reply.media_type, ".txt")

    def _html(self, charset: str) -> Page:
        facts = TextFacts()
        source = "".join(decode([self._whole_page()], self._shown, facts, meant_encoding(charset)))
        found = main_text(source, self._reply.url, self._task)
        if found.doubt:
            raise UserError(
                f"{self._shown} looks like {found.doubt} ({len(found.text):,} characters of text): open it in a "
                "browser, save the text you see as a file and add that, or add --as-is to keep the page's source."
            )
        with self._new_file(".txt") as file:
            file.write(found.text.encode("utf-8", "replace") + b"\n")
        notes = [f"The page holds only {len(found.text):,} characters of text."] if len(found.text) < SHORT else []
        return self._described(file, "html", len(found.text) + 1, [*notes, *facts.notes(self._shown)], found.title)

    def _whole_page(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        for block in self._blocks:
            parts.append(block)
            size += len(block)
            if size > HTML_BYTES:
                raise TooLarge(
                    f"{self._shown} is a web page of over {HTML_BYTES / 1e6:.0f} MB: add --as-is to keep its source as "
                    "it is, or name a smaller page."
                )
        return b"".join(parts)

    def _text(self, suffix: str, charset: str) -> Page:
        facts = TextFacts()
        with self._new_file(suffix) as file:
            characters = 0
            for text in decode(self._blocks, self._shown, facts, meant_encoding(charset)):
                characters += len(text)
                self._write(file, text.encode("utf-8", "replace"))
            if not characters:
                raise self._empty()
        return self._described(file, format_of(Path(file.name)), characters, facts.notes(self._shown))

    def _parquet(self) -> Page:
        with self._new_file(".parquet") as file:
            for block in self._blocks:
                self._write(file, block)
        return self._described(file, "parquet", None, [])

    def _packed(self) -> Page:
        suffix = ".gz" if self._head.startswith(GZIP) else ".zst"
        with self._new_file(self._suffix() + suffix) as file:
            for block in self._blocks:
                self._write(file, block)
            file.flush()
            facts = TextFacts()
            characters = sum(map(len, decode(self._unpacked(Path(file.name)), self._shown, facts)))
            if not characters:
                raise self._empty()
        return self._described(file, format_of(Path(file.name)), characters, facts.notes(self._shown))

    def _unpacked(self, path: Path) -> Iterator[bytes]:
        """Unpack a file as far as its readers will, so that they refuse nothing that was kept."""
        limit = max(READING_LIMITS.unpacked, READING_LIMITS.ratio * path.stat().st_size)
        size = 0
        try:
            for piece in unpacked(_file_blocks(path)):
                size += len(piece)
                if size > limit:
                    raise TooLarge(
                        f"{self._shown} unpacks to over {limit / 1e9:,.1f} GB, {limit // path.stat().st_size:,} times "
                        "its size: that is no text but a trap (a decompression bomb); leave it out."
                    )
                self._task.report("unpacking", size, None, "bytes")
                yield piece
        except Damaged as error:
            raise UserError(f"{self._shown} cannot be unpacked ({error}): look for another copy of it.") from error

    @contextmanager
    def _new_file(self, suffix: str) -> Iterator[BinaryIO]:
        """Open a file of our own in the folder; it is removed unless all goes well."""
        path = _free_path(self._folder, _stem(self._name), suffix)
        try:
            with path.open("xb") as file:
                yield file
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _write(self, file: BinaryIO, data: bytes) -> None:
        require_room(self._folder, len(data), self._shown)
        file.write(data)

    def _described(
        self, file: BinaryIO, kind: Format, characters: int | None, notes: Iterable[str], title: str = ""
    ) -> Page:
        led = [f"It came from {self._shown}, where the URL leads."] if self._reply.redirected else []
        url = urlsplit(self._reply.url)
        instead = _FILE_PAGES.get(url.hostname or "") if kind == "html" else None
        if instead and "/blob/" in url.path:
            file_url = shown_url(self._reply.url.replace("/blob/", instead, 1))
            led.append(f"This is a page about a file: the file itself is at {file_url}.")
        path = Path(file.name)
        return Page(path, self._reply.url, title or path.name, kind, characters, (*led, *notes))

    def _empty(self) -> UserError:
        return UserError(f"{self._shown} is empty: check the URL.")


def _file_blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            yield block


def _safe_name(name: str) -> str:
    """Return a name that a file may have anywhere, "" when nothing of it is left."""
    name = re.sub(r"[^\w.-]+", "-", unicodedata.normalize("NFC", name)).strip("-._")
    return name.encode()[-_NAME_BYTES:].decode("utf-8", "ignore").lstrip("-._")


def _stem(name: str) -> str:
    """Return a name without the endings that say how it is read."""
    path = Path(name)
    if path.suffix.lower() in PACKED_SUFFIXES:
        path = Path(path.stem)
    return path.stem if is_readable(path) else path.name


def _free_path(folder: Path, stem: str, suffix: str) -> Path:
    path = folder / f"{stem}{suffix}"
    number = 2
    while path.exists():
        path = folder / f"{stem}-{number}{suffix}"
        number += 1
    return path
