"""The environment of a measuring process, and what is written about it with every row.

vLLM and Ray read most switches once, at import, so they are set before the process starts, and are
the same for every cell: vLLM hashes its own into the key of its compile cache.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import platform
import socket
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from packsweep.files import cache_root
from packsweep.machine import nvml, processor
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
# A user who says how vLLM is to place its threads on the CPU gets vLLM's own processes.
_PLACEMENT = (
    "VLLM_CPU_OMP_THREADS_BIND",
    "VLLM_CPU_NUM_OF_RESERVED_CPU",
    "VLLM_ENABLE_V1_MULTIPROCESSING",
)


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
    return {**found, **_FIXED, **_cpu_environ(found)}


def _cpu_environ(base: Mapping[str, str]) -> dict[str, str]:
    """Return what makes an engine on the CPU quick: one process, a thread for each core.

    vLLM's own way is three processes, each of which imports it, and a core set aside for the
    scheduler. In one process an engine starts in a third of the time and has all cores; the cell's
    process is new all the same. Nothing is bound to a core: threads that Python starts after
    OpenMP has bound the first would share its core.
    Source: docs/LOG.md; vLLM 0.32, ``platforms/cpu.py``, ``utils/ompmultiprocessing.py``.
    """
    if not on_cpu() or any(name in base for name in _PLACEMENT):
        return {}
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": str(processor.num_threads()),
    }


def time_limits(*, engine_start_timeout_s: float, pass_timeout_s: float) -> dict[str, str]:
    """Return vLLM's own time limits, raised so far that ours end what takes too long.

    vLLM gives a step 300 s, a start 600 s and a regular expression 5 s, which a slow processor
    exceeds in earnest.
    Source: vLLM 0.26 to 0.33, ``envs.py``.
    """
    return {
        "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": str(math.ceil(pass_timeout_s)),
        "VLLM_REGEX_COMPILATION_TIMEOUT_S": str(math.ceil(pass_timeout_s)),
        "VLLM_ENGINE_READY_TIMEOUT_S": str(math.ceil(engine_start_timeout_s)),
    }


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


@cache
def on_cpu() -> bool:
    """Tell whether an engine started here runs on the CPU: vLLM's CPU build, and no GPU visible."""
    return _vllm()[1] and nvml.visible_gpu() is None


@cache
def _vllm() -> tuple[str, bool]:
    """Return vLLM's version and whether it is a CPU build; "unknown" where it is not installed."""
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version = importlib.metadata.version(name)
            return version, name == "vllm-cpu" or "+cpu" in version
    return "unknown", False


def _cache_key() -> str:
    gpu = nvml.visible_gpu()
    device = gpu.name.replace(" ", "-") if gpu else "cpu"
    for name in ("vllm", "vllm-cpu"):
        try:
            return f"{importlib.metadata.version(name)}-{device}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"unknown-{device}"
