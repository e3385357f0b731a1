"""Whatever of a run of the real engine is killed, and when: nothing outlives it."""

from __future__ import annotations

import pytest
from tests.chaos import engine_kills

pytest.importorskip("vllm")
pytestmark = [
    pytest.mark.engine,
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(2400),
]
NUM_KILLS = 24


def test_no_orphans() -> None:
    """After kills of driver, worker and engine, at random moments, no process is left."""
    found = list(engine_kills.kills(NUM_KILLS, seed=1))
    assert [str(each) for each in found if each.orphans] == []
    assert {each.victim for each in found} == set(engine_kills.VICTIMS)
