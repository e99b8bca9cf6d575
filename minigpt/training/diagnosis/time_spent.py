"""Where the time goes: waiting for text to be read, and how much of it is in no checkpoint."""

from __future__ import annotations

from minigpt.narration import duration
from minigpt.training.diagnosis.finding import Finding

# Judged by so long a stretch at a time, so that a cold cache is no news.
STRETCH_SECONDS = 20.0
_FEWEST_STEPS = 10
_WAITING = 0.3
# On an accelerator, who has to wait for its results does not keep it waiting.
_IDLE = 0.1
UNSAVED_SECONDS = 1800.0


class WaitingForData:
    """Reading the batches takes a good part of the time, and nothing else goes on meanwhile."""

    def __init__(self) -> None:
        self._reading = self._results = self._seconds = 0.0
        self._steps = 0

    def add(self, seconds: float, steps: int, reading: float, results: float) -> Finding | None:
        """Take in steps: how long they took, and how much of it went into reading and into waiting for results."""
        self._seconds, self._steps = self._seconds + seconds, self._steps + steps
        self._reading, self._results = self._reading + reading, self._results + results
        if self._seconds < STRETCH_SECONDS or self._steps < _FEWEST_STEPS:
            return None
        share, waited = self._reading / self._seconds, self._results / self._seconds
        step = self._reading / self._steps
        self._reading = self._results = self._seconds = 0.0
        self._steps = 0
        if share < _WAITING or waited > _IDLE:
            return None
        return Finding(
            "waiting-for-data",
            f"{share:.0%} of the time goes into reading text ({1000 * step:.3g} ms a step), and the network waits "
            "meanwhile: the disk is slow or busy. Move the workspace's data folder to a local disk, have enough memory "
            "free for the system to keep the text in, and leave corpus.shuffle_documents off for much text.",
        )


def unsaved(seconds: float, steps_to_next: int | None, seconds_a_step: float) -> Finding | None:
    """Return the finding that so many seconds of training are in no checkpoint; `steps_to_next`: to a planned one."""
    if seconds < UNSAVED_SECONDS:
        return None
    coming = f"; the next one comes in about {duration(steps_to_next * seconds_a_step)}" if steps_to_next else ""
    return Finding(
        "no-checkpoint",
        f"{duration(seconds)} of training are in no checkpoint{coming}: if the machine stopped now, they would be "
        "lost. Save one now, and lower save_every (`minigpt control RUN set save_every=N`).",
        {"label": "save a checkpoint now", "command": "checkpoint", "args": {}},
    )
