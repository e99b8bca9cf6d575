"""The app's end of the process that talks: `minigpt chat --json`, as minigpt.inference.protocol documents it.

process = ChatProcess()
await process.open(path)
async for piece in process.complete("Once upon", {"temperature": 0.8}):
    ...
await process.close()
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import msgspec

from minigpt.errors import UserError, printable
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
    Reply,
    Request,
    Stop,
)
from minigpt.text.documents import Message

_KEPT_OF_STDERR = 4096
_LONGEST_ANSWER = 1 << 22


class ChatProcess:
    """A child process with a model in it, started when a model is opened. One task at a time asks it.

    Every question raises UserError when it cannot be answered, also when the process dies meanwhile.
    """

    def __init__(self, command: Sequence[str] | None = None) -> None:
        self.command = list(command or [sys.executable, "-m", "minigpt.cli.main", "chat", "--json"])
        self.opened: Opened | None = None
        self.last: Done | None = None  # how the last answer ended
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._answers: dict[Id, asyncio.Queue[Event | None]] = {}
        self._stderr = b""
        self._count = 0

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.returncode is None

    async def open(self, path: Path, device: str = "auto", threads: int | None = None) -> Opened:
        """Load a checkpoint, in place of the one before; starts the process where there is none."""
        if not self.alive:
            await self._start()
        self.opened = None
        async for event in self._ask(Open(str(path), self._next(), device, threads)):
            if isinstance(event, Opened):
                self.opened = event
        assert self.opened is not None
        return self.opened

    def reply(self, messages: Sequence[Message], settings: Mapping[str, Any]) -> AsyncGenerator[str, None]:
        """Yield the answer to a conversation piece by piece; closing the iterator stops it."""
        return self._stream(Reply(list(messages), self._next(), dict(settings)))

    def complete(self, prompt: str, settings: Mapping[str, Any]) -> AsyncGenerator[str, None]:
        """Yield what follows a text piece by piece; closing the iterator stops it."""
        return self._stream(Complete(prompt, self._next(), dict(settings)))

    async def stop(self) -> None:
        """Have the answer under way end where it is."""
        with suppress(UserError):
            await self._send(Stop())

    async def close(self) -> None:
        """End the process, whatever it is doing. There is nothing in it to save."""
        process, self._process, self.opened = self._process, None, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tell_all()

    async def _start(self) -> None:
        await self.close()
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_LONGEST_ANSWER,
                start_new_session=True,  # a Ctrl-C in our terminal is not meant for it
            )
        except OSError as error:
            raise UserError(f"The process for the model could not be started: {error.strerror}.") from error
        self._process, self._stderr = process, b""
        complaints = asyncio.create_task(self._keep_stderr(process), name="chat-stderr")
        self._tasks = [complaints, asyncio.create_task(self._read(process, complaints), name="chat-answers")]

    def _next(self) -> int:
        self._count += 1
        return self._count

    async def _stream(self, request: Reply | Complete) -> AsyncGenerator[str, None]:
        self.last = None
        try:
            async with aclosing(self._ask(request)) as events:
                async for event in events:
                    if isinstance(event, Piece):
                        yield event.text
                    elif isinstance(event, Done):
                        self.last = event
        finally:
            if self.last is None:
                await self.stop()

    async def _ask(self, request: Open | Reply | Complete) -> AsyncGenerator[Event, None]:
        """Yield what is answered to a request, up to its last line."""
        answers: asyncio.Queue[Event | None] = asyncio.Queue()
        self._answers[request.id] = answers
        try:
            await self._send(request)
            while True:
                event = await answers.get()
                if event is None:
                    raise UserError(self._end_in_words())
                if isinstance(event, Failed):
                    raise UserError(event.message)
                yield event
                if isinstance(event, (Opened, Done)):
                    return
        finally:
            self._answers.pop(request.id, None)

    async def _send(self, request: Request) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise UserError("No model is open: choose one first.")
        line = msgspec.json.encode(request) + b"\n"
        if len(line) > MAX_LINE:
            raise UserError(f"That is too long for a model: send less than {MAX_LINE // 2**20} MB of text.")
        try:
            process.stdin.write(line)
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            await process.wait()
            raise UserError(self._end_in_words(process)) from error

    async def _read(self, process: asyncio.subprocess.Process, complaints: asyncio.Task[None]) -> None:
        """Hand each answer to who waits for it; at the end of the process, tell them all."""
        assert process.stdout is not None
        decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
        try:
            async for line in process.stdout:
                event = decoder.decode(line)
                answers = self._answers.get(event.id)
                if answers is not None:
                    answers.put_nowait(event)
        except (ValueError, msgspec.DecodeError):  # not our protocol: nothing after it can be trusted
            with suppress(ProcessLookupError):
                process.kill()
        await process.wait()
        await complaints
        self._tell_all()

    def _tell_all(self) -> None:
        """Tell everybody who waits for an answer that none will come."""
        for answers in self._answers.values():
            answers.put_nowait(None)

    async def _keep_stderr(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while block := await process.stderr.read(_KEPT_OF_STDERR):
            self._stderr = (self._stderr + block)[-_KEPT_OF_STDERR:]

    def _end_in_words(self, process: asyncio.subprocess.Process | None = None) -> str:
        process = process or self._process
        code = process.returncode if process is not None else None
        if code is None:
            return "The process with the model was closed."
        if code == -signal.SIGKILL:
            return (
                "The process with the model was killed from outside, as systems do when memory runs out: "
                "send again, and if it happens again choose a smaller model or free some memory."
            )
        lines = self._stderr.decode(errors="replace").strip().splitlines()
        said = f' It said: "{printable(lines[-1], single_line=True)[:400]}"' if lines else ""
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"The process with the model ended unexpectedly ({how}): send again to start another.{said}"
