"""The README's commands, run as they stand, end in a table."""

from __future__ import annotations

import pytest
from tests.cluster.conftest import Way

import packsweep

WAIT_S = 1500.0

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800), pytest.mark.long]


def check(way: Way) -> str:
    """Wait for the end of a way, hold it to its table, and return what it said."""
    status, said = way.run.said(WAIT_S)
    assert status == 0, said
    assert "on Ray: " in said
    assert "[2/2]" in said
    summary = packsweep.load(way.checkout / "results" / "seed", "summary")
    assert list(summary["outcome"]) == ["ok"] * 2
    return said


def test_commands_for_one_machine_end_in_a_table(ways: dict[str, Way]) -> None:
    """``ray start``, ``ray job submit``, ``ray stop``."""
    assert "Token authentication is disabled" not in check(ways["alone"])


def test_slurm_job_ends_in_a_table(ways: dict[str, Way]) -> None:
    """``sbatch`` on a node with two logical GPUs."""
    assert "On head node." in check(ways["slurm"])
