"""Attempts on this machine, one after the other, each in a process of its own.

One at a time: two engines on one machine share its memory bandwidth and its cores, and neither
would be measured alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from packsweep.run import scratch
from packsweep.run.launch import Interpreter, Launcher
from packsweep.run.session import Session
from packsweep.run.supervisor import POLL_S, Supervisor
from packsweep.run.task import Activity, Status, Task
from packsweep.sweep.cells import Cell


class LocalExecutor:
    """One attempt at a time on the first visible GPUs that are free, or on the CPU."""

    num_slots = 1
    num_at_once = 1
    num_places = 1

    def __init__(self, launcher: Launcher | None = None) -> None:
        """Remove what a run before could not, since it was killed.

        Args:
            launcher: starts the workers; new interpreters where none is given.
        """
        scratch.remove_abandoned()
        self._launcher = launcher or Interpreter()
        self._running: list[Supervisor] = []
        self._session: Session | None = None

    def start(self, task: Task) -> None:
        """Start a worker process, or go on in the one whose engine the cell shares."""
        launcher = self._session_of(task.cell) if task.cell.isolation == "engine" else None
        self._running.append(Supervisor(task, launcher or self._launcher))

    def _session_of(self, cell: Cell) -> Session:
        if self._session is None or self._session.key != cell.engine_key:
            self._end_session()
            self._session = Session(self._launcher, cell.engine_key)
        return self._session

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.stop()
            self._session = None

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
        return [supervisor.activity() for supervisor in self._running]

    def stop(self) -> None:
        for supervisor in self._running:
            supervisor.stop()
        self._running = []
        self._end_session()
        self._launcher.stop()
