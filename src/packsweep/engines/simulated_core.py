"""A process that stands for vLLM's engine core where faults are tried without a GPU.

It holds what only one engine may hold, the lock of a logical GPU, and ignores SIGTERM: what ends it
must be sure. ``STARTS`` in the folder of the locks tells every start, a line of JSON each.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

from packsweep.errors import EngineError

STARTS = "starts.jsonl"
_START_TIMEOUT_S = 60.0


class Core:
    def __init__(self, locks: Path, cell_id: str) -> None:
        """Start it on the GPU that CUDA_VISIBLE_DEVICES names.

        Raises:
            EngineError: another engine is on that GPU, or the core did not start.
        """
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES") or "0"
        start = {"time": time.time(), "cell_id": cell_id, "gpu": gpu, "worker": os.getpid()}
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_hold, args=(locks, start, theirs), name="simulated-core", daemon=True
        )
        self._process.start()
        theirs.close()
        problem = "the simulated engine core died"
        with contextlib.suppress(EOFError):
            ready = ours.poll(_START_TIMEOUT_S)
            problem = ours.recv() if ready else "the simulated engine core did not start"
        if problem:
            self.close()
            busy = problem.startswith("GPU")
            raise EngineError(problem, outcome="gpu_busy" if busy else "crashed")

    def work(self, seconds: float) -> None:
        """Let ``seconds`` pass.

        Raises:
            EngineError: the core died meanwhile.
        """
        self._process.join(seconds)
        if not self._process.is_alive():
            raise EngineError("EngineDeadError: the simulated engine core died")

    def close(self) -> None:
        """End it, and wait until it is gone."""
        self._process.kill()
        self._process.join()


def _hold(locks: Path, start: dict[str, object], report: Connection) -> None:
    """Hold the GPU until killed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with (locks / f"gpu-{start['gpu']}").open("a+") as lock, (locks / STARTS).open("a") as starts:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report.send(f"GPU {start['gpu']} is held by another simulated engine")
            return
        starts.write(json.dumps({**start, "core": os.getpid()}) + "\n")
        starts.flush()
        report.send("")
        while True:
            signal.pause()
