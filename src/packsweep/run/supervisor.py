"""Start a worker, watch its phases, end it, and say how it went.

The same on this machine and inside a Ray task. A worker that is killed, crashes or hangs cannot
speak for itself: its failed row is written here. Watching costs a look at two small files four
times a second, so it does not disturb what is measured; the worker's end is noticed at once.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import psutil

from packsweep.errors import ResultsError, UserError
from packsweep.machine import environment, process
from packsweep.run import rows, scratch
from packsweep.run.launch import Interpreter, Launcher, WorkerProcess
from packsweep.run.task import BEGAN, PHASE, STATUS, Activity, Status, Task, status_from_json
from packsweep.sweep.spec import LimitsTable

_POLL_S = 0.25
_EXIT_GRACE_S = 30.0
_STOP_TIMEOUT_S = 120.0
_GONE_TIMEOUT_S = 10.0
_TAIL_BYTES = 16384
# Source: vLLM 0.26 to 0.33, v1/metrics/loggers.py (LoggingStatLogger.log), every 10 s.
_THROUGHPUT = re.compile(rb"Avg prompt throughput: ([0-9.]+) tokens/s")


class Supervisor:
    """One worker process and everything that it starts.

    Attributes:
        phase: what the worker is at, as it says itself.
        process: the worker.
    """

    def __init__(self, task: Task, launcher: Launcher | None = None) -> None:
        """Start the worker for ``task``, as a new interpreter where no ``launcher`` is given."""
        self.task = task
        self._launcher = launcher or Interpreter()
        self._folder = scratch.make()
        self._began = self._phase_began = time.monotonic()
        self.phase = "spawn"
        self._phase_mark = 0
        self._family: dict[int, psutil.Process] = {}
        try:
            self.process = self._start()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def _start(self) -> WorkerProcess:
        """Start the worker's process, in the environment that its cell asks for.

        Raises:
            UserError: a file of the attempt cannot be written.
        """
        try:
            (self._folder / "task.json").write_text(self.task.to_json(), encoding="utf-8")
            (self._folder / BEGAN).write_text(process.moment(), encoding="ascii")
            self._log = self.task.log_path(self._folder)
            self._log.parent.mkdir(parents=True, exist_ok=True)
            log = self._log.open("wb")
        except OSError as error:
            message = f"the files of an attempt cannot be written: {error}"
            raise UserError(message) from None
        cell = self.task.cell
        environ = environment.engine_environ(measuring_asked=cell.environ, num_ranks=cell.num_gpus)
        environ |= _time_limits(self.task.limits)
        with log:
            return self._launcher.launch(self._folder, environ, log)

    def poll(self) -> Status | None:
        """Return how the attempt ended, or None while it runs; ends it at a deadline."""
        self._watch()
        if self.process.poll() is not None:
            return self._finished()
        spent = time.monotonic() - self._phase_began
        if (self._folder / STATUS).exists() and spent > _EXIT_GRACE_S:
            return self._finished()  # the result is in; what still runs is killed
        limit = phase_limit_s(self.task.limits, self.phase)
        if spent > limit:
            self._kill()
            return self._failed("timeout", f"{self.phase} took longer than {limit:g} s")
        return None

    def activity(self) -> Activity:
        return Activity(
            cell_id=self.task.cell.cell_id,
            phase=self.phase,
            seconds=time.monotonic() - self._phase_began,
            tokens_per_s=_throughput(self._log, self._phase_mark),
        )

    def pause(self) -> None:
        """Wait until the next look is due: at once where the worker has ended."""
        self.process.pause(_POLL_S)

    def wait(self) -> Status:
        while (status := self.poll()) is None:
            self.pause()
        return status

    def stop(self) -> None:
        """End the worker and its engine now, without a row: the attempt did not happen.

        Whatever goes wrong with that, the worker is killed, and with it its engine: this process
        may go on to other attempts on its GPU.
        """
        try:
            self._kill()
        finally:
            self.process.kill()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _clear(self) -> str:
        """Bring the log to the results and remove the folder; return where the log is now."""
        if self._log.is_relative_to(self._folder):
            try:
                self.task.store.write_log(
                    self.task.cell.cell_id, self.task.attempt_id, self._log.read_bytes()
                )
            except ResultsError:
                return str(self._keep_log())
        shutil.rmtree(self._folder, ignore_errors=True)
        return self.task.log

    def _keep_log(self) -> Path:
        """Move a log that the results do not take out of the folder, which holds texts."""
        kept = self._folder.with_suffix(".log")
        self._log.replace(kept)
        shutil.rmtree(self._folder, ignore_errors=True)
        return kept

    def _watch(self) -> None:
        """Note a change of phase, and every descendant, so that none is missed at the end."""
        with contextlib.suppress(FileNotFoundError):
            phase = (self._folder / PHASE).read_text(encoding="utf-8")
            if phase != self.phase:
                self.phase, self._phase_began = phase, time.monotonic()
                self._phase_mark = self._log.stat().st_size
        if self.process.pid is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self._family[child.pid] = child

    def _finished(self) -> Status:
        self._kill()
        path = self._folder / STATUS
        if path.exists():
            status = status_from_json(path.read_text(encoding="utf-8"))
            return replace(status, log=self._clear())
        return self._failed("crashed", self._why())

    def _committed(self) -> bool:
        """Return whether the worker committed its result before it ended."""
        store, cell_id = self.task.store, self.task.cell.cell_id
        try:
            return store.committed(cell_id) == self.task.attempt_id and store.is_done(cell_id)
        except ResultsError:
            return False  # whoever runs the sweep again will see

    def _why(self) -> str:
        code = self.process.wait()
        said = _last_error(self._log)
        if code < 0:
            return f"the worker was ended by {process.signal_name(-code)} in phase {self.phase}"
        return f"the worker exited with {code} in phase {self.phase}: {said}"

    def _failed(self, outcome: str, reason: str) -> Status:
        """Write the row that the worker could not write; a committed result stays what it is."""
        wall_s = time.monotonic() - self._began
        if self._committed():
            status = rows.committed(self.task, wall_s)
        else:
            status = rows.failed(self.task, outcome, reason, wall_s)
        return replace(status, log=self._clear())

    def _kill(self) -> None:
        """Kill the worker and every descendant seen, and wait until they are gone.

        What removes their shared memory ends by itself after them.
        """
        self._watch()
        if self.process.poll() is not None and self.process.lives_on:
            return
        family = [child for child in self._family.values() if child.is_running()]
        if self.process.poll() is None:
            self.process.kill()
        process.kill_all(filter(process.works, family))
        self.process.wait()
        process.kill_all(process.wait_until_ended(family, _GONE_TIMEOUT_S))


def _time_limits(limits: LimitsTable) -> dict[str, str]:
    return environment.time_limits(
        engine_start_timeout_s=limits.engine_start_timeout_s, pass_timeout_s=limits.pass_timeout_s
    )


def phase_limit_s(limits: LimitsTable, phase: str) -> float:
    """Return how long a phase of an attempt may take."""
    if phase == "start":
        return limits.engine_start_timeout_s
    if phase == "check":
        return limits.gpu_free_timeout_s + _STOP_TIMEOUT_S
    if phase in {"spawn", "stop", "commit"}:
        return _STOP_TIMEOUT_S
    return limits.pass_timeout_s


def _throughput(log: Path, since: int) -> float | None:
    """Return the last prompt throughput, in tokens/s, that vLLM wrote after byte ``since``."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since, size - _TAIL_BYTES))
            said = _THROUGHPUT.findall(file.read())
    except OSError:
        return None
    return float(said[-1]) if said else None


def _last_error(log: Path) -> str:
    """Return the last line of a log that names an error, else its last line."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"its log cannot be read: {error}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\w(Error|Exception)\b", line)]
    return (errors or lines or ["it printed nothing"])[-1][:400]
