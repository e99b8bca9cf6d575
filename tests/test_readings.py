"""Live readings, told by a driver that is not there: two GPUs, of which one may be sliced, shared or lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import psutil
import pynvml
import pytest

from minigpt.config import TrainingSettings
from minigpt.device import Device, choose, cpu_threads
from minigpt.host import cpu_quota, ended_since, host_memory, oom_kills, tightest_memory
from minigpt.jobs import EVENTS, EventReader
from minigpt.planning.fit import cpu_room
from minigpt.planning.machine import available_memory, likely_device
from minigpt.readings import Figures, first_gpu, readings
from minigpt.training import recorder
from minigpt.training.recorder import Recorder
from minigpt.training.session import Session
from minigpt.workspace import Workspace
from tests.conftest import small_config

GB = 1 << 30
SOMEBODY_ELSE = os.getppid()
UUIDS = ["GPU-aaaa1111-0000-0000-0000-000000000000", "GPU-bbbb2222-0000-0000-0000-000000000000"]
DEVICE_FIGURES = {"memory", "memory_total", "memory_ours", "utilisation", "temperature", "power"}


class FakeNvml(ModuleType):
    """Two GPUs behind the functions of pynvml; `refuses(function, gpu)` may return the error it raises."""

    def __init__(self) -> None:
        super().__init__("pynvml")
        vars(self).update({name: value for name, value in vars(pynvml).items() if name.startswith(("NVML", "nvmlMem"))})
        self.calls: list[str] = []
        self.refuses: Callable[[str, int | None], int | None] = lambda function, gpu: None
        self.names: list[str | bytes] = ["NVIDIA A", "NVIDIA B"]
        self.processes: list[list[tuple[int, int | None]]] = [[], []]
        self.throttle = [0, 0]
        self.used = [8 * GB, 3 * GB]
        self.parent_of_slice = 1

    def _asked(self, function: str, gpu: int | None = None) -> None:
        self.calls.append(function)
        error = self.refuses(function, gpu)
        if error is not None:
            raise pynvml.NVMLError(error)

    def __getattr__(self, function: str) -> Callable[..., Any]:
        if not function.startswith("nvml"):
            raise AttributeError(function)

        def ask(gpu: Any = None, *details: Any, **more: Any) -> Any:
            self._asked(function, gpu if isinstance(gpu, int) else None)
            return self._answer(function, gpu, details, more)

        return ask

    def _answer(self, function: str, gpu: Any, details: tuple[Any, ...], more: dict[str, Any]) -> Any:
        answers: dict[str, Callable[[], Any]] = {
            "nvmlInit": lambda: None,
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda: gpu,
            "nvmlDeviceGetName": lambda: self.names[gpu],
            "nvmlDeviceGetUUID": lambda: UUIDS[gpu].encode() if isinstance(self.names[gpu], bytes) else UUIDS[gpu],
            "nvmlDeviceGetUtilizationRates": lambda: SimpleNamespace(gpu=[90, 20][gpu], memory=5),
            "nvmlDeviceGetMemoryInfo": lambda: SimpleNamespace(
                used=self.used[gpu] + (0 if more.get("version") else GB),
                free=79 * GB - self.used[gpu],
                total=80 * GB,
            ),
            "nvmlDeviceGetTemperature": lambda: [60, 40][gpu],
            "nvmlDeviceGetPowerUsage": lambda: [300_500, 70_000][gpu],
            "nvmlDeviceGetEnforcedPowerLimit": lambda: 700_000,
            "nvmlDeviceGetClockInfo": lambda: [1400, 345][gpu],
            "nvmlDeviceGetMaxClockInfo": lambda: 1980,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda: self.throttle[gpu],
            "nvmlDeviceGetComputeRunningProcesses": lambda: [
                SimpleNamespace(pid=pid, usedGpuMemory=amount) for pid, amount in self.processes[gpu]
            ],
            "nvmlDeviceGetHandleByUUID": lambda: self._slice(gpu),
            "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": lambda: self.parent_of_slice,
            "nvmlDeviceGetIndex": lambda: gpu,
        }
        return answers[function]()

    def _slice(self, uuid: str) -> str:
        if not uuid.startswith("MIG-"):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return uuid


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake


@pytest.fixture
def child() -> Iterator[int]:
    """The id of a process that we started."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid


def ours(figures: Figures) -> list[int]:
    return [gpu["index"] for gpu in figures["gpus"] if gpu["ours"]]


