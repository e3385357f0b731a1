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
from packsweep.run.supervisor import Supervisor
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
        self._running: Supervisor | None = None
        self._session: Session | None = None

    def start(self, task: Task) -> None:
        """Start a worker process, or go on in the one whose engine the cell shares."""
        launcher = self._session_of(task.cell) if task.cell.isolation == "engine" else None
        self._running = Supervisor(task, launcher or self._launcher)

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
        """Look four times a second until the attempt ends."""
        deadline = time.monotonic() + timeout_s
        while self._running is not None:
            status = self._running.poll()
            if status is not None:
                self._running = None
                return [status]
            if time.monotonic() >= deadline:
                break
            self._running.pause()
        return []

    def activity(self) -> Sequence[Activity]:
        return [] if self._running is None else [self._running.activity()]

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None
        self._end_session()
        self._launcher.stop()
