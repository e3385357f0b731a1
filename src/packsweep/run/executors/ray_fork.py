"""A fork server for each node of a Ray cluster, so that its tasks need not import vLLM anew.

One server does for all GPUs of a node, and Ray's workers come and go, so it belongs to an actor
that stays: one a node, without a GPU, ended with the driver's job. Each task still has its GPU, its
supervisor and its worker; the worker is forked by the node's server, and dies with the supervisor.

Ray is handed in: ``ray`` alone imports it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import threading
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from packsweep.machine import environment
from packsweep.run import launch
from packsweep.run.launch import Interpreter, WorkerProcess

# How long a task waits for its node's actor; a server that imports has answered long before.
_ANSWER_TIMEOUT_S = 20.0
# For a supervisor to end its attempt.
_GRACE_S = 5.0


class NodeForkServer:
    """What the actor does: it has a server, and says where."""

    def __init__(self, engine: str) -> None:
        """Fork workers for engines of this kind."""
        end_with_raylet()
        self._engine = engine
        self._server = launch.ForkServer(engine)
        self._silent: list[launch.ForkServer] = []

    def address(self, read_at_import: Mapping[str, str]) -> str | None:
        """Return the socket of a server in such an environment; None where it serves another.

        Args:
            read_at_import: the variables that count, no secret among them; all others are this
                process's own, and a worker gets its task's.
        """
        own = environment.engine_environ()
        other = own.keys() - environment.read_at_import(own).keys()
        environ = {name: own[name] for name in other} | dict(read_at_import)
        if self._server.lives and not self._server.serves(environ):
            return None
        self._server.prepare(environ)
        return str(self._server.address)

    def give_up(self, address: str) -> None:
        """Take another server in place of one that does not fork; the workers it has go on."""
        if self._server.lives and str(self._server.address) == address:
            self._silent.append(self._server)
            self._server = launch.ForkServer(self._engine)


@functools.cache
def end_with_raylet() -> None:
    """Have this process, which is Ray's, end after its raylet, and with it whatever it started.

    Ray forgets the processes of a node that it has called dead while it was frozen.
    """

    def wait() -> None:
        select.select([raylet], [], [])
        time.sleep(_GRACE_S)
        os.kill(os.getpid(), signal.SIGKILL)

    with contextlib.suppress(AttributeError, OSError):  # not Linux, or before 5.3
        raylet = os.pidfd_open(os.getppid())
        if Path(f"/proc/{os.getppid()}/comm").read_text(encoding="utf-8").strip() == "raylet":
            threading.Thread(target=wait, daemon=True).start()


class NodeForkServers:
    """The driver's handles of the actors, by node."""

    def __init__(self, ray: Any, engine: str) -> None:  # noqa: ANN401  (Ray is untyped)
        """Start none yet."""
        self._actor = ray.remote(NodeForkServer)
        self._strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        self._engine = engine
        self._handles: dict[str, Any] = {}

    def on(self, node_ids: Iterable[str]) -> Mapping[str, Any]:
        """Return the handles of these nodes' actors, and start those that are missing."""
        for node_id in node_ids:
            if node_id not in self._handles:
                options = self._actor.options(
                    num_cpus=0,
                    num_gpus=0,
                    max_restarts=-1,
                    scheduling_strategy=self._strategy(node_id, soft=False),
                )
                self._handles[node_id] = options.remote(self._engine)
        return self._handles


class NodeLauncher:
    """Has workers forked by the server of this node, where one answers."""

    def __init__(self, ray: Any, actor: Any) -> None:  # noqa: ANN401
        """Ask this actor."""
        self._ray = ray
        self._actor = actor

    def launch(self, folder: Path, environ: Mapping[str, str], log: BinaryIO) -> WorkerProcess:
        """Ask for a worker; start a new interpreter where no server can be had."""
        try:
            address = self._ray.get(
                self._actor.address.remote(environment.read_at_import(environ)),
                timeout=_ANSWER_TIMEOUT_S,
            )
            if address is not None:
                give_up = partial(self._actor.give_up.remote, address)
                return launch.ask(Path(address), folder, environ, log, give_up)
        except (self._ray.exceptions.RayError, OSError):
            pass
        return Interpreter().launch(folder, environ, log)

    def stop(self) -> None:
        """Do nothing: the server is the actor's."""


def launcher(ray: Any, servers: Mapping[str, Any], node_id: str) -> launch.Launcher:  # noqa: ANN401
    """Return what starts the workers of a task on this node."""
    return NodeLauncher(ray, servers[node_id]) if node_id in servers else Interpreter()