def test_a_gpu_tells_all_it_knows(nvml: FakeNvml) -> None:
    assert readings("cuda")["gpus"][1] == {
        "index": 1,
        "name": "NVIDIA B",
        "uuid": UUIDS[1],
        "utilisation": 20,
        "memory_used": 3 * GB,
        "memory_total": 80 * GB,
        "temperature": 40,
        "power": 70.0,
        "power_cap": 700.0,
        "clock_sm": 345,
        "clock_max": 1980,
        "throttle": [],
        "ours": True,
        "cuda_index": 1,
    }


def test_names_may_be_bytes(nvml: FakeNvml) -> None:
    nvml.names[1] = b"NVIDIA \xff"
    gpu = readings("cuda")["gpus"][1]
    assert (gpu["name"], gpu["uuid"]) == ("NVIDIA \ufffd", UUIDS[1])


def test_what_a_slice_cannot_report_is_absent(nvml: FakeNvml) -> None:
    not_counted = ("nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex")
    nvml.refuses = lambda function, gpu: (
        pynvml.NVML_ERROR_NOT_SUPPORTED if gpu == 0 and function not in not_counted else None
    )
    figures = readings("cuda")
    assert figures["gpus"][0] == {"index": 0, "name": "NVIDIA GPU", "ours": True, "cuda_index": 0}
    assert not DEVICE_FIGURES & figures.keys()
    assert figures["gpus"][1]["power"] == 70.0


def test_an_old_driver_counts_memory_in_the_old_way(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def refuse_first(function: str, gpu: int | None) -> int | None:
        if function == "nvmlDeviceGetMemoryInfo" and gpu == 0:
            refused.append(function)
            return pynvml.NVML_ERROR_FUNCTION_NOT_FOUND if len(refused) % 2 else None
        return None

    nvml.refuses = refuse_first
    assert readings("cuda")["gpus"][0]["memory_used"] == 9 * GB


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x1, []),
        (0x4, ["power cap"]),
        (0x20 | 0x40 | 0x8, ["thermal"]),
        (0x8, ["hardware slowdown"]),
        (0x80 | 0x8 | 0x2, ["set clocks", "power brake"]),
    ],
)
def test_throttling_is_told_in_words(nvml: FakeNvml, bits: int, words: list[str]) -> None:
    nvml.throttle[0] = bits
    assert readings("cuda")["gpus"][0]["throttle"] == words


def test_memory_is_told_from_that_of_others(nvml: FakeNvml, child: int) -> None:
    nvml.processes = [[(os.getpid(), 4 * GB), (child, GB), (SOMEBODY_ELSE, 2 * GB)], [(SOMEBODY_ELSE, 2 * GB)]]
    figures = readings("cuda")
    shares = [(gpu["memory_ours"], gpu["memory_others"]) for gpu in figures["gpus"]]
    assert shares == [(5 * GB, 3 * GB), (0, 3 * GB)]
    assert figures["memory_ours"] == 5 * GB


def test_memory_of_another_trainer_is_told_by_its_process(nvml: FakeNvml, child: int) -> None:
    nvml.processes = [[(os.getpid(), 4 * GB), (child, GB)], []]
    assert readings("cuda", pid=child)["gpus"][0]["memory_ours"] == GB


@pytest.mark.parametrize("listed", [[], [(SOMEBODY_ELSE, GB)], [(2**22 + 7, GB)], [(os.getpid(), None)]])
def test_whose_memory_it_is_stays_open_where_we_are_not_seen(
    nvml: FakeNvml, listed: list[tuple[int, int | None]]
) -> None:
    nvml.processes[0] = listed
    assert not {"memory_ours", "memory_others"} & readings("cuda")["gpus"][0].keys()


def test_processes_that_are_not_told_are_not_none(nvml: FakeNvml) -> None:
    nvml.processes[0] = [(os.getpid(), GB)]
    nvml.refuses = lambda function, gpu: (
        pynvml.NVML_ERROR_NO_PERMISSION if function == "nvmlDeviceGetComputeRunningProcesses" and gpu == 1 else None
    )
    assert "memory_ours" not in readings("cuda")["gpus"][1]


