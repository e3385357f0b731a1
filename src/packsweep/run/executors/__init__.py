"""Where attempts run. The same attempts, the same results; only the place differs.

A new place is a module here that gives the driver these seven things.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from packsweep.run.task import Activity, Status, Task


class Executor(Protocol):
    """A place that runs attempts."""

    @property
    def num_slots(self) -> int:
        """How many attempts may be started before the first has ended."""

    @property
    def num_at_once(self) -> int:
        """How many attempts are measured at the same time."""

    @property
    def num_places(self) -> int:
        """On how many machines attempts can run."""

    def start(self, task: Task) -> None:
        """Start an attempt."""

    def wait(self, timeout_s: float) -> Sequence[Status]:
        """Return the attempts that ended, after at most ``timeout_s``."""

    def activity(self) -> Sequence[Activity]:
        """Return what the running attempts are at; queued ones are left out."""

    def stop(self) -> None:
        """End every running attempt and whatever it started; none leaves a result."""
