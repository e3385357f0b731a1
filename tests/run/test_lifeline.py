"""Children, and theirs, die with the process that started them; nothing lying about is imported."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.fakes import gone, killed_at_end

from packsweep.machine import environment
from packsweep.run import lifeline

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")

# A worker, the engine core that it starts, and the process that the core spawns.
FAMILY = """
import multiprocessing, os, sys, time
from pathlib import Path

def inner(pids):
    pids.put(os.getpid())
    time.sleep(60)

def outer(pids):
    pids.put(os.getpid())
    multiprocessing.get_context("spawn").Process(target=inner, args=(pids,)).start()
    time.sleep(60)

if __name__ == "__main__":
    from packsweep.run import lifeline
    lifeline.guard_children(Path(sys.argv[1]))
    lifeline.guard_forks()
    context = multiprocessing.get_context(sys.argv[2])
    pids = multiprocessing.get_context("spawn").Queue()
    context.Process(target=outer, args=(pids,)).start()
    print(pids.get(), pids.get(), flush=True)
    time.sleep(60)
"""

SHARED = """
import sys, time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from packsweep.run import lifeline

lifeline.guard_children(Path(sys.argv[1]))
print(SharedMemory(create=True, size=4096).name, flush=True)
time.sleep(60)
"""
FORKED = """
import multiprocessing, sys
from pathlib import Path

def inner(pipe):
    pipe.send("lives")

def outer(pipe):
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=inner, args=(theirs,))
    child.start()
    theirs.close()
    print(ours.recv(), flush=True)
    child.join()

if __name__ == "__main__":
    from packsweep.run import lifeline
    lifeline.guard_children(Path(sys.argv[1]))
    lifeline.guard_forks()
    child = multiprocessing.get_context("fork").Process(target=outer, args=(None,))
    child.start()
    child.join()
    sys.exit(child.exitcode)
"""


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_grandchild_dies_too(tmp_path: Path, method: str) -> None:
    """A process that a spawned or forked child spawned dies when the first of the three does."""
    script = tmp_path / "family.py"
    script.write_text(FAMILY, encoding="utf-8")
    started = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), method],
        env=environment.engine_environ(),
        stdout=subprocess.PIPE,
        text=True,
    )
    with killed_at_end(started) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 2
        assert not any(gone(pid) for pid in pids)
    deadline = time.monotonic() + 10
    while not all(gone(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in pids if not gone(pid)]
    for pid in left:
        psutil.Process(pid).kill()
    assert left == []


def test_shared_memory_of_the_killed_is_removed(tmp_path: Path) -> None:
    """What a killed process had in /dev/shm is gone soon, and so is what removed it."""
    script = tmp_path / "shared.py"
    script.write_text(SHARED, encoding="utf-8")
    started = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env=environment.engine_environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with killed_at_end(started) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        shared = Path("/dev/shm", name)  # noqa: S108  (where Linux keeps it)
        assert shared.exists()
        (tracker,) = psutil.Process(process.pid).children()
    deadline = time.monotonic() + 10
    while not (gone(tracker.pid) and not shared.exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (gone(tracker.pid), shared.exists()) == (True, False)


def test_child_of_a_forked_child(tmp_path: Path) -> None:
    """A fork of the worker spawns children of its own, as an engine core does its ranks."""
    script = tmp_path / "forked.py"
    script.write_text(FORKED, encoding="utf-8")
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(
        command,
        env=environment.engine_environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "lives\n"), done.stderr


def test_nothing_imported_from_working_directory(tmp_path: Path) -> None:
    """Neither a module of the standard library's name nor a ``vllm`` folder there is imported."""
    (tmp_path / "vllm").mkdir()
    for name in ("statistics.py", "vllm/__init__.py"):
        (tmp_path / name).write_text("raise SystemExit('poisoned')\n", encoding="utf-8")
    code = (
        "import importlib.util, statistics, packsweep.run.worker\n"
        "found = importlib.util.find_spec('vllm')\n"
        "print(statistics.__file__, found and found.origin)"
    )
    done = subprocess.run(
        lifeline.command(sys.executable, "-c", code),
        cwd=tmp_path,
        env=environment.engine_environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) not in done.stdout


def test_pipe_that_closed_before() -> None:
    """A process that asks too late, when nobody holds the other end any more, ends as well."""
    program = (
        "import os\n"
        "from packsweep.run import lifeline\n"
        "guard, other = os.pipe()\n"
        "os.close(other)\n"
        "lifeline.die_at_end_of(guard)\n"
        "print('lives')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
