"""Attempts as Ray tasks, one GPU each.

Plain tasks: they end with the driver. A task holds its GPU until its worker process is gone and
the memory is back, so the next task on that GPU starts on an empty one. Retries are the driver's,
so Ray makes none. This module alone imports Ray.

A task tells the phases of its attempt as they begin, and last how it ended. The first word is the
marker that it started: Ray shows a queued task and a running one alike. The supervisor in the task
enforces the deadline of each phase; where no word comes for longer than that, the node or the
supervisor itself hangs, and the attempt is given up from here.
"""

from __future__ import annotations

import importlib.metadata
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from packsweep import rows
from packsweep.errors import UserError
from packsweep.executors import nodes
from packsweep.executors.nodes import Demand
from packsweep.supervisor import phase_limit_s
from packsweep.task import Status, Task, done_by_another, status_from_json, task_from_json

# Before 2.57 Ray leaves a killed worker's children alive.
_OLDEST = (2, 57)
# ``ray job stop`` kills the driver 3 s after it asks; ending takes less.
_CANCEL_TIMEOUT_S = 1.0
_CONNECT_TIMEOUT_S = 5.0
# What a supervisor may take beyond a deadline to end a worker and to say so.
_SILENCE_S = 120.0
_NODES_EVERY_S = 5.0
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(slots=True)
class _Running:
    """A submitted attempt, and the last that was heard of it."""

    task: Task
    phase: str | None = None
    host: str = "its node"
    heard: float = field(default_factory=time.monotonic)

    def hear(self, *, phase: str, host: str) -> None:
        self.phase, self.host, self.heard = phase, host, time.monotonic()

    def overdue(self) -> str | None:
        """Return why the attempt is given up, or None; while it is queued nothing is due."""
        if self.phase is None:
            return None
        limit = phase_limit_s(self.task.limits, self.phase) + _SILENCE_S
        if time.monotonic() - self.heard <= limit:
            return None
        return f"{self.host} said nothing for {limit:g} s in phase {self.phase}"


