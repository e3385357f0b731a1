"""The real engine on the real model, as a user runs it: locally, killed, and through Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from tests.chaos.killer import cmdline, is_worker
from tests.engine_sweep import run, write_sweep
from tests.ray_head import ray_head

import packsweep
from packsweep.machine.process import wait_until_ended
from packsweep.models import embedded
from packsweep.models.embedded import llama3, w8a8
from packsweep.plan import cells as plan_cells
from packsweep.run import parity
from packsweep.run.task import Task
from packsweep.sweep import read
from packsweep.sweep.spec import LimitsTable

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(3600)]
pytest.importorskip("vllm")

ROOT = Path(__file__).resolve().parents[2]
PROCESS_GONE_S = 10.0


def wait_for(condition: object, timeout_s: float) -> bool:
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return bool(condition())


def test_local_run_of_every_strategy_ends_ok(local: Path) -> None:
    """Each strategy leaves one committed row per repeat, measured by vLLM."""
    passes = packsweep.load(local)
    assert passes.groupby("strategy")["outcome"].agg(list).to_dict() == {
        "packed": ["ok", "ok"],
        "separate": ["ok", "ok"],
        "chunked": ["ok", "ok"],
    }
    assert set(passes["engine"]) == {"vllm"}
    assert passes["vllm_version"].notna().all()


def test_tokens_are_given_as_such(local: Path) -> None:
    """Chunked prompts were tokenized together; a further test counts their tokens."""
    passes = packsweep.load(local)
    assert dict(zip(passes["strategy"], passes["prompt_type"], strict=True)) == {
        "packed": "text",
        "separate": "text",
        "chunked": "tokens",
    }
    assert (passes["tokenize_s"] > 0).all()


def test_observed_cached_tokens_equal_expected_ones(local: Path) -> None:
    """Cached tokens agree with block arithmetic, request by request, and are not all 0."""
    requests = packsweep.load(local, "requests")
    assert (requests["cached_tokens"] == requests["expected_cached_tokens"]).all()
    assert requests.groupby("copy")["cached_tokens"].sum().gt(0).to_dict() == {0: False, 1: True}


def test_figures_follow_from_each_other(local: Path) -> None:
    """Throughput is counts over the wall clock, with vLLM's token counts."""
    passes = packsweep.load(local)
    requests = packsweep.load(local, "requests")
    sums = requests.groupby(["cell_id", "repeat"])[["prompt_tokens", "output_tokens"]].sum()
    merged = passes.set_index(["cell_id", "repeat"]).join(sums.add_suffix("_requests"))
    assert (merged["prompt_tokens"] == merged["prompt_tokens_requests"]).all()
    assert (merged["output_tokens"] == merged["output_tokens_requests"]).all()
    assert (merged["output_tokens"] == 8).all()  # 4 texts, twice, a token each
    speed = merged["num_texts"] / merged["duration_s"]
    pd.testing.assert_series_equal(speed, merged["texts_per_s"], check_names=False)


def test_engine_tokenizes_as_the_plan_counts(local: Path, tmp_path: Path) -> None:
    """The plan's prompt tokens are those that vLLM reports."""
    planned = run("plan", str(write_sweep(tmp_path)), "--json")
    counted = {
        cell["cell_id"]: cell["prompt_tokens"] for cell in json.loads(planned.stdout)["cells"]
    }
    measured = packsweep.load(local, "summary").set_index("cell_id")["prompt_tokens"]
    assert measured.to_dict() == counted


def test_second_run_measures_nothing(local: Path) -> None:
    """Running again starts no engine and prints the same table."""
    again = run("run", str(local.parent / "small.toml"), "--results", str(local))
    assert again.returncode == 0, again.stderr
    assert "3 done before, 0 to do" in again.stdout


def test_settings_in_force_are_recorded(local: Path) -> None:
    """What vLLM resolved stands beside what was asked."""
    resolved = json.loads(packsweep.load(local)["engine_resolved"].iloc[0])
    assert resolved["max_num_batched_tokens"] == 4096
    assert resolved["enable_prefix_caching"] is True
    assert resolved["block_size"] > 0
    assert resolved["dtype"] == "bfloat16"


@pytest.mark.long
def test_vllm_benchmark_serves_the_same_requests(local: Path, tmp_path: Path) -> None:
    """vLLM's own benchmark is given a cell's requests: as many, as long, as much of them cached."""
    made = plan_cells.make(read.load(local.parent / "small.toml"))
    cell = next(each.cell for each in made.cells if each.cell.strategy == "chunked")
    task = Task(
        cell=cell,
        attempt_id="theirs",
        attempt=0,
        results=str(tmp_path),
        texts=made.texts[: cell.n],
        limits=LimitsTable(),
    )
    parity.run_bench(task, tmp_path / "bench.json")
    theirs = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    ours = packsweep.load(local, "summary").set_index("cell_id").loc[cell.cell_id]
    assert theirs["num_requests"] == ours["num_requests"]
    assert theirs["total_num_tokens"] == ours["prompt_tokens"] + ours["output_tokens"]
    assert theirs["total_output_tokens"] == ours["output_tokens"]
    assert theirs["cached_tokens"] == ours["cached_tokens"] > 0
    assert theirs["elapsed_time"] > 0


