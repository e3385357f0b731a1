"""What only a GPU can show: its memory, who else is on it, and an engine that does not fit.

Skipped where there is none. A model of eight billion random weights; ``PACKSWEEP_TEST_MODEL`` names
another, such as a folder on a machine without a network.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tests.chaos import rank_kills
from tests.chaos.killer import is_worker
from tests.engine_sweep import run

import packsweep
from packsweep.machine import nvml
from packsweep.plan import cells as plan_cells
from packsweep.sweep import read

GPU = nvml.visible_gpu()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.engine,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(GPU is None, reason="needs an NVIDIA GPU"),
]

two_gpus = pytest.mark.skipif(len(nvml.visible_gpus()) < 2, reason="needs two NVIDIA GPUs")

MODEL = os.environ.get("PACKSWEEP_TEST_MODEL", "embedded:llama-3.1-8b")
SWEEP = f"""
[model]
name = "{MODEL}"
load_format = "dummy"
[grid]
strategy = "separate"
n = 64
duplication = 3
[engine]
max_model_len = 4096
enforce_eager = true
[limits]
max_attempts = 1
gpu_free_timeout_s = 5
"""
IMPOSSIBLE = f"""
[[variant]]
engine.kv_cache_memory_bytes = {2**40}
"""
HOLDS_MEMORY = """
import sys, torch
held = torch.zeros(2**28, device="cuda")
print("holding", flush=True)
sys.stdin.read()
"""
PROCESSES_GONE_S = 10.0
MEMORY_BACK_S = 30.0


@pytest.fixture
def empty_gpu() -> nvml.GpuUse:
    """Return how the GPU looks before a test; it must be nobody's."""
    assert GPU is not None
    used = nvml.use(GPU)
    assert not used.processes, "these tests need a GPU of their own"
    return used


def is_empty(before: nvml.GpuUse) -> bool:
    """Return whether nobody computes on the GPU any more and its memory is back."""
    assert GPU is not None
    gone = bool(nvml.wait_until_free([GPU], 1, PROCESSES_GONE_S))
    return gone and nvml.wait_until_returned([GPU], [before], MEMORY_BACK_S)


def write(folder: Path, text: str) -> Path:
    path = folder / "gpu.toml"
    path.write_text(text, encoding="utf-8")
    return path


def seed_that_begins_with_the_impossible(path: Path) -> int:
    """Return an order of the cells in which the one that cannot start comes first."""
    for seed in range(100):
        sweep = read.load(path, [f"measure.order_seed={seed}"])
        first = plan_cells.make(sweep).schedule[0].cell
        if first.settings["kv_cache_memory_bytes"]:
            return seed
    raise AssertionError("no order begins with it")


def test_out_of_memory_is_a_row_and_the_sweep_continues(
    tmp_path: Path, empty_gpu: nvml.GpuUse
) -> None:
    """The cell that asks for a tebibyte is oom in vLLM's words, the next one is measured.

    Its cached tokens are what block arithmetic says, and afterwards the GPU is as it was.
    """
    path = write(tmp_path, SWEEP + IMPOSSIBLE)
    seed = seed_that_begins_with_the_impossible(path)
    order = ["--set", f"measure.order_seed={seed}"]
    done = run("run", str(path), *order, "--results", str(tmp_path / "results"))
    assert done.returncode == 1, done.stdout + done.stderr
    passes = packsweep.load(tmp_path / "results").sort_values("started_at")
    assert list(passes["outcome"]) == ["oom", "ok", "ok", "ok"]
    assert "memory" in passes["reason"].iloc[0]
    ok = passes[passes["outcome"] == "ok"]
    assert (ok["cached_tokens"] == ok["expected_cached_tokens"]).all()
    assert (ok["cached_tokens"] > 0).all()
    assert ok["memory_returned"].all()
    assert is_empty(empty_gpu)


@pytest.fixture
def foreign_process() -> Iterator[int]:
    """Yield the pid of somebody who holds a gibibyte of the GPU."""
    command = [sys.executable, "-c", HOLDS_MEMORY]
    foreign = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert foreign.stdout is not None
        assert foreign.stdout.readline() == b"holding\n"
        yield foreign.pid
    finally:
        foreign.communicate()


@pytest.mark.usefixtures("empty_gpu", "foreign_process")
def test_foreign_process_makes_the_gpu_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No engine is started beside somebody else's process; the row says how much it holds."""
    assert GPU is not None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", GPU.visible_as)
    path = write(tmp_path, SWEEP)
    done = run("run", str(path), "--results", str(tmp_path / "results"))
    assert done.returncode == 1, done.stdout + done.stderr
    (row,) = packsweep.load(tmp_path / "results").to_dict("records")
    assert row["outcome"] == "gpu_busy"
    assert "is used by process" in row["reason"]


def wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.2)
    return True


@pytest.mark.parametrize("victim", ["driver", "worker"])
def test_kill_leaves_the_gpu_empty_and_the_sweep_resumable(
    tmp_path: Path, empty_gpu: nvml.GpuUse, victim: str
) -> None:
    """SIGKILL during a pass leaves no process and no memory; the same command measures again."""
    path, results = write(tmp_path, SWEEP), tmp_path / "results"
    arguments = ["run", str(path), "--set", "measure.repeats=30", "--results", str(results)]
    driver = subprocess.Popen([sys.executable, "-m", "packsweep", *arguments])
    try:
        logs = results / "logs"
        in_pass = lambda: any("pass 1" in log.read_text() for log in logs.rglob("*.log"))  # noqa: E731
        assert wait_for(in_pass, 300)
        family = psutil.Process(driver.pid).children(recursive=True)
        worker = next(child for child in family if is_worker(child))
        os.kill(driver.pid if victim == "driver" else worker.pid, signal.SIGKILL)
        driver.wait(timeout=300)
        assert is_empty(empty_gpu)
    finally:
        driver.kill()
        driver.wait()
    if victim == "worker":
        (row,) = packsweep.load(results).to_dict("records")
        assert (row["outcome"], "SIGKILL" in row["reason"]) == ("crashed", True)
        arguments += ["--set", "limits.max_attempts=2"]
    again = run(*arguments)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (packsweep.load(results)["outcome"] == "ok").sum() == 30
    assert is_empty(empty_gpu)


@two_gpus
def test_one_gpu_and_two(tmp_path: Path, empty_gpu: nvml.GpuUse) -> None:
    """Cells on one GPU and on two: each row names its own, and memory is back on all."""
    path, results = write(tmp_path, SWEEP), tmp_path / "results"
    sizes = ["--set", "engine.tensor_parallel_size=[1, 2]"]
    done = run("run", str(path), *sizes, "--results", str(results))
    assert done.returncode == 0, done.stdout + done.stderr
    passes = packsweep.load(results)
    assert set(passes["num_gpus"]) == {1, 2}
    assert (passes["device_uuid"].str.count("GPU-") == passes["num_gpus"]).all()
    assert (passes["cached_tokens"] == passes["expected_cached_tokens"]).all()
    assert (passes["cached_tokens"] > 0).all()
    assert passes["memory_returned"].all()
    assert passes["mfu"].between(0, 1).all()
    assert is_empty(empty_gpu)


@two_gpus
def test_kills_of_an_engine_on_two_gpus() -> None:
    """A worker, a rank and a driver are killed: no process and no memory is left on either."""
    found = list(rank_kills.kills("vllm", 2, repeats=200))
    assert [str(each) for each in found if each.problems] == []
