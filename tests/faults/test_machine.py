"""Memory that really runs short: control groups with a limit, whose processes the kernel really ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minigpt.post_mortem import why
from minigpt.presets import to_toml
from minigpt.runs import summarise
from minigpt.workspace import Workspace
from tests.conftest import run_minigpt, small_config
from tests.faults.harness import events_of, notices_of, start_minigpt

MB = 1 << 20
ROOT = Path(__file__).parent.parent.parent


class Group:
    """A control group for memory: what is started `within` it may take `limit` bytes in all."""

    def __init__(self, folder: Path, version: int) -> None:
        self.folder, self.version = folder, version
        names = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}
        self._limit, self._usage = (folder / name for name in names[version])

    def __str__(self) -> str:
        return f"version {self.version}"

    @property
    def usage(self) -> int:
        return int(self._usage.read_text())

    def limit(self, size: int) -> None:
        self._limit.write_text(str(size))
        if self.version == 2:
            (self.folder / "memory.swap.max").write_text("0")
        elif (swap := self.folder / "memory.memsw.limit_in_bytes").exists():
            swap.write_text(str(size))

    def counters(self) -> dict[str, int]:
        lines = (line.split() for line in (self.folder / "memory.stat").read_text().splitlines())
        return {name: int(value) for name, value in lines}

    def within(self) -> dict[str, Any]:
        """Return the options of Popen with which a process starts in this group."""
        return {"preexec_fn": lambda: (self.folder / "cgroup.procs").write_text(str(os.getpid()))}

    def remove(self) -> None:
        for pid in (self.folder / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        until(lambda: not (self.folder / "cgroup.procs").read_text().split())
        self.folder.rmdir()


def until(true: Callable[[], object], seconds: float = 120) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def own_group() -> tuple[Path, int]:
    """Return the folder of the memory group that this process is in, and of which version it is."""
    from minigpt.host import _groups

    for folder, version in _groups(os.getpid()):
        if version == "cgroup" or (folder / "memory.max").exists():
            return folder, 1 if version == "cgroup" else 2
    pytest.skip("no control group here counts memory")


@pytest.fixture
def group(request: pytest.FixtureRequest) -> Iterator[Group]:
    """A memory group of our own within the one we are in; skips where we may not make one."""
    parent, version = own_group()
    made = Group(parent / f"minigpt-test-{os.getpid()}-{abs(hash(request.node.name)) % 10_000}", version)
    try:
        made.folder.mkdir()
        made.limit(4096 * MB)
    except OSError as error:
        if made.folder.exists():
            made.folder.rmdir()
        pytest.skip(f"no memory group can be made here: {error}")
    try:
        yield made
    finally:
        made.remove()


# What the kernel counts, and what we read of it

TAKES = """
import json, os, sys
from minigpt.cli.doctor import _memory
from minigpt.device import Device
from minigpt.host import host_memory, tightest_memory
from minigpt.planning.machine import available_memory, likely_device
from minigpt.config import TrainingSettings
from minigpt.readings import readings

taken = bytearray(80 << 20)
with open(sys.argv[1], "wb") as file:
    for _ in range(60):
        file.write(bytes(1 << 20))
    file.flush()
    os.fsync(file.fileno())
host = readings("cpu")["host"]
device = likely_device(TrainingSettings(device="cpu"))
print(json.dumps({
    "read": [host["memory_used"], host["memory_total"]],
    "left": host_memory()[0],
    "planned": [available_memory(device), device.memory],
    "doctor": _memory(None).detail,
}), flush=True)
input()
"""


def test_readings_plans_and_doctor_tell_what_the_kernel_counts(group: Group, tmp_path: Path) -> None:
    """What files hold stays in memory, but is no reason to be afraid: it is given back to whoever needs room."""
    group.limit(400 * MB)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with subprocess.Popen([sys.executable, "-c", TAKES, str(tmp_path / "text")], **pipes, **group.within()) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        counters, usage = group.counters(), group.usage
        process.communicate("\n")
    used, total = told["read"]
    assert total == 400 * MB
    anonymous = counters["total_rss" if group.version == 1 else "anon"]
    assert anonymous >= 80 * MB
    assert usage > anonymous + 50 * MB
    assert used == pytest.approx(anonymous, abs=24 * MB)
    assert told["left"] == pytest.approx(total - used, abs=4 * MB)
    assert told["planned"] == [pytest.approx(told["left"], abs=4 * MB), total]
    assert "that this container or job may take" in told["doctor"]


@pytest.mark.campaign
def test_a_device_has_what_the_group_allows(group: Group, tmp_path: Path) -> None:
    """The micro-batch is chosen for half of the device's memory."""
    group.limit(900 * MB)
    chosen = "from minigpt.device import choose; print(choose('cpu').memory)"
    out = subprocess.run([sys.executable, "-c", chosen], cwd=ROOT, capture_output=True, text=True, **group.within())
    assert int(out.stdout) == 900 * MB


# Killed for real

