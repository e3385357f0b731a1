"""Workers as real processes: how each ends, what is written, and that nothing survives."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
from tests.fakes import cells, gone, killed_at_end, task

from packsweep.engines.simulated.core import STARTS
from packsweep.results.store import Store
from packsweep.run.supervisor import Supervisor
from packsweep.run.task import Status, Task, task_from_json
from packsweep.sweep.spec import LimitsTable

FAULTS = ("none", "start", "oom", "crash", "hang", "unfinished", "wrong_cache")
HANG_S = 3.0  # a phase that does not hang takes milliseconds


@dataclass
class Ended:
    """How the attempts of all faults ended."""

    store: Store
    tasks: dict[str, Task]
    statuses: dict[str, Status]
    pids: dict[str, int]
    folders: dict[str, Path]

    def rows(self, fault: str) -> list[dict[str, Any]]:
        cell_id = self.tasks[fault].cell.cell_id
        rows = self.store.read_passes().to_pylist()
        return [row for row in rows if row["cell_id"] == cell_id]


def _task(model: Path, store: Store, *, timeout_s: float = 300, **tables: dict[str, Any]) -> Task:
    one = cells(model={"name": str(model)}, **tables)[0]
    return task(one, store.root, limits=LimitsTable(pass_timeout_s=timeout_s))


def _wait(supervisors: dict[str, Supervisor]) -> dict[str, Status]:
    statuses: dict[str, Status] = {}
    while len(statuses) < len(supervisors):
        for name, supervisor in supervisors.items():
            if name not in statuses and (status := supervisor.poll()) is not None:
                statuses[name] = status
        time.sleep(0.05)
    return statuses


@pytest.fixture(scope="module")
def ended(byte_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Run an attempt with each planted fault, all at once."""
    store = Store(tmp_path_factory.mktemp("results") / "faults")
    store.prepare()
    tasks = {
        fault: _task(
            byte_model,
            store,
            timeout_s=HANG_S if fault == "hang" else 300,
            simulated={"fault": fault},
            measure={"repeats": 2},
        )
        for fault in FAULTS
    }
    supervisors = {fault: Supervisor(each) for fault, each in tasks.items()}
    pids = {fault: each.process.pid or 0 for fault, each in supervisors.items()}
    folders = {fault: each._folder for fault, each in supervisors.items()}
    return Ended(store, tasks, _wait(supervisors), pids, folders)


@pytest.mark.parametrize(
    ("fault", "outcome", "reason"),
    [
        ("none", "ok", None),
        ("start", "crashed", "the simulated engine was told not to start"),
        ("oom", "oom", "OutOfMemoryError: the simulated device is out of memory"),
        ("crash", "crashed", "the worker was ended by SIGKILL in phase warmup"),
        ("hang", "timeout", "warmup took longer than 3 s"),
        ("unfinished", "invalid", "repeat 0: request 0 did not finish (finish_reason None)"),
        ("wrong_cache", "invalid", "repeat 0: cached tokens 16 observed, 0 expected in all; "),
    ],
)
def test_outcome(ended: Ended, fault: str, outcome: str, reason: str | None) -> None:
    """Every way to end has its outcome and its reason, in the status and in the row."""
    status = ended.statuses[fault]
    assert status.outcome == outcome
    assert status.reason is None if reason is None else str(status.reason).startswith(reason)
    found = {(row["outcome"], row["reason"]) for row in ended.rows(fault)}
    assert found == {(outcome, status.reason)}


@pytest.mark.parametrize("fault", FAULTS)
def test_committed_only_if_ok(ended: Ended, fault: str) -> None:
    """A good attempt's file reads back; a failed attempt is not committed."""
    assert ended.store.is_done(ended.tasks[fault].cell.cell_id) == (fault == "none")


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_left(ended: Ended, fault: str) -> None:
    """No process and no scratch folder outlives an attempt."""
    assert gone(ended.pids[fault])
    assert not ended.folders[fault].exists()


@pytest.mark.parametrize("fault", FAULTS)
def test_log(ended: Ended, fault: str) -> None:
    """What the worker printed lies where the status says, its phases among it."""
    log = Path(str(ended.statuses[fault].log))
    assert str(log) == ended.tasks[fault].log
    first, second = log.read_text(encoding="utf-8").splitlines()[:2]
    assert "check" in first
    assert "start" in second


def test_crash_row(ended: Ended) -> None:
    """The row of a killed worker says which attempt of which cell it was, and has no numbers."""
    row = ended.rows("crash")[0]
    assert (row["attempt_id"], row["attempt"], row["n"]) == ("a0", 0, 2)
    assert (row["duration_s"], row["texts_per_s"], row["repeat"]) == (None, None, None)


def test_ok_status(ended: Ended) -> None:
    """The status of a good attempt has its speed, as in the rows."""
    speeds = [row["texts_per_s"] for row in ended.rows("none")]
    assert ended.statuses["none"].texts_per_s == pytest.approx(sum(speeds) / 2)


def test_timeout_names_phase(store: Store, byte_model: Path) -> None:
    """A hang is reported with the phase it happened in."""
    hanging = _task(
        byte_model,
        store,
        timeout_s=HANG_S,
        simulated={"fault": "hang"},
        measure={"warmup_passes": 0},
    )
    status = Supervisor(hanging).wait()
    assert (status.outcome, status.reason) == ("timeout", "pass 0 took longer than 3 s")


