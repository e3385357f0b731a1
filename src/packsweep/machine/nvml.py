"""What NVML says of the GPUs that this process may use; nothing where there is none.

NVML numbers the machine's GPUs, not the visible ones, so they are found by what
``CUDA_VISIBLE_DEVICES`` names. No other module talks to NVML.
"""

from __future__ import annotations

import functools
import operator
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_POLL_S = 0.5
# So long the first GPUs are waited for before others are taken: what ran there may be ending, and
# cells that are measured on one GPU can be compared best.
_FIRST_S = 10.0
# Memory that the driver keeps for a GPU without processes varies by less than this.
_MEMORY_SLACK_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU.

    Attributes:
        visible_as: what ``CUDA_VISIBLE_DEVICES`` calls it.
    """

    name: str
    uuid: str
    memory_bytes: int
    driver_version: str
    visible_as: str = ""


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
    """One look at an engine's GPUs; None where the driver does not tell.

    Attributes:
        sm_clock_mhz: of the slowest.
        throttle_reasons: why clocks are below what they could be; empty if they are not.
        temperature_c: of the hottest.
        power_w: of all.
        processes: those that compute on any, by the numbers that the driver knows them by.
    """

    sm_clock_mhz: int | None
    throttle_reasons: frozenset[str] | None
    temperature_c: int | None
    power_w: float | None
    processes: frozenset[int] | None


class Gauges:
    """What can be read off GPUs while they work on one engine."""

    def __init__(self, nvml: Any, handles: Sequence[Any]) -> None:  # noqa: ANN401  (pynvml is untyped)
        """Read ``handles`` through ``nvml``, which is pynvml or has the functions used of it."""
        self._nvml = nvml
        self._handles = tuple(handles)

    def read(self) -> Reading:
        """Look once at each GPU."""
        nvml = self._nvml
        clocks_mhz = self._each(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM)
        temperatures_c = self._each(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU)
        powers_mw = self._each(nvml.nvmlDeviceGetPowerUsage)
        return Reading(
            sm_clock_mhz=None if clocks_mhz is None else min(clocks_mhz),
            throttle_reasons=self._throttle_reasons(),
            temperature_c=None if temperatures_c is None else max(temperatures_c),
            power_w=None if powers_mw is None else sum(powers_mw) / 1000,
            processes=self.processes(),
        )

    def processes(self) -> frozenset[int] | None:
        found = self._each(self._nvml.nvmlDeviceGetComputeRunningProcesses)
        if found is None:
            return None
        return frozenset(int(process.pid) for processes in found for process in processes)

    def energy_j(self) -> float | None:
        """Return the energy used since the driver was loaded, counted by the GPUs themselves."""
        used_mj = self._each(self._nvml.nvmlDeviceGetTotalEnergyConsumption)
        return None if used_mj is None else sum(used_mj) / 1000

    def _throttle_reasons(self) -> frozenset[str] | None:
        for name in _EVENT_FUNCTIONS:
            ask = getattr(self._nvml, name, None)
            bits = None if ask is None else self._each(ask)
            if bits is not None:
                seen = functools.reduce(operator.or_, bits)
                return frozenset(name for bit, name in _EVENT_REASONS.items() if seen & bit)
        return None

    def _each(self, ask: Callable[..., Any], *arguments: Any) -> list[Any] | None:  # noqa: ANN401
        """Return what NVML tells of each GPU; None where it does not of one."""
        try:
            return [ask(handle, *arguments) for handle in self._handles]
        except self._nvml.NVMLError:
            return None


def gauges(gpus: Sequence[Gpu]) -> Gauges:
    nvml = _nvml()
    assert nvml is not None, "a Gpu comes from NVML"
    return Gauges(nvml, [nvml.nvmlDeviceGetHandleByUUID(gpu.uuid) for gpu in gpus])


def visible_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that this process may use, in CUDA's order."""
    return tuple(_each_visible())


def visible_gpu() -> Gpu | None:
    """Return the GPU that CUDA calls device 0 in this process, or None; no other is asked."""
    return next(_each_visible(), None)


