"""Which device a run would take here, told without torch: a guess until a probe has asked torch itself.

device = likely_device(config.training)
device.label, device.memory
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from functools import cache
from pathlib import Path

from minigpt.config import TrainingSettings
from minigpt.device import Device, as_text, cpu_threads, processor_name
from minigpt.host import host_memory
from minigpt.readings import first_gpu

# From compute capability 8.0 on, GPUs multiply bfloat16 in hardware; so do CPUs with one of these.
_BFLOAT16_CAPABILITY = (8, 0)
_BFLOAT16_CPU_FLAGS = {"avx512_bf16", "amx_tile"}


def likely_device(training: TrainingSettings) -> Device:
    """Return what `device.choose` would, as far as it can be known without torch."""
    gpu = _gpu()
    metal = sys.platform == "darwin" and platform.machine() == "arm64"
    kind: str = training.device
    if kind == "auto":
        kind = "cuda" if gpu else "mps" if metal else "cpu"
    threads = training.threads or cpu_threads()
    if kind == "cuda" and gpu:
        name, memory, capability = gpu
        automatic = "bfloat16" if capability >= _BFLOAT16_CAPABILITY else "float16"
    else:
        name, memory = processor_name(), host_memory()[1]
        automatic = "bfloat16" if kind == "cpu" and _BFLOAT16_CPU_FLAGS & _cpu_flags() else "float32"
    return Device(kind, name, automatic if training.precision == "auto" else training.precision, memory, threads)


def plain_attention_length(device: Device) -> int:
    """Return up to how many tokens attention runs as plain products: PLAIN_ATTENTION_LENGTH of model/layers.py."""
    amd = "AMD" in device.name or "EPYC" in device.name
    return 512 if device.kind == "cpu" and amd and "amx_tile" not in _cpu_flags() else 0


def available_memory(device: Device) -> int:
    """Return how many bytes of the device's memory are free now."""
    if device.kind != "cuda":
        return host_memory()[0]
    found = first_gpu()
    if found is None:
        return device.memory
    nvml, handle = found
    try:
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).free)
    except nvml.NVMLError:
        return device.memory


def machine_name() -> str:
    """Return what tells this machine, and the torch on it, from others: a time measured here holds as long as it."""
    gpu = _gpu()
    parts = [processor_name(), str(cpu_threads()), gpu[0] if gpu else "", torch_version()]
    return " | ".join(parts)


@cache
def torch_version() -> str:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _gpu() -> tuple[str, int, tuple[int, int]] | None:
    """Return name, memory and compute capability of the GPU that would be used, where torch was built to use one."""
    return None if "+cpu" in torch_version() else _described(os.environ.get("CUDA_VISIBLE_DEVICES"))


@cache
def _described(visible: str | None) -> tuple[str, int, tuple[int, int]] | None:
    found = first_gpu()
    if found is None:
        return None
    nvml, handle = found
    try:
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
        memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
        return as_text(nvml.nvmlDeviceGetName(handle)), memory, (int(major), int(minor))
    except nvml.NVMLError:
        return None


@cache
def _cpu_flags() -> set[str]:
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    except OSError:
        pass
    return set()
