"""Processes that stand for vLLM's engine core and its ranks where faults are tried without a GPU.

A core of several GPUs has a child for each further one, as vLLM has. Each holds what only one
engine may hold, the lock of a logical GPU, and ignores SIGTERM: what ends it must be sure.
``STARTS`` in the folder of the locks tells every start, a line of JSON each.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from packsweep.errors import EngineError
from packsweep.machine import process

STARTS = "starts.jsonl"
_START_TIMEOUT_S = 60.0


class Core:
    def __init__(self, locks: Path, cell_id: str, num_gpus: int = 1) -> None:
        """Start it on the first GPUs that CUDA_VISIBLE_DEVICES names.

        Raises:
            EngineError: another engine is on one of them, there are too few, or it did not start.
        """
        named = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(num_gpus)))
        gpus = named.split(",")[:num_gpus]
        if len(gpus) < num_gpus:
            message = f"the engine has {num_gpus} GPUs, and {len(gpus)} can be seen here"
            raise EngineError(message, outcome="infeasible")
        start = {"time": time.time(), "cell_id": cell_id, "worker": os.getpid()}
        self._process, report = _spawn(locks, start, gpus)
        problem = _problem(report)
        if problem:
            self.close()
            busy = problem.startswith("GPU")
            raise EngineError(problem, outcome="gpu_busy" if busy else "crashed")

    def work(self, seconds: float) -> None:
        """Let ``seconds`` pass.

        Raises:
            EngineError: the core or one of its ranks died meanwhile.
        """
        self._process.join(seconds)
        if not self._process.is_alive():
            raise EngineError("EngineDeadError: the simulated engine core died")

    def close(self) -> None:
        """End it and its ranks, and wait until they are gone."""
        ranks = process.below(self._process.pid or 0)
        self._process.kill()
        self._process.join()
        process.kill_all(ranks)
        process.wait_until_ended(ranks, _START_TIMEOUT_S)


def _spawn(
    locks: Path, start: dict[str, object], gpus: Sequence[str]
) -> tuple[BaseProcess, Connection]:
    """Start a process that holds ``gpus``, the first itself; it reports what keeps it from that."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    started = context.Process(
        target=_hold,
        args=(locks, start, gpus, theirs),
        name="simulated-core",
        daemon=len(gpus) == 1,  # a daemon may start no process
    )
    started.start()
    theirs.close()
    return started, ours


def _problem(report: Connection) -> str:
    """Return what keeps a process from its GPUs; nothing where it holds them."""
    try:
        ready = report.poll(_START_TIMEOUT_S)
        return str(report.recv()) if ready else "the simulated engine core did not start"
    except EOFError:
        return "the simulated engine core died"


def _hold(locks: Path, start: dict[str, object], gpus: Sequence[str], report: Connection) -> None:
    """Hold the first GPU, and each other one by a rank, until killed or until a rank has died."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    first, *others = gpus
    with (locks / f"gpu-{first}").open("a+") as lock, (locks / STARTS).open("a") as starts:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report.send(f"GPU {first} is held by another simulated engine")
            return
        starts.write(json.dumps({**start, "gpu": first, "core": os.getpid()}) + "\n")
        starts.flush()
        ranks = [_spawn(locks, start, [gpu]) for gpu in others]
        problems = [problem for _, its in ranks if (problem := _problem(its))]
        report.send("; ".join(problems))
        sentinels = [rank.sentinel for rank, _ in ranks]
        while not sentinels:
            signal.pause()
        wait(sentinels)
        for rank, _ in ranks:
            rank.kill()