@pytest.mark.long
def test_primed_and_off_have_the_cached_tokens_they_promise(tmp_path: Path) -> None:
    """Primed serves all whole blocks of a prompt, off serves none."""
    sweep = write_sweep(
        tmp_path,
        strategy='["separate"]',
        duplication="1",
        repeats='1\ncache_state = ["primed", "off"]',
    )
    done = run("run", str(sweep), "--results", str(tmp_path / "results"))
    assert done.returncode == 0, done.stdout + done.stderr
    passes = packsweep.load(tmp_path / "results").set_index("cache_state")
    assert passes["cached_tokens"]["off"] == 0
    requests = packsweep.load(tmp_path / "results", "requests")
    block = int(passes["block_size"]["primed"])
    primed = requests[requests["cell_id"] == passes["cell_id"]["primed"]]
    whole = (primed["prompt_tokens"] - 1) // block * block
    assert (primed["cached_tokens"] == whole).all()


@pytest.mark.parametrize("victim", [pytest.param("driver", marks=pytest.mark.long), "worker"])
def test_killed_process_leaves_no_engine_behind(tmp_path: Path, victim: str) -> None:
    """SIGKILL of the driver or the worker ends every process of the engine within seconds."""
    sweep = write_sweep(tmp_path, repeats="50")
    command = [sys.executable, "-m", "packsweep", "run", str(sweep), "--results"]
    driver = subprocess.Popen(
        [*command, str(tmp_path / "results")],
        # On the CPU, too, the engine is then a process of its own, as on a GPU.
        env={**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"},
        stdout=subprocess.DEVNULL,
    )
    try:
        logs = tmp_path / "results" / "logs"
        assert wait_for(
            lambda: any("pass 0" in log.read_text() for log in logs.rglob("*.log")), 180
        )
        family = psutil.Process(driver.pid).children(recursive=True)
        worker = next(child for child in family if is_worker(child))
        engine = worker.children(recursive=True)
        assert any("VLLM" in " ".join(cmdline(process)) for process in engine)
        (driver if victim == "driver" else worker).kill()
        assert wait_until_ended(engine, PROCESS_GONE_S) == []
        if victim == "worker":
            driver.send_signal(signal.SIGINT)
        driver.wait(timeout=300)
    finally:
        driver.kill()
        driver.wait()


@pytest.fixture
def ray_job() -> Iterator[list[str]]:
    """Start a Ray head on this machine and yield the command that submits a job to it."""
    path = f"PATH={Path(sys.executable).parent}:{os.environ['PATH']}"
    with ray_head() as head:
        submit = ["env", "RAY_AUTH_MODE=disabled", path, "ray", "job", "submit"]
        yield [*submit, "--address", f"http://{head.dashboard}"]


def test_ray_job_gives_the_results_of_a_local_run(
    ray_job: list[str], local: Path, tmp_path: Path
) -> None:
    """``ray job submit`` of sweeps/grid.py measures the same cells with the same counts."""
    job = tmp_path / "job"
    for name in ("src", "sweeps"):
        (job / name).parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", str(ROOT / name), str(job / name)], check=True)
    sweep = write_sweep(job, strategy='["packed", "separate"]')
    sweep.write_text(sweep.read_text().replace("pack_size", "# pack_size"))
    entry = ["python", "sweeps/grid.py", "--sweep", "small.toml"]
    results = ["--results", str(tmp_path / "results")]
    command = [*ray_job, "--working-dir", str(job), "--", *entry, *results]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on Ray: 1 node without GPU; cells at once: 1" in done.stdout
    assert "[2/2]" in done.stdout
    columns = [
        "cell_id",
        "outcome",
        "num_requests",
        "prompt_tokens",
        "output_tokens",
        "cached_tokens",
        "labels_found",
    ]
    here = packsweep.load(local, "summary")[columns].iloc[:2]  # packed and separate
    there = packsweep.load(tmp_path / "results", "summary")[columns]
    pd.testing.assert_frame_equal(here, there)


@pytest.mark.long
def test_checkpoint_of_noise_in_int8(tmp_path: Path) -> None:
    """vLLM runs what embedded:llama-3.1-8b-w8a8 is, small; its answers are not scored."""
    source = embedded._source(embedded.find("llama-3.1-8b-w8a8"))
    small = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "head_dim": 64}
    config = w8a8.config() | small | {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = tmp_path / "model"
    model.mkdir()
    llama3.write(source, model, config)
    w8a8.write_weights(model / "model.safetensors", config)
    sweep = write_sweep(tmp_path, strategy='"separate"', name=f'"{model}"')
    done = run("run", str(sweep), "--results", str(tmp_path / "results"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "random weights: speed only, answers are not scored" in done.stdout
    passes = packsweep.load(tmp_path / "results")
    assert passes["outcome"].tolist() == ["ok", "ok"]
    assert set(passes["peak_dtype"]) == {"int8"}
    assert passes["accuracy"].isna().all()
