"""The way to a web server: its address judged and then held to, redirects followed singly, failures put in words."""

from __future__ import annotations

import socket
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from minigpt import __version__
from minigpt.errors import JobFailed, UserError, printable
from minigpt.text.addresses import privacy, resolve

if TYPE_CHECKING:
    import httpx

_HEADERS = {
    "User-Agent": f"MiniGPT/{__version__} (minigpt-tui; fetches what its user names)",
    "Accept": "text/html,application/xhtml+xml,text/plain;q=0.9,*/*;q=0.8",
    # No other packing: each can unpack to a thousand times its size, and these we unpack with care.
    "Accept-Encoding": "gzip",
}
_SHOWN_CHARACTERS = 160
_STATUS_WORDS = {
    401: "it needs a login: open it in a browser, save its text as a file, and add that",
    403: "it refuses (it needs a login, or takes no programs): open it in a browser, save its text and add that",
    404: "there is no such page: check the URL",
    407: "a proxy in between needs a login: check the settings of the proxy",
    410: "the page has been removed: look for it elsewhere",
    429: "it has had too many requests from here: try again later",
    451: "the page may not be shown for legal reasons: look for it elsewhere",
}
_PASSING_STATUSES = (408, 425, 429, 500, 502, 503, 504)


class Unreachable(UserError):
    """A URL that cannot be had; `passing` when the same URL may well work in a moment."""

    def __init__(self, message: str, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class BrokenOff(JobFailed):
    """A download that began and could not be finished."""


def shown_url(url: object) -> str:
    """Return a URL as a terminal may see it, shortened in the middle."""
    text = printable(str(url), single_line=True)
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return f"{text[: _SHOWN_CHARACTERS - 40]}...{text[-37:]}"


def parse_url(text: str) -> httpx.URL:
    """Return a URL that can be fetched; raises Unreachable when it is none, or has a password in it."""
    import httpx

    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL as error:
        raise Unreachable(f"{shown_url(text)} is no URL ({error}): check how it is written.") from error
    if url.scheme not in ("http", "https"):
        raise Unreachable(f"{shown_url(text)} cannot be fetched: a URL starts with http:// or https://.")
    if not url.raw_host or not (url.port is None or 0 < url.port < 65536):
        raise Unreachable(f"{shown_url(text)} names no server: write it as in https://example.org/book.txt.")
    if url.userinfo:
        bare = shown_url(url.copy_with(username=None, password=None))
        raise Unreachable(f"A URL with a name or password in it would be kept with the corpus: write {bare} instead.")
    return url


class Connection:
    """One download's way to its server. One thread calls the methods, and may be kept by them for long."""

    def __init__(
        self, url: str, allow_private: bool, connect_seconds: float, read_seconds: float, redirects: int
    ) -> None:
        """Raises Unreachable when the URL can be none."""
        self.url = parse_url(url)
        self.redirected = False
        self.received = 0  # bytes
        self._allow_private = allow_private
        self._timeout = {"connect": connect_seconds, "read": read_seconds, "write": read_seconds, "pool": read_seconds}
        self._redirects = redirects
        self._resources = ExitStack()
        self._body: Iterator[bytes] = iter(())

    def open(self) -> httpx.Response:
        """Return the answer after all redirects, its body unread; raises Unreachable when it is not what was asked."""
        response = self._follow()
        _check_status(response, self.url)
        self._body = response.iter_raw()
        return response

    def read(self) -> bytes:
        """Return the next bytes of the body, none at its end; raises BrokenOff."""
        import httpx

        try:
            block = next(self._body, b"")
        except (httpx.HTTPError, OSError) as error:
            raise BrokenOff(
                f"The download of {shown_url(self.url)} broke off after {self.received:,} bytes: try again."
            ) from error
        self.received += len(block)
        return block

    def close(self) -> None:
        self._resources.close()

    def _follow(self) -> httpx.Response:
        """Leave the final URL in `url`."""
        import httpx

        cookies = httpx.Cookies()
        been: set[tuple[str, str]] = set()
        while True:
            request = httpx.Request("GET", self.url, headers=_HEADERS)
            cookies.set_cookie_header(request)
            here = (str(self.url), request.headers.get("cookie", ""))
            if here in been:  # the same page again is no circle where a cookie has come with it
                raise Unreachable(f"{shown_url(self.url)} is in a circle of redirects that never ends: check the URL.")
            been.add(here)
            if len(been) > self._redirects + 1:
                raise Unreachable(
                    f"{shown_url(self.url)} was reached after {self._redirects} redirects and leads on: check the URL."
                )
            with _in_words(self.url, self._allow_private):
                response = self._send(request)
            self._resources.callback(response.close)
            response.request = request
            cookies.extract_cookies(response)
            if not response.has_redirect_location:
                return response
            response.close()
            self.url, self.redirected = _next_url(self.url, response.headers["location"]), True

    def _send(self, request: httpx.Request) -> httpx.Response:
        import httpx

        # A proxy of the environment would resolve names itself, and could reach what we refuse.
        proxy = _environment_proxy(request.url) if self._allow_private else None
        transport = httpx.HTTPTransport(
            verify=_tls(), proxy=proxy, limits=httpx.Limits(max_keepalive_connections=0), trust_env=False
        )
        self._resources.callback(transport.close)
        host = request.url.raw_host.decode("ascii")
        failure: httpx.HTTPError | None = None
        for address in [host] if proxy else self._addresses(request.url):
            pinned = httpx.Request(
                "GET",
                request.url.copy_with(host=address),
                headers=request.headers,  # the Host among them is still the name
                extensions={"timeout": self._timeout, "sni_hostname": host},
            )
            try:
                return transport.handle_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    def _addresses(self, url: httpx.URL) -> list[str]:
        """Return the addresses to connect to; raises Unreachable when one of them is not to be reached."""
        host = url.raw_host.decode("ascii")
        addresses = resolve(host, url.port or {"http": 80, "https": 443}[url.scheme])
        for address in addresses:
            what = "" if self._allow_private else privacy(address)
            if what:
                place = printable(host) if address == host else f"{printable(host)} ({address})"
                raise Unreachable(
                    f"{shown_url(url)} is not fetched, for {place} is {what}: if you mean it and trust it, add "
                    "--allow-private."
                )
        return addresses


def _next_url(url: httpx.URL, location: str) -> httpx.URL:
    import httpx

    try:
        return parse_url(str(url.join(location)))
    except httpx.InvalidURL as error:
        raise Unreachable(f"{shown_url(url)} leads to {shown_url(location)}, which is no URL: check it.") from error
    except Unreachable as error:
        raise Unreachable(f"{shown_url(url)} leads elsewhere. {error}") from error


def _check_status(response: httpx.Response, url: httpx.URL) -> None:
    status = response.status_code
    if status in (200, 203):
        return
    words = _STATUS_WORDS.get(status)
    if words is None:
        if 200 <= status < 300:
            words = "it gives no text: check the URL"
        elif status >= 500:
            words = "its server is in trouble: try again later"
        else:
            words = "it does not give the page: check the URL"
    raise Unreachable(f"{shown_url(url)} answers {status}: {words}.", passing=status in _PASSING_STATUSES)


@contextmanager
def _in_words(url: httpx.URL, allow_private: bool) -> Iterator[None]:
    """Turn what may go wrong on the way to an answer into Unreachable."""
    import httpx

    host = printable(url.raw_host.decode("ascii"))
    try:
        yield
    except (socket.gaierror, UnicodeError) as error:
        hint = ""
        if not allow_private and _environment_proxy(url):
            hint = " (the proxy of the environment is used with --allow-private only)"
        raise Unreachable(
            f"Cannot find the server {host}: check its name and this machine's network{hint}.", passing=True
        ) from error
    except httpx.TimeoutException as error:
        raise Unreachable(
            f"{host} does not answer in time: check the URL, or try again later.", passing=True
        ) from error
    except httpx.ProtocolError as error:
        raise Unreachable(f"{host} does not answer as a web server does: check the URL.") from error
    except (httpx.HTTPError, OSError, ImportError, ValueError) as error:
        why = _root(error)
        if isinstance(why, ssl.SSLCertVerificationError):
            raise Unreachable(f"{host} cannot prove who it is ({why.verify_message}): check the URL.") from error
        if isinstance(why, ssl.SSLError):
            raise Unreachable(f"{host} does not speak https there ({why.reason or why}): check the URL.") from error
        reason = getattr(why, "strerror", None) or str(why) or type(why).__name__
        raise Unreachable(
            f"Cannot connect to {host} ({printable(reason, single_line=True)}): check the URL and this machine's "
            "network.",
            passing=isinstance(error, (httpx.HTTPError, OSError)),
        ) from error


def _root(error: BaseException) -> BaseException:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def _environment_proxy(url: httpx.URL) -> str | None:
    """Return the proxy that HTTPS_PROXY, ALL_PROXY, NO_PROXY and the like name for a URL."""
    host = url.raw_host.decode("ascii")
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or host in ("localhost", "::1") or host.startswith("127.") or urllib.request.proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    import httpx

    return httpx.create_ssl_context()
