"""The comparison of one and several GPUs: its arithmetic, and a job on logical ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.ray_head import simulated_sweep
from tests.system import scaling

from packsweep.results.store import Store

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SPAWN_S = 2.0
MORE = """[measure]
replicates = 2
[simulated]
real_seconds = 1.0
"""


def _row(cell: str, gpu: str, began_s: float, wall_s: float, texts_per_s: float) -> dict[str, Any]:
    """Return a pass of a cell that is measured for 10 s of its wall clock."""
    return {
        "cell_id": cell,
        "group_id": cell[0],
        "outcome": "ok",
        "device_uuid": gpu,
        "hostname": "host",
        "started_at": BEGAN + timedelta(seconds=began_s + SPAWN_S),
        "spawn_s": SPAWN_S,
        "wall_s": wall_s,
        "warmup_s": 4.0,
        "passes_s": 6.0,
        "texts_per_s": texts_per_s,
    }


ONE = [_row("a", "0", 0, 50, 100), _row("b", "0", 50, 30, 100), _row("c", "0", 80, 30, 100)]
TWO = [
    _row("a", "0", 0, 50, 100),
    _row("b", "1", 0, 50, 90),
    _row("c", "0", 50, 30, 100),
    _row("b-r1", "0", 80, 30, 99),
    _row("c-r1", "1", 50, 60, 100),
]


def _jobs() -> list[scaling.Job]:
    alone_s = {"a": 50.0, "b": 30.0, "c": 30.0}
    jobs = ((1, ONE), (2, TWO))
    return [scaling.job(scaling.attempts(rows), alone_s, num_gpus) for num_gpus, rows in jobs]


@pytest.mark.parametrize(
    ("suffix", "four", "per_gpu"),
    [
        ("", "four", [0.961, 0.881]),
        ("_again", "four_again", [0.927, 0.927]),
        ("_again", "four_busy_cores", [0.927, 0.953]),
    ],
)
def test_reference_of_one_two_and_four_gpus(suffix: str, four: str, per_gpu: list[float]) -> None:
    """The kept tables give the speed-ups that docs/LOG.md states."""
    kept = scaling.ROOT / "results/reference/h100-scaling"
    names = {1: f"one{suffix}", 2: f"two{suffix}", 4: four}
    lines = scaling.table([(num, str(kept / f"{name}.csv")) for num, name in names.items()])
    found = [float(line.split(" = ")[1].split()[0]) for line in lines[:3]]
    assert found == [1.0, *per_gpu]


def test_job() -> None:
    one, two = _jobs()
    assert (one.num_gpus, one.num_cells, one.wall_s, one.work_s) == (1, 3, 110, 110)
    assert (two.num_gpus, two.num_cells, two.wall_s, two.work_s) == (2, 5, 110, 170)
    # 40 s of the first start are none of the measurement, 20, 20 and 50 of the later ones.
    assert (one.first_start_s, two.first_start_s) == (20, 20)
    assert (one.rate, two.rate) == (110 / 90, 170 / 90)
    assert (one.busy_share, two.busy_share) == (1, 1)


def test_engine_over_two_gpus_holds_both() -> None:
    """On A, on B, and on both: two GPUs, held for 4 x 10 GPU seconds of 20 s."""
    rows = [_row("a", "A", 0, 10, 1), _row("a-r1", "B", 0, 10, 1), _row("b", "A,B", 10, 10, 1)]
    found = scaling.job(scaling.attempts(rows), {"a": 10, "b": 20}, 2)
    assert (found.gpu_s, found.wall_s, found.busy_share) == (40, 20, 1)


def test_spread_of_a_cell_over_the_gpus() -> None:
    _, two = _jobs()
    assert two.spread == {"b": 1.1, "c": 1.0}


def test_failed_attempts_do_not_count() -> None:
    failed = {**_row("d", "1", 110, 500, 100), "outcome": "crashed", "texts_per_s": None}
    assert scaling.attempts([*TWO, failed]) == scaling.attempts(TWO)


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_job_on_logical_gpus(
    tmp_path: Path, byte_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A job on two GPUs that Ray only counts, a worker killed meanwhile."""
    pytest.importorskip("ray")
    sweep, results = tmp_path / "sweep.toml", tmp_path / "results"
    sweep.write_text(simulated_sweep(byte_model, [1, 2]) + MORE, encoding="utf-8")
    arguments = ["run", str(sweep), str(results), "--gpus", "0,1", "--kill", "0.3"]
    with pytest.MonkeyPatch.context() as kept:
        kept.setenv("CUDA_VISIBLE_DEVICES", "")  # put back to what it was
        assert scaling.main(arguments) == 0
    said = capfd.readouterr().out
    assert "killed worker" in said
    assert "2 GPUs: exit status 0" in said
    assert len(Store(results).read_passes().to_pylist()) == 4 * 3
    assert scaling.main(["table", f"1={results}", f"2={results}"]) == 0
    assert "without the first start" in capfd.readouterr().out
