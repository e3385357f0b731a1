"""A thousand cells: what a cell costs the driver, the scan and the merge. See ``scale``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.scale import Figures, measure

NUM_CELLS = 1000


@pytest.fixture(scope="module")
def figures(byte_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """What a thousand cells took."""
    return measure(NUM_CELLS, tmp_path_factory.mktemp("scale"), str(byte_model))


@pytest.mark.long
@pytest.mark.timeout(150)
def test_ray() -> None:
    """A few hundred cells go through Ray's executor, each once, and the driver stays small."""
    command = [sys.executable, "-m", "tests.scale", "200", "--ray", "--gpus", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads("{" + f"\n{done.stdout}".rpartition("\n{")[2])  # after Ray's warnings
    assert figures["later_half_cpu_ms_per_cell"] < 40
    assert figures["peak_mib"]["end of a run"] < 500


def test_driver(figures: Figures) -> None:
    """The driver's own share of a cell is milliseconds: CPU time, the machine may be busy."""
    assert figures.driver_cpu_ms_per_cell < 10


def test_scan(figures: Figures) -> None:
    """What is done is known in a fraction of a millisecond a cell."""
    assert figures.cpu_s["scan"] < 2
    assert figures.cpu_s["resume"] < 4


def test_merge(figures: Figures) -> None:
    """A thousand files are merged in seconds, and with the index in a fraction of that."""
    assert figures.cpu_s["merge, no index"] < 15
    assert figures.cpu_s["merge"] < figures.cpu_s["merge, no index"]
    assert figures.cpu_s["merge again"] < figures.cpu_s["merge, no index"]


def test_memory(figures: Figures) -> None:
    """The passes of a thousand cells are no burden; of this process, others decide the peak."""
    assert figures.peak_mib["merge"] < 400
    assert figures.peak_mib["merge, no index"] < 400


def test_tables(figures: Figures) -> None:
    """Comparing and printing do not grow faster than the cells."""
    assert figures.cpu_s["compare"] < 3
    assert figures.cpu_s["plan, printed"] + figures.cpu_s["show, printed"] < 15
