"""Fetching from a server on this machine: what it may do to us, and what it may not."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler

import pytest

from minigpt.tasks import Cancelled
from minigpt.text.addresses import privacy
from minigpt.text.fetching import BrokenOff, Limits, Reply, TooLarge, Unreachable, open_url
from tests.text.servers import PUBLIC_ADDRESS, Answer, Site, name_server, no_proxies, redirect, serving


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    no_proxies(monkeypatch)
    with serving() as site:
        yield site


def fetch(url: str, limits: Limits | None = None, allow_private: bool = True) -> tuple[bytes, Reply]:
    with open_url(url, allow_private=allow_private, limits=limits or Limits()) as reply:
        return b"".join(reply.blocks()), reply


def refusal(url: str, limits: Limits | None = None, allow_private: bool = False) -> str:
    with pytest.raises(Unreachable) as caught:
        fetch(url, limits, allow_private)
    return str(caught.value)


def test_a_file_comes_as_it_is_with_what_its_server_says_of_it(site: Site) -> None:
    url = site.add(
        "/book",
        Answer(b"Once\r\n", "text/plain; charset=Latin-1", headers={"Content-Disposition": 'inline; filename="b.txt"'}),
    )
    body, reply = fetch(url)
    assert (body, reply.url, reply.length, reply.redirected) == (b"Once\r\n", url, 6, False)
    assert (reply.media_type, reply.charset, reply.file_name) == ("text/plain", "latin-1", "b.txt")


def test_we_say_who_we_are(site: Site) -> None:
    fetch(site.add("/", Answer(b"text")))
    assert site.asked[0][1]["user-agent"].startswith("MiniGPT/")


def test_gzip_for_the_way_is_unpacked(site: Site) -> None:
    packed = gzip.compress(b"text " * 1000)
    assert fetch(site.add("/", Answer(packed, headers={"Content-Encoding": "gzip"})))[0] == b"text " * 1000


def test_redirects_are_followed_and_cookies_kept_on_the_way(site: Site) -> None:
    def behind_a_cookie(handler: BaseHTTPRequestHandler) -> None:
        has_it = "seen=1" in handler.headers.get("Cookie", "")
        (Answer(b"here") if has_it else redirect("/wall", **{"Set-Cookie": "seen=1"}))(handler)

    site.add("/start", redirect("wall"))
    site.add("/wall", behind_a_cookie)
    body, reply = fetch(site.url("/start"))
    assert (body, reply.url, reply.redirected) == (b"here", site.url("/wall"), True)


# Addresses


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("127.0.0.1", "this machine"),
        ("0.0.0.0", "this machine"),
        ("::1", "this machine"),
        ("::", "this machine"),
        ("::ffff:127.0.0.1", "this machine"),
        ("64:ff9b::7f00:1", "this machine"),
        ("10.1.2.3", "private network"),
        ("172.16.0.1", "private network"),
        ("192.168.1.1", "private network"),
        ("fd00::1", "private network"),
        ("::ffff:10.0.0.1", "private network"),
        ("169.254.169.254", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("100.64.0.1", "reserved"),
        ("2002:7f00:1::", "reserved"),
        ("::7f00:1", "reserved"),
        ("255.255.255.255", "reserved"),
    ],
)
def test_addresses_that_are_not_public(address: str, what: str) -> None:
    assert what in privacy(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_addresses_that_are_public(address: str) -> None:
    assert privacy(address) == ""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "127.1", "0x7f.1", "127.0.0.1.", "0.0.0.0"])
def test_this_machine_is_refused_however_it_is_written(site: Site, host: str) -> None:
    site.add("/", Answer(b"secret"))
    refusal(site.url("/", host))
    assert site.asked == []


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]"])
def test_private_addresses_are_refused_with_the_way_to_allow_them(host: str) -> None:
    assert "--allow-private" in refusal(f"http://{host}/latest/meta-data/")


def test_a_name_of_a_private_address_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    connected = name_server(monkeypatch, {"intranet.example": [["10.0.0.7"]]})
    assert "intranet.example (10.0.0.7) is an address in a private network" in refusal("http://intranet.example/")
    assert connected == []


def test_a_name_of_a_public_and_a_private_address_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    connected = name_server(monkeypatch, {"both.example": [[PUBLIC_ADDRESS, "10.0.0.7"]]})
    refusal("http://both.example/")
    assert connected == []


def test_a_public_name_is_fetched_by_the_address_that_was_judged(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    connected = name_server(monkeypatch, {"books.example": [[PUBLIC_ADDRESS], ["127.0.0.1"]]})
    site.add("/", Answer(b"Once"))
    body, reply = fetch(site.url("/", "books.example"), allow_private=False)
    assert (body, connected) == (b"Once", [PUBLIC_ADDRESS])
    assert reply.url == site.url("/", "books.example")
    assert site.asked[0][1]["host"] == f"books.example:{site.port}"


def test_a_redirect_to_a_private_address_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    name_server(monkeypatch, {"books.example": [[PUBLIC_ADDRESS]]})
    site.add("/", redirect(site.url("/secret")))
    site.add("/secret", Answer(b"secret"))
    assert "is this machine itself" in refusal(site.url("/", "books.example"))
    assert [path for path, _ in site.asked] == ["/"]


def test_a_name_that_becomes_private_after_a_redirect_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    name_server(monkeypatch, {"books.example": [[PUBLIC_ADDRESS], ["127.0.0.1"]]})
    site.add("/", redirect("/more"))
    site.add("/more", Answer(b"secret"))
    refusal(site.url("/", "books.example"))
    assert [path for path, _ in site.asked] == ["/"]


def test_the_next_address_is_tried_where_one_does_not_answer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    name_server(monkeypatch, {"books.example": [["127.0.0.1", "127.0.0.2"]]})
    with closing(__import__("socket").create_server(("127.0.0.2", 0))) as other:
        port = other.getsockname()[1]
        accepted = threading.Thread(target=lambda: _answer_once(other))
        accepted.start()
        assert fetch(f"http://books.example:{port}/")[0] == b"hi"
        accepted.join()


def _answer_once(listening: object) -> None:
    connection, _ = listening.accept()  # type: ignore[attr-defined]
    with connection:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")


def test_a_proxy_of_the_environment_is_not_used_unless_private_addresses_are_allowed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_server(monkeypatch, {"far.example": [[]]})
    monkeypatch.setenv("http_proxy", site.url(""))
    site.add("http://far.example/", Answer(b"through the proxy"))
    assert "the proxy of the environment is used with --allow-private only" in refusal("http://far.example/")
    assert fetch("http://far.example/")[0] == b"through the proxy"


# What is no URL, and servers that do not answer


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("ftp://example.org/a", "starts with http"),
        ("file:///etc/passwd", "starts with http"),
        ("example.org", "starts with http"),
        ("http://", "names no server"),
        ("http://example.org:99999/", "names no server"),
        ("http://[zz]/", "is no URL"),
        ("http://example.org/\x1b[31m", "is no URL"),
        ("https://ann:secret@example.org/a", "write https://example.org/a instead"),
    ],
)
def test_what_is_no_url_is_told(url: str, what: str) -> None:
    message = refusal(url)
    assert what in message
    assert "\x1b" not in message


def test_a_redirect_to_a_file_is_refused(site: Site) -> None:
    assert "leads elsewhere" in refusal(site.add("/", redirect("file:///etc/passwd")), allow_private=True)


def test_no_network_is_told_in_words(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    name_server(monkeypatch, {"books.example": [[]]})
    assert "Cannot find the server books.example" in refusal("https://books.example/")


def test_a_name_too_long_for_any_server_is_told(site: Site) -> None:
    assert "Cannot find the server" in refusal(f"http://{'a' * 70}.example/")


def test_nobody_listening_is_told_in_words(site: Site) -> None:
    assert "Connection refused" in refusal("http://127.0.0.1:1/", allow_private=True)


def test_a_server_that_speaks_no_tls_is_told(site: Site) -> None:
    assert "does not speak https" in refusal(site.url("/").replace("http:", "https:"), allow_private=True)


@pytest.mark.parametrize(
    ("status", "words", "passing"),
    [
        (401, "needs a login", False),
        (403, "it refuses", False),
        (404, "no such page", False),
        (418, "does not give the page", False),
        (429, "too many requests", True),
        (503, "in trouble", True),
        (204, "no text", False),
    ],
)
def test_statuses_are_told_in_words(site: Site, status: int, words: str, passing: bool) -> None:
    with pytest.raises(Unreachable, match=words) as caught:
        fetch(site.add("/", Answer(status=status)))
    assert caught.value.passing == passing


def test_a_circle_of_redirects_is_told(site: Site) -> None:
    site.add("/a", redirect("/b"))
    site.add("/b", redirect("/a"))
    assert "circle" in refusal(site.url("/a"), allow_private=True)


def test_redirects_without_end_are_told(site: Site) -> None:
    for number in range(12):
        site.add(f"/{number}", redirect(f"/{number + 1}"))
    assert "10 redirects" in refusal(site.url("/0"), allow_private=True)
    assert len(site.asked) == 11


# Slow, endless, too large


def test_a_server_that_never_answers_is_given_up(site: Site) -> None:
    assert "does not answer" in refusal(site.add("/", site.silence), Limits(answer_seconds=0.2), allow_private=True)


def test_a_slow_server_is_given_up(site: Site) -> None:
    limits = Limits(slow_seconds=0.3)
    assert "is too slow" in refusal(site.add("/", site.trickle(b"x", 0.05)), limits, allow_private=True)


def test_an_endless_answer_is_given_up_after_a_time(site: Site) -> None:
    limits = Limits(endless_seconds=0.3)
    assert "does not end" in refusal(site.add("/", site.trickle(b"x" * 100, 0.01)), limits, allow_private=True)


def test_an_endless_answer_is_given_up_after_a_size(site: Site) -> None:
    with pytest.raises(TooLarge, match=r"over 1\.0 MB, and may never end"):
        fetch(site.add("/", site.trickle(b"x" * 100_000, 0)), Limits(endless_bytes=1_000_000))


def test_what_is_too_large_is_refused_before_it_comes(site: Site) -> None:
    with (
        pytest.raises(TooLarge),
        open_url(site.add("/", Answer(b"x" * 2000)), allow_private=True, limits=Limits(total_bytes=1000)),
    ):
        pass


def test_a_decompression_bomb_is_given_up_in_bounded_memory(site: Site) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    url = site.add("/", Answer(bomb, headers={"Content-Encoding": "gzip"}))
    largest = total = 0
    with (
        pytest.raises(TooLarge, match="once it is unpacked"),
        open_url(url, allow_private=True, limits=Limits(unpacked_bytes=10_000_000)) as reply,
    ):
        for block in reply.blocks():
            largest, total = max(largest, len(block)), total + len(block)
    assert largest <= 1 << 20
    assert total <= 10_000_000


def test_a_packing_that_was_not_asked_for_is_refused(site: Site) -> None:
    url = site.add("/", Answer(b"xxxx", headers={"Content-Encoding": "br"}))
    assert "packed in a way" in refusal(url, allow_private=True)


def test_an_answer_that_breaks_off_is_told_with_how_much_came(site: Site) -> None:
    with pytest.raises(BrokenOff, match="broke off after 5 bytes"):
        fetch(site.add("/", Answer(b"Once ", headers={"Content-Length": "500"})))


def test_damaged_gzip_is_told(site: Site) -> None:
    packed = gzip.compress(b"text " * 1000)[:-20]
    with pytest.raises(BrokenOff, match="is damaged"):
        fetch(site.add("/", Answer(packed, headers={"Content-Encoding": "gzip"})))


@pytest.mark.parametrize("answers", [True, False])
def test_somebody_may_give_up_while_a_server_is_silent(site: Site, answers: bool) -> None:
    began = time.monotonic()

    def watch(received: int, total: int | None) -> None:
        if time.monotonic() - began > 0.3:
            raise Cancelled

    site.add("/", site.trickle(b"x", 60) if answers else site.silence)
    with pytest.raises(Cancelled), open_url(site.url("/"), allow_private=True, watch=watch) as reply:
        list(reply.blocks())
