"""Moments and processes across processes of one host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import psutil
import pytest
from tests.fakes import killed_at_end

from packsweep.machine import process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")


def test_seconds_since_in_another_process() -> None:
    """Another process reads the same clock."""
    code = (
        "import sys; from packsweep.machine import process\n"
        "print(process.seconds_since(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, process.moment()], capture_output=True, text=True, check=True
    )
    assert 0 < float(done.stdout) < 60


def test_seconds_since_other_boot() -> None:
    """A moment before the boot has no distance to now."""
    noted = json.dumps({"boot_id": "another", "monotonic_s": 0.0})
    assert process.seconds_since(noted) is None


def test_has_ended() -> None:
    """A running process has not ended, one that was waited for has; the pid alone is not enough."""
    mine = process.identity(os.getpid())
    assert mine is not None
    assert not process.has_ended(mine)
    assert process.has_ended(mine | {"started": "1"})
    waits = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with killed_at_end(waits) as child:
        known = process.identity(child.pid)
        assert known is not None
        assert not process.has_ended(known)
        child.communicate()
        assert process.has_ended(known)


@pytest.mark.parametrize("changed", [{"boot_id": "x"}, {"namespace": "pid:[1]"}])
def test_has_ended_elsewhere(changed: dict[str, str]) -> None:
    """Of a process of another boot or container nobody here can tell."""
    mine = process.identity(os.getpid())
    assert mine is not None
    assert not process.has_ended(mine | {"started": "1"} | changed)


def test_wait_until_ended() -> None:
    """A process that nobody reaps has ended; one that runs is still there after the time."""
    code = (
        "import subprocess; ended = subprocess.Popen(['true']); runs = subprocess.Popen(['sleep', "
        "'60']); print(ended.pid, runs.pid, flush=True); input(); runs.kill()"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with killed_at_end(started) as parent:
        assert parent.stdout is not None
        ended, runs = (psutil.Process(int(pid)) for pid in parent.stdout.readline().split())
        began = time.monotonic()
        assert process.wait_until_ended([ended], 30) == []
        assert time.monotonic() - began < 15
        assert ended.status() == psutil.STATUS_ZOMBIE
        assert process.wait_until_ended([ended, runs], 0.05) == [runs]
        parent.communicate("\n")
