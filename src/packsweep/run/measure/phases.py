"""Where the wall clock of an attempt goes: every second belongs to exactly one phase.

The names are those of ``schema.PHASES`` without their ``_s``. Nothing here knows what a phase does.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class PhaseClock:
    """Splits the time since it was made into phases; one is always running."""

    def __init__(self, phase: str, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._phase = phase
        self._since = now()
        self._spent: dict[str, float] = {}

    def enter(self, phase: str) -> None:
        """End the running phase and begin ``phase``, which may have run before."""
        self._settle()
        self._phase = phase

    def carve(self, phase: str, seconds: float) -> None:
        """Give ``seconds`` of the running phase to ``phase``: they were measured inside it."""
        self._settle()
        self._add(self._phase, -seconds)
        self._add(phase, seconds)

    def spent(self) -> dict[str, float]:
        """Return the seconds of every phase so far; they add up to the time since the start."""
        self._settle()
        return dict(self._spent)

    def _settle(self) -> None:
        now = self._now()
        self._add(self._phase, now - self._since)
        self._since = now

    def _add(self, phase: str, seconds: float) -> None:
        self._spent[phase] = self._spent.get(phase, 0.0) + seconds
