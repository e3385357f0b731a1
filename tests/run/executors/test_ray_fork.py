"""The fork server of a node, without Ray."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.fakes import gone, killed_at_end

from packsweep.machine import environment
from packsweep.run.executors.ray_fork import NodeForkServer


def test_give_up() -> None:
    """Another server takes the place of one that does not fork, once; its workers go on."""
    node = NodeForkServer("simulated")
    asked = environment.read_at_import(environment.engine_environ())
    first = node.address(asked)
    assert first is not None
    hanging = node._server
    for _ in range(2):  # by two of its GPUs
        node.give_up(first)
    second = node.address(asked)
    assert second not in {first, None}
    assert hanging.lives
    node._server.stop()
    hanging.stop()


_ACTOR = """
import os, time
from packsweep.machine import environment
from packsweep.run.executors import ray_fork
from packsweep.run.executors.ray_fork import NodeForkServer

ray_fork._GRACE_S = 0.1
node = NodeForkServer("another")
node.address(environment.read_at_import(environment.engine_environ()))
print(os.getpid(), node._server.process.pid, flush=True)
time.sleep(600)
"""
_RAYLET = """
import subprocess, sys
from pathlib import Path

Path("/proc/self/comm").write_text("raylet")
subprocess.run([sys.executable, "-c", sys.argv[1]])
"""


def test_actor_ends_with_its_raylet() -> None:
    """Ray leaves the processes of a node alone that it took for dead: they would live for ever."""
    started = subprocess.Popen(
        [sys.executable, "-c", _RAYLET, _ACTOR], stdout=subprocess.PIPE, text=True
    )
    with killed_at_end(started) as raylet:
        assert raylet.stdout is not None
        pids = [int(word) for word in raylet.stdout.readline().split()]
        assert len(pids) == 2
        assert not any(map(gone, pids))
    deadline = time.monotonic() + 10
    while not all(map(gone, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(map(gone, pids))