def test_stop(store: Store, byte_model: Path) -> None:
    """A stopped attempt leaves no process, no row and no folder: it did not happen."""
    slow = _task(byte_model, store, simulated={"real_seconds": 600.0}, timeout_s=999)
    supervisor = Supervisor(slow)
    assert supervisor.poll() is None
    supervisor.stop()
    assert supervisor.process.pid is not None
    assert gone(supervisor.process.pid)
    assert not supervisor._folder.exists()
    assert store.attempts(slow.cell.cell_id) == []


def test_stop_where_its_family_cannot_be_listed(
    store: Store, byte_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is killed whatever goes wrong: its supervisor's process may go on to others."""
    slow = _task(byte_model, store, simulated={"real_seconds": 600.0}, timeout_s=999)
    supervisor = Supervisor(slow)

    def fails() -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(supervisor, "_watch", fails)
    with pytest.raises(OSError, match="Too many open files"):
        supervisor.stop()
    assert supervisor.process.pid is not None
    assert _wait_until_gone(supervisor.process.pid, timeout_s=10.0)
    assert supervisor.process.wait() == -signal.SIGKILL
    assert not supervisor._folder.exists()


def test_committed_then_killed(store: Store, byte_model: Path) -> None:
    """A worker that dies after its commit has ended well: nothing is measured twice."""
    slow = _task(byte_model, store, simulated={"real_seconds": 600.0}, timeout_s=999)
    supervisor = Supervisor(slow)
    row = {
        "cell_id": slow.cell.cell_id,
        "attempt_id": "a0",
        "attempt": 0,
        "outcome": "ok",
        "repeat": 0,
        "texts_per_s": 2.0,
    }
    store.write(slow.cell.cell_id, "a0", [row], [])
    store.commit(slow.cell.cell_id, "a0")
    supervisor.process.kill()
    status = supervisor.wait()
    assert (status.outcome, status.reason) == ("ok", None)


@pytest.mark.parametrize(
    ("victim", "reason"),
    [
        ("worker", "the worker was ended by SIGKILL in phase warmup"),
        ("rank", "EngineDeadError: the simulated engine core died"),
    ],
)
def test_engine_of_several_gpus_killed(
    store: Store, byte_model: Path, tmp_path: Path, victim: str, reason: str
) -> None:
    """Whichever of its processes is killed, all go, and the attempt has crashed at once."""
    simulated = {"real_seconds": 600.0, "gpu_locks": str(tmp_path)}
    slow = _task(
        byte_model, store, timeout_s=999, engine={"tensor_parallel_size": 2}, simulated=simulated
    )
    supervisor = Supervisor(slow)
    deadline = time.monotonic() + 60
    while supervisor.phase != "warmup" and time.monotonic() < deadline:
        assert supervisor.poll() is None
        time.sleep(0.05)
    starts = [json.loads(line) for line in (tmp_path / STARTS).read_text().splitlines()]
    pids = {"worker": starts[0]["worker"], "core": starts[0]["core"], "rank": starts[1]["core"]}
    assert not any(gone(pid) for pid in pids.values())
    psutil.Process(pids[victim]).kill()
    status = supervisor.wait()
    assert (status.outcome, status.reason, status.is_retryable) == ("crashed", reason, True)
    assert all(_wait_until_gone(pid, 10.0) for pid in pids.values())


def test_task_round_trip(store: Store, byte_model: Path) -> None:
    """A task is the same after a trip through JSON."""
    original = _task(byte_model, store)
    assert task_from_json(original.to_json()) == original


def _wait_until_gone(pid: int, timeout_s: float = 60.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return gone(pid)


@contextlib.contextmanager
def _killed(code: str, *arguments: object) -> Iterator[int]:
    """Start Python with ``code``, yield the pid that it prints first, and kill it."""
    started = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    with killed_at_end(started) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


def test_worker_dies_with_supervisor(
    store: Store, byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose supervisor is killed is gone within seconds."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # a killed supervisor cannot tidy up
    slow = _task(byte_model, store, simulated={"real_seconds": 600.0}, timeout_s=999)
    (tmp_path / "task.json").write_text(slow.to_json(), encoding="utf-8")
    code = (
        "import sys, time; from pathlib import Path\n"
        "from packsweep.run.supervisor import Supervisor\n"
        "from packsweep.run.task import task_from_json\n"
        "supervisor = Supervisor(task_from_json(Path(sys.argv[1]).read_text()))\n"
        "while supervisor.phase != 'warmup':\n"
        "    assert supervisor.poll() is None\n"
        "    time.sleep(0.05)\n"
        "print(supervisor.process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with _killed(code, tmp_path / "task.json") as worker:
        assert not gone(worker)
    assert _wait_until_gone(worker)


def test_child_dies_with_worker(tmp_path: Path) -> None:
    """A child that multiprocessing spawned in a guarded process dies when that is killed."""
    code = (
        "import multiprocessing, sys, time; from pathlib import Path\n"
        "from packsweep.run import lifeline\n"
        "lifeline.guard_children(Path(sys.argv[1]))\n"
        "context = multiprocessing.get_context('spawn')\n"
        "inside, outside = context.Pipe()\n"
        "child = context.Process(target=inside.send, args=('up',))\n"
        "child.start(); outside.recv(); child.join(); assert child.exitcode == 0\n"
        "child = context.Process(target=time.sleep, args=(600,))\n"
        "child.start(); time.sleep(0.5); assert child.is_alive()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with _killed(code, tmp_path) as child:
        assert not gone(child)
    assert _wait_until_gone(child)
