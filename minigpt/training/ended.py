"""The end of a run before its planned steps are done, and the exit codes of all ends."""

from __future__ import annotations

EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 3


class Ended(Exception):
    """The run is over: why, and the exit code."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.reason, self.exit_code = reason, exit_code