class RayExecutor:
    """Attempts on a Ray cluster: one a GPU, or one a node where the cluster has no GPU."""

    def __init__(
        self, address: str, demand: Demand | None = None, say: Callable[[str], None] = print
    ) -> None:
        """Join the cluster at ``address``; ``auto`` is the one that this job runs on.

        Args:
            address: as ``ray.init`` takes it.
            demand: what attempts ask of a node.
            say: takes a line that the user should read.

        Raises:
            UserError: no cluster answers there, Ray is too old, or no node can do it.
        """
        _check_version()
        _check_address(address)
        self._ray = _join(address)
        self._demand = demand or Demand()
        self._say = say
        self._nodes = nodes.alive(self._ray.nodes())
        wanted = nodes.spelled(self._nodes, self._demand.accelerators)
        self._demand = replace(self._demand, accelerators=wanted)
        problem = nodes.problem(self._nodes, self._demand)
        if problem:
            self._ray.shutdown()
            raise UserError(problem if wanted else f"--ray {address}: {problem}")
        self._looked = time.monotonic()
        self._on_gpus = self._has_gpus()
        self._waiting_said = False
        self._run = _remote(self._ray).options(**self._options())
        self._running: dict[Any, _Running] = {}

    @property
    def num_slots(self) -> int:
        """Twice what runs at once: the next attempt's Ray worker is up when a GPU gets free."""
        return 2 * max(self._num_at_once(), 1)

    def start(self, task: Task) -> None:
        """Submit a Ray task."""
        self._running[self._run.remote(task.to_json())] = _Running(task)

    def wait(self, timeout_s: float) -> Sequence[Status]:
        """Return the tasks that ended; one that Ray lost counts as crashed."""
        self._look_at_nodes()
        if not self._running:
            time.sleep(timeout_s)
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        heard = [self._hear(ref) for ref in ready]
        given_up = [self._give_up(ref, why) for ref, why in self._overdue()]
        return [status for status in (*heard, *given_up) if status is not None]

    def stop(self) -> None:
        """Cancel what runs; Ray ends the task's process, and its lifeline ends the engine."""
        for ref in self._running:
            self._ray.cancel(ref, force=True)
        refs = list(self._running)
        if refs:
            self._ray.wait(refs, num_returns=len(refs), timeout=_CANCEL_TIMEOUT_S)
        self._running = {}
        self._ray.shutdown()

    def _hear(self, ref: Any) -> Status | None:  # noqa: ANN401  (Ray is untyped)
        """Take a task's next word; the last one is how its attempt ended."""
        running = self._running[ref]
        try:
            word = self._ray.get(next(ref))
        except (self._ray.exceptions.RayError, StopIteration) as error:
            del self._running[ref]
            return _lost(running.task, "crashed", _told(error, running))
        if isinstance(word, dict):
            running.hear(**word)
            return None
        del self._running[ref]
        return status_from_json(word)

    def _overdue(self) -> Iterator[tuple[Any, str]]:
        for ref, running in list(self._running.items()):
            why = running.overdue()
            if why:
                yield ref, why

    def _give_up(self, ref: Any, why: str) -> Status:  # noqa: ANN401
        task = self._running.pop(ref).task
        self._ray.cancel(ref, force=True)
        return _lost(task, "timeout", why)

    def _look_at_nodes(self) -> None:
        """Note nodes that came or went; say once where none is left to wait for."""
        if time.monotonic() - self._looked < _NODES_EVERY_S:
            return
        self._nodes = nodes.alive(self._ray.nodes())
        self._looked = time.monotonic()
        has_any = nodes.num_gpu_slots(self._nodes, self._demand.accelerators) > 0
        if self._on_gpus and not has_any and not self._waiting_said:
            names = " or ".join(self._demand.accelerators) or "a GPU"
            self._say(
                f"waiting: no alive node has {names}; the cluster has "
                f"{nodes.described(self._nodes)}"
            )
        self._waiting_said = not has_any

    def _has_gpus(self) -> bool:
        asked = bool(self._demand.accelerators) or self._demand.max_gpus is not None
        return asked or nodes.num_gpu_slots(self._nodes, ()) > 0

    def _num_at_once(self) -> int:
        if not self._on_gpus:
            return nodes.cpu_slots(self._nodes)[1]
        now = nodes.num_gpu_slots(self._nodes, self._demand.accelerators)
        return max(now, self._demand.max_gpus or 0)

    def _options(self) -> dict[str, Any]:
        """Return the options of a task: a GPU, of the kinds asked for, or a node's CPUs."""
        if not self._on_gpus:
            return {"num_gpus": 0, "num_cpus": nodes.cpu_slots(self._nodes)[0]}
        if not self._demand.accelerators:
            return {}
        kinds = ",".join(self._demand.accelerators)
        return {"label_selector": {nodes.ACCELERATOR_LABEL: f"in({kinds})"}}


def _remote(ray: Any) -> Any:  # noqa: ANN401
    """Return the remote function; ``max_calls=1`` gives every attempt a new worker process."""

    @ray.remote(num_gpus=1, max_calls=1, max_retries=0, num_returns="streaming")  # type: ignore[untyped-decorator]
    def attempt(task_json: str) -> Iterator[dict[str, str] | str]:
        from packsweep.executors.ray import words

        yield from words(task_from_json(task_json))

    return attempt


def words(task: Task) -> Iterator[dict[str, str] | str]:
    """Run an attempt here; tell its phases as they begin, and last its status as JSON.

    An attempt whose cell was committed while it waited in Ray's queue is not begun. One whose
    raylet has died is ended: Ray would let it run on, on a GPU that a new raylet gives away.
    """
    from packsweep.supervisor import POLL_S, Supervisor

    if task.store.is_done(task.cell.cell_id):
        yield done_by_another(task).to_json()
        return
    raylet, host, told = os.getppid(), socket.gethostname(), ""
    supervisor = Supervisor(task)
    try:
        while (status := supervisor.poll()) is None:
            if os.getppid() != raylet:
                sys.exit("the raylet of this node has died")
            if supervisor.phase != told:
                told = supervisor.phase
                yield {"phase": told, "host": host}
            time.sleep(POLL_S)
        yield status.to_json()
    except BaseException:
        supervisor.stop()
        raise


