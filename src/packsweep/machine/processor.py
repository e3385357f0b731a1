"""The processor of this machine, as far as it decides how an engine runs on it.

vLLM's CPU build computes a model stored in bfloat16 in bfloat16, also where the processor has no
instructions for it and every product is emulated: 34 instead of 224 prompt tokens/s on two cores
with AVX2 alone (docs/LOG.md). So the dtype follows the processor here.
"""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from packsweep.errors import UserError

# Instructions that multiply in bfloat16, as Linux spells them: x86, then Arm.
_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
# From the widest on: what Linux calls it, what people do.
_EXTENSIONS = (
    ("amx_bf16", "AMX"),
    ("avx512_bf16", "AVX-512 with bfloat16"),
    ("avx512f", "AVX-512 without bfloat16"),
    ("avx2", "AVX2"),
    ("sve", "SVE"),
    ("asimd", "NEON"),
)
_PLACEMENT = (
    "VLLM_CPU_OMP_THREADS_BIND",
    "VLLM_CPU_NUM_OF_RESERVED_CPU",
    "VLLM_ENABLE_V1_MULTIPROCESSING",
)
_ONEDNN = "ONEDNN_MAX_CPU_ISA"
_CPUS = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def name() -> str:
    """Return the processor's name, which is the device of an engine on the CPU."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def extension() -> str:
    """Return the widest vector instructions, as people call them."""
    return next((spoken for flag, spoken in _EXTENSIONS if flag in _flags()), "scalar")


def has_bfloat16() -> bool:
    """Return whether the processor multiplies in bfloat16 and the kernel library may use it.

    Source: oneDNN, "CPU Dispatcher Control": ``ONEDNN_MAX_CPU_ISA`` caps the instructions.
    """
    cap = os.environ.get(_ONEDNN, "").upper()
    capped = bool(cap) and not any(word in cap for word in ("BF16", "AMX", "DEFAULT", "ALL"))
    return bool(_flags() & _BFLOAT16) and not capped


def dtype() -> str:
    """Return the dtype in which an engine on this processor is fastest."""
    return "bfloat16" if has_bfloat16() else "float32"


def described() -> str:
    """Return the processor, and how an engine on it computes and why."""
    why = "its" if has_bfloat16() else "no"
    return (
        f"{name()}, {extension()}; an engine on it computes in {dtype()} ({why} bfloat16 "
        f"instructions) with {num_threads()} threads (the cores that it may use)"
    )


def one_process(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what makes an engine on the CPU quick: one process, a thread for each core.

    vLLM's own way is three processes, each of which imports it, and a core set aside for the
    scheduler. In one process an engine starts in a third of the time and has all cores; the cell's
    process is new all the same. Nothing is bound to a core: threads that Python starts after
    OpenMP has bound the first would share its core. A user who says in ``environ`` how vLLM is to
    place its threads gets vLLM's own processes.
    Source: docs/LOG.md; vLLM 0.32, ``platforms/cpu.py``, ``utils/ompmultiprocessing.py``.
    """
    if any(name in environ for name in _PLACEMENT):
        return {}
    return {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": str(num_threads())}


def ranks(environ: Mapping[str, str], num_ranks: int) -> dict[str, str]:
    """Return what lets an engine of several ranks share this processor: as many cores to each.

    By itself vLLM gives each rank a memory node, and refuses where there are fewer of them.
    Source: vLLM 0.32, ``utils/ompmultiprocessing.py``.

    Raises:
        UserError: there are fewer cores than ranks.
    """
    if any(name in environ for name in _PLACEMENT):
        return {}
    cores = _cores()
    if len(cores) < num_ranks:
        raise UserError(
            f"an engine of {num_ranks} ranks takes {num_ranks} cores on one machine, and "
            f"{len(cores)} can be used on {platform.node()}"
        )
    each = len(cores) // num_ranks
    parts = (cores[rank * each : (rank + 1) * each] for rank in range(num_ranks))
    bound = "|".join(",".join(map(str, part)) for part in parts)
    return {"VLLM_CPU_OMP_THREADS_BIND": bound}


def num_cores() -> int:
    """Return how many cores this process may use, which are the most ranks of an engine."""
    return len(_cores())


def _cores() -> list[int]:
    """Return a processor of each core that this process may use, by Linux's numbers."""
    allowed = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    found: dict[tuple[str, str], int] = {}
    for cpu in allowed:
        found.setdefault(_core(cpu), cpu)
    return list(found.values())


def num_threads() -> int:
    """Return how many threads an engine should compute with: the cores it may use.

    One for each physical core of the first memory node that this process may run on, since vLLM
    keeps its memory there, and no more than the container's quota of CPU time.
    Source: vLLM 0.32, ``v1/worker/cpu_worker.py`` (``init_cpu_memory_env``).
    """
    if sys.platform != "linux":
        return os.cpu_count() or 1
    allowed = sorted(os.sched_getaffinity(0))
    node = _memory_node(allowed[0])
    cores = {_core(cpu) for cpu in allowed if _memory_node(cpu) == node}
    return max(1, math.ceil(min(len(cores), _quota())))


def _core(cpu: int) -> tuple[str, str]:
    topology = _CPUS / f"cpu{cpu}" / "topology"
    package, core = (_read(topology / part) for part in ("physical_package_id", "core_id"))
    return (package, core) if core else ("", str(cpu))


def _memory_node(cpu: int) -> str:
    return next((each.name for each in (_CPUS / f"cpu{cpu}").glob("node[0-9]*")), "")


def _quota() -> float:
    """Return the CPUs that the control group grants; infinity where it sets no limit."""
    granted, _, period = _read(_QUOTA).partition(" ")
    return int(granted) / int(period) if granted.isdigit() and period.isdigit() else math.inf


@cache
def _flags() -> frozenset[str]:
    return frozenset((_cpuinfo("flags") or _cpuinfo("Features")).split())


def _cpuinfo(key: str) -> str:
    """Return the first value of ``key`` in /proc/cpuinfo; empty where there is none."""
    lines = (line.partition(":") for line in _read(Path("/proc/cpuinfo")).splitlines())
    return next((value.strip() for found, _, value in lines if found.strip() == key), "")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
