"""The host: how much of its memory and processors a process may take, and how they are doing.

    available, total = host_memory()
    processors = cpu_quota()

Of memory there is what the machine has, or what a container or a job scheduler leaves. Linux counts it for groups of
processes (cgroups, version 1 or 2), one within the other: who makes any of its groups take more than it is allowed is
ended by signal 9, however much the machine has left. Imports without torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil

# The sensors of AMD, Intel and ARM processors; others (drives, boards) say nothing of the processor.
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal")
PROC = Path("/proc")
# Of each version: the files of the limit and of the use (bytes), and what of the use is given back when somebody asks.
_FILES = {
    "cgroup2": ("memory.max", "memory.current", ("active_file", "inactive_file", "slab_reclaimable")),
    "cgroup": ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")),
}
# The time allowed in each period, and the period, both in microseconds.
_QUOTA_FILES = {"cgroup2": ("cpu.max",), "cgroup": ("cpu.cfs_quota_us", "cpu.cfs_period_us")}
_OOM_FILES = {"cgroup2": "memory.events", "cgroup": "memory.oom_control"}


class OomKills(msgspec.Struct, frozen=True):
    """How many processes the kernel has ended for want of memory, by which file, and of which machine and group."""

    file: str
    id: str
    count: int


class Memory(NamedTuple):
    """Bytes in use, not to be had back at once, and bytes there are."""

    used: int
    total: int

    @property
    def left(self) -> int:
        return max(0, self.total - self.used)


def host_memory(pid: int | None = None) -> tuple[int, int]:
    """Return the bytes of the host's memory that a process (this one) may still take, and may have in all at most."""
    limits = list(_limits(pid))
    return min(limit.left for limit in limits), min(limit.total for limit in limits)


def tightest_memory(pid: int | None = None) -> Memory:
    """Return of the machine, and of the groups that a process (this one) is in, the one in which the least is left."""
    return min(_limits(pid), key=lambda limit: limit.left)


def oom_kills(pid: int | None = None) -> OomKills | None:
    """Return how many processes the kernel has ended for want of memory, in the group of a process (this one).

    Of the whole machine where there is no group; None where that is not counted (before Linux 4.13, and elsewhere).
    """
    groups = [group / _OOM_FILES[version] for group, version in _groups(pid or os.getpid())]
    return next((found for file in (*groups, PROC / "vmstat") if (found := _oom_kills(file)) is not None), None)


def ended_since(before: object) -> bool | None:
    """Return whether that number has grown since; None where it is not to be had any more, or never was."""
    try:
        told = msgspec.convert(before, OomKills)
    except msgspec.ValidationError:  # anything may stand in a file
        return None
    file = Path(told.file)
    known = [mount for mount, _, _ in _mounts()]
    if ".." in file.parts:  # a way to a file of anybody's
        return None
    if file != PROC / "vmstat" and not (file.name in _OOM_FILES.values() and set(file.parents) & set(known)):
        return None
    now = _oom_kills(file)
    return None if now is None or now.id != told.id else now.count > told.count


