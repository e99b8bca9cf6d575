"""How the machine is doing now: every NVIDIA GPU, the processors, memory and disk.

    figures = readings("cuda", directory=Path("checkpoints/my-run"))
    figures["utilisation"], figures["gpus"][1].get("temperature"), figures["host"]["disk_free"]

Imports without torch and never imports it. What cannot be told is absent, not 0.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import psutil

from minigpt.device import as_text, open_nvml
from minigpt.host import cpu_temperature, oom_kills, processor_load, tightest_memory

# In the order of nvml.h; several bits may say the same to a person.
THROTTLE_REASONS = {
    0x002: "set clocks",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "thermal",
    0x040: "thermal",
    0x080: "power brake",
}
OF_THE_DEVICE = ("memory_total", "memory_ours", "utilisation", "temperature", "power")

Figures = dict[str, Any]


def readings(device_kind: str | None = None, directory: Path | None = None, pid: int | None = None) -> Figures:
    """Return the figures of the computing device (memory in bytes, utilisation in %, temperature in C, power in W), of
    the host and, as `gpus`, of each NVIDIA GPU. `pid` is the trainer's, `directory` its run's.

    Without `device_kind` (nobody trains) the computing device is the first GPU we may use, else the processor.
    """
    pid = pid or os.getpid()
    gpus, host = nvidia_gpus(pid), _host(directory, pid)
    own = min((gpu for gpu in gpus if gpu["ours"]), key=lambda gpu: gpu["cuda_index"], default=None)
    if device_kind is None:
        device_kind = "cpu" if own is None else "cuda"
    if device_kind == "cuda":
        own = own or {}
        found = {name: own[name] for name in OF_THE_DEVICE if name in own}
        found |= {"memory": own["memory_used"]} if "memory_used" in own else {}
    else:
        found = {"memory": host["memory_used"], "memory_total": host["memory_total"]}
        if device_kind == "mps":
            found |= _metal_memory()
        elif "cpu_percent" in host:
            found["utilisation"] = host["cpu_percent"]
    return {**found, "host": host, "gpus": gpus}


def nvidia_gpus(pid: int) -> list[Figures]:
    """Return what each NVIDIA GPU of the machine can tell, by NVML's index; a lost one is left out.

    name, uuid, utilisation (%), memory_total, memory_used, memory_ours (of the process `pid` and its descendants) and
    memory_others (bytes), temperature (C), power, power_cap (W), clock_sm, clock_max (MHz), throttle (reasons in words,
    none when it runs freely); `ours` where this process may compute, and then `cuda_index`, its number there.
    """
    nvml = open_nvml()
    if nvml is None:
        return []
    gpus: list[Figures] = []
    try:
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError:
        return []
    for index in range(count):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            gpus.append({"index": index, "name": "NVIDIA GPU", **dict(_answers(nvml, handle))})
        except nvml.NVMLError:  # lost, or not ours to open
            continue
    _share_memory(gpus, pid)
    order = _cuda_order(nvml, gpus)
    for gpu in gpus:
        gpu["ours"] = gpu["index"] in order
        if gpu["ours"]:
            gpu["cuda_index"] = order.index(gpu["index"])
    return gpus


def _answers(nvml: ModuleType, handle: Any) -> Iterator[tuple[str, Any]]:
    questions = {
        "name": lambda: as_text(nvml.nvmlDeviceGetName(handle)),
        "uuid": lambda: as_text(nvml.nvmlDeviceGetUUID(handle)),
        "utilisation": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
        "memory_used": lambda: _memory(nvml, handle).used,
        "memory_total": lambda: _memory(nvml, handle).total,
        "temperature": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        "power": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        "power_cap": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
        "clock_sm": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        "clock_max": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
        "throttle": lambda: _in_words(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)),
        "processes": lambda: _processes(nvml, handle),
    }
    gone = (nvml.NVMLError_GpuIsLost, nvml.NVMLError_DriverNotLoaded, nvml.NVMLError_Uninitialized)
    for name, ask in questions.items():
        try:
            yield name, ask()
        except gone:
            raise
        except nvml.NVMLError:  # not on this card, with this driver, or under MIG
            continue


def _memory(nvml: ModuleType, handle: Any) -> Any:
    try:
        # The second version does not call used what the driver keeps for itself: somebody else's it is not.
        return nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError:
        return nvml.nvmlDeviceGetMemoryInfo(handle)


def _in_words(reasons: int) -> list[str]:
    words = dict.fromkeys(word for bit, word in THROTTLE_REASONS.items() if reasons & bit)
    if "thermal" in words or "power brake" in words:
        words.pop("hardware slowdown", None)
    return list(words)


def _processes(nvml: ModuleType, handle: Any) -> list[tuple[int, int | None]]:
    """Return process id and bytes (None where hidden) of each process that computes on a GPU."""
    return [(process.pid, process.usedGpuMemory) for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)]


def _share_memory(gpus: Sequence[Figures], pid: int) -> None:
    """Replace the list of a GPU's processes by our memory and that of others, where NVML sees us at all.

    In a container it may list nobody, or processes by numbers that mean nothing here.
    """
    processes = [gpu.pop("processes", None) for gpu in gpus]
    family = {other for listed in processes for other, _ in listed or () if _descends(other, pid)}
    if not family:
        return
    for gpu, listed in zip(gpus, processes, strict=True):
        amounts = [None] if listed is None else [amount for other, amount in listed if other in family]
        if None in amounts:
            continue
        gpu["memory_ours"] = sum(amounts)
        if "memory_used" in gpu:
            gpu["memory_others"] = max(0, gpu["memory_used"] - gpu["memory_ours"])


def _descends(pid: int, ancestor: int) -> bool:
    if pid == ancestor:
        return True
    try:
        return any(parent.pid == ancestor for parent in psutil.Process(pid).parents())
    except psutil.Error:
        return False


def first_gpu() -> tuple[ModuleType, Any] | None:
    """Return NVML, and its handle of the GPU on which this process would compute; None where there is none."""
    nvml = open_nvml()
    if nvml is None:
        return None
    handles: dict[int, Any] = {}
    gpus: list[Figures] = []
    try:
        for index in range(nvml.nvmlDeviceGetCount()):
            with suppress(nvml.NVMLError):  # lost, or not ours to open
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                gpus.append({"index": index, "uuid": as_text(nvml.nvmlDeviceGetUUID(handle))})
                handles[index] = handle
    except nvml.NVMLError:
        return None
    order = _cuda_order(nvml, gpus)
    return (nvml, handles[order[0]]) if order else None


def _cuda_order(nvml: ModuleType, gpus: Sequence[Figures]) -> list[int]:
    """Return the NVML indices of the GPUs this process may compute on, in the order CUDA numbers them."""
    by_uuid = {str(gpu.get("uuid")).removeprefix("GPU-"): gpu["index"] for gpu in gpus}
    # CUDA may number different cards by speed, NVML by slot: where torch is at work, it knows.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        used = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        order = [by_uuid.get(str(getattr(card, "uuid", "")).removeprefix("GPU-")) for card in used]
        if order and None not in order:
            return [index for index in order if index is not None]
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is None:
        return [gpu["index"] for gpu in gpus]
    return _visible(nvml, gpus, asked)


def _visible(nvml: ModuleType, gpus: Sequence[Figures], asked: str) -> list[int]:
    """Read CUDA_VISIBLE_DEVICES as CUDA does: what follows an entry that names no GPU does not count."""
    order: list[int] = []
    for entry in asked.split(","):
        entry = entry.strip()
        if entry.startswith("MIG-"):
            matching = _parent_of_slice(nvml, entry)
        elif entry.startswith("GPU-"):
            matching = [gpu["index"] for gpu in gpus if str(gpu.get("uuid")).startswith(entry)]
        else:
            matching = [gpu["index"] for gpu in gpus if entry.isdecimal() and int(entry) == gpu["index"]]
        if len(matching) != 1:
            break
        order += matching
    return list(dict.fromkeys(order))


def _parent_of_slice(nvml: ModuleType, uuid: str) -> list[int]:
    try:
        part = nvml.nvmlDeviceGetHandleByUUID(uuid)
        return [nvml.nvmlDeviceGetIndex(nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(part))]
    except nvml.NVMLError:
        return []


def _metal_memory() -> Figures:
    torch = sys.modules.get("torch")
    return {} if torch is None else {"memory_ours": torch.mps.driver_allocated_memory()}


def _host(directory: Path | None, pid: int) -> Figures:
    memory = tightest_memory(pid)
    found = {
        "cpu_percent": processor_load.percent(),
        "cpu_temperature": cpu_temperature(),
        "memory_used": memory.used,
        "memory_total": memory.total,
        "oom_kills": None if (kills := oom_kills(pid)) is None else msgspec.structs.asdict(kills),
    }
    try:
        found["process_memory"] = psutil.Process(pid).memory_info().rss
    except psutil.Error:  # it has just ended
        pass
    if directory is not None:
        try:
            disk = _disk(directory)
            found |= {"disk_free": disk.free, "disk_total": disk.total}
        except OSError:  # unmounted, or not ours to ask
            pass
    return {name: value for name, value in found.items() if value is not None}


def _disk(path: Path) -> Any:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path)


def free_disk(path: Path) -> int:
    """Return the bytes free where `path` lies, or will lie; raises OSError."""
    return int(_disk(path).free)