@pytest.mark.parametrize(
    ("visible", "expected", "power"),
    [
        ("1", [1], 70.0),
        ("1,0", [0, 1], 70.0),
        (" 0 , 1", [0, 1], 300.5),
        ("GPU-bbbb", [1], 70.0),
        ("GPU-", [], None),
        ("", [], None),
        ("-1", [], None),
        ("1,7,0", [1], 70.0),
        ("GPU-cccc,1", [], None),
        ("MIG-1234", [1], 70.0),
    ],
)
def test_only_visible_gpus_are_ours(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, visible: str, expected: list[int], power: float | None
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    figures = readings("cuda")
    assert len(figures["gpus"]) == 2
    assert (ours(figures), figures.get("power")) == (expected, power)
    # What plans are made for is the GPU that a run would take.
    found = first_gpu()
    assert (found and found[0].nvmlDeviceGetPowerUsage(found[1]) / 1000) == power
    memory = available_memory(Device("cuda", "", "float32", 7 * GB, 1))
    assert memory == {70.0: 76 * GB, 300.5: 71 * GB, None: 7 * GB}[power]


def test_torch_at_work_knows_its_gpu(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(uuid=UUIDS[1].removeprefix("GPU-"))
    cuda = SimpleNamespace(
        is_initialized=lambda: True, device_count=lambda: 1, get_device_properties=lambda number: card
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert ours(readings("cuda")) == [1]


def test_the_driver_is_opened_once(nvml: FakeNvml) -> None:
    for _ in range(3):
        readings("cuda")
    assert nvml.calls.count("nvmlInit") == 1


def test_a_missing_driver_is_asked_for_once(nvml: FakeNvml) -> None:
    nvml.refuses = lambda function, gpu: pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
    assert [readings("cuda")["gpus"] for _ in range(3)] == [[], [], []]
    assert nvml.calls == ["nvmlInit"]


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_GPU_IS_LOST])
@pytest.mark.parametrize(
    "fails_at", ["nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID", "nvmlDeviceGetMemoryInfo"]
)
def test_a_driver_lost_in_mid_run_leaves_no_gpus(nvml: FakeNvml, error: int, fails_at: str) -> None:
    assert len(readings("cuda")["gpus"]) == 2
    nvml.refuses = lambda function, gpu: error if function == fails_at else None
    figures = readings("cuda")
    assert figures["gpus"] == []
    assert not DEVICE_FIGURES & figures.keys()


def test_one_lost_gpu_leaves_the_other(nvml: FakeNvml) -> None:
    nvml.refuses = lambda function, gpu: (
        pynvml.NVML_ERROR_GPU_IS_LOST if gpu == 0 and function == "nvmlDeviceGetPowerUsage" else None
    )
    assert [gpu["index"] for gpu in readings("cuda")["gpus"]] == [1]


def test_a_run_on_the_processor_shows_its_own_figures_and_every_gpu(nvml: FakeNvml) -> None:
    figures = readings("cpu")
    assert figures["memory_total"] == psutil.virtual_memory().total
    assert len(figures["gpus"]) == 2


def test_while_nobody_trains_the_first_gpu_of_ours_counts(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert readings()["power"] == 70.0


def test_without_a_gpu_of_ours_the_processor_counts(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert readings()["memory_total"] == tightest_memory().total


class FakeGroups:
    """What Linux tells of control groups, of either version, as seen from within or from outside a container."""

    def __init__(self, root: Path, version: int, own: str, mounted: str = "/") -> None:
        self.proc, self.mount, self.version = root / "proc", root / "cgroup", version
        for folder in (self.proc / str(os.getpid()), self.proc / "self", self.proc / "sys/kernel/random"):
            folder.mkdir(parents=True)
        kind = "cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,cpu,memory"
        mounts = f"22 1 8:1 / / rw - ext4 /dev/root rw\n30 25 0:26 {mounted} {self.mount} rw,relatime - {kind}\n"
        (self.proc / "self/mountinfo").write_text(mounts)
        lines = f"0::{own}\n" if version == 2 else f"9:name=systemd:/x\n4:cpu,memory:{own}\n0::/\n"
        (self.proc / str(os.getpid()) / "cgroup").write_text(lines)
        (self.proc / "sys/kernel/random/boot_id").write_text("0a1b\n")
        (self.proc / "vmstat").write_text("pgfault 12\noom_kill 3\n")

    def add(self, path: str, limit: int | str, used: int, cache: int, kills: int = 0) -> None:
        folder = self.mount / path.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        names = ["memory.max", "memory.current", "memory.events"]
        stat = f"anon 5\nfile {9 * GB}\nactive_file {cache // 2}\ninactive_file {cache // 2}\n"
        if self.version == 1:
            names = ["memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control"]
            stat = f"inactive_file 7\ntotal_active_file {cache // 2}\ntotal_inactive_file {cache // 2}\n"
        for name, text in zip([*names, "memory.stat"], [limit, used, f"oom_kill {kills}", stat], strict=True):
            (folder / name).write_text(f"{text}\n")


MACHINE = SimpleNamespace(available=10 * GB, total=16 * GB)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("limit", "used", "cache", "expected", "read"),
    [
        (4 * GB, 3 * GB, GB, (2 * GB, 4 * GB), (2 * GB, 4 * GB)),
        (4 * GB, 5 * GB, 0, (0, 4 * GB), (5 * GB, 4 * GB)),
        ("unlimited", 3 * GB, GB, (10 * GB, 16 * GB), (6 * GB, 16 * GB)),
        # Of what a group may take, the machine has less left.
        (12 * GB, GB, 0, (10 * GB, 12 * GB), (6 * GB, 16 * GB)),
    ],
)
def test_a_container_leaves_what_its_limit_does(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    version: int,
    limit: int | str,
    used: int,
    cache: int,
    expected: tuple[int, int],
    read: tuple[int, int],
) -> None:
    groups = FakeGroups(tmp_path, version, "/")
    unlimited = "max" if version == 2 else 9223372036854771712
    groups.add("/", unlimited if limit == "unlimited" else limit, used, cache)
    monkeypatch.setattr("minigpt.host.PROC", groups.proc)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: MACHINE)
    assert host_memory() == expected
    assert available_memory(Device("cpu", "", "float32", 16 * GB, 1)) == expected[0]
    assert cpu_room() == int(0.8 * expected[0])
    host = readings("cpu")["host"]
    assert (host["memory_used"], host["memory_total"]) == read
    # The micro-batch is chosen by what there is in all; what is likely, and what torch then takes, agree.
    training = TrainingSettings(device="cpu")
    assert likely_device(training).memory == choose("cpu").memory == expected[1]


@pytest.mark.parametrize(
    ("own", "mounted"),
    [
        ("/slurm/job_7/task_1", "/"),  # outside a container
        ("/docker/1a2b/slurm/job_7/task_1", "/docker/1a2b"),  # within one that sees where it lies
        ("/../../slurm/job_7", "/"),  # moved out of what is mounted: what is known is the mount
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_of_groups_within_groups_the_one_with_the_least_left_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: int, own: str, mounted: str
) -> None:
    groups = FakeGroups(tmp_path, version, own, mounted)
    groups.add("/slurm/job_7/task_1", 4 * GB, GB, 0, kills=1)
    groups.add("/slurm/job_7", 6 * GB, 5 * GB, 0, kills=2)
    groups.add("/slurm", "max" if version == 2 else 1 << 62, 12 * GB, 0, kills=4)
    groups.add("/", 9 * GB, 7 * GB, 0, kills=8)
    monkeypatch.setattr("minigpt.host.PROC", groups.proc)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: MACHINE)
    within = ".." not in own
    assert host_memory() == ((GB, 4 * GB) if within else (2 * GB, 9 * GB))
    assert tightest_memory() == ((5 * GB, 6 * GB) if within else (7 * GB, 9 * GB))
    kills = oom_kills()
    assert kills is not None
    assert kills.count == (1 if within else 8)


def test_the_kernels_count_is_compared_with_itself_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    groups = FakeGroups(tmp_path, 2, "/job")
    groups.add("/job", GB, 0, 0, kills=1)
    monkeypatch.setattr("minigpt.host.PROC", groups.proc)
    before = msgspec.structs.asdict(oom_kills())  # type: ignore[arg-type]
    assert ended_since(before) is False
    groups.add("/job", GB, 0, 0, kills=2)
    assert ended_since(before) is True
    # After a restart, of the machine or of the group, it counts from zero; other files are not opened.
    assert ended_since({**before, "id": "elsewhere:1"}) is None
    assert ended_since({**before, "file": "/dev/zero"}) is None
    (tmp_path / "memory.events").write_text("oom_kill 5\n")
    outside = {"file": f"{groups.mount}/job/../../memory.events", "id": f"0a1b:{tmp_path.stat().st_ino}"}
    assert ended_since({**before, **outside}) is None
    assert ended_since({**before, "count": "many"}) is None
    assert ended_since(None) is None
    shutil.rmtree(groups.mount / "job")
    assert ended_since(before) is None


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("outer", "inner", "processors", "threads"),
    [
        (None, None, None, 8),
        (None, 150_000, 1.5, 2),
        (400_000, None, 4.0, 4),
        (100_000, 600_000, 1.0, 1),
        (None, 20_000, 0.2, 1),
        (None, 6_400_000, 64.0, 8),
    ],
)
def test_threads_are_no_more_than_the_processors_a_container_may_use(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    version: int,
    outer: int | None,
    inner: int | None,
    processors: float | None,
    threads: int,
) -> None:
    groups = FakeGroups(tmp_path, version, "/kubepods/pod1")
    for path, quota in (("kubepods", outer), ("kubepods/pod1", inner)):
        folder = groups.mount / path
        folder.mkdir(parents=True)
        if version == 2:
            (folder / "cpu.max").write_text(f"{quota or 'max'} 100000\n")
        else:
            (folder / "cpu.cfs_quota_us").write_text(f"{quota or -1}\n")
            (folder / "cpu.cfs_period_us").write_text("100000\n")
    monkeypatch.setattr("minigpt.host.PROC", groups.proc)
    assert cpu_quota() == processors
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 16 if logical else 8)
    assert cpu_threads.__wrapped__() == threads


