"""The real engine on several ranks, which a processor's cores are enough for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.chaos import killer
from tests.chaos.rank_kills import Trial
from tests.engine_sweep import run

import packsweep
from packsweep.machine import environment, processor

pytest.importorskip("vllm")
pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not environment.on_cpu(), reason="is for vLLM's CPU build"),
    pytest.mark.skipif(processor.num_cores() < 2, reason="needs two cores"),
]


def test_two_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks compute a model together: tokens are cached as expected, and no process is left."""
    trial = Trial(tmp_path, "vllm", 2, repeats=1)
    monkeypatch.setenv("PACKSWEEP_CACHE", str(tmp_path / "cache"))
    few = ("--set", "grid.n=2", "--set", "grid.duplication=2")
    done = run(
        "run", str(tmp_path / "ranks.toml"), *few, "--results", str(trial.results), timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passes = packsweep.load(trial.results)
    assert list(passes["outcome"]) == ["ok"]
    assert (passes["cached_tokens"] > 0).all()
    assert (passes["cached_tokens"] == passes["expected_cached_tokens"]).all()
    assert passes["num_gpus"].isna().all()
    resolved = json.loads(passes["engine_resolved"].iloc[0])
    assert resolved["tensor_parallel_size"] == 2
    assert resolved["distributed_executor_backend"] == "mp"
    assert killer.alive(killer.survivors(str(tmp_path / "cache")), 10.0) == []
