"""The figures of each step of a run as columns of numbers, in bounded memory however long the run.

curves = Curves()
curves.extend(step_lines)
plot(curves["step"], curves["loss"])
"""

from __future__ import annotations

from itertools import pairwise
from operator import attrgetter
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

MAX_ROWS = 50_000


class StepFigures(msgspec.Struct):
    """What is kept of a `step` event; what a step does not tell is NaN."""

    # Beyond these, somebody has written into the file what no trainer would.
    step: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    time: Annotated[float, msgspec.Meta(ge=0, lt=1e11)]
    epoch: float | None = None
    tokens: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    tokens_per_s: float | None = None
    mfu: float | None = None


COLUMNS = StepFigures.__struct_fields__
_LOSS = COLUMNS.index("loss")
_figures = attrgetter(*COLUMNS)
_many = msgspec.json.Decoder(list[StepFigures])
_one = msgspec.json.Decoder(StepFigures)


class Curves:
    """Columns of step figures, oldest first. Beyond MAX_ROWS, of every stretch of steps the rows with the least and the
    greatest loss stay, so that spikes do; so do the first row and the last.
    """

    def __init__(self) -> None:
        self._rows: NDArray[np.float64] = np.empty((1024, len(COLUMNS)))
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """Return one column, (steps,): a view, to be read before the next change."""
        return self._rows[: self.count, COLUMNS.index(name)]

    def extend(self, lines: list[bytes]) -> StepFigures | None:
        """Take in `step` events, as lines of JSON; return the last that made sense."""
        steps = decode_steps(lines)
        if not steps:
            return None
        # None becomes NaN.
        self._append(np.array(list(map(_figures, steps)), dtype=np.float64))
        return steps[-1]

    def discard_after(self, step: int) -> None:
        """Forget the steps beyond `step`: the run went back there."""
        self.count = int(np.searchsorted(self["step"], step, side="right"))

    def _append(self, rows: NDArray[np.float64]) -> None:
        if self.count and rows[0, 0] <= self._rows[self.count - 1, 0]:
            # Steps that come again without a word of resumption: a file put together by somebody else.
            self.discard_after(int(rows[0, 0]) - 1)
        needed = self.count + len(rows)
        if needed > len(self._rows):
            grown = np.empty((max(needed, 2 * len(self._rows)), len(COLUMNS)))
            grown[: self.count] = self._rows[: self.count]
            self._rows = grown
        self._rows[self.count : needed] = rows
        self.count = needed
        if self.count > MAX_ROWS:
            self._thin_out()

    def _thin_out(self) -> None:
        """Make half of the room free, by stretches of equal length: the beginning stays as fine as the rest."""
        steps, loss = self["step"], self["loss"]
        width = (steps[-1] - steps[0] + 1) / (MAX_ROWS // 4)
        stretch = ((steps - steps[0]) // width).astype(np.int64)
        begin = np.flatnonzero(np.diff(stretch, prepend=-1))
        end = np.append(begin[1:], self.count) - 1
        known = np.isfinite(loss)
        least = np.lexsort((np.where(known, loss, np.inf), stretch))[begin]
        greatest = np.lexsort((np.where(known, loss, -np.inf), stretch))[end]
        kept = np.unique(np.concatenate([least, greatest, [0, self.count - 1]]))
        self._rows = np.concatenate([self._rows[kept], np.empty((MAX_ROWS // 2, len(COLUMNS)))])
        self.count = len(kept)


def decode_steps(lines: list[bytes]) -> list[StepFigures]:
    """Return the figures of `step` lines, in order; lines that are no step, or go back in steps, are left out."""
    try:
        steps = _many.decode(b"[" + b",".join(lines) + b"]")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        steps = []
    if len(steps) != len(lines):  # a line that is none, or that holds two
        steps = [figures for line in lines if (figures := _decode_one(line)) is not None]
    if all(a.step < b.step for a, b in pairwise(steps)):
        return steps
    rising: list[StepFigures] = []
    for figures in steps:
        while rising and rising[-1].step >= figures.step:
            rising.pop()
        rising.append(figures)
    return rising


def _decode_one(line: bytes) -> StepFigures | None:
    try:
        return _one.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
