"""Who is killed, and which processes must be gone soon afterwards."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import psutil
from tests.chaos.cluster import LogicalCluster

from packsweep.run import forkserver

T = TypeVar("T")

FROZEN = ("frozen raylet", "frozen node")
SECOND = "second driver"
KINDS = (
    "worker",
    "engine",
    "ray worker",
    "fork server",
    "raylet",
    "node",
    "driver",
    SECOND,
    *FROZEN,
)
_OF_AN_ATTEMPT = ("worker", "engine", "ray worker", "fork server")
_MOST_FREEZE_S = 60.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """The processes of a running attempt.

    Attributes:
        gpu: which logical GPU's node it runs on.
        ray_worker: Ray's process, in which the supervisor watches.
        worker: forked by the node's fork server, or ``python -m packsweep.run.worker``.
        below: whatever the worker started; the engine's core is among it.
        fork_server: what forked the worker; None where it was spawned, or the server has ended.
    """

    gpu: int
    ray_worker: psutil.Process
    worker: psutil.Process
    below: tuple[psutil.Process, ...]
    fork_server: psutil.Process | None

    @property
    def processes(self) -> list[psutil.Process]:
        """All of them."""
        return [self.ray_worker, self.worker, *self.below]

    @property
    def engine(self) -> psutil.Process | None:
        """The engine's core, once it runs."""
        cores = [each for each in self.below if "spawn_main" in " ".join(cmdline(each))]
        return cores[0] if cores else None

    def victim(self, kind: str) -> psutil.Process | None:
        """Return the one process that ``kind`` means, if it still runs."""
        found = {
            "worker": self.worker,
            "engine": self.engine,
            "ray worker": self.ray_worker,
            "fork server": self.fork_server,
        }[kind]
        return found if found and runs(found) else None


def attempts(cluster: LogicalCluster) -> list[Attempt]:
    """Return the attempts that run now."""
    found = []
    for gpu in cluster.gpus:
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(cluster.raylet(gpu).pid).children(recursive=True)
            watching = [each for each in family if _runs_a_task(each)]
            for child in family:
                if is_worker(child) and watching:
                    below = tuple(child.children(recursive=True))
                    found.append(Attempt(gpu, watching[0], child, below, _fork_server(child)))
    return found


def _fork_server(worker: psutil.Process) -> psutil.Process | None:
    parent = worker.parent()
    return parent if parent and "packsweep.run.forkserver" in cmdline(parent) else None


def _runs_a_task(process: psutil.Process) -> bool:
    return any(word.startswith("ray::attempt") for word in cmdline(process))


def kill(
    kind: str, cluster: LogicalCluster, driver: subprocess.Popen[bytes], rng: random.Random
) -> list[psutil.Process] | None:
    """Strike one victim, with SIGKILL; what is frozen resumes once Ray has called the node dead.

    Returns:
        What must be gone soon, or None where there was no victim.
    """
    running = attempts(cluster)
    candidates = [each for each in running if kind not in _OF_AN_ATTEMPT or each.victim(kind)]
    if not candidates or driver.poll() is not None:
        return None
    chosen = rng.choice(candidates)
    if kind == "driver":
        driver.kill()
        return [process for each in running for process in each.processes]
    _kill_of_attempt(kind, chosen, cluster, rng)
    if kind in FROZEN:
        return []  # what it runs on with may still end well
    if kind in {"raylet", "node"}:
        return [p for each in running if each.gpu == chosen.gpu for p in each.processes]
    survives = kind in {"worker", "engine", "fork server"}
    return chosen.processes[1:] if survives else chosen.processes


def _kill_of_attempt(
    kind: str, chosen: Attempt, cluster: LogicalCluster, rng: random.Random
) -> None:
    if kind == "raylet":
        raylet = cluster.raylet(chosen.gpu)
        raylet.kill()
        if rng.random() < 0.5:  # else it stays a zombie, as where nobody waits for it
            raylet.wait()
    elif kind == "node":
        kill_at_once(cluster.processes(chosen.gpu))
    elif kind in FROZEN:
        frozen = cluster.processes(chosen.gpu)
        if kind == "frozen raylet":
            frozen = [each for each in frozen if each.pid == cluster.raylet(chosen.gpu).pid]
        _send(signal.SIGSTOP, frozen)
        deadline = time.monotonic() + _MOST_FREEZE_S
        while cluster.is_alive(chosen.gpu) and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(rng.uniform(0, 5))
        _send(signal.SIGCONT, frozen)
    else:
        struck = chosen.victim(kind)
        kill_at_once([struck] if struck else [])


def at_one_moment(look: Callable[[], T]) -> T:
    """Return what is seen of processes; where one of them ends meanwhile, look again."""
    while True:
        try:
            return look()
        except psutil.NoSuchProcess:
            continue


def kill_at_once(processes: Sequence[psutil.Process]) -> None:
    """Kill all: none may act on another's end."""
    _send(signal.SIGSTOP, processes)
    _send(signal.SIGKILL, processes)


def _send(number: signal.Signals, processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def alive(processes: Sequence[psutil.Process], timeout_s: float) -> list[str]:
    """Return what still runs after ``timeout_s`` at most; a zombie does not run."""
    left = list(processes)
    deadline = time.monotonic() + timeout_s
    while (left := [each for each in left if runs(each)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [f"{each.pid} {' '.join(cmdline(each))[:120]}" for each in left]


def survivors(marker: str) -> list[psutil.Process]:
    """Return processes of ours that carry ``marker`` in their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("PACKSWEEP_CACHE") == marker and runs(process):
                found.append(process)
    return found


def is_worker(process: psutil.Process) -> bool:
    """Return whether a process is a worker of ours, also while it is still becoming one."""
    if "packsweep.run.worker" in cmdline(process):
        return True
    with contextlib.suppress(psutil.Error):
        return process.name() == forkserver.WORKER_NAME
    return False


def cmdline(process: psutil.Process) -> list[str]:
    """Return a process's command line; nothing where it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