def _each_visible() -> Iterator[Gpu]:
    nvml = _nvml()
    if nvml is not None:
        for visible_as, handle in _visible(nvml):
            yield _gpu(nvml, visible_as, handle)


def _gpu(nvml: Any, visible_as: str, handle: Any) -> Gpu:  # noqa: ANN401
    return Gpu(
        name=_text(nvml.nvmlDeviceGetName(handle)),
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        driver_version=_text(nvml.nvmlSystemGetDriverVersion()),
        visible_as=visible_as,
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


def use_if_told(gpu: Gpu) -> GpuUse | None:
    """Return who uses ``gpu`` now; None where NVML does not tell, as of a GPU that was lost."""
    nvml = _nvml()
    assert nvml is not None, "a Gpu comes from NVML"
    try:
        return use(gpu)
    except nvml.NVMLError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What NVML says of this machine at one moment; None where it does not tell.

    Attributes:
        num_gpus: of the machine, visible or not.
        gpus: those that this process may use.
        uses: who uses each of them.
        cuda: the newest CUDA, major and minor, that the driver supports.
        error: what keeps NVML from telling, although a driver seems to be there.
    """

    num_gpus: int = 0
    gpus: tuple[Gpu, ...] = ()
    uses: tuple[GpuUse, ...] = ()
    throttle_reasons: frozenset[str] | None = None
    cuda: tuple[int, int] | None = None
    error: str | None = None

    @property
    def gpu(self) -> Gpu | None:
        """The first that this process may use."""
        return next(iter(self.gpus), None)


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
    gpus, cuda = visible_gpus(), int(nvml.nvmlSystemGetCudaDriverVersion())
    return Survey(
        num_gpus=int(nvml.nvmlDeviceGetCount()),
        gpus=gpus,
        uses=tuple(map(use, gpus)),
        throttle_reasons=gauges(gpus).read().throttle_reasons if gpus else None,
        cuda=(cuda // 1000, cuda % 1000 // 10),
    )


def wait_until_free(gpus: Sequence[Gpu], num: int, timeout_s: float) -> tuple[Gpu, ...]:
    """Wait until no process computes on ``num`` of ``gpus``; return those, if possible the first.

    At the deadline there may be fewer. A GPU that NVML does not tell of is not free.
    """
    began = time.monotonic()
    while True:
        free = tuple(gpu for gpu in gpus if _is_free(gpu))
        waited_s = time.monotonic() - began
        are_first = free[:num] == tuple(gpus[:num])
        if len(free) >= num and (are_first or waited_s >= min(_FIRST_S, timeout_s)):
            return free[:num]
        if waited_s >= timeout_s:
            return free
        time.sleep(_POLL_S)


def _is_free(gpu: Gpu) -> bool:
    told = use_if_told(gpu)
    return told is not None and not told.processes


def wait_until_returned(gpus: Sequence[Gpu], before: Sequence[GpuUse], timeout_s: float) -> bool:
    """Wait until memory in use on each is back to what it was ``before``; False at the deadline."""
    deadline = time.monotonic() + timeout_s
    limits = [each.used_bytes + _MEMORY_SLACK_BYTES for each in before]
    while any(use(gpu).used_bytes > limit for gpu, limit in zip(gpus, limits, strict=True)):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _nvml() -> Any:  # noqa: ANN401  (pynvml is untyped)
    """Return pynvml, initialized, or None where there is no NVIDIA driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _visible(nvml: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Yield name and handle of each visible GPU; as CUDA, up to the first that is none."""
    count = int(nvml.nvmlDeviceGetCount())
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    words = map(str, range(count)) if named is None else map(str.strip, named.split(","))
    for word in words:
        handle = _handle(nvml, word, count)
        if handle is None:
            return
        yield word, handle


def _handle(nvml: Any, word: str, count: int) -> Any:  # noqa: ANN401
    """Return NVML's handle of what ``word`` names; None of no GPU, or of one that is lost."""
    if not word or word == "-1" or not count:
        return None
    try:
        if not word.isdecimal():
            return nvml.nvmlDeviceGetHandleByUUID(word)
        return nvml.nvmlDeviceGetHandleByIndex(int(word)) if int(word) < count else None
    except nvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
