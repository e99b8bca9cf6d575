"""The end of a run before its planned steps are done, and the exit codes of all ends."""

from __future__ import annotations

EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 3


class Ended(Exception):
    """The run is over: why, and the exit code."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.reason, self.exit_code = reason, exit_code


class GoneBad(Ended):
    """The numbers have gone bad since step `first`, as was seen at `step`: the run ends, or goes back before that.

    `position` is where the windows of `step` ended; `usual` the loss below which weights are good (nats a token).
    """

    def __init__(self, reason: str, *, first: int, step: int, position: int, usual: float, words: str) -> None:
        super().__init__(reason, EXIT_FAILED)
        self.first, self.step, self.position, self.usual, self.words = first, step, position, usual, words
