"""Attempts as Ray tasks, one GPU each.

Plain tasks: they end with the driver. A task holds its GPU until its worker process is gone and
the memory is back, so the next task on that GPU starts on an empty one. Retries are the driver's,
so Ray makes none. This module alone imports Ray.
"""

from __future__ import annotations

import importlib.metadata
import os
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packsweep import rows
from packsweep.errors import UserError
from packsweep.task import Status, Task, status_from_json, task_from_json

# Before 2.57 Ray leaves a killed worker's children alive.
_OLDEST = (2, 57)
_CANCEL_TIMEOUT_S = 20.0
_CONNECT_TIMEOUT_S = 5.0
_PACKAGE = Path(__file__).resolve().parents[1]


class RayExecutor:
    """Attempts on a Ray cluster: one a GPU, or one a node where the cluster has no GPU."""

    def __init__(self, address: str) -> None:
        """Join the cluster at ``address``; ``auto`` is the one that this job runs on.

        Raises:
            UserError: no cluster answers there, or Ray is too old.
        """
        _check_version()
        _check_address(address)
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        self._ray = ray
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
        self._options, self.num_slots = _resources(ray)
        self._run = _remote(ray).options(**self._options)
        self._running: dict[Any, Task] = {}

    def start(self, task: Task) -> None:
        """Submit a Ray task."""
        self._running[self._run.remote(task.to_json())] = task

    def wait(self, timeout_s: float) -> Sequence[Status]:
        """Return the tasks that ended; one that Ray lost counts as crashed."""
        if not self._running:
            time.sleep(timeout_s)
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        return [self._status(ref) for ref in ready]

    def stop(self) -> None:
        """Cancel what runs; Ray ends the task's process, and its lifeline ends the engine."""
        for ref in self._running:
            self._ray.cancel(ref, force=True)
        if self._running:
            self._ray.wait(
                list(self._running), num_returns=len(self._running), timeout=_CANCEL_TIMEOUT_S
            )
        self._running = {}
        self._ray.shutdown()

    def _status(self, ref: Any) -> Status:  # noqa: ANN401  (Ray is untyped)
        task = self._running.pop(ref)
        try:
            return status_from_json(self._ray.get(ref))
        except self._ray.exceptions.RayError as error:
            reason = f"Ray lost the task: {' '.join(str(error).split())[:300]}"
            return Status(
                cell_id=task.cell.cell_id,
                attempt_id=task.attempt_id,
                attempt=task.attempt,
                outcome="crashed",
                reason=rows.write_failed(task, "crashed", reason),
            )


def _remote(ray: Any) -> Any:  # noqa: ANN401
    """Return the remote function; ``max_calls=1`` gives every attempt a new worker process."""

    @ray.remote(num_gpus=1, max_calls=1, max_retries=0)  # type: ignore[untyped-decorator]
    def run(task_json: str) -> str:
        from packsweep.supervisor import Supervisor

        supervisor = Supervisor(task_from_json(task_json))
        try:
            return supervisor.wait().to_json()
        except BaseException:
            supervisor.stop()
            raise

    return run


def _resources(ray: Any) -> tuple[dict[str, Any], int]:  # noqa: ANN401
    """Return the options of a task and how many the cluster can run at once."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if gpus:
        return {}, gpus
    cpus = min(int(node["CPU"]) for node in nodes if node.get("CPU"))
    return {"num_gpus": 0, "num_cpus": cpus}, len([n for n in nodes if n.get("CPU", 0) >= cpus])


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