def test_without_groups_the_machine_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("minigpt.host.PROC", tmp_path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: MACHINE)
    assert host_memory() == (10 * GB, 16 * GB)
    assert cpu_quota() is None
    assert oom_kills() is None
    assert "oom_kills" not in readings("cpu")["host"]


def test_metal_memory_comes_from_torch_at_work(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_initialized=lambda: False)
    metal = SimpleNamespace(driver_allocated_memory=lambda: 5 * GB)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, mps=metal))
    figures = readings("mps")
    assert figures["memory_ours"] == 5 * GB
    assert "utilisation" not in figures


def test_metal_memory_is_absent_without_torch(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert "memory_ours" not in readings("mps")


def test_the_disk_is_that_of_the_run(nvml: FakeNvml, tmp_path: Path) -> None:
    host = readings("cpu", tmp_path / "not" / "yet")["host"]
    assert 0 < host["disk_free"] <= host["disk_total"]


def test_without_a_run_there_is_no_disk(nvml: FakeNvml) -> None:
    assert not {"disk_free", "disk_total"} & readings("cpu")["host"].keys()


def test_a_process_that_has_ended_has_no_memory(nvml: FakeNvml) -> None:
    host = readings("cpu", pid=2**22 + 7)["host"]
    assert "process_memory" not in host
    assert readings("cpu")["host"]["process_memory"] > 0


def test_processor_load_is_that_since_the_last_question(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    times = namedtuple("times", "user system idle iowait guest")
    loads = []
    for now in (times(100, 0, 100, 0, 0), times(103, 0, 106, 1, 2), times(103, 0, 106, 1, 2)):
        monkeypatch.setattr(psutil, "cpu_times", lambda now=now: now)
        loads.append(readings("cpu")["host"].get("cpu_percent"))
    # 3 s at work (2 of them for a guest), 6 idle, 1 waiting; then no time at all has passed.
    assert loads[1:] == [30.0, None]


@pytest.mark.parametrize(
    ("sensors", "expected"),
    [
        ({"nvme": [50.0], "k10temp": [61.5, 60.0]}, 61.5),
        ({"acpitz": [27.8]}, None),
        ({"coretemp": [0.0]}, None),
        ({}, None),
    ],
)
def test_temperature_is_the_processors(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, sensors: dict[str, list[float]], expected: float | None
) -> None:
    told = {name: [SimpleNamespace(current=value) for value in values] for name, values in sensors.items()}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: told, raising=False)
    assert readings("cpu")["host"].get("cpu_temperature") == expected


def test_the_trainers_device_event_carries_it_all(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(recorder, "READINGS_SECONDS", 0.01)
    told, seen = [], threading.Event()

    def listen(event: dict[str, Any]) -> None:
        if event["type"] == "device":
            told.append(event)
            seen.set()

    with Recorder(tmp_path, "cuda", 1, (listen,)):
        assert seen.wait(60)
    assert told[0]["power"] == 300.5
    assert [gpu["power_cap"] for gpu in told[0]["gpus"]] == [700.0, 700.0]
    assert {"disk_free", "process_memory", "memory_total"} <= told[0]["host"].keys()


def test_a_run_says_what_its_mfu_is_measured_against(workspace: Workspace) -> None:
    session = Session.new(
        workspace, small_config(training__max_steps=1, training__device="cpu"), say=lambda message: None
    )
    session.train()
    with EventReader(session.directory / EVENTS) as reader:
        start = next(event for event in reader.poll() if event["type"] == "start")
    assert start["peak_flops"] > 0
    assert start["peak_source"] == "measured matrix product"
