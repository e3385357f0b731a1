"""The log of an attempt, into which its engine prints as well."""

from __future__ import annotations

import sys
from pathlib import Path

from packsweep.errors import ResultsError
from packsweep.run.task import Task


class EngineLog:
    """What the processes of a kept engine print: it goes on into the log of their first attempt."""

    def __init__(self, path: Path) -> None:
        """Take that log; it stays open, as its folder may be removed."""
        self._file = path.open("rb")
        self.start = self.more().decode(errors="replace")

    def more(self) -> bytes:
        """Return what was printed since the last call."""
        return self._file.read()

    def close(self) -> None:
        self._file.close()


class AttemptLog:
    """The log of an attempt, and what an engine that it shares prints into another one.

    Attributes:
        engine: of the engine that it shares; None where it has started its own.
    """

    def __init__(self, task: Task, folder: Path) -> None:
        """Take the log of ``task``, which may lie in ``folder``."""
        self.engine: EngineLog | None = None
        self._task = task
        self._folder = folder

    def text(self) -> str:
        """Return what was printed up to now; nothing where it was deleted with the results."""
        self.copy_engine()
        log = self.path()
        return "" if log is None else log.read_text(encoding="utf-8", errors="replace")

    def path(self) -> Path | None:
        """Return the log; None where there is none, or none any more."""
        try:
            log = self._task.log_path(self._folder)
        except ResultsError:
            return None
        return log if log.exists() else None

    def copy_engine(self) -> None:
        """Print here what a shared engine has printed meanwhile into the log of another attempt."""
        printed = self.engine.more() if self.engine else b""
        if printed:
            sys.stdout.buffer.write(printed if printed.endswith(b"\n") else printed + b"\n")
            sys.stdout.flush()

    @property
    def engine_start(self) -> str:
        """What a shared engine printed at its start, in another attempt."""
        return self.engine.start if self.engine else ""


def say(text: str) -> None:
    """Write a line into the log, between those of the engine."""
    print(f"packsweep: {text}", flush=True)  # noqa: T201  (stdout is the attempt's log)
