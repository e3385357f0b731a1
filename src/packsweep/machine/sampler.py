"""Under which conditions a timed window was measured: clocks, heat, power, and who else was there.

A thread looks at the GPU a few times a second while the window is open; the energy counter and the
host's CPU times are read at its two ends. ``[measure] sample_conditions = false`` switches it off,
so that what looking costs can be measured as any other setting.
"""

from __future__ import annotations

import contextlib
import gc
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import psutil

from packsweep.machine.nvml import Gauges, Reading

INTERVAL_S = 0.2
# The GPU's energy counter advances about every 0.1 s: over a shorter window it is mostly error.
# Source: observed on an H200, where windows of 0.05 s read 0 J or 40 J.
MIN_ENERGY_WINDOW_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What was seen in one timed window; None where there was nothing to see or to read it with.

    Attributes:
        num_samples: how often the GPU was sampled.
        throttle_reasons: every reason seen, by nvidia-smi's names.
        power_mean_w: mean over the samples.
        foreign_gpu_pids: processes on the GPU that are not of this process's tree.
        other_cpu_share: CPU time of the host that others used, of all that there was.
        gc_s: garbage-collection pauses of this process.
        energy_j: of all GPUs of the engine, by their own counters.
    """

    num_samples: int | None = None
    sm_clock_p50_mhz: float | None = None
    sm_clock_min_mhz: float | None = None
    throttle_reasons: Sequence[str] | None = None
    temperature_max_c: float | None = None
    power_mean_w: float | None = None
    foreign_gpu_pids: Sequence[str] | None = None
    other_cpu_share: float | None = None
    gc_s: float | None = None
    energy_j: float | None = None


class CollectorClock:
    """Adds up the seconds of garbage collections, as one of ``gc.callbacks``.

    Source: https://docs.python.org/3/library/gc.html#gc.callbacks
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Start from 0; ``clock`` gives seconds."""
        self.seconds = 0.0
        self._clock = clock
        self._began = 0.0

    def __call__(self, phase: str, _: object) -> None:
        """Note the start or the stop of one collection."""
        if phase == "start":
            self._began = self._clock()
        else:
            self.seconds += self._clock() - self._began


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTimes:
    """CPU seconds of the host since it was booted.

    Attributes:
        all: everything, idle time included: processors times seconds.
        busy: what was not idle; what a hypervisor took away counts as used by others.
        own: what this process, its descendants and their ended children used.
    """

    all: float
    busy: float
    own: float


class ConditionSampler:
    """Samples while the ``with`` block that is the timed window runs."""

    def __init__(
        self,
        gauges: Gauges | None,
        *,
        engine_pids: Iterable[int] = (),
        cpu_times: Callable[[], CpuTimes] | None = None,
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what to look at.

        Args:
            gauges: of the GPU; None where there is none.
            engine_pids: more numbers that the engine's own processes go by (``own_pids``).
            cpu_times: reads the host's CPU times.
            interval_s: from one look at the GPU to the next.
            clock: seconds, to tell whether the window is long enough for the energy counter.
        """
        self._gauges = gauges
        self._engine_pids = frozenset(engine_pids)
        self._cpu_times = cpu_times or host_cpu_times
        self._interval_s = interval_s
        self._clock = clock
        self._ends: list[tuple[CpuTimes, float | None, float]] = []
        self._readings: list[Reading] = []
        self._collector = CollectorClock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="conditions", daemon=True)

    def __enter__(self) -> Self:
        self._note_end()
        gc.callbacks.append(self._collector)
        if self._gauges is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the window and wait for the thread."""
        gc.callbacks.remove(self._collector)
        self._note_end()
        self._over.set()
        if self._gauges is not None:
            self._thread.join()

    def conditions(self) -> Conditions:
        """Return what was seen; the window is closed."""
        (before, energy_before, began), (after, energy_after, ended) = self._ends
        seen = _seen(self._readings, self._engine_pids | process_tree()) if self._gauges else {}
        known = energy_before is not None and energy_after is not None
        known = known and ended - began >= MIN_ENERGY_WINDOW_S
        return Conditions(
            **seen,
            other_cpu_share=other_share(before, after),
            gc_s=self._collector.seconds,
            energy_j=(energy_after or 0) - (energy_before or 0) if known else None,
        )

    def _note_end(self) -> None:
        energy_j = None if self._gauges is None else self._gauges.energy_j()
        self._ends.append((self._cpu_times(), energy_j, self._clock()))

    def _look_on(self) -> None:
        assert self._gauges is not None
        while not self._over.wait(self._interval_s):
            self._readings.append(self._gauges.read())


class NullSampler(contextlib.nullcontext[None]):
    """Samples nothing."""

    def conditions(self) -> Conditions:
        """Return that nothing is known."""
        return Conditions()


def _seen(readings: Sequence[Reading], own: frozenset[int]) -> dict[str, Any]:
    clocks = [reading.sm_clock_mhz for reading in readings if reading.sm_clock_mhz is not None]
    powers = [reading.power_w for reading in readings if reading.power_w is not None]
    temperatures_c = [
        reading.temperature_c for reading in readings if reading.temperature_c is not None
    ]
    reasons = [
        reading.throttle_reasons for reading in readings if reading.throttle_reasons is not None
    ]
    pids = [reading.processes for reading in readings if reading.processes is not None]
    foreign = frozenset[int]().union(*pids) - own
    return {
        "num_samples": len(readings),
        "sm_clock_p50_mhz": float(statistics.median(clocks)) if clocks else None,
        "sm_clock_min_mhz": float(min(clocks)) if clocks else None,
        "throttle_reasons": sorted(frozenset[str]().union(*reasons)) if reasons else None,
        "temperature_max_c": float(max(temperatures_c)) if temperatures_c else None,
        "power_mean_w": statistics.fmean(powers) if powers else None,
        "foreign_gpu_pids": [str(pid) for pid in sorted(foreign)] if pids else None,
    }


def own_pids(on_gpu: Iterable[int]) -> frozenset[int]:
    """Return the numbers that a just started engine goes by on its GPU.

    Inside a container the driver may know processes by the host's numbers, which name none of
    ours; the processes then on the GPU, which was free before, are taken for the engine's.
    """
    listed = frozenset(on_gpu)
    return frozenset() if listed & process_tree() else listed


def process_tree() -> frozenset[int]:
    return frozenset(process.pid for process in _tree())


def host_cpu_times() -> CpuTimes:
    """Read the CPU times of the host and of this process's tree."""
    host = psutil.cpu_times()
    # Linux counts a guest's time in user and nice as well.
    parts = {name: value for name, value in host._asdict().items() if "guest" not in name}
    idle = parts.get("idle", 0.0) + parts.get("iowait", 0.0)
    total = sum(parts.values())
    return CpuTimes(all=total, busy=total - idle, own=sum(_used(each) for each in _tree()))


def other_share(before: CpuTimes, after: CpuTimes) -> float | None:
    """Return the share (0 to 1) of the host's CPU time that others used; None if no time passed.

    The three counters are read one after the other and rounded to ticks, so over a window of few
    ticks their differences can be out of bounds by one: the share is not.
    """
    passed = after.all - before.all
    others = (after.busy - before.busy) - (after.own - before.own)
    return min(max(others / passed, 0.0), 1.0) if passed > 0 else None


def _tree() -> list[psutil.Process]:
    me = psutil.Process(os.getpid())
    return [me, *me.children(recursive=True)]


def _used(process: psutil.Process) -> float:
    """Return a process's CPU seconds, those of its ended children included."""
    with contextlib.suppress(psutil.Error):
        return float(sum(process.cpu_times()[:4]))
    return 0.0
