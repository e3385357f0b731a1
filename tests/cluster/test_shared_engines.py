"""What cells share on a Ray cluster: a batch in one task its engine, others only Ray's worker."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.fakes import Cli, killed_at_end
from tests.ray_head import RayHead, ray_head, simulated_sweep

import packsweep
from packsweep.engines.simulated.core import STARTS
from packsweep.machine.process import wait_until_ended

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
list_tasks = pytest.importorskip("ray.util.state").list_tasks

MORE = """[simulated]
real_seconds = 0.2
gpu_locks = "{locks}"
[measure]
isolation = "engine"
"""


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    """Start a head with two logical GPUs."""
    with ray_head("--num-gpus=2", "--num-cpus=2") as started:
        yield started


@pytest.fixture
def locks(tmp_path: Path, byte_model: Path) -> Path:
    """Write the sweep; the folder in which its engines note their starts and lock their GPUs."""
    found = tmp_path / "locks"
    found.mkdir()
    text = simulated_sweep(byte_model, range(1, 9)) + MORE.format(locks=found)
    (tmp_path / "shared.toml").write_text(text, encoding="utf-8")
    return found


def _starts(locks: Path) -> list[dict[str, int]]:
    noted = locks / STARTS
    lines = noted.read_text(encoding="utf-8").splitlines() if noted.exists() else []
    return [json.loads(line) for line in lines]


def test_batches(shell: Cli, head: RayHead, tmp_path: Path, locks: Path) -> None:
    """Eight cells on two GPUs take two engines, one a GPU."""
    done = shell(
        *("run", "shared.toml", "--ray", head.address), cwd=tmp_path, RAY_AUTH_MODE="disabled"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = packsweep.load(tmp_path / "results/shared", "summary")
    assert list(rows["outcome"]) == ["ok"] * 8
    assert sorted(rows["start_method"]) == ["fork"] * 2 + ["shared"] * 6
    assert len(_starts(locks)) == 2


def test_isolated_cells(shell: Cli, head: RayHead, tmp_path: Path, locks: Path) -> None:
    """Eight cells on two GPUs take eight engines, and a worker of Ray for each GPU."""
    began_ms = time.time() * 1000
    isolated = ("--isolation", "process", "--results", "isolated")
    done = shell(
        *("run", "shared.toml", "--ray", head.address, *isolated),
        cwd=tmp_path,
        RAY_AUTH_MODE="disabled",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(_starts(locks)) == 8
    tasks = [
        task
        for task in list_tasks(f"http://{head.dashboard}", detail=True, limit=1000)
        if task.name == "attempts" and task.creation_time_ms >= began_ms
    ]
    assert len(tasks) == 8
    assert len({task.worker_pid for task in tasks}) == 2


def test_lost_task(head: RayHead, tmp_path: Path, locks: Path) -> None:
    """Where a task is killed in the middle of its batch, its missing cells run elsewhere."""
    program = (sys.executable, "-P", "-m", "packsweep")
    started = subprocess.Popen(
        [*program, "run", "shared.toml", "--start", "spawn", "--ray", head.address],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    with killed_at_end(started) as run:
        while not (begun := _starts(locks)) and time.monotonic() < deadline:
            assert run.poll() is None
            time.sleep(0.05)
        worker = psutil.Process(begun[0]["worker"])
        worker.parent().kill()  # type: ignore[union-attr]
        assert wait_until_ended([worker], 10) == []
        said, _ = run.communicate(timeout=300)
        assert run.returncode == 0, said
    rows = packsweep.load(tmp_path / "results/shared", "summary")
    assert list(rows["outcome"]) == ["ok"] * 8
    assert len(_starts(locks)) >= 3
