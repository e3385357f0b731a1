"""A slowdown planted in the simulated engine is found."""

from __future__ import annotations

from pathlib import Path

from packsweep import engines
from packsweep.models.resolve import resolve
from packsweep.results import stats
from packsweep.run.measure.workload import Workload
from packsweep.sweep import expansion, read
from packsweep.sweep.texts import LabelledText

REVIEWS = tuple(LabelledText(text=f"text number {i}", label="positive") for i in range(4))


def speeds(folder: Path, slowdown: float, seed: int) -> list[list[float]]:
    """Return the texts per second of four simulated processes, three repeats each."""
    model = resolve(str(folder), load_format="dummy")
    tables = {
        "model": {"name": str(folder), "load_format": "dummy"},
        "grid": {"n": 4, "strategy": "separate"},
        "engine": {"kind": "simulated"},
        "measure": {"replicates": 4},
        "simulated": {"slowdown": slowdown, "seed": seed, "spread": 0.01},
    }
    sweep = read.parse(tables, where="planted.toml")
    cells = expansion.expand(sweep, REVIEWS, model_fingerprint="x", max_model_len=1000)
    found = []
    for cell in cells:
        engine, workload = engines.start(cell, model), Workload.of(cell, REVIEWS)
        durations = [engine.run(workload.requests).duration_s for _ in range(3)]
        found.append([len(REVIEWS) / duration for duration in durations])
    return found


def test_planted_slowdown_of_5_percent_is_called(byte_model: Path) -> None:
    """At a spread of 1 % a slowdown of 5 % is called slower in at least 18 of 20 pairs."""
    called = 0
    for seed in range(20):
        found = stats.ratio(speeds(byte_model, 1.05, 2 * seed), speeds(byte_model, 1.0, seed + 99))
        assert found.between_processes
        called += found.differs and (found.value or 1) < 1
    assert called >= 18
