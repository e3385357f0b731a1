"""Where the time of a real engine goes: the cells of a small sweep, every second accounted for."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import packsweep
from packsweep.results import schema

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(3600)]
pytest.importorskip("vllm")

SPLIT = ["before_engine_s", "prefill_span_s", "decode_span_s", "after_engine_s"]


@pytest.fixture(scope="module")
def passes(local: Path) -> pd.DataFrame:
    return packsweep.load(local)


def test_phases_of_an_attempt_add_up_to_its_wall_clock(passes: pd.DataFrame) -> None:
    """Within 2 %, although the whole is taken by another clock than the parts."""
    parts = passes[[column.name for column in schema.WALL]]
    assert parts.notna().all(axis=None)
    assert parts.sum(axis=1).tolist() == pytest.approx(passes["wall_s"].tolist(), rel=0.02)
    timed = passes.groupby("attempt_id")["duration_s"].transform("sum")
    assert (parts["passes_s"] - timed).abs().max() < 1e-6


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
