"""Which process is meant, and when it began, in a way that holds across processes of one host.

A pid is given to another process once its own has ended, and the wall clock can be stepped. The
start that the kernel notes for a process, and the clock that counts from the boot, are neither.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_POLL_S = 0.01
_STARTED = 19  # Source: proc(5), /proc/pid/stat: field 22, "starttime", the 20th after the name

# What multiprocessing gives its resource tracker to do: it removes the shared memory that killed
# processes leave, outlives them for that, and ends when the last of them has.
# Source: CPython 3.11 to 3.14, ``multiprocessing/resource_tracker.py`` (``ensure_running``).
_TRACKER = "from multiprocessing.resource_tracker import main"


def moment() -> str:
    """Return this moment as another process of this host can read it, whatever the wall clock."""
    return json.dumps({"boot_id": boot_id(), "monotonic_s": time.monotonic()})


def seconds_since(noted: str) -> float | None:
    """Return the seconds since ``moment``; None where that was noted before the last boot."""
    values = json.loads(noted)
    if boot_id() is None or values["boot_id"] != boot_id():
        return None
    return float(time.monotonic() - values["monotonic_s"])


def identity(pid: int) -> dict[str, str] | None:
    """Return what tells the process ``pid`` from any other, ended ones included.

    None where there is no such process, or no /proc to say so. Containers on one host share the
    boot and, perhaps, a folder for temporary files, but not the pids: so the namespace counts.
    """
    boot = boot_id()
    if boot is None:
        return None
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    started = stat.rpartition(")")[2].split()[_STARTED]
    return {"boot_id": boot, "namespace": namespace, "pid": str(pid), "started": started}


def has_ended(known: dict[str, str]) -> bool:
    """Return whether the process of an ``identity`` is gone for sure.

    False for one of another boot, host or container: nobody here can tell.
    """
    mine = identity(os.getpid())
    same = ("boot_id", "namespace")
    if mine is None or any(mine[name] != known.get(name) for name in same):
        return False
    pid = known.get("pid", "")
    return pid.isdigit() and identity(int(pid)) != known


def boot_id() -> str | None:
    """Return what the kernel calls this boot; None where it does not say."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return None


def tracks_resources(arguments: Sequence[str]) -> bool:
    """Tell whether a command line is that of multiprocessing's resource tracker."""
    return any(each.startswith(_TRACKER) for each in arguments)


def below(pid: int) -> list[psutil.Process]:
    """Return the processes below ``pid`` that do work: no resource tracker."""
    import psutil

    try:
        return [each for each in psutil.Process(pid).children(recursive=True) if works(each)]
    except psutil.NoSuchProcess:
        return []


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """Kill those that have not ended."""
    import psutil

    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()


def wait_until_ended(processes: Iterable[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait for processes that need not be children of this one; return those that still run.

    One that waits to be reaped has ended, and holds nothing: an orphan's reaper, process 1 of a
    container, may take a second for that or never do it.
    """
    deadline = time.monotonic() + timeout_s
    left = list(processes)
    while (left := [each for each in left if _runs(each)]) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return left


def _runs(process: psutil.Process) -> bool:
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def works(process: psutil.Process) -> bool:
    """Tell whether a process has not ended and is no resource tracker."""
    import psutil

    try:
        return not tracks_resources(process.cmdline())
    except psutil.Error:
        return False  # it has ended


def is_alive(pid: int) -> bool:
    """Return whether a process has not ended; one that waits to be reaped has."""
    import psutil

    try:
        return works(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def signal_name(number: int) -> str:
    """Return a signal's name; most real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
