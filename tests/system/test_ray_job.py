"""The entry of a Ray job: it runs on the cluster, stops when asked to, and resumes afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes import gone
from tests.ray_head import RayHead, ray_head, simulated_sweep

import packsweep
from packsweep.engines.simulated.core import STARTS
from packsweep.results.store import Store

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.ray, pytest.mark.timeout(2400)]
pytest.importorskip("ray")

MORE = """tensor_parallel_size = [1, 2]
[simulated]
real_seconds = {seconds}
gpu_locks = "{locks}"
[measure]
repeats = 1
"""
GONE_S = 10.0


@pytest.fixture
def head() -> Iterator[RayHead]:
    """Start a head with two logical GPUs."""
    with ray_head("--num-gpus=2", "--num-cpus=2") as started:
        yield started


class Job:
    """A working directory and the command that submits it."""

    def __init__(self, head: RayHead, folder: Path, model: Path, seconds: float) -> None:
        """Lay out what travels with the job: the package, its script and a sweep."""
        self._dashboard = f"http://{head.dashboard}"
        self.results, self.locks = folder / "results", folder / "locks"
        self.locks.mkdir()
        self._there = folder / "job"
        for name in ("src/packsweep", "sweeps"):
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, self._there / name, ignore=ignored)
        more = MORE.format(seconds=seconds, locks=self.locks)
        text = simulated_sweep(model, [1, 2]) + more
        (self._there / "small.toml").write_text(text, encoding="utf-8")

    def submit(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Submit the job as the README does; wait for its end unless ``--no-wait``."""
        entry = ["python", "sweeps/grid.py", "--sweep", "small.toml"]
        results = ["--results", str(self.results)]
        return self.ray_job("submit", *options, "--working-dir", ".", "--", *entry, *results)

    def ray_job(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ``ray job``."""
        environ = {
            "RAY_AUTH_MODE": "disabled",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        return subprocess.run(
            ["ray", "job", verb, "--address", self._dashboard, *arguments],
            cwd=self._there,
            env=os.environ | environ,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    def starts(self) -> list[dict[str, int]]:
        """Return what engines noted as they started."""
        noted = self.locks / STARTS
        lines = noted.read_text(encoding="utf-8").splitlines() if noted.exists() else []
        return [json.loads(line) for line in lines]


def gpus_of_engines(job: Job) -> set[frozenset[str]]:
    """Return which GPUs the engines had."""
    found: dict[int, set[str]] = {}
    for start in job.starts():
        found.setdefault(start["worker"], set()).add(str(start["gpu"]))
    return {frozenset(each) for each in found.values()}


def measured(results: Path) -> set[str]:
    """Return the attempts that count; none where nothing has ended yet."""
    store = Store(results)
    found = {store.committed(cell_id) for cell_id in store.cell_ids()}
    return {attempt_id for attempt_id in found if attempt_id}


def test_job_runs_on_the_cluster_stops_and_resumes(
    head: RayHead, tmp_path: Path, byte_model: Path
) -> None:
    """A job uses the cluster's GPUs without being told to, and says so first.

    ``ray job stop`` ends its engines within seconds; the same job again measures what is missing.
    Cells on one GPU run beside each other, those on two alone.
    """
    job = Job(head, tmp_path, byte_model, seconds=1.5)
    assert job.submit("--no-wait", "--submission-id", "first").returncode == 0
    deadline = time.monotonic() + 600
    while len(job.starts()) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    begun = [pid for start in job.starts() for pid in (start["worker"], start["core"])]
    assert len(begun) >= 4, "both GPUs are held, by two engines or by one"
    assert job.ray_job("stop", "first", "--no-wait").returncode == 0
    deadline = time.monotonic() + GONE_S
    while not all(map(gone, begun)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert all(map(gone, begun))
    kept = measured(job.results)
    again = job.submit()
    assert again.returncode == 0, again.stdout + again.stderr
    assert "on Ray: 2 x GPU of unnamed type on 1 node; cells at once: 2" in again.stdout
    passes = packsweep.load(job.results)
    cells = passes.drop_duplicates("cell_id")
    found = sorted(zip(cells["num_gpus"], cells["duplication"], strict=True))
    assert found == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert set(passes["outcome"]) == {"ok"}
    assert frozenset({"0", "1"}) in gpus_of_engines(job)
    assert kept <= measured(job.results)
