"""Web servers on this machine, for tests of what comes from the network: no test leaves it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

PUBLIC_ADDRESS = "93.184.216.34"  # of nobody here: connections to it are led to a server of the test


@dataclass
class Answer:
    """What a server says to a request."""

    body: bytes = b""
    media_type: str = "text/plain"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(self.status)
        if self.media_type:
            handler.send_header("Content-Type", self.media_type)
        for name, value in {"Content-Length": str(len(self.body)), **self.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(self.body)


def redirect(to: str, **headers: str) -> Answer:
    return Answer(status=302, headers={"Location": to, **headers})


def page(body: str, title: str = "A page") -> Answer:
    source = f"<!doctype html><html><head><title>{title}</title></head><body>{body}</body></html>"
    return Answer(source.encode(), "text/html; charset=utf-8")


class Site:
    """A server whose pages a test fills in: a path, and an answer or what is to be done with the request."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.pages: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()
        self.port = server.server_port

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def add(self, path: str, answer: Callable[[BaseHTTPRequestHandler], None]) -> str:
        """Put an answer at a path; return the URL."""
        self.pages[path] = answer
        return self.url(path)

    def trickle(self, block: bytes, seconds: float) -> Callable[[BaseHTTPRequestHandler], None]:
        """Return an answer without an end: one block every so often."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Type", "text/plain")
            handler.end_headers()
            while not self.closing.wait(seconds):
                handler.wfile.write(block)

        return answer

    def silence(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer nothing at all."""
        self.closing.wait()


@contextmanager
def serving() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            answer = site.pages.get(self.path, Answer(b"nothing here", status=404))
            try:
                answer(self)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client has had enough

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Site(server)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    try:
        yield site
    finally:
        site.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def name_server(monkeypatch: pytest.MonkeyPatch, names: dict[str, list[list[str]]]) -> list[str]:
    """Answer for names with their addresses, each time the next ones; return a list that is told all connections.

    Connections to PUBLIC_ADDRESS lead to this machine.
    """
    connected: list[str] = []
    connect = socket.create_connection
    look_up = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: object, **kwargs: object) -> list[object]:
        if host not in names:
            return look_up(host, port, *args, **kwargs)  # type: ignore[arg-type,return-value]
        addresses = names[host][0] if len(names[host]) == 1 else names[host].pop(0)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        return [
            (family, socket.SOCK_STREAM, 6, "", (address, port))
            for family, address in zip(families, addresses, strict=True)
        ]

    def create_connection(address: tuple[str, int], *args: object, **kwargs: object) -> socket.socket:
        connected.append(address[0])
        if address[0] == PUBLIC_ADDRESS:
            address = ("127.0.0.1", address[1])
        return connect(address, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket, "create_connection", create_connection)
    return connected
