"""Why an engine on this machine may be slower than predicted: observed while it runs."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import psutil

from packsweep.machine import processor

_SAMPLE_S = 0.5
_BUSY_SHARE = 0.2
_HELD_DOWN_SHARE = 0.6
_FULL_PERCENT = 95.0
_CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")
_THROTTLES = Path("/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count")


def likely_cause(dtype: str | None = None) -> str:
    """Return the likeliest reason why an engine on the processor is slow, in one clause.

    Takes half a second.

    Args:
        dtype: in which the engine computes.
    """
    checks = (_other_processes, lambda: _emulated(dtype), _memory, _clock, _narrow)
    return next((cause for check in checks if (cause := check())), "no cause was found")


def _other_processes() -> str | None:
    before = _cpu_seconds()
    time.sleep(_SAMPLE_S)
    used = {
        key: (seconds - before.get(key, seconds)) / _SAMPLE_S
        for key, seconds in _cpu_seconds().items()
    }
    total = sum(used.values())
    if total < _BUSY_SHARE * (os.cpu_count() or 1):
        return None
    (pid, name), most = max(used.items(), key=lambda item: item[1])
    return (
        f"other processes use {total:.1f} of {os.cpu_count()} processors "
        f"({name}, pid {pid}: {most:.1f})"
    )


def _cpu_seconds() -> dict[tuple[int, str], float]:
    """Return the CPU seconds of every process that is not this one's or below it."""
    me = psutil.Process()
    own = {me.pid, *(child.pid for child in me.children(recursive=True))}
    found = {}
    for process in psutil.process_iter(("pid", "name", "cpu_times")):
        if process.pid not in own and process.info["cpu_times"]:
            times = process.info["cpu_times"]
            found[process.pid, str(process.info["name"])] = times.user + times.system
    return found


def _emulated(dtype: str | None) -> str | None:
    if dtype == "bfloat16" and not processor.has_bfloat16():
        return "this processor emulates bfloat16; set engine.dtype=float32"
    return None


def _memory() -> str | None:
    memory = psutil.virtual_memory()
    if memory.percent < _FULL_PERCENT:
        return None
    return f"memory is {memory.percent:.0f}% full; the machine may be swapping"


def _clock() -> str | None:
    with contextlib.suppress(OSError, ValueError):
        if int(_THROTTLES.read_text(encoding="ascii")) > 0:
            return "the processor was too hot and throttled its clock"
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        now, most = (
            int((_CPUFREQ / name).read_text(encoding="ascii"))
            for name in ("scaling_cur_freq", "cpuinfo_max_freq")
        )
        if now < _HELD_DOWN_SHARE * most:
            return f"the clock is at {now / most:.0%} of its maximum"
    return None


def _narrow() -> str | None:
    if processor.extension() in {"AVX2", "scalar"}:
        return f"this processor has no AVX-512 ({processor.extension()} only)"
    return None
