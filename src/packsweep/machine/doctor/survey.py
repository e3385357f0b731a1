"""What this machine is, surveyed once: packages, GPU, folders, limits, network.

Nothing here judges; ``packsweep.machine.doctor`` does. No package that takes seconds is imported,
and the network is waited for no longer than ``HUB_TIMEOUT_S``, name resolution included.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import resource
import shutil
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from packsweep.files import cache_root
from packsweep.machine import environment, nvml, processor
from packsweep.results.store import MARKER

HUB_TIMEOUT_S = 2.0
_HUB = "https://huggingface.co"
_PACKAGES = (*environment.VLLM_BUILDS, "torch", "ray")
_NOT_FOR_TEXT = frozenset({"torchaudio", "torchcodec", "torchvision"})
_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy"})
_SOCKS_PACKAGE = "socksio"  # Source: httpx, which huggingface_hub asks through from 1.0 on
_YES = frozenset({"1", "true", "yes", "on"})
_CUDA = re.compile(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder that is to be written to; it need not be there yet.

    Attributes:
        error: why nothing can be written there; None where it can.
        links: hard links can be made; a commit is one.
        free_bytes: on its file system.
        foreign: something in it that is not ours.
    """

    path: Path
    error: str | None = None
    links: bool = True
    free_bytes: int | None = None
    foreign: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """The hub of models: not asked for (``offline``), or reached, or why not."""

    address: str
    offline: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """All that the survey finds.

    Attributes:
        packages: name -> version of the engine's packages that are installed.
        missing: packages that packsweep itself requires and that are not installed.
        torch_cuda: CUDA that torch was built for; None for a CPU build.
        hides: ``CUDA_VISIBLE_DEVICES``; None where it is not set.
        compiler: path of a C compiler.
        open_files: soft and hard limit.
        shm_free_bytes: of /dev/shm; None where there is none.
        processor: its name, and how an engine on it computes.
        temporary: where temporary files go.
        socket_problem: why vLLM's processes could not reach each other.
        home: the user's home.
        memory_bytes: available and in all; None where an engine would not run on the CPU.
        socks: variables that name a SOCKS proxy, where no package is there that speaks to it.
        unmet: what vLLM requires and this Python lacks, or has in another version.
    """

    python: tuple[int, int, int]
    packages: Mapping[str, str]
    missing: tuple[str, ...]
    torch_cuda: str | None
    gpus: nvml.Survey
    hides: str | None
    compiler: str | None
    results: Folder
    cache: Folder
    open_files: tuple[int, int]
    shm_free_bytes: int | None
    hub: Hub
    processor: str = ""
    temporary: Folder | None = None
    socket_problem: str | None = None
    home: str | None = None
    memory_bytes: tuple[int, int] | None = None
    socks: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()


def look(results: Path | None) -> Machine:
    """Look at this machine; ``results`` is where results are to go, None: where a run makes it."""
    hub = _begin(_hub)
    return Machine(
        python=sys.version_info[:3],
        packages=environment.versions(*_PACKAGES),
        missing=_missing(),
        torch_cuda=_torch_cuda(),
        gpus=nvml.survey(),
        hides=os.environ.get("CUDA_VISIBLE_DEVICES"),
        compiler=next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc"))), None),
        results=folder(results, ours=MARKER) if results else folder(Path("results")),
        cache=folder(cache_root()),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE),
        shm_free_bytes=_free_bytes(Path("/dev/shm")),  # noqa: S108  (where Linux has it)
        hub=hub(),
        processor=processor.described(),
        temporary=folder(Path(tempfile.gettempdir())),
        socket_problem=environment.socket_problem(),
        home=os.environ.get("HOME"),
        memory_bytes=_memory() if environment.on_cpu() else None,
        socks=_socks(),
        unmet=_unmet(),
    )


def _memory() -> tuple[int, int]:
    found = psutil.virtual_memory()
    return found.available, found.total


def _socks() -> tuple[str, ...]:
    """Return the variables that name a SOCKS proxy; none where the hub's client speaks to it."""
    named = [
        name
        for name in sorted(os.environ)
        if name.lower() in _PROXIES and os.environ[name].lower().startswith("socks")
    ]
    if not named or importlib.util.find_spec(_SOCKS_PACKAGE):
        return ()
    return tuple(named)


