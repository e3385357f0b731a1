"""What NVML says of the GPU that this process may use; nothing where there is none.

NVML numbers the machine's GPUs, not the visible ones, so the GPU is found by what
``CUDA_VISIBLE_DEVICES`` names first. No other module talks to NVML.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

_POLL_S = 0.5
# Memory that the driver keeps for a GPU without processes varies by less than this.
_MEMORY_SLACK_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU."""

    name: str
    uuid: str
    memory_bytes: int
    driver_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """Who uses a GPU at one moment.

    Attributes:
        used_bytes: memory in use, by whomever.
        processes: pid -> bytes, of processes that compute on it.
    """

    used_bytes: int
    processes: dict[int, int]


def visible_gpu() -> Gpu | None:
    """Return the GPU that CUDA calls device 0 in this process, or None."""
    nvml = _nvml()
    if nvml is None:
        return None
    handle = _first_visible(nvml)
    if handle is None:
        return None
    return Gpu(
        name=_text(nvml.nvmlDeviceGetName(handle)),
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        driver_version=_text(nvml.nvmlSystemGetDriverVersion()),
    )


def use(gpu: Gpu) -> GpuUse:
    """Return who uses ``gpu`` now."""
    nvml = _nvml()
    assert nvml is not None, "a Gpu comes from NVML"
    handle = nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
    running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return GpuUse(
        used_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).used),
        processes={int(process.pid): int(process.usedGpuMemory or 0) for process in running},
    )


def wait_until_free(gpu: Gpu, timeout_s: float) -> GpuUse | None:
    """Wait until no process computes on ``gpu``; return who still does at the deadline."""
    deadline = time.monotonic() + timeout_s
    while True:
        now = use(gpu)
        if not now.processes:
            return None
        if time.monotonic() >= deadline:
            return now
        time.sleep(_POLL_S)


def wait_until_returned(gpu: Gpu, before: GpuUse, timeout_s: float) -> bool:
    """Wait until memory in use is back to what it was ``before``; False at the deadline."""
    deadline = time.monotonic() + timeout_s
    while use(gpu).used_bytes > before.used_bytes + _MEMORY_SLACK_BYTES:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _nvml() -> Any:  # noqa: ANN401  (pynvml is untyped)
    """Return pynvml, initialised, or None where there is no NVIDIA driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _first_visible(nvml: Any) -> Any:  # noqa: ANN401
    """Return the handle of the first visible GPU, or None where all are hidden."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    first = "0" if visible is None else visible.split(",")[0].strip()
    if not first or first == "-1" or not nvml.nvmlDeviceGetCount():
        return None
    if first.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(first))
    return nvml.nvmlDeviceGetHandleByUUID(first)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