GROWS = """
import sys, time
from pathlib import Path
from minigpt.event_writer import EventWriter
from minigpt.events import EVENTS
from minigpt.readings import readings

directory, full, more = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
writer = EventWriter(directory / EVENTS)
writer.write("start", run=directory.name, planned_steps=100)
writer.write("step", step=7, loss=3.0)
taken = []
while (figures := readings("cpu", directory))["host"]["memory_used"] < full * figures["host"]["memory_total"]:
    taken.append(bytearray(1 << 20))
writer.write("device", rank=0, **figures)
taken += [bytearray(1 << 20) for _ in range(more)]
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("full", "more", "by_hand", "said"),
    [
        (0.95, 100, False, "MB of memory that it could have were in use: most probably the system ended it"),
        (0.0, 100, False, "memory was not short at its last reading, but since then the kernel has ended a process"),
        (0.95, 0, True, "but the kernel has ended no process for want of memory since"),
        (0.0, 0, True, "as by kill -9 or a loss of power; memory was not short"),
    ],
)
def test_who_ended_it_is_known_by_the_kernels_own_count(
    group: Group, tmp_path: Path, full: float, more: int, by_hand: bool, said: str
) -> None:
    group.limit(100 * MB)
    directory = tmp_path / "checkpoints" / "lost"
    directory.mkdir(parents=True)
    (directory / "config.toml").write_text("")
    command = [sys.executable, "-c", GROWS, str(directory), str(full), str(more)]
    with subprocess.Popen(command, cwd=ROOT, **group.within()) as process:
        if by_hand:
            until(lambda: any(event["type"] == "device" for event in seen(directory)))
            process.kill()
    assert process.returncode == -signal.SIGKILL
    told = why(directory, summarise(directory))
    assert told is not None
    assert said in told
    assert ("signal 9" in told) is not by_hand


def seen(directory: Path) -> list[dict[str, Any]]:
    return events_of(directory) if (directory / "events.jsonl").exists() else []


# The trainer itself

TAKER = """
import sys, time
taken = []
for line in sys.stdin:
    taken.append(bytearray(int(line) << 20))
    print(flush=True)
"""


def start_within(group: Group, workspace: Workspace, run: str, **changes: object) -> subprocess.Popen[str]:
    """Start a run that does not end by itself."""
    endless = {"training__max_steps": 1_000_000, "training__eval_every": 10_000, "training__device": "cpu"}
    config = workspace.root / f"{run}.toml"
    config.write_text(to_toml(small_config(**{**endless, **changes})))
    unread = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return start_minigpt(workspace, "train", "--config", str(config), "--run", run, **unread, **group.within())


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_a_trainer_that_the_kernel_ends_was_warned_and_is_explained(
    group: Group, workspace: Workspace, tell_figure: Callable[[str, object], None]
) -> None:
    """Another program of the same container grows until the kernel ends the largest of both."""
    directory = workspace.run_directory("starved")
    group.limit(2048 * MB)
    trainer = start_within(group, workspace, "starved")
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    taker = subprocess.Popen([sys.executable, "-c", TAKER], **pipes, **group.within())
    assert taker.stdin is not None
    assert taker.stdout is not None

    def take(size: int) -> None:
        taker.stdin.write(f"{size}\n")
        taker.stdin.flush()
        taker.stdout.readline()

    try:
        until(lambda: readings_of(directory))
        assert notices_of(directory).count("memory-nearly-full") == 0
        room = (group.usage + 96 * MB) // MB * MB
        group.limit(room)
        until(lambda: readings_of(directory)[-1]["memory_total"] == room)
        assert "memory-nearly-full" not in notices_of(directory)
        take((int(0.97 * room) - readings_of(directory)[-1]["memory_used"]) // MB)
        until(lambda: "memory-nearly-full" in notices_of(directory) or trainer.poll() is not None)
        assert trainer.poll() is None
        while trainer.poll() is None:
            take(2)
        assert trainer.wait() == -signal.SIGKILL
    finally:
        taker.kill()
        taker.communicate()
    host = readings_of(directory)[-1]
    tell_figure("memory in use at the last reading", f"{host['memory_used'] / host['memory_total']:.1%}")
    shown = run_minigpt("runs", "show", "starved", workspace=workspace.root)
    assert "crashed" in shown.stdout
    assert "most probably the system ended it to get memory back (signal 9)" in " ".join(shown.stdout.split())


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_a_trainer_that_never_fits_is_explained_though_it_could_tell_nothing(
    group: Group, workspace: Workspace
) -> None:
    group.limit(1800 * MB)
    wide = {"model__d_model": 1024, "model__n_heads": 8, "model__n_layers": 8, "training__micro_batch_size": 4}
    trainer = start_within(group, workspace, "starved", **wide)
    assert trainer.wait() == -signal.SIGKILL
    directory = workspace.run_directory("starved")
    assert "(signal 9)" in (why(directory, summarise(directory)) or "")


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_a_trainer_with_room_in_its_group_is_not_alarmed(group: Group, workspace: Workspace) -> None:
    """Though the group is full of what files hold."""
    group.limit(1024 * MB)
    directory = workspace.run_directory("roomy")
    fill = f"open({str(workspace.root / 'much')!r}, 'wb').write(bytes(1 << 30))"
    subprocess.run([sys.executable, "-c", fill], **group.within())
    trainer = start_within(group, workspace, "roomy")
    until(lambda: len(readings_of(directory)) >= 3)
    assert group.usage > 0.9 * 1024 * MB
    trainer.send_signal(signal.SIGTERM)
    assert trainer.wait() == 3
    assert not {"memory-nearly-full", "disk-nearly-full", "out-of-memory"} & set(notices_of(directory))
    assert why(directory, summarise(directory)) is None
    assert all(host["memory_total"] == 1024 * MB for host in readings_of(directory))


def readings_of(directory: Path) -> list[dict[str, Any]]:
    return [event["host"] for event in seen(directory) if event["type"] == "device" and "host" in event]
