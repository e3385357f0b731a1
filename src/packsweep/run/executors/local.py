"""Attempts on this machine, one after the other, each in a process of its own.

One at a time: two engines on one machine share its memory bandwidth and its cores, and neither
would be measured alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from packsweep.run import scratch
from packsweep.run.launch import Interpreter, Launcher
from packsweep.run.supervisor import POLL_S, Supervisor
from packsweep.run.task import Activity, Status, Task


class LocalExecutor:
    """One attempt at a time on the first visible GPU, or on the CPU."""

    num_slots = 1
    num_places = 1

    def __init__(self, launcher: Launcher | None = None) -> None:
        """Remove what a run before could not, since it was killed.

        Args:
            launcher: starts the workers; new interpreters where none is given.
        """
        scratch.remove_abandoned()
        self._launcher = launcher or Interpreter()
        self._running: list[Supervisor] = []

    def start(self, task: Task) -> None:
        """Start a worker process."""
        self._running.append(Supervisor(task, self._launcher))

    def wait(self, timeout_s: float) -> Sequence[Status]:
        """Look four times a second until an attempt ends."""
        deadline = time.monotonic() + timeout_s
        while True:
            ended = [(each, status) for each in self._running if (status := each.poll())]
            if ended or time.monotonic() >= deadline:
                self._running = [s for s in self._running if s not in [e for e, _ in ended]]
                return [status for _, status in ended]
            time.sleep(POLL_S)

    def activity(self) -> Sequence[Activity]:
        """Return what the worker is at."""
        return [supervisor.activity() for supervisor in self._running]

    def stop(self) -> None:
        """Kill what runs."""
        for supervisor in self._running:
            supervisor.stop()
        self._running = []
        self._launcher.stop()
