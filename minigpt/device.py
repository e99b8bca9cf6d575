"""What this machine computes with: which device, how much memory, how fast.

Imports without torch; the functions that need it import it themselves.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import psutil

from minigpt.errors import UserError
from minigpt.host import cpu_quota, host_memory

if TYPE_CHECKING:
    import torch

# Dense bfloat16 peak in FLOP/s, without sparsity, from the makers' data sheets; the longest matching name counts.
PEAK_FLOPS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "GH200": 989e12,
    "A100": 312e12,
    "A10G": 70e12,
    "A10": 125e12,
    "A40": 149.7e12,
    "A6000": 154.8e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 6000 Ada": 364e12,
    "RTX 4090": 165.2e12,
    "RTX 4080": 97.5e12,
    "RTX 3090": 71e12,
    "RTX 3080": 59.5e12,
    "V100": 125e12,
    "T4": 65e12,
}


@dataclass(frozen=True)
class Device:
    """Where a run computes: `kind` is cpu, cuda or mps, `precision` a torch dtype's name.

    `memory` is what there is of it in all, in bytes: of the host's, what a container or a scheduler lets us have.
    """

    kind: str
    name: str
    precision: str
    memory: int
    threads: int

    @property
    def label(self) -> str:
        short = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[self.precision]
        return f"{self.kind} {self.name} {short}"


def choose(kind: str = "auto", precision: str = "auto", threads: int | None = None) -> Device:
    """Decide device and precision; raises UserError when the device asked for is not there or not usable."""
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind == "auto":
        kind = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if kind not in available:
        raise UserError(f"There is no device {kind!r}: choose auto, cpu, cuda or mps.")
    if not available[kind]:
        advice = unusable_gpu_advice() if kind == "cuda" else None
        raise UserError(f"This torch cannot use the device {kind!r}: {advice or 'choose --device cpu or auto'}.")
    if precision == "auto":
        precision = "bfloat16" if fast_bfloat16(kind) else "float16" if kind == "cuda" else "float32"
    if precision == "float16" and kind == "cpu":
        raise UserError("float16 does not train on a CPU: choose --precision float32 or bfloat16.")
    if kind == "cuda":
        properties = torch.cuda.get_device_properties(0)
        return Device(kind, properties.name, precision, properties.total_memory, threads or cpu_threads())
    return Device(kind, processor_name(), precision, host_memory()[1], threads or cpu_threads())


def fast_bfloat16(kind: str) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    import torch

    if kind == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    if kind == "mps":
        return False
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@cache
def cpu_threads() -> int:
    """Return the physical cores this process may use: two threads on one core only get in each other's way.

    Of a container that may use 1.5 of them two: threads that wait for their share still get more done than one.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(usable, psutil.cpu_count(logical=False) or usable)
    quota = cpu_quota()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


@cache
def processor_name() -> str:
    """Return the processor's name as its maker writes it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].replace("(R)", "").replace("(TM)", "").split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def tune_process(device: Device) -> None:
    """Set what belongs to the whole process: threads, kernels, memory allocator. Call once, before any arithmetic."""
    import torch

    torch.set_num_threads(device.threads)
    if device.kind == "cuda":
        torch.set_float32_matmul_precision("high")
    elif device.kind == "cpu":
        _keep_freed_memory()
        if prefers_onednn():
            torch.set_float32_matmul_precision("medium")


@contextmanager
def threads_at_most(count: int) -> Iterator[None]:
    """Have torch compute on so many threads of the processor, or fewer, for a while: to change it costs nothing."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(min(before, count))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _keep_freed_memory() -> None:
    """Have glibc keep freed memory: returning and faulting it in again costs more than a small matrix product."""
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD in malloc.h
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, 2**31 - 1)


@cache
def prefers_onednn() -> bool:
    """Whether float32 products should go to oneDNN instead of MKL, which runs at half speed on AMD's processors.

    Decided by what the processor is, not by a race between the two: a resumed run must take the same way again.
    With AMX, oneDNN would compute in bfloat16 and lose digits.
    """
    import torch

    amd = "AMD" in processor_name() or "EPYC" in processor_name()
    return amd and torch.backends.mkldnn.is_available() and not torch.cpu._is_amx_tile_supported()


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_flops(device: Device) -> tuple[float, str]:
    """Return the FLOP/s to measure a run against, and where the figure comes from."""
    matching = [name for name in PEAK_FLOPS if name in device.name]
    if device.kind == "cuda" and matching and device.precision != "float32":
        name = max(matching, key=len)
        return PEAK_FLOPS[name], f"{name} data sheet"
    return measured_flops(device), "measured matrix product"


@cache
def measured_flops(device: Device, size: int = 1024) -> float:
    """Return the FLOP/s of a square matrix product, the best of several."""
    import torch

    dtype = getattr(torch, device.precision)
    # Random numbers of its own: how often this is called must not move those of a run.
    generator = torch.Generator(device.kind).manual_seed(0)
    a = torch.randn(size, size, generator=generator, device=device.kind).to(dtype)
    product = a @ a

    def multiply() -> None:
        torch.matmul(a, a, out=product)
        if device.kind != "cpu":
            product[0, 0].item()

    multiply()
    return 2 * size**3 / min(_seconds(multiply) for _ in range(5))


def unusable_gpu_advice() -> str | None:
    """Return what to do about an NVIDIA GPU that is there while this torch cannot use it; None when all is well."""
    import torch

    if torch.cuda.is_available():
        return _missing_kernels_advice()
    name = _nvidia_gpu_name()
    if name is None:
        return None
    if torch.version.cuda is None:
        return (
            f"{name} is there, but this torch was built without CUDA; this gets one that fits: "
            "`pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu128`"
        )
    return (
        f"{name} is there, but its driver does not serve CUDA {torch.version.cuda}, which this torch was built for; "
        "update the driver, or "
        "`pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu126` for an older one"
    )


def _missing_kernels_advice() -> str | None:
    import torch

    major, minor = torch.cuda.get_device_capability()
    built_for = torch.cuda.get_arch_list()
    # Kernels run on later chips of the same generation; PTX, the "compute_" entries, on all later ones.
    runs = any(
        (name.startswith("sm_") and version // 10 == major and version <= 10 * major + minor)
        or (name.startswith("compute_") and version <= 10 * major + minor)
        for name in built_for
        if (version := int("".join(filter(str.isdigit, name)) or 0))
    )
    if runs or not built_for:
        return None
    return (
        f"{torch.cuda.get_device_name()} (sm_{major}{minor}) is there, but this torch has kernels for "
        f"{', '.join(built_for)} only; older or newer ones are at "
        "`pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu126` (or cu128, cu130)"
    )


@cache
def _initialised(nvml: ModuleType) -> bool:
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return False
    return True


def open_nvml() -> ModuleType | None:
    """Return NVIDIA's management library, initialised once a process; None where no driver answers."""
    import pynvml

    return pynvml if _initialised(pynvml) else None


def as_text(name: str | bytes) -> str:
    """Return a name from NVML, which some versions give as bytes."""
    return name.decode(errors="replace") if isinstance(name, bytes) else name


def _nvidia_gpu_name() -> str | None:
    nvml = open_nvml()
    if nvml is None:
        return None
    try:
        return as_text(nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(0)))
    except nvml.NVMLError:
        return None


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def describe(device: Device) -> dict[str, Any]:
    """Return the device as plain values, for events and checkpoints."""
    return asdict(device)
