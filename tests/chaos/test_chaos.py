"""A seeded handful of what ``make chaos`` does at length, on one cluster of logical GPUs."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos import killer, trial
from tests.chaos.cluster import LogicalCluster
from tests.chaos.trial import Arena

from packsweep.engines.simulated.core import STARTS

# Ray's own warnings about how it was started are no failure of ours.
pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800), pytest.mark.filterwarnings("ignore")]

# A storm strikes in an order of its own, until its sweep is done or all of these were struck.
_STRUCK = [*["worker", "engine", "ray worker", "raylet", "node"] * 3, *["worker", "driver"] * 3]
_NUM_STRIKES, _MOST_STORMS = 20, 6
LABELS = {0: {"ray.io/accelerator-type": "H800"}, 1: {"ray.io/accelerator-type": "H200"}}


@pytest.fixture(scope="module")
def cluster_of_two(tmp_path_factory: pytest.TempPathFactory, byte_model: Path) -> Iterator[Arena]:
    """A cluster of one logical H800 and one logical H200."""
    cluster = LogicalCluster(labels=LABELS)
    try:
        yield Arena(cluster, tmp_path_factory.mktemp("chaos"), byte_model)
    finally:
        cluster.close()


@pytest.fixture
def arena(cluster_of_two: Arena) -> Iterator[Arena]:
    """The same for every test, without the runs of the test before."""
    yield cluster_of_two
    cluster_of_two.end_runs()


@pytest.mark.timeout(3600)
def test_strikes_leave_one_result_a_cell(arena: Arena) -> None:
    """At 20 random moments something is killed; every cell of every sweep has one result."""
    num_strikes = num_runs = 0
    for seed in range(_MOST_STORMS):
        report = trial.storm(arena, _STRUCK, seed)
        assert report.problems == (), report
        num_strikes += report.num_strikes
        num_runs += report.num_runs
        if num_strikes >= _NUM_STRIKES:
            break
    assert num_strikes >= _NUM_STRIKES
    assert num_runs > 1


def test_stopped_run_leaves_the_folder_to_another(arena: Arena) -> None:
    """A run asked to stop ends on its own; a second one resumes on the GPU that it names."""
    sweep, results = arena.sweep("stopped")
    first = arena.start(sweep, results)
    arena.wait_for_attempt(first)
    doomed = [process for each in killer.attempts(arena.cluster) for process in each.processes]
    second = arena.start(sweep, results, "--accelerator", "h200")
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=300) == 130
    assert killer.alive(doomed, trial.GONE_S) == []
    assert "run the same command again to resume" in arena.said(sweep)
    before = len(_starts(sweep))
    assert second.wait(timeout=1000) == 0, arena.said(sweep)
    assert trial.check(results, overlapping=True) == []
    assert {start["gpu"] for start in _starts(sweep)[before:]} == {"1"}


def test_node_that_fails_gets_no_more_cells(arena: Arena) -> None:
    """A GPU that somebody else holds costs two attempts; every cell is then measured elsewhere."""
    sweep, results = arena.sweep("foreign", real_seconds=0.6)
    with (sweep.parent / "locks" / "gpu-0").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        driver = arena.start(sweep, results, "--set", "limits.stop_after_failures=2")
        assert driver.wait(timeout=1000) == 0, arena.said(sweep)
    lines = arena.said(sweep).splitlines()
    assert sum("GPU 0 is held by another simulated engine [" in line for line in lines) == 2
    assert sum("gets no more cells: several in a row failed there" in line for line in lines) == 1


def test_accelerator_that_no_node_has(arena: Arena) -> None:
    """One line says so and what there is, before anything is submitted; the driver needs no GPU."""
    sweep, results = arena.sweep("none")
    code = (
        "import sys; from packsweep.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('LOADED', sorted({'torch', 'vllm', 'pynvml'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, "run", str(sweep), "--results", str(results)]
    done = subprocess.run(
        [*command, "--ray", arena.cluster.address, "--accelerator", "H100"],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "LOADED []\n")
    assert done.stderr == (
        "packsweep: --accelerator H100: no alive node has H100; the cluster has 1 x H200 on 1 "
        "node, 1 x H800 on 1 node, 1 node without GPU; if it starts nodes on demand, say up to "
        "how many GPUs with --max-gpus\n"
    )


def _starts(sweep: Path) -> list[dict[str, str]]:
    path = sweep.parent / "locks" / STARTS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
