"""Where the time of a real engine goes: one cell on this machine, every second accounted for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import packsweep
from packsweep import schema

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]
pytest.importorskip("vllm")

SWEEP = """
[model]
name = "embedded:smollm2-135m"
[grid]
strategy = "separate"
n = 8
[engine]
max_model_len = 4096
max_num_seqs = 64
max_num_batched_tokens = 4096
kv_cache_memory_bytes = 268435456
enforce_eager = true
[measure]
repeats = 2
"""
SPLIT = ["before_engine_s", "prefill_span_s", "decode_span_s", "after_engine_s"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("time")
    (folder / "time.toml").write_text(SWEEP, encoding="utf-8")
    command = [sys.executable, "-m", "packsweep", "run", "time.toml", "--results", "r"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "r"


@pytest.fixture(scope="module")
def passes(results: Path) -> pd.DataFrame:
    return packsweep.load(results)


def test_phases_of_an_attempt_add_up_to_its_wall_clock(passes: pd.DataFrame) -> None:
    """Within 2 %, although the whole is taken by another clock than the parts."""
    parts = passes[[column.name for column in schema.WALL]]
    assert parts.notna().all(axis=None)
    assert parts.sum(axis=1).tolist() == pytest.approx(passes["wall_s"].tolist(), rel=0.02)
    assert (parts["passes_s"] - passes["duration_s"].sum()).abs().max() < 1e-6


def test_parts_of_a_pass_add_up_to_its_duration(passes: pd.DataFrame) -> None:
    """The engine core's events lie inside this process's window, on one clock."""
    parts = passes[SPLIT]
    assert parts.notna().all(axis=None)
    assert (parts >= 0).all(axis=None)
    assert parts.sum(axis=1).tolist() == pytest.approx(passes["duration_s"].tolist(), rel=1e-6)


def test_start_is_split_as_vllm_tells_it(passes: pd.DataFrame) -> None:
    """The parts that this device prints are there, and inside the engine's start."""
    row = passes.iloc[0]
    assert 0 < row["load_weights_s"] < row["engine_start_s"]
    assert 0 < row["init_engine_s"] < row["engine_start_s"]
