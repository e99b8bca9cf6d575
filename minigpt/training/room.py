"""Where the disk refuses: the run pauses and says so, tries again every few seconds, and goes on by itself.

    refusal = write()                                   # a Refusal, or None where it worked
    worked = refusal is None or trainer.room.wait(write, refusal)

Nothing of a run changes while it waits: what comes after is what would have come without the wait. Commands and
signals are obeyed meanwhile.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from minigpt.jobs import EVENTS
from minigpt.narration import duration, size
from minigpt.readings import free_disk
from minigpt.reserve import FULL

if TYPE_CHECKING:
    from minigpt.training.trainer import Trainer

LOOK_SECONDS = 0.2
# A folder that is gone for a moment costs no more than that moment, a long night few attempts.
FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 5.0
# While the system counts too little as free, it is not worth writing much of a large file. It may count wrongly.
RETRY_AGAINST_ODDS_SECONDS = 120.0

_FORBIDDEN = (errno.EACCES, errno.EPERM)


class Refusal(NamedTuple):
    """What the system would not write, and why; `needed` bytes are about what it takes."""

    path: Path
    error: OSError
    needed: int = 0

    @property
    def kind(self) -> tuple[Path, int | None]:
        """What is to be told once, however often it is met."""
        return self.path, self.error.errno

    def in_words(self) -> str:
        """Return a sentence: which file, and why not."""
        return f"Cannot write {self.path} ({self.error.strerror or self.error}{self._figures()})."

    def _figures(self) -> str:
        free = self._free()
        if self.error.errno not in FULL or not self.needed or free is None:
            return ""
        return f"; about {size(self.needed)} are needed, {size(free)} are free"

    def way_out(self) -> str:
        """Return what a person can do about it: the beginning of a sentence."""
        folder = self.path.parent
        if self.error.errno in FULL:
            return f"Make room where {folder} lies"
        if self.error.errno == errno.EROFS:
            return f"Make {folder} writable again (it is mounted read-only)"
        if self.error.errno in _FORBIDDEN:
            return f"Give back the right to write in {folder}"
        if self.error.errno == errno.ENOENT:
            return f"Put {folder} back where it was"
        return f"Repair {folder} or the drive on which it lies"

    def is_hopeless(self) -> bool:
        """Return whether, by what the system says now, another attempt would fail as this one did."""
        free = self._free()
        return self.error.errno == errno.ENOSPC and free is not None and free < self.needed

    def _free(self) -> int | None:
        try:
            return free_disk(self.path.parent)
        except OSError:
            return None


Attempt = Callable[[], "Refusal | None"]


class Room:
    """Waits for one run until the disk takes what is to be written."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._waiting = False
        self._dropped = 0  # events that had been given up when that was last told

    def wait_for_events(self) -> None:
        """Return when all events are written that the run has told, or somebody says stop."""
        refusal = self.events_refused()
        if refusal is not None and not self.trainer.controls.stop_reason:
            self.wait(self._write_events, refusal)

    def events_refused(self) -> Refusal | None:
        """Return why the last events could not be written, or None where they were."""
        recorder = self.trainer.recorder
        return None if recorder.writer.error is None else Refusal(recorder.directory / EVENTS, recorder.writer.error)

    def _write_events(self) -> Refusal | None:
        self.trainer.recorder.writer.flush()
        return self.events_refused()

    def wait(self, attempt: Attempt, refused: Refusal) -> bool:
        """Pause the run until `attempt` works; return False where it was given up.

        That is when somebody says stop, after one more attempt. What is asked of the run while it waits does not wait
        in its turn.
        """
        self._tell(refused)
        if self._waiting:
            return False
        trainer, began = self.trainer, time.monotonic()
        self._waiting = True
        try:
            with trainer.recorder.during("paused"):
                worked = self._try_until_it_works(attempt, refused)
        finally:
            self._waiting = False
        trainer.restart_clock()
        if worked:
            self._tell_the_end(time.monotonic() - began)
        return worked

    def _try_until_it_works(self, attempt: Attempt, refused: Refusal) -> bool:
        pause, tried = FIRST_RETRY_SECONDS, time.monotonic()
        told = {refused.kind}
        while True:
            time.sleep(min(LOOK_SECONDS, pause))
            self.trainer.controls.obey()
            if self.trainer.controls.stop_reason:
                return attempt() is None
            waited = time.monotonic() - tried
            if waited < pause or (refused.is_hopeless() and waited < RETRY_AGAINST_ODDS_SECONDS):
                continue
            again = attempt()
            if again is None:
                return True
            if again.kind not in told:
                told.add(again.kind)
                self._tell(again)
            pause, tried, refused = min(2 * pause, LONGEST_RETRY_SECONDS), time.monotonic(), again

    def _tell(self, refused: Refusal) -> None:
        trainer = self.trainer
        coming = (
            f"The training is paused and tries again by itself. {refused.way_out()}: it then goes on as if nothing had "
            "been. Do not end it before, or what it has learned since its last checkpoint is lost."
        )
        if refused.path.name == EVENTS:
            trainer.recorder.notice(
                "error",
                "events-unwritten",
                f"{refused.in_words()} What the run tells waits in memory meanwhile. {coming}",
                step=trainer.progress.step,
            )
            return
        trainer.recorder.notice(
            "error",
            "save-failed",
            f"{refused.in_words()} Checkpoints that were there are untouched. {coming}",
            step=trainer.progress.step,
        )

    def _tell_the_end(self, seconds: float) -> None:
        trainer = self.trainer
        dropped = trainer.recorder.writer.dropped
        given_up, self._dropped = dropped - self._dropped, dropped
        lost = "nothing of it was lost" if not given_up else f"{given_up:,} events of it had to be given up"
        trainer.recorder.notice(
            "info",
            "room-again",
            f"Written, after a pause of {duration(seconds)}: the training goes on where it was. Of what the run has "
            f"told meanwhile, {lost}.",
            step=trainer.progress.step,
        )