def _unmet() -> tuple[str, ...]:
    """Return vLLM's own requirements that are not met; those for pictures and sound do not count.

    ``make setup`` leaves them out on purpose (requirements/cpu-overrides.txt).
    """
    from packaging.requirements import Requirement

    found = []
    for line in _required_by_vllm():
        wanted = Requirement(line)
        if wanted.name in _NOT_FOR_TEXT or (wanted.marker and not wanted.marker.evaluate()):
            continue
        version = environment.versions(wanted.name).get(wanted.name)
        if version is None or not wanted.specifier.contains(version, prereleases=True):
            has = "not installed" if version is None else f"{version} is installed"
            found.append(f"{wanted.name}{wanted.specifier} ({has})")
    return tuple(found)


def _required_by_vllm() -> list[str]:
    for name in environment.versions(*environment.VLLM_BUILDS):
        return importlib.metadata.requires(name) or []
    return []


def folder(path: Path, *, ours: str | None = None) -> Folder:
    """Try to write in a folder, or in the nearest one above that is there; leave nothing behind.

    Args:
        path: the folder.
        ours: a file that says that its content is ours.
    """
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not there.is_dir():
        return Folder(path=path, error=f"{there} is a file")
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix=".packsweep-") as scratch:
            links = _links(Path(scratch))
    except OSError as error:
        return Folder(path=path, error=str(error.strerror), free_bytes=_free_bytes(there))
    foreign = None if ours is None or there != path else _foreign(path, ours)
    return Folder(path=path, links=links, free_bytes=_free_bytes(there), foreign=foreign)


def _links(scratch: Path) -> bool:
    try:
        (scratch / "a").write_bytes(b"a")
        (scratch / "b").hardlink_to(scratch / "a")
    except PermissionError:
        return False
    except OSError as error:
        if error.errno in {28, 122}:  # the disk or the quota is full
            raise
        return False
    return True


def _foreign(path: Path, ours: str) -> str | None:
    if (path / ours).exists():
        return None
    return next((each.name for each in path.iterdir() if not each.name.startswith(".")), None)


def _free_bytes(path: Path) -> int | None:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


def _missing() -> tuple[str, ...]:
    """Return what packsweep requires and this Python lacks; nothing for a bare checkout."""
    try:
        required = importlib.metadata.requires("packsweep") or []
    except importlib.metadata.PackageNotFoundError:
        return ()
    names = [
        re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in required if "extra ==" not in line
    ]
    return tuple(name for name in names if not environment.versions(name))


def _torch_cuda() -> str | None:
    """Read torch's version file: importing torch takes seconds."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    try:
        text = (Path(found.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    cuda = _CUDA.search(text)
    return cuda[1] if cuda else None


def _hub() -> Hub:
    """Ask the hub for its front page, through the proxies of the environment."""
    address = os.environ.get("HF_ENDPOINT") or _HUB
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in _YES:
        return Hub(address=address, offline=True)
    request = urllib.request.Request(address, method="HEAD")  # noqa: S310  (the user's own hub)
    try:
        with urllib.request.build_opener().open(request, timeout=HUB_TIMEOUT_S):
            return Hub(address=address)
    except urllib.error.HTTPError as error:
        by_proxy = error.code == 407  # noqa: PLR2004  (any other answer is the hub's)
        return Hub(address=address, error="the proxy requires authentication" if by_proxy else None)
    except (OSError, ValueError) as error:
        return Hub(address=address, error=str(getattr(error, "reason", error)))


def _begin(ask: Callable[[], Hub]) -> Callable[[], Hub]:
    """Ask in a thread of its own; the function returned waits for the answer, but not for long."""
    answers: list[Hub] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()

    def answer() -> Hub:
        thread.join(HUB_TIMEOUT_S)
        address = os.environ.get("HF_ENDPOINT") or _HUB
        late = Hub(address=address, error=f"no answer within {HUB_TIMEOUT_S:.0f} s")
        return answers[0] if answers else late

    return answer
