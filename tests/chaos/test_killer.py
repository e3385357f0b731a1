"""What strikes must bear: processes end between being listed and being looked at."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest
from tests.chaos import killer
from tests.fakes import gone, killed_at_end

_WAITS = [sys.executable, "-c", "input()"]


def test_at_one_moment() -> None:
    """What ended meanwhile is not seen the next time."""
    seen: list[int] = []

    def look() -> int:
        seen.append(len(seen))
        if len(seen) < 3:
            raise psutil.NoSuchProcess(1)
        return seen[-1]

    assert killer.at_one_moment(look) == 2


def test_process_that_has_ended() -> None:
    """It is killed no more, has no command line, is no worker and does not run."""
    with killed_at_end(subprocess.Popen(_WAITS, stdin=subprocess.PIPE)) as process:
        ended = psutil.Process(process.pid)
        process.communicate()
    killer.kill_at_once([ended])
    assert not killer.cmdline(ended)
    assert not killer.is_worker(ended)
    assert killer.alive([ended], 0) == []


def test_failing_test_leaves_no_process() -> None:
    """Else it is the warning of another test that it still runs, or that its pipes are open."""
    process = subprocess.Popen(_WAITS, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with pytest.raises(AssertionError), killed_at_end(process):
        raise AssertionError
    assert gone(process.pid)
    assert process.stdin is not None
    assert process.stdin.closed