def _join(address: str) -> Any:  # noqa: ANN401
    """Connect to the cluster and return Ray."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    try:
        ray.init(
            address=address,
            log_to_driver=False,
            configure_logging=False,
            # The driver's very code goes along, so nodes need not have it installed.
            runtime_env={"env_vars": _env_vars(), "py_modules": [str(_PACKAGE)]},
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())[:200]
        message = f"--ray {address}: no Ray cluster can be joined there: {text}"
        raise UserError(message) from None
    return ray


def _lost(task: Task, outcome: str, reason: str) -> Status:
    """Record an attempt that went out of sight; a result that it committed stays what it is.

    It may still be running and may commit at this moment, so its own file is left alone: the row
    goes to a file of another name.
    """
    committed = task.store.is_done(task.cell.cell_id)
    named = replace(task, attempt_id=f"{task.attempt_id}-lost")
    return Status(
        cell_id=task.cell.cell_id,
        attempt_id=task.attempt_id,
        attempt=task.attempt,
        outcome="ok" if committed else outcome,
        reason=None if committed else rows.write_failed(named, outcome, reason),
        log=str(task.store.log(task.cell.cell_id, task.attempt_id)),
        lost=True,
    )


_WHY = {
    "NodeDiedError": "its node died",
    "WorkerCrashedError": "its Ray worker died",
    "LocalRayletDiedError": "its raylet died",
    "TaskCancelledError": "it was cancelled",
    "OutOfMemoryError": "its node ran out of memory and Ray ended it",
}


def _told(error: Exception, running: _Running) -> str:
    """Return in one line how Ray lost an attempt."""
    cause = getattr(error, "cause", None) or error
    name = type(cause).__name__
    why = _WHY.get(name) or f"{name}: {' '.join(str(cause).split())[:300]}"
    when = "before it began" if running.phase is None else f"in phase {running.phase}"
    return f"Ray lost the attempt on {running.host} {when}: {why}"


def _env_vars() -> dict[str, str]:
    """Return what a worker needs to find this very code, when the job brought it along."""
    names = ("PACKSWEEP_CACHE", "HF_HOME", "HF_HUB_OFFLINE", "HF_TOKEN", "VLLM_CACHE_ROOT")
    return {name: os.environ[name] for name in names if name in os.environ}


def _check_address(address: str) -> None:
    """Ask for an answer first: Ray itself waits ten minutes for one.

    What ``auto`` means is looked up as Ray does: RAY_ADDRESS, else the file that ``ray start``
    leaves behind, which outlives a cluster that was killed.
    """
    found = _looked_up() if address == "auto" else address
    if found is None:
        message = "--ray auto: no Ray cluster runs on this machine; ray start --head starts one"
        raise UserError(message)
    host, _, port = found.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        message = f"--ray {address}: no Ray cluster answers at {found} ({error})"
        raise UserError(message) from None


def _looked_up() -> str | None:
    """Return where ``auto`` leads. Source: Ray 2.57 to 2.60, ``_private/utils.py``."""
    if "RAY_ADDRESS" in os.environ:
        return os.environ["RAY_ADDRESS"]
    folder = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray"
    try:
        return (folder / "ray_current_cluster").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _check_version() -> None:
    try:
        version = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        message = "--ray: Ray is not installed; pip install 'ray[default]>=2.57'"
        raise UserError(message) from None
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        message = f"--ray: Ray {version} is too old; pip install 'ray[default]>=2.57'"
        raise UserError(message)
