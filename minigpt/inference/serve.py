"""The process with which another program talks to a model, in the lines that `protocol` documents.

serve("best_model.pt", "auto", {})      # answers what comes on stdin until there is no more
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from minigpt.config import GenerationSettings
from minigpt.errors import UserError
from minigpt.inference.protocol import (
    MAX_LINE,
    Complete,
    Done,
    Event,
    Failed,
    Id,
    Open,
    Opened,
    Piece,
    Quit,
    Reply,
    Request,
    Stop,
)
from minigpt.presets import with_values
from minigpt.text.documents import ROLES

if TYPE_CHECKING:
    from minigpt.inference.generate import LoadedModel

PIECE_SECONDS = 0.05
_MAX_WAITING = 1000


def serve(path: str | None, device: str, defaults: Mapping[str, Any]) -> int:
    """Answer requests until there are no more; `defaults` are settings from the command line, by key."""
    _die_with_parent()
    # Whatever else prints would break the protocol: it goes to stderr.
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    inbox = Inbox(0)
    if path is not None:
        inbox.put(Open(path, 0, device))
    threading.Thread(target=inbox.fill, name="requests", daemon=True).start()
    encoder = msgspec.json.Encoder()
    with suppress(BrokenPipeError):
        Server(inbox, lambda event: _write_all(answers, encoder.encode(event) + b"\n"), defaults).run()
    return 0


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _die_with_parent() -> None:
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Inbox:
    """Requests in the order they came, read by a thread so that `stop` is seen while an answer is under way."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: queue.Queue[tuple[int, Request | Failed]] = queue.Queue(_MAX_WAITING)
        self._count = self._stopped = 0

    def fill(self) -> None:
        """Read requests until there are no more."""
        decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
        for line in _lines(self._descriptor):
            if line is None:
                self.put(Failed(None, f"A request may have {MAX_LINE:,} bytes at most: send a shorter text."))
            elif line.strip():
                self.put(_parsed(line, decoder))
        self.put(Quit())

    def put(self, request: Request | Failed) -> None:
        """Add a request; a `stop` takes effect at once."""
        if isinstance(request, Stop):
            self._stopped = self._count
        else:
            self._count += 1
            self._waiting.put((self._count, request))

    def take(self) -> tuple[int, Request | Failed]:
        """Return the next request and its number, waiting for one."""
        return self._waiting.get()

    def stopped(self, number: int) -> bool:
        """Whether a `stop` came after the request of that number."""
        return number <= self._stopped


class _Named(msgspec.Struct):
    id: Id = None


def _parsed(line: bytes, decoder: msgspec.json.Decoder[Request]) -> Request | Failed:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        name = None
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            name = msgspec.json.decode(line, type=_Named).id
        return Failed(name, f"That is no request ({error}): see the documentation of minigpt.inference.protocol.")


def _lines(descriptor: int) -> Iterator[bytes | None]:
    """Yield whole lines, None for one that is too long. Not a buffered file: its lock would hinder our exit."""
    parts: list[bytes] = []
    size = 0
    while block := os.read(descriptor, 1 << 16):
        *ended, rest = block.split(b"\n")
        for end in ended:
            whole = size + len(end) <= MAX_LINE
            yield b"".join([*parts, end]) if whole else None
            parts, size = [], 0
        size += len(rest)
        parts = [*parts, rest] if size <= MAX_LINE else []
    yield b"".join(parts)


