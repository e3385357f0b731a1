"""Servers under load on a Ray cluster: each task starts its own, on its GPU and its port."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes import Cli
from tests.ray_head import ray_head

import packsweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1200)]
pytest.importorskip("ray")

SWEEP = """
mode = "online"
[model]
name = "{model}"
load_format = "dummy"
[grid]
strategy = "separate"
n = 4
[online]
rate = [10, 20]
window_s = 2.0
slo = "p90 e2e <= 10 s"
[engine]
kind = "simulated"
[measure]
repeats = 1
"""


def test_servers_of_two_tasks(byte_model: Path, shell: Cli, tmp_path: Path) -> None:
    """Two cells at once on a node, each with a server of its own."""
    path = tmp_path / "s.toml"
    path.write_text(SWEEP.format(model=byte_model), encoding="utf-8")
    with ray_head("--num-gpus=2", "--num-cpus=2") as head:
        where = ("--ray", head.address, "--results", tmp_path / "r")
        done = shell("run", path, *where, cwd=tmp_path, RAY_AUTH_MODE="disabled")
    assert done.returncode == 0, done.stdout + done.stderr
    passes = packsweep.load(tmp_path / "r", "passes")
    assert sorted(passes["rate_texts_per_s"]) == [10.0, 20.0]
    assert set(passes["outcome"]) == {"ok"}
    assert set(passes["num_errors"]) == {0}
