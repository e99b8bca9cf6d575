"""Pages and files from a server on this machine: what is kept of them, and what is refused."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from minigpt.errors import UserError
from minigpt.tasks import Cancelled, Task
from minigpt.text import web
from minigpt.text.corpus import Corpus
from minigpt.text.fetching import Limits, TooLarge, Unreachable
from minigpt.text.reading import Reading
from minigpt.text.web import Page, UrlSource, fetch_page
from minigpt.workspace import Workspace
from tests.text.servers import Answer, Site, no_proxies, page, redirect, serving

PARAGRAPHS = [
    "Ada Lovelace was an English mathematician and writer, chiefly known for her work on the Analytical Engine.",
    "She was the first to recognise that the machine had applications beyond pure calculation, and she wrote about it.",
    "Her notes, published in 1843, hold what many call the first program, a way to compute the Bernoulli numbers.",
]
ARTICLE = """
<nav id="menu"><ul><li><a href="/">Main page</a></li><li><a href="/random">Random article</a></li>
<li><a href="/donate">Donate to us</a></li></ul></nav>
<main><h1>The Countess</h1><div class="toc"><a href="#life">Life</a> <a href="#work">Work</a></div>
<article>{}</article></main>
<footer><a href="/privacy">Privacy policy</a> <a href="/login">Log in</a> Text is available under a licence.</footer>
""".format("".join(f"<p>{text}</p>" for text in PARAGRAPHS))


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    no_proxies(monkeypatch)
    with serving() as site:
        yield site


def fetched(site: Site, path: str, answer: Answer, folder: Path, as_is: bool = False) -> Page:
    return fetch_page(site.add(path, answer), folder, allow_private=True, as_is=as_is)


def refusal(url: str, folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        fetch_page(url, folder, allow_private=True)
    assert list(folder.iterdir()) == []
    return str(caught.value)


# Web pages


def test_an_article_is_kept_without_what_is_around_it(site: Site, tmp_path: Path) -> None:
    got = fetched(site, "/wiki/Ada_Lovelace", page(ARTICLE, "The Countess - Encyclopedia"), tmp_path)
    text = got.path.read_text()
    assert text == "The Countess\n\n" + "\n".join(PARAGRAPHS) + "\n"
    assert (got.kind, got.title, got.path.name) == ("html", "The Countess", "Ada_Lovelace.txt")
    assert (got.characters, got.notes) == (len(text), ())


def test_as_is_keeps_a_page_s_source_as_plain_text(site: Site, tmp_path: Path) -> None:
    answer = page(ARTICLE)
    got = fetched(site, "/ada.html", answer, tmp_path, as_is=True)
    assert got.path.read_bytes() == answer.body
    assert (got.kind, got.path.name) == ("text", "ada.txt")


def test_a_short_page_is_kept_with_a_word(site: Site, tmp_path: Path) -> None:
    got = fetched(site, "/", page("<h1>Example</h1><p>This domain is for use in examples.</p>"), tmp_path)
    assert "for use in examples" in got.path.read_text()
    assert "holds only" in got.notes[0]


def test_where_redirects_led_is_told(site: Site, tmp_path: Path) -> None:
    site.add("/wiki/Ada", page(ARTICLE))
    got = fetched(site, "/ada", redirect("/wiki/Ada"), tmp_path)
    assert got.url == site.url("/wiki/Ada")
    assert got.notes == (f"It came from {site.url('/wiki/Ada')}, where the URL leads.",)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ('<form><input name="user"><input type="password"><button>Sign in</button></form>', "a login page"),
        (
            '<noscript>Please enable JavaScript.</noscript><div id="root"></div><script src="a.js"></script>',
            "a page that shows its text by JavaScript only",
        ),
        ("<p>We value your privacy.</p><button>Accept all cookies</button>", "a page that asks for consent first"),
        ('<h1>Just a moment</h1><div class="h-captcha"></div>', "a check whether you are human"),
        ("<img src='a.png'>", "a page without text"),
    ],
)
def test_pages_without_what_was_meant_are_told_by_what_they_look_like(
    site: Site, tmp_path: Path, body: str, what: str
) -> None:
    assert f"looks like {what} (" in refusal(site.add("/", page(body)), tmp_path)


def test_an_article_with_a_login_beside_it_is_an_article(site: Site, tmp_path: Path) -> None:
    more = "".join(f"<p>Chapter {n}. {text}</p>" for n in range(4) for text in PARAGRAPHS)
    body = f'<form><input type="password"></form>{ARTICLE.replace("</article>", more + "</article>")}'
    assert PARAGRAPHS[0] in fetched(site, "/", page(body), tmp_path).path.read_text()


def test_a_huge_page_is_refused_with_what_to_do(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "HTML_BYTES", 100_000)
    assert "--as-is" in refusal(site.add("/", page("<p>words</p>" * 20_000)), tmp_path)


# Files


@pytest.mark.parametrize(
    ("path", "media_type", "body", "name", "kind"),
    [
        ("/notes.txt", "text/plain", "Once", "notes.txt", "text"),
        ("/notes", "text/plain", "Once", "notes.txt", "text"),
        ("/", "", "Once", "127.0.0.1.txt", "text"),
        ("/README.md", "text/plain", "# Once", "README.md", "text"),
        ("/rows.jsonl", "application/octet-stream", '{"text": "<p>Once</p>"}\n', "rows.jsonl", "jsonl"),
        ("/rows.jsonl", "text/html", '{"text": "<p>Once</p>"}\n', "rows.jsonl", "jsonl"),
        ("/api?page=2", "application/json", '{"text": "Once"}', "api.json", "json"),
        ("/table.php", "text/csv; charset=utf-8", "text\nOnce\n", "table.php.csv", "csv"),
        ("/main.tex", "text/x-tex", "Once", "main.tex.txt", "text"),
    ],
)
def test_text_is_kept_as_it_is_under_a_name_by_which_it_is_read(
    site: Site, tmp_path: Path, path: str, media_type: str, body: str, name: str, kind: str
) -> None:
    got = fetched(site, path, Answer(body.encode(), media_type), tmp_path)
    assert (got.path.name, got.kind, got.characters) == (name, kind, len(body))
    assert got.path.read_text() == body


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..%2F..%2Fetc%2Fpasswd", "a%0Ab%1B[31m.txt", ".hidden", "x" * 500]
)
def test_names_from_elsewhere_stay_in_the_folder(site: Site, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    answer = Answer(b"Once", headers={"Content-Disposition": f'attachment; filename="{name}"'})
    by_header = fetched(site, "/a", answer, folder)
    by_url = fetched(site, f"/files/{quote(name, safe='%')}", Answer(b"Once"), folder)
    assert sorted(folder.iterdir()) == sorted({by_header.path, by_url.path})
    assert by_url.path.name.isprintable()
    assert not by_url.path.name.startswith(".")


def test_a_name_that_is_taken_gets_a_number(site: Site, tmp_path: Path) -> None:
    fetched(site, "/a.txt", Answer(b"one"), tmp_path)
    assert fetched(site, "/a.txt", Answer(b"two"), tmp_path).path.name == "a-2.txt"


@pytest.mark.parametrize(
    ("pack", "name"), [(gzip.compress, "rows.jsonl.gz"), (zstandard.compress, "rows.jsonl.zst")], ids=["gzip", "zstd"]
)
def test_packed_text_stays_packed(site: Site, tmp_path: Path, pack: Callable[[bytes], bytes], name: str) -> None:
    body = pack(b'{"text": "Once"}\n' * 100)
    got = fetched(site, f"/{name}", Answer(body, "application/octet-stream"), tmp_path)
    assert got.path.read_bytes() == body
    assert (got.path.name, got.kind, got.characters) == (name, "jsonl", 1700)


def test_parquet_is_kept(site: Site, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["Once", "upon"]}), tmp_path / "in")
    body = (tmp_path / "in").read_bytes()
    got = fetched(site, "/resolve/main/data", Answer(body, "application/octet-stream"), tmp_path / "out")
    assert (got.path.name, got.kind, got.characters) == ("data.parquet", "parquet", None)
    assert got.path.read_bytes() == body


@pytest.mark.parametrize(
    ("body", "media_type", "what"),
    [
        (b"%PDF-1.7\n" + bytes(range(256)) * 20, "application/pdf", "a PDF"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 500, "image/png", "an image"),
        (b"PK\x03\x04" + b"\0" * 500, "application/zip", "zip archive"),
        (gzip.compress(b"\0" * 257 + b"ustar" + b"\0" * 500), "application/gzip", "tar archive"),
        (bytes(range(256)) * 20, "video/mp4", "binary file"),
        (b"", "text/plain", "is empty"),
        (gzip.compress(b""), "text/plain", "is empty"),
        (gzip.compress(b"text " * 5000)[:-30], "application/gzip", "cannot be unpacked"),
    ],
    ids=["pdf", "png", "zip", "tar.gz", "video", "empty", "empty gzip", "damaged gzip"],
)
def test_what_is_no_text_is_refused_by_its_kind(
    site: Site, tmp_path: Path, body: bytes, media_type: str, what: str
) -> None:
    assert what in refusal(site.add("/file", Answer(body, media_type)), tmp_path)


def test_a_file_that_unpacks_without_end_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "READING_LIMITS", replace(web.READING_LIMITS, unpacked=1000))
    bomb = gzip.compress(b"a" * 20_000_000)
    assert "decompression bomb" in refusal(site.add("/a.txt.gz", Answer(bomb)), tmp_path)


# Encodings


@pytest.mark.parametrize(
    ("said", "encoding"),
    [
        ("windows-1251", "cp1251"),
        ("utf-8", "utf-8"),
        ("iso-8859-1", "utf-8"),  # said wrongly
        ("utf-8", "cp1251"),  # said wrongly
        ("no-such-thing", "cp1251"),
        ("idna", "cp1251"),
        ("", "utf-16"),
    ],
)
def test_text_is_read_in_the_encoding_it_is_in(site: Site, tmp_path: Path, said: str, encoding: str) -> None:
    text = "Ада Лавлейс была английским математиком и писательницей, известной прежде всего своей работой. " * 3
    media_type = f"text/plain; charset={said}" if said else "text/plain"
    got = fetched(site, "/ada", Answer(text.encode(encoding), media_type), tmp_path)
    assert got.path.read_text(encoding="utf-8") == text


def test_a_page_that_names_its_encoding_is_read_in_it(site: Site, tmp_path: Path) -> None:
    text = "Ada Lovelace schrieb über die Maschine — „nicht nur für Zahlen“. " * 5
    source = f'<html><head><meta charset="iso-8859-1"></head><body><article><p>{text}</p></article></body></html>'
    got = fetched(site, "/", Answer(source.encode("cp1252"), "text/html"), tmp_path)
    assert got.path.read_text().strip() == text.strip()


# As a source of a corpus


def test_a_page_becomes_a_corpus_of_one_document(site: Site, tmp_path: Path) -> None:
    source = UrlSource(site.add("/wiki/Ada", page(ARTICLE)), allow_private=True)
    corpus = Corpus.create(Workspace(tmp_path), "ada", source)
    record = corpus.manifest.sources[0]
    assert (record.kind, record.origin, record.reading.split) == ("url", site.url("/wiki/Ada"), "file")
    assert "The page's title is The Countess." in record.notes
    assert PARAGRAPHS[2] in next(iter(corpus.documents())).text


def test_rows_at_a_url_are_documents(site: Site, tmp_path: Path) -> None:
    url = site.add("/rows.jsonl", Answer(b'{"story": "Once upon a time"}\n{"story": "There was a fox"}\n'))
    corpus = Corpus.create(Workspace(tmp_path), "rows", UrlSource(url, allow_private=True))
    assert [document.text for document in corpus.documents()] == ["Once upon a time", "There was a fox"]


def test_how_a_file_is_split_may_be_chosen(site: Site, tmp_path: Path) -> None:
    url = site.add("/lines.txt", Answer(b"Once\nupon\n"))
    source = UrlSource(url, allow_private=True, reading=Reading("line"))
    assert Corpus.create(Workspace(tmp_path), "lines", source).manifest.documents == 2


def test_nothing_is_left_of_a_download_that_is_stopped(site: Site, tmp_path: Path) -> None:
    class Stopping(Task):
        def report(self, phase: str, done: float = 0, total: float | None = None, unit: str = "") -> None:
            if done > 200_000:
                raise Cancelled

    with pytest.raises(Cancelled):
        fetch_page(site.add("/", site.trickle(b"x" * 9999 + b"\n", 0)), tmp_path, allow_private=True, task=Stopping())
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_download_that_breaks_a_limit(site: Site, tmp_path: Path) -> None:
    url = site.add("/", site.trickle(b"x" * 9999 + b"\n", 0))
    with pytest.raises(TooLarge):
        fetch_page(url, tmp_path, allow_private=True, limits=Limits(endless_bytes=500_000))
    assert list(tmp_path.iterdir()) == []


def test_a_private_address_is_refused_by_default(site: Site, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="--allow-private"):
        UrlSource(site.add("/", Answer(b"secret"))).write(tmp_path, Task())


def test_a_full_disk_is_told_before_the_download(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.text.sources.free_disk", lambda path: 1000)
    assert "free" in refusal(site.add("/", Answer(b"x" * 5000)), tmp_path)
