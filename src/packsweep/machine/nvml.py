"""What NVML says of the GPU that this process may use; nothing where there is none.

NVML numbers the machine's GPUs, not the visible ones, so the GPU is found by what
``CUDA_VISIBLE_DEVICES`` names first. No other module talks to NVML.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

_POLL_S = 0.5
# Memory that the driver keeps for a GPU without processes varies by less than this.
_MEMORY_SLACK_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
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


# Bits of NVML's clocks event reasons, by nvidia-smi's names; older drivers call them throttle
# reasons. 0x1 says that the GPU idles and is left out: between two kernels it does.
# Source: nvml.h (nvmlClocksEventReasons), the same values since driver 390.
_EVENT_REASONS = {
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}
# The newer function is not in an older driver, the older one not in a newer pynvml.
_EVENT_FUNCTIONS = (
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at a GPU; None where the driver does not tell.

    Attributes:
        throttle_reasons: why its clocks are below what they could be; empty if they are not.
        processes: those that compute on it, by the numbers that the driver knows them by.
    """

    sm_clock_mhz: int | None
    throttle_reasons: frozenset[str] | None
    temperature_c: int | None
    power_w: float | None
    processes: frozenset[int] | None


class Gauges:
    """What can be read off one GPU while it works."""

    def __init__(self, nvml: Any, handle: Any) -> None:  # noqa: ANN401  (pynvml is untyped)
        """Read ``handle`` through ``nvml``, which is pynvml or has the functions used of it."""
        self._nvml = nvml
        self._handle = handle

    def read(self) -> Reading:
        """Look once."""
        nvml, handle = self._nvml, self._handle
        power_mw = self._known(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        return Reading(
            sm_clock_mhz=self._known(
                lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)
            ),
            throttle_reasons=self._throttle_reasons(),
            temperature_c=self._known(
                lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
            ),
            power_w=None if power_mw is None else power_mw / 1000,
            processes=self.processes(),
        )

    def processes(self) -> frozenset[int] | None:
        found = self._known(lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle))
        return None if found is None else frozenset(int(process.pid) for process in found)

    def energy_j(self) -> float | None:
        """Return the energy used since the driver was loaded, counted by the GPU itself."""
        used_mj = self._known(lambda: self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        return None if used_mj is None else used_mj / 1000

    def _throttle_reasons(self) -> frozenset[str] | None:
        for name in _EVENT_FUNCTIONS:
            ask = getattr(self._nvml, name, None)
            bits = None if ask is None else self._known(partial(ask, self._handle))
            if bits is not None:
                return frozenset(name for bit, name in _EVENT_REASONS.items() if bits & bit)
        return None

    def _known(self, ask: Callable[[], Any]) -> Any:  # noqa: ANN401
        try:
            return ask()
        except self._nvml.NVMLError:
            return None


def gauges(gpu: Gpu) -> Gauges:
    nvml = _nvml()
    assert nvml is not None, "a Gpu comes from NVML"
    return Gauges(nvml, nvml.nvmlDeviceGetHandleByUUID(gpu.uuid))


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


def names(gpus: Sequence[Gpu]) -> str | None:
    """Return the name of ``gpus``, each different one once; None where there are none."""
    return ", ".join(dict.fromkeys(gpu.name for gpu in gpus)) or None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What NVML says of this machine at one moment; None where it does not tell.

    Attributes:
        num_gpus: of the machine, visible or not.
        gpu: the one that this process may use.
        cuda: the newest CUDA, major and minor, that the driver supports.
        error: what keeps NVML from telling, although a driver seems to be there.
    """

    num_gpus: int = 0
    gpu: Gpu | None = None
    use: GpuUse | None = None
    throttle_reasons: frozenset[str] | None = None
    cuda: tuple[int, int] | None = None
    error: str | None = None


def survey() -> Survey:
    """Look at the machine once; whatever NVML refuses is reported, not raised."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return _survey(pynvml)
    except pynvml.NVMLError as error:
        absent = isinstance(error, pynvml.NVMLError_LibraryNotFound)
        return Survey(error=None if absent else str(error))


def _survey(nvml: Any) -> Survey:  # noqa: ANN401
    gpu, cuda = visible_gpu(), int(nvml.nvmlSystemGetCudaDriverVersion())
    return Survey(
        num_gpus=int(nvml.nvmlDeviceGetCount()),
        gpu=gpu,
        use=None if gpu is None else use(gpu),
        throttle_reasons=None if gpu is None else gauges(gpu).read().throttle_reasons,
        cuda=(cuda // 1000, cuda % 1000 // 10),
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
