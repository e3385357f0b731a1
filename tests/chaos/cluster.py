"""A Ray cluster of logical GPUs on this machine: a head without a GPU, and a node for each GPU."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psutil

# By default Ray takes longer to call a node dead than a trial should last.
_SYSTEM_CONFIG = {
    "health_check_initial_delay_ms": 2000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 5,
    # Python processes that no attempt would use.
    "prestart_worker_first_driver": False,
    # What notices an end must get the processor beside other tests; Ray's workers yield to all.
    "worker_niceness": 0,
}
_STORE_BYTES = 80 * 2**20


class LogicalCluster:
    """Nodes are named by the GPU that they have; every logical GPU exists once on the machine."""

    def __init__(self, num_gpus: int = 2, labels: dict[int, dict[str, str]] | None = None) -> None:
        """Start it; the folder's path is short because Ray puts sockets there."""
        self._folder = Path(tempfile.mkdtemp(prefix="ps", dir="/tmp"))
        (self._folder / "ray").mkdir()
        os.environ |= {
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(self._folder),
        }
        from ray.cluster_utils import Cluster

        self._labels = labels or {}
        self._cluster: Any = Cluster()
        self._head = self._cluster.add_node(
            num_cpus=0,
            include_dashboard=False,
            dashboard_agent_listen_port=0,  # any: other clusters may run on this machine
            object_store_memory=_STORE_BYTES,
            _system_config=_SYSTEM_CONFIG,
        )
        self._nodes: dict[int, Any] = {}
        for gpu in range(num_gpus):
            self.add(gpu)

    @property
    def address(self) -> str:
        """What ``packsweep run --ray`` takes."""
        return str(self._cluster.address)

    @property
    def gpus(self) -> list[int]:
        """The GPUs whose nodes were added and not removed."""
        return sorted(self._nodes)

    def add(self, gpu: int) -> None:
        """Add the node of a GPU."""
        self._nodes[gpu] = self._cluster.add_node(
            num_cpus=1,
            num_gpus=1,
            object_store_memory=_STORE_BYTES,
            env_vars={"CUDA_VISIBLE_DEVICES": str(gpu)},
            labels=self._labels.get(gpu),
        )

    def remove(self, gpu: int) -> None:
        """Kill what is left of a GPU's node and forget it."""
        node = self._nodes.pop(gpu)
        with contextlib.suppress(ProcessLookupError):
            self._cluster.remove_node(node, allow_graceful=False)

    def raylet(self, gpu: int) -> subprocess.Popen[bytes]:
        """Return the raylet of a GPU's node."""
        raylet: subprocess.Popen[bytes] = self._nodes[gpu].all_processes["raylet"][0].process
        return raylet

    def is_alive(self, gpu: int) -> bool:
        """Return whether Ray takes a GPU's node for alive."""
        listed = self._cluster.global_state.node_table()
        return any(each["Alive"] and each["NodeID"] == self._nodes[gpu].node_id for each in listed)

    def processes(self, gpu: int) -> list[psutil.Process]:
        """Return every process of a GPU's node, as if it were a machine of its own."""
        mine = [
            info.process.pid for each in self._nodes[gpu].all_processes.values() for info in each
        ]
        found = []
        for pid in mine:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                found += [process, *process.children(recursive=True)]
        return found

    def close(self) -> None:
        """End every process of the cluster."""
        self._cluster.shutdown()
        os.environ.pop("RAY_TMPDIR", None)
        shutil.rmtree(self._folder, ignore_errors=True)
