"""Waiting for a library that cannot be interrupted, without going deaf to the person who wants to stop.

worker = Worker()
rows = worker.call(fetch, lambda: task.report("downloading"))
worker.close()
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeVar

REPORT_SECONDS = 0.1

Result = TypeVar("Result")


class Worker:
    """One thread of its own. It never keeps the process from ending, whatever it is stuck in."""

    def __init__(self) -> None:
        self._orders: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        threading.Thread(target=self._run, name="worker", daemon=True).start()

    def call(self, work: Callable[[], Result], meanwhile: Callable[[], None]) -> Result:
        """Return what `work` returns, or raise what it raises; `meanwhile` is called often and may raise to give up."""
        future: Future[Result] = Future()
        self._orders.put((future, work))
        meanwhile()
        while not wait([future], timeout=REPORT_SECONDS).done:
            meanwhile()
        return future.result()

    def close(self) -> None:
        """Let the thread end after what it does now."""
        self._orders.put(None)

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            future, work = order
            with _HandedOver(future):
                future.set_result(work())


class _HandedOver(AbstractContextManager["_HandedOver"]):
    """Whatever is raised inside is raised again where the future's result is asked for."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is not None:
            self._future.set_exception(error)
        return True
