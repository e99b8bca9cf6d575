"""The machine runs short while a run goes on: memory of the device, memory of the host, disk.

Fed with the readings of the recorder's side thread, so that it tells even while a step takes long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from minigpt.narration import size
from minigpt.notices import Cure
from minigpt.training.diagnosis.finding import Finding

NEARLY_FULL = 0.95
# Said again only after it was so much better.
_WELL_AGAIN = 0.85
# A checkpoint is written beside the old one; best, final and a step's own may come in a row.
_CHECKPOINTS_TO_COME = 3
# With less, somebody else's file may take the room before the next checkpoint is due.
_LEAST_DISK = 100 << 20


class Shortage:
    """Tells each shortage once, and again after it has passed in between."""

    def __init__(self, checkpoint_bytes: int, device_cure: Cure | None) -> None:
        self.needed = _CHECKPOINTS_TO_COME * checkpoint_bytes
        self.wanted = max(_LEAST_DISK, self.needed)
        self.device_cure = device_cure
        self._told: set[str] = set()

    def on_readings(self, readings: Mapping[str, Any], directory: Path) -> Iterator[Finding]:
        """Yield what has become short."""
        host = readings.get("host") or {}
        yield from self._host(host.get("memory_used"), host.get("memory_total"))
        if "memory_peak" in readings:
            yield from self._device(readings["memory_peak"], readings.get("memory_total"))
        yield from self._disk(host.get("disk_free"), directory)

    def _host(self, used: float | None, total: float | None) -> Iterator[Finding]:
        if used and total and self._news("host", used / total > NEARLY_FULL, used / total < _WELL_AGAIN):
            yield Finding(
                "memory-nearly-full",
                f"{size(used)} of the {size(total)} of memory that it can have are in use. When nothing is left, the "
                "system ends a process without a word, this one maybe: close other programs, save a checkpoint now, or "
                "begin again with a smaller training.micro_batch_size.",
                {"label": "save a checkpoint now", "command": "checkpoint", "args": {}},
            )

    def _device(self, peak: float, total: float | None) -> Iterator[Finding]:
        if total and self._news("device", peak / total > NEARLY_FULL, peak / total < _WELL_AGAIN):
            yield Finding(
                "memory-nearly-full",
                f"At its height the training takes {size(peak)} of the device's {size(total)} of memory (others' "
                "included). With a smaller micro-batch, or activations computed anew, it takes less, and the result is "
                "the same. Where a step does not fit, the run does that by itself, as long as other programs leave it "
                "room for its weights.",
                self.device_cure,
            )

    def _disk(self, free: float | None, directory: Path) -> Iterator[Finding]:
        if free is None or not self._news("disk", free < self.wanted, free > 2 * self.wanted):
            return
        found = f"{size(free)} are free in {directory}, and the next checkpoints need up to {size(self.needed)}"
        if free < self.needed:
            coming = "make room now, or they cannot be saved (those that are there stay as they are)"
        else:
            coming = (
                f"they fit, but with less than {size(self.wanted)} left, whatever else writes there soon fills it. "
                "Make room in time"
            )
        yield Finding("disk-nearly-full", f"{found}: {coming}.")

    def _news(self, what: str, bad: bool, good: bool) -> bool:
        if good:
            self._told.discard(what)
        news = bad and what not in self._told
        if news:
            self._told.add(what)
        return news