class Server:
    """Answers requests one after the other, with the model opened last."""

    def __init__(self, inbox: Inbox, send: Callable[[Event], None], defaults: Mapping[str, Any]) -> None:
        self.inbox, self.send, self.defaults = inbox, send, defaults
        self.model: LoadedModel | None = None

    def run(self) -> None:
        """Answer until asked to quit; raises BrokenPipeError when nobody listens any more."""
        while True:
            number, request = self.inbox.take()
            if isinstance(request, Quit):
                return
            if isinstance(request, Failed):
                self.send(request)
                continue
            try:
                self._answer(number, request)
            except UserError as error:
                self.send(Failed(request.id, str(error)))
            except (MemoryError, RuntimeError) as error:
                self.send(Failed(request.id, _in_words(error)))

    def _answer(self, number: int, request: Request) -> None:
        if isinstance(request, Open):
            self._open(request)
        elif isinstance(request, Reply):
            self._reply(number, request)
        elif isinstance(request, Complete):
            self._complete(number, request)

    def _open(self, request: Open) -> None:
        from minigpt.device import choose, tune_process
        from minigpt.inference.generate import LoadedModel

        if request.threads is not None and request.threads < 1:
            raise UserError(f"threads = {request.threads} is not allowed: ask for 1 or more.")
        self.model = None  # the memory of two is not needed
        place = choose(request.device, threads=request.threads)
        tune_process(place)
        self.model = model = LoadedModel.open(request.path, place.kind)
        assert model.checkpoint is not None
        opened = Opened(
            id=request.id,
            path=request.path,
            step=model.checkpoint.step,
            conversations=model.conversations and model.tokenizer.assistant is not None,
            separated=model.separated,
            device=place.kind,
            parameters=sum(parameter.numel() for parameter in model.network.parameters()),
            context=model.network.config.max_seq_len,
            corpus=model.config.corpus.name,
            settings=msgspec.to_builtins(model.config.generation),
        )
        model.checkpoint = None  # the optimizer's part of it is not needed either
        self.send(opened)

    def _ready(self) -> LoadedModel:
        if self.model is None:
            raise UserError("No model is open: open one first.")
        return self.model

    def _settings(self, model: LoadedModel, given: Mapping[str, Any]) -> GenerationSettings:
        config = with_values(model.config, self.defaults, "command line", from_text=True)
        return with_values(config, {f"generation.{name}": value for name, value in given.items()}, "request").generation

    def _complete(self, number: int, request: Complete) -> None:
        model = self._ready()
        settings = self._settings(model, request.settings)
        pieces = model.stream_tokens(model.encode_prompt(request.prompt), request.prompt, settings)
        self.send(self._stream(number, request.id, model, pieces))

    def _reply(self, number: int, request: Reply) -> None:
        from minigpt.inference.chat import Chat

        model = self._ready()
        messages = request.messages
        if not messages or messages[-1].role != "user" or any(message.role not in ROLES for message in messages):
            raise UserError('A conversation is messages of "user" and "assistant", the last one of "user".')
        chat = Chat(model, self._settings(model, request.settings), messages[:-1])
        done = self._stream(number, request.id, model, chat.say(messages[-1].content))
        done.forgotten = chat.forgotten
        self.send(done)

    def _stream(self, number: int, name: Id, model: LoadedModel, pieces: Iterator[str]) -> Done:
        """Send an answer as it comes; return how it ended."""
        if self.inbox.stopped(number):
            return Done(name, 0, 0.0, "stopped")
        stopped = False

        def wanted() -> Iterator[str]:
            nonlocal stopped
            for piece in pieces:
                yield piece
                if self.inbox.stopped(number):
                    stopped = True
                    return

        for text in gathered(wanted()):
            self.send(Piece(name, text))
        if isinstance(pieces, Generator):
            pieces.close()
        reason = "stopped" if stopped else model.last.finish_reason
        return Done(name, model.last.tokens, model.last.tokens_per_s, reason)


def gathered(
    pieces: Iterable[str], seconds: float = PIECE_SECONDS, clock: Callable[[], float] = time.monotonic
) -> Iterator[str]:
    """Yield the same text in fewer pieces: at most one in so many seconds, and a last one."""
    waiting, last = "", float("-inf")
    for piece in pieces:
        waiting += piece
        if waiting and clock() - last >= seconds:
            yield waiting
            waiting, last = "", clock()
    if waiting:
        yield waiting


def _in_words(error: Exception) -> str:
    """Return what a person can do about it; raises the error again where that is not known."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error):
        return "There is not enough memory for this model here: choose a smaller one, or --device cpu."
    if "probability tensor" in str(error):
        return "This checkpoint's weights are not finite numbers: its training went astray. Choose an earlier one."
    raise error