def cpu_quota(pid: int | None = None) -> float | None:
    """Return how many processors' time a process (this one) may use, by the groups that it is in; None for all."""
    quotas = [_quota(group, version) for group, version in _groups(pid or os.getpid(), "cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(group: Path, version: str) -> float | None:
    try:
        quota, period = (int(word) for name in _QUOTA_FILES[version] for word in (group / name).read_text().split())
    except (OSError, ValueError):  # not there, as in the outermost group, or "max"
        return None
    return quota / period if quota > 0 and period > 0 else None  # -1: no limit, in version 1


def _oom_kills(file: Path) -> OomKills | None:
    try:
        count = _counters(file).get("oom_kill")
        # A group of the same name is another after a restart of the container, and so is the machine.
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return None if count is None else OomKills(str(file), f"{boot}:{file.parent.stat().st_ino}", count)
    except (OSError, ValueError):
        return None


def _limits(pid: int | None) -> Iterator[Memory]:
    """Yield what the machine has, and what each group leaves that limits this process to less."""
    machine = psutil.virtual_memory()
    yield Memory(int(machine.total - machine.available), int(machine.total))
    for group, version in _groups(pid or os.getpid()):
        try:
            limit = _limit(group, version)
        except (OSError, ValueError):  # not there, not ours to read, or "max"
            continue
        if limit.total < machine.total:
            yield limit


def _limit(group: Path, version: str) -> Memory:
    limit, usage, reclaimable = _FILES[version]
    allowed, used = (int((group / name).read_text()) for name in (limit, usage))
    counters = _counters(group / "memory.stat")
    return Memory(max(0, used - sum(counters.get(name, 0) for name in reclaimable)), allowed)


def _counters(path: Path) -> dict[str, int]:
    lines = (line.split() for line in path.read_text().splitlines())
    return {line[0]: int(line[1]) for line in lines if len(line) == 2}


def _groups(pid: int, what: str = "memory") -> Iterator[tuple[Path, str]]:
    """Yield the folder of each group that counts a process's memory (or `what`), from its own outwards, and which
    version it is.
    """
    try:
        paths = (PROC / str(pid) / "cgroup").read_text().splitlines()
    except OSError:  # another system, or the process has ended
        return
    # "4:memory:/docker/1a2b" in version 1, "0::/user.slice/session-3.scope" in version 2.
    of_version = {
        "cgroup2" if not kinds else "cgroup": path
        for _, kinds, path in (line.split(":", 2) for line in paths if line.count(":") >= 2)
        if not kinds or what in kinds.split(",")
    }
    for mount, root, version in _mounts(what):
        if version in of_version:
            # In a container, its own group may lie at the mount, or what is told be a path outside.
            path = of_version[version].removeprefix(root.rstrip("/")).strip("/")
            own = mount / path if ".." not in path.split("/") else mount
            yield from ((group, version) for group in (own, *own.parents) if group.is_relative_to(mount))


def _mounts(what: str = "memory") -> Iterator[tuple[Path, str, str]]:
    """Yield where groups that can count memory (or `what`) are mounted, which group that is, and their version."""
    try:
        lines = (PROC / "self" / "mountinfo").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        before, _, after = line.partition(" - ")
        (root, mount), (version, *options) = before.split()[3:5], after.split()
        if version == "cgroup2" or (version == "cgroup" and what in options[-1].split(",")):
            yield Path(mount), root, version


class _ProcessorLoad:
    """The share of the processors' time that was used since the last question.

    psutil.cpu_percent remembers by thread and answers each thread's first question with 0.
    """

    def __init__(self) -> None:
        self.last = self._seconds()

    @staticmethod
    def _seconds() -> tuple[float, float]:
        """Return the seconds in use, and all, of all processors together; zeros where the system hides them."""
        try:
            times = psutil.cpu_times()._asdict()
        except (psutil.Error, OSError):
            return 0.0, 0.0
        # A guest's time is in `user` and `nice` already.
        total = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
        return total - times["idle"] - times.get("iowait", 0.0), total

    def percent(self) -> float | None:
        (busy_before, before), (busy, now) = self.last, self._seconds()
        self.last = busy, now
        return round(min(100.0, max(0.0, 100 * (busy - busy_before) / (now - before))), 1) if now > before else None


processor_load = _ProcessorLoad()


def cpu_temperature() -> float | None:
    """Return that of the hottest sensor of the processor, in C; None where there is none."""
    sensors = getattr(psutil, "sensors_temperatures", None)
    try:
        found: dict[str, list[Any]] = sensors() if sensors else {}
    except OSError:
        return None
    chip: list[Any] = next((found[name] for name in CPU_SENSORS if found.get(name)), [])
    return max((entry.current for entry in chip if entry.current), default=None)
