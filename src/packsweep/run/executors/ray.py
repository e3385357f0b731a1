"""Attempts as Ray tasks, each with the GPUs of its cell, all of one node.

Plain tasks: they end with the driver. A task holds its GPUs until its worker process is gone and
the memory is back, so the next task on a GPU starts on an empty one. Retries are the driver's,
so Ray makes none. This module alone imports Ray.

A task tells the phases of its attempt as they begin, and last how it ended. The first word is the
marker that it started: Ray shows a queued task and a running one alike. The supervisor in the task
enforces the deadline of each phase; where no word comes for longer than that, the node or the
supervisor itself hangs, and the attempt is given up from here.

Ray gives a GPU that gets free to whatever fits on it. So an engine of several GPUs would wait while
small ones follow each other on one of them, and hold up the cells behind it: engines of one size
are submitted once those of another have begun, or onto GPUs that the others leave free anyway.

Attempts whose cells share an engine go as a batch, which a task works off in one session. Where a
task is lost, so is the attempt that it was at; the others of its batch go into another one. So do
those that a batch has not begun when its node gets no more attempts.
"""

from __future__ import annotations

import math
import os
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from packsweep.errors import UserError
from packsweep.machine import environment
from packsweep.plan.backlog import batches
from packsweep.results import storage
from packsweep.run import scratch
from packsweep.run.executors import nodes, ray_address
from packsweep.run.executors.exclusion import NodeExclusion
from packsweep.run.executors.nodes import Demand, Node
from packsweep.run.executors.ray_fork import NodeForkServers
from packsweep.run.launch import Launcher
from packsweep.run.rows import describe_loss, lost
from packsweep.run.session import Session
from packsweep.run.supervisor import phase_limit_s
from packsweep.run.task import (
    Activity,
    Status,
    Task,
    done_by_another,
    status_from_json,
    task_from_json,
)

# ``ray job stop`` kills the driver 3 s after it asks; ending takes less.
_CANCEL_TIMEOUT_S = 1.0
# What a supervisor may take beyond a deadline to end a worker and to say so.
_SILENCE_S = 120.0
_NODES_EVERY_S = 5.0
# Tasks for which GPUs are free begin in less.
_BEGIN_S = 60.0
_PACKAGE = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class _Running:
    """A submitted task, and the last that was heard of it.

    Attributes:
        tasks: the attempts that have not ended, the one that runs first.
    """

    tasks: list[Task]
    began: float | None = None
    phase: str | None = None
    host: str = "its node"
    node_id: str = ""
    heard: float = field(default_factory=time.monotonic)

    def hear(self, *, phase: str, host: str, node_id: str) -> None:
        self.phase, self.host, self.node_id = phase, host, node_id
        self.heard = time.monotonic()
        self.began = self.began or self.heard

    @property
    def task(self) -> Task:
        return self.tasks[0]

    def ended(self) -> None:
        """Go on to the next attempt."""
        del self.tasks[0]
        self.began = None

    def lost(self, outcome: str, reason: str) -> Status:
        """Record that the attempt that runs went out of sight."""
        wall_s = 0.0 if self.began is None else time.monotonic() - self.began
        return lost(self.task, outcome, reason, wall_s)

    def overdue(self) -> str | None:
        """Return why the attempt is given up, or None; while it is queued nothing is due."""
        if self.phase is None:
            return None
        limit = phase_limit_s(self.task.limits, self.phase) + _SILENCE_S
        if time.monotonic() - self.heard <= limit:
            return None
        return f"{self.host} said nothing for {limit:g} s in phase {self.phase}"


