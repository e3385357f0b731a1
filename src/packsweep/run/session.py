"""One worker for several cells: where cells of equal engine settings share an engine.

The worker of the first cell keeps its engine and waits in a folder, the session, for the folder of
the next attempt. To a supervisor each attempt is a process that ends with its status.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from packsweep.files import replace_file
from packsweep.machine import process
from packsweep.run import scratch
from packsweep.run.launch import Launcher, WorkerProcess
from packsweep.run.task import STATUS

# Names the session's folder to a worker that is to wait for further attempts.
FOLDER = "PACKSWEEP_SESSION"
# In the folder of an attempt: its worker waits for another, and keeps what it has started.
_KEPT = "kept"
_POLL_S = 0.02


class Session:
    """A launcher whose attempts share a worker, for as long as it keeps what it has started."""

    def __init__(self, launcher: Launcher, key: object) -> None:
        """Have the worker started by ``launcher``.

        Args:
            launcher: starts a worker where none waits.
            key: what the cells of the session have in common (``Cell.engine_key``).
        """
        self.key = key
        self._launcher = launcher
        self._worker: WorkerProcess | None = None
        self._last: _Attempt | None = None
        self._folder: Path | None = None
        self._numbers = itertools.count(1)

    def launch(self, folder: Path, environ: Mapping[str, str], log: BinaryIO) -> WorkerProcess:
        """Hand the attempt over to the worker that waits, or start one."""
        worker = self._handed_over(folder, log)
        if worker is None:
            self.stop()
            self._folder, self._numbers = scratch.make(), itertools.count(1)
            where = {FOLDER: str(self._folder)}
            worker = self._worker = self._launcher.launch(folder, {**environ, **where}, log)
        self._last = _Attempt(worker, folder)
        return self._last

    def _handed_over(self, folder: Path, log: BinaryIO) -> WorkerProcess | None:
        """Hand the attempt over and return its worker; None where none waits or can be told."""
        if not self._waits or self._folder is None:
            return None
        handed = json.dumps({"folder": str(folder), "log": log.name}).encode()
        try:
            replace_file(self._folder / str(next(self._numbers)), handed)
        except OSError:  # its folder was deleted, or there is no room
            return None
        return self._worker

    @property
    def _waits(self) -> bool:
        worker, last = self._worker, self._last
        if worker is None or worker.poll() is not None or last is None or not last.lives_on:
            return False
        # Of a worker that has just ended the fork server tells a moment later.
        return worker.pid is None or process.is_alive(worker.pid)

    def stop(self) -> None:
        """End the worker and its engine."""
        if self._worker is not None:
            if self._worker.poll() is None:
                self._worker.kill()
            self._worker.wait()
            self._worker = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


class _Attempt:
    """One attempt in a worker that may go on to another."""

    def __init__(self, worker: WorkerProcess, folder: Path) -> None:
        self._worker = worker
        self._folder = folder
        self._lives_on = False

    @property
    def pid(self) -> int | None:
        return self._worker.pid

    @property
    def lives_on(self) -> bool:
        """The worker waits for the next attempt: what it started is not to be killed."""
        return self._lives_on

    def poll(self) -> int | None:
        if not self._lives_on and (self._folder / STATUS).exists():
            self._lives_on = (self._folder / _KEPT).exists()
        return 0 if self._lives_on else self._worker.poll()

    def kill(self) -> None:
        if not self._lives_on:
            self._worker.kill()

    def wait(self) -> int:
        return 0 if self._lives_on else self._worker.wait()

    def pause(self, timeout_s: float) -> None:
        if not self._lives_on:
            self._worker.pause(timeout_s)


def folder() -> Path | None:
    """Return, in a worker, the folder of its session; None where it belongs to none."""
    found = os.environ.get(FOLDER)
    return None if found is None else Path(found)


def announce_kept(attempt: Path) -> None:
    """Tell whoever started this worker that it waits for another attempt; before its status."""
    (attempt / _KEPT).touch()


def further_attempts() -> Iterator[Path]:
    """Yield, in a worker, the folders of the attempts after its first, and print into their logs.

    Where it belongs to no session there are none; else it waits, until it is killed.
    """
    where = folder()
    if where is None:
        return
    for number in itertools.count(1):
        path = where / str(number)
        while not path.exists():
            time.sleep(_POLL_S)
        handed = json.loads(path.read_text(encoding="utf-8"))
        with Path(handed["log"]).open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        yield Path(handed["folder"])
