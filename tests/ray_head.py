"""A Ray head on this machine, beside whatever other clusters run on it; a sweep for it."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from packsweep.machine.process import kill_all, wait_until_ended

_START_TIMEOUT_S = 600
_STOP_TIMEOUT_S = 60
_ENVIRON = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
# Each has a default of its own, which a second cluster on the machine would find taken.
_PORTS = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")


@dataclass(frozen=True, slots=True)
class RayHead:
    """Where a head and its dashboard listen: host and port; and the folder of its sessions."""

    address: str
    dashboard: str
    folder: Path


@contextlib.contextmanager
def ray_head(*options: str) -> Iterator[RayHead]:
    """Start a head with ``options`` of ``ray start``; end all of it on the way out."""
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    # Short, because Ray puts sockets there; and its own, because "auto" looks into the usual one.
    folder = Path(tempfile.mkdtemp(prefix="ps", dir="/tmp"))
    head = RayHead(
        f"127.0.0.1:{ports['port']}", f"127.0.0.1:{ports['dashboard-port']}", folder=folder
    )
    command = ["ray", "start", "--head", "--block", f"--temp-dir={folder}", *options]
    command += [f"--{name}={port}" for name, port in ports.items()]
    environ = os.environ | _ENVIRON
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
    log = folder / "start.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environ, stdout=output, stderr=output)
    try:
        _wait_for(head, process, log)
        yield head
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def simulated_sweep(model: Path, duplication: Sequence[int]) -> str:
    """Return a sweep that needs no GPU; more of its ``[engine]``, and other tables, may follow."""
    return f"""
[model]
name = "{model}"
load_format = "dummy"
[grid]
strategy = "separate"
n = 2
duplication = {[*duplication]}
[engine]
kind = "simulated"
"""


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on; all are held until all are found."""
    with contextlib.ExitStack() as held:
        found = []
        for _ in range(count):
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            found.append(int(probe.getsockname()[1]))
        return found


def _wait_for(head: RayHead, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not _answers(head):
        alive = process.poll() is None and time.monotonic() < deadline
        assert alive, log.read_text(encoding="utf-8")
        time.sleep(0.2)


def _answers(head: RayHead) -> bool:
    """Return whether the dashboard takes jobs."""
    try:
        with contextlib.closing(http.client.HTTPConnection(head.dashboard, timeout=5)) as client:
            client.request("GET", "/api/jobs/")
            return client.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the head and whatever it started."""
    family = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_STOP_TIMEOUT_S)
    process.kill()
    process.wait()
    kill_all(wait_until_ended(family, _STOP_TIMEOUT_S))