class RayExecutor:
    """Attempts on a Ray cluster: on the GPUs of each, or one a node where it has no GPU."""

    def __init__(
        self,
        address: str,
        demand: Demand | None = None,
        say: Callable[[str], None] = print,
        forks: str | None = None,
        *,
        share_engines: bool = False,
    ) -> None:
        """Join the cluster at ``address``; ``auto`` is the one that this job runs on.

        Args:
            address: as ``ray.init`` takes it.
            demand: what attempts ask of a node.
            say: takes a line that the user should read.
            forks: the kind of engine whose workers each node forks; None starts each anew.
            share_engines: cells share engines, so all attempts are taken before any is submitted.

        Raises:
            UserError: no cluster answers there, Ray is too old, or no node can do it.
        """
        ray_address.check_version()
        ray_address.check_address(address)
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
        self._num_cpus = nodes.cpu_slots(self._nodes)[0]
        self._waiting_said = False
        self._attempts = _remote(self._ray)
        self._servers = None if forks is None else NodeForkServers(self._ray, forks)
        self._share_engines = share_engines
        self._pending: list[Task] = []
        self._running: dict[Any, _Running] = {}
        self._exclusion: NodeExclusion | None = None
        at_once = self._most_at_once(self._demand.least_gpus)
        say(f"on Ray: {nodes.described(self._nodes)}; cells at once: {at_once}")

    @property
    def num_slots(self) -> int:
        """Twice what runs at once: a GPU that gets free has its next attempt at once."""
        return sys.maxsize if self._share_engines else 2 * self.num_at_once

    @property
    def num_at_once(self) -> int:
        """The GPUs, or nodes, that attempts are sent to; never 0, as they may come back."""
        return max(self._most_at_once(self._demand.least_gpus), 1)

    @property
    def num_places(self) -> int:
        """The alive nodes that attempts are sent to."""
        return len(self._fitting())

    def start(self, task: Task) -> None:
        self._pending.append(task)

    def _submit(self, tasks: list[Task]) -> None:
        limits = tasks[0].limits
        self._exclusion = self._exclusion or NodeExclusion(limits.stop_after_failures)
        ref = self._attempts.options(**self._options(tasks[0].cell.num_gpus)).remote(
            [task.to_json() for task in tasks], self._fork_servers()
        )
        self._running[ref] = _Running(tasks)

    def _submit_pending(self) -> None:
        """Submit the attempts that are due, together where they share an engine."""
        while due := self._due():
            ids = {task.attempt_id for task in due}
            self._pending = [task for task in self._pending if task.attempt_id not in ids]
            apart = [[task] for task in due]
            for batch in self._batches(due) if self._share_engines else apart:
                self._submit(batch)

    def _batches(self, tasks: Sequence[Task]) -> list[list[Task]]:
        return batches(tasks, lambda task: task.cell, self._most_at_once)

    def _due(self) -> list[Task]:
        """Return the attempts with engines of the next size, if it is their turn.

        Else as many of them as fit beside the others.
        """
        if not self._pending:
            return []
        size = self._pending[0].cell.num_gpus
        own = [task for task in self._pending if task.cell.num_gpus == size]
        first = self._due_before(size)
        return own[: self._room_beside(size, first)] if first else own

    def _due_before(self, num_gpus: int) -> set[int]:
        """Return the other sizes that engines are due in first, on the very nodes of this one.

        Where none of ours runs and they do not begin, others use the GPUs: it goes on without them.
        """
        tasks = self._running.values()
        since = time.monotonic() - (math.inf if any(each.phase for each in tasks) else _BEGIN_S)
        queued = {
            each.task.cell.num_gpus for each in tasks if each.phase is None and each.heard > since
        }
        own = self._fitting(num_gpus)
        return {size for size in queued - {num_gpus} if own and own == self._fitting(size)}

    def _room_beside(self, num_gpus: int, sizes: Collection[int]) -> int:
        """Return how many more engines fit on GPUs that engines of other sizes leave on any node.

        Batches of cells that share an engine stay together.
        """
        if self._share_engines:
            return 0
        left = min(node.num_gpus % size for node in self._fitting(num_gpus) for size in sizes)
        num_own = sum(each.task.cell.num_gpus == num_gpus for each in self._running.values())
        return max(left // num_gpus - num_own, 0)

    def wait(self, timeout_s: float) -> Sequence[Status]:
        """Return the tasks that ended; one that Ray lost counts as crashed."""
        self._look_at_nodes()
        self._submit_pending()
        if not self._running:
            time.sleep(timeout_s)
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        heard = [self._hear(ref) for ref in ready]
        given_up = [self._give_up(ref, why) for ref, why in self._overdue()]
        return [status for status in (*heard, *given_up) if status is not None]

    def activity(self) -> Sequence[Activity]:
        """Return the phases that the tasks reported last."""
        now = time.monotonic()
        return [
            Activity(cell_id=each.task.cell.cell_id, phase=each.phase, seconds=now - each.heard)
            for each in self._running.values()
            if each.phase is not None
        ]

    def stop(self) -> None:
        """Cancel what runs; Ray ends the task's process, and its lifeline ends the engine."""
        for ref in self._running:
            self._ray.cancel(ref, force=True)
        refs = list(self._running)
        if refs:
            self._ray.wait(refs, num_returns=len(refs), timeout=_CANCEL_TIMEOUT_S)
        self._running, self._pending = {}, []
        self._ray.shutdown()

    def _hear(self, ref: Any) -> Status | None:  # noqa: ANN401  (Ray is untyped)
        """Take a task's next word; the last one is how its attempt ended."""
        running = self._running[ref]
        try:
            word = self._ray.get(next(ref))
        except (self._ray.exceptions.RayError, StopIteration) as error:
            status = self._lose(ref, "crashed", describe_loss(error, running.host, running.phase))
            if isinstance(error, self._ray.exceptions.RayTaskError):
                self._note(running, status)
            return status
        if isinstance(word, dict):
            running.hear(**word)
            return None
        running.ended()
        status = replace(status_from_json(word), place=running.node_id or None)
        self._note(running, status)
        if not running.tasks:
            del self._running[ref]
        elif self._exclusion is not None and running.node_id in self._exclusion.excluded:
            self._take_back(ref)
        return status

    def _take_back(self, ref: Any) -> None:  # noqa: ANN401
        """Keep the rest of a batch for other nodes; the attempt that ran has ended."""
        self._ray.cancel(ref, force=True)
        self._pending += self._running.pop(ref).tasks

    def _note(self, running: _Running, status: Status) -> None:
        """Send no more attempts to a node where one after the other failed."""
        assert self._exclusion is not None, "an attempt was started"
        others = {node.node_id for node in self._fitting(self._demand.num_gpus)}
        if running.node_id and self._exclusion.record(running.node_id, status, others):
            self._say(
                f"{running.host} gets no more cells: several in a row failed there, the last with "
                f"{status.outcome}: {status.reason}"
            )
            self._queue_anew()

    def _queue_anew(self) -> None:
        """Submit what has not begun once more: where a task may go is fixed when it is queued."""
        for ref, running in list(self._running.items()):
            if running.phase is None:
                del self._running[ref]
                self._ray.cancel(ref, force=True)
                self._submit(running.tasks)

    def _overdue(self) -> Iterator[tuple[Any, str]]:
        for ref, running in list(self._running.items()):
            why = running.overdue()
            if why:
                yield ref, why

    def _give_up(self, ref: Any, why: str) -> Status:  # noqa: ANN401
        self._ray.cancel(ref, force=True)
        return self._lose(ref, "timeout", why)

    def _lose(self, ref: Any, outcome: str, reason: str) -> Status:  # noqa: ANN401
        """Record how a task's attempt was lost, and keep those that it had not begun."""
        running = self._running.pop(ref)
        self._pending += running.tasks[1:]
        return running.lost(outcome, reason)

    def _look_at_nodes(self) -> None:
        """Note nodes that came or went; say once where none is left to wait for."""
        if time.monotonic() - self._looked < _NODES_EVERY_S:
            return
        self._nodes = nodes.alive(self._ray.nodes())
        self._looked = time.monotonic()
        most = self._demand.num_gpus
        if not self._fitting(most) and self._exclusion and self._exclusion.excluded:
            self._exclusion.excluded.clear()  # rather a node that failed than none
            self._queue_anew()
        has_any = bool(self._fitting(most))
        if not has_any and not self._waiting_said:
            self._say(
                f"waiting: no alive node has {self._wanted()}; the cluster has "
                f"{nodes.described(self._nodes)}"
            )
        self._waiting_said = not has_any

    def _wanted(self) -> str:
        """Return what the largest engine needs of a node, in words."""
        kinds, most = " or ".join(self._demand.accelerators), self._demand.num_gpus
        if not self._on_gpus:
            return "a CPU"
        return (kinds or "a GPU") if most == 1 else f"{most} x {kinds or 'GPU'}"

    def _has_gpus(self) -> bool:
        asked = bool(self._demand.accelerators) or self._demand.max_gpus is not None
        return asked or nodes.num_gpu_slots(self._nodes, ()) > 0

    def _fitting(self, num_gpus: int = 1) -> list[Node]:
        """Return the alive nodes that attempts of so many GPUs are sent to."""
        excluded = self._exclusion.excluded if self._exclusion else set()
        if self._on_gpus:
            found = nodes.fitting(self._nodes, self._demand.accelerators, num_gpus)
        else:
            found = tuple(node for node in self._nodes if node.num_cpus)
        return [node for node in found if node.node_id not in excluded]

    def _most_at_once(self, num_gpus: int) -> int:
        """Return how many attempts of so many GPUs each run at once, now or on further nodes."""
        if not self._on_gpus:
            return len(self._fitting())
        now = sum(node.num_slots(num_gpus) for node in self._fitting(num_gpus))
        return max(now, (self._demand.max_gpus or 0) // num_gpus)

    def _fork_servers(self) -> Mapping[str, Any]:
        """Return the actors of the nodes that attempts may go to."""
        if self._servers is None:
            return {}
        return self._servers.on(node.node_id for node in self._fitting())

    def _options(self, num_gpus: int) -> dict[str, Any]:
        """Return the options of a task: GPUs, of the kinds asked for, or a node's CPUs."""
        excluded = self._exclusion.excluded if self._exclusion else set()
        selector = nodes.selector(self._demand.accelerators, excluded)
        without = {"num_gpus": 0, "num_cpus": self._num_cpus}
        size = {"num_gpus": num_gpus} if self._on_gpus else without
        return {**size, **({"label_selector": selector} if selector else {})}


def _remote(ray: Any) -> Any:  # noqa: ANN401
    """Return the remote function.

    Ray would end a worker after each task that has a GPU, to be sure that its memory is free. This
    one holds none: an engine lives in processes of its own. A new worker takes 1 s.
    """

    @ray.remote(max_calls=0, max_retries=0, num_returns="streaming")  # type: ignore[untyped-decorator]
    def attempts(
        tasks: Sequence[str], servers: Mapping[str, Any]
    ) -> Iterator[dict[str, str] | str]:
        here = {"", os.getcwd()}  # noqa: PTH109  (as it stands in the path)
        sys.path[:] = [folder for folder in sys.path if folder not in here]
        from packsweep.run.executors import ray_fork
        from packsweep.run.executors.ray import stream_attempts

        ray_fork.end_with_raylet()
        node_id = ray.get_runtime_context().get_node_id()
        launcher = ray_fork.launcher(ray, servers, node_id)
        yield from stream_attempts([task_from_json(task) for task in tasks], node_id, launcher)

    return attempts


def stream_attempts(
    tasks: Sequence[Task], node_id: str, launcher: Launcher
) -> Iterator[dict[str, str] | str]:
    """Run attempts here, one after the other; those of shared engines in one session."""
    cell = tasks[0].cell
    session = Session(launcher, cell.engine_key) if cell.isolation == "engine" else None
    try:
        for task in tasks:
            yield from stream_attempt(task, node_id, session or launcher)
    finally:
        if session is not None:
            session.stop()


def stream_attempt(
    task: Task, node_id: str, launcher: Launcher | None = None
) -> Iterator[dict[str, str] | str]:
    """Run an attempt here; yield its phases as they begin, and last its status as JSON.

    An attempt whose cell another one has committed is not begun, or ended at its next phase. One
    whose raylet has died is ended: Ray would let it run on, on a GPU that a new raylet gives away.
    """
    from packsweep.run.supervisor import Supervisor

    cell_id = task.cell.cell_id
    if task.store.is_done(cell_id):
        yield done_by_another(task).to_json()
        return
    raylet, phase = os.getppid(), "spawn"
    where = {"host": socket.gethostname(), "node_id": node_id}
    yield {"phase": phase, **where}
    scratch.remove_abandoned()
    task.store.check()  # or this node does not share the driver's folder, and would make another
    supervisor = Supervisor(task, launcher)
    try:
        while (status := supervisor.poll()) is None:
            if os.getppid() != raylet:
                sys.exit("the raylet of this node has died")
            if supervisor.phase == phase:
                supervisor.pause()
                continue
            phase = supervisor.phase
            yield {"phase": phase, **where}
            if task.store.committed(cell_id) not in {None, task.attempt_id}:
                supervisor.stop()
                status = done_by_another(task)
                break
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


def _env_vars() -> dict[str, str]:
    """Return what tells a worker where things are; never a secret.

    Ray writes these into logs that everybody on a node may read. How nodes get tokens and keys
    says cluster/README.md.
    """
    names = ("PACKSWEEP_CACHE", "HF_HOME", "HF_HUB_OFFLINE", "VLLM_CACHE_ROOT", *storage.ENVIRON)
    wanted = {name: os.environ[name] for name in names if name in os.environ}
    return {k: v for k, v in wanted.items() if not environment.is_secret(k) and "@" not in v}
