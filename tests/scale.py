"""How the driver, the scan and the merge grow with the number of cells.

    python -m tests.scale 10000

A sweep of that many cells is worked out and driven with an executor of 64 slots that commits at
once the rows that a simulated engine really gave, and starts no process: what is left is what the
driver itself costs. Printed as JSON; CPU times say more than wall clocks on a machine that others
use.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes import FakeReporter

from packsweep import analysis, fit, forecast, plan, rows, spec, table, table_show
from packsweep.driver import Driver
from packsweep.forecast import Forecast
from packsweep.plan import Plan
from packsweep.spec import LimitsTable
from packsweep.store import Store
from packsweep.task import Status, Task, task_from_json
from packsweep.worker import Attempt

NUM_SLOTS = 64


def sweep(num_cells: int, model: str) -> spec.Sweep:
    """Return a simulated sweep of ``num_cells``, a multiple of 200, in the shape of a real one."""
    return spec.parse(
        {
            "model": {"name": model, "load_format": "dummy"},
            "reviews": {"source": "builtin"},
            "grid": {
                "strategy": ["packed", "separate"],
                "n": [4, 16, 40, 100, 400],
                "duplication": [1, 2, 5, 10],
            },
            "engine": {
                "kind": "simulated",
                "max_num_seqs": [64, 128, 256, 512, 1024],
                "max_num_batched_tokens": [1024 * (1 + i) for i in range(num_cells // 200)],
            },
        },
        where="scale",
    )


class CommittingExecutor:
    """Ends every attempt at once with the rows of another, one at a time, as ``ray.wait`` does.

    Attributes:
        spent_s, cpu_s: what it took itself, writing and committing: wall clock and CPU time.
    """

    num_slots = NUM_SLOTS
    num_places = 8

    def __init__(self) -> None:
        """Start with no rows: the first attempt is really made, by the simulated engine."""
        self.spent_s = self.cpu_s = 0.0
        self._waiting: list[Task] = []
        self._passes: list[dict[str, Any]] = []

    def start(self, task: Task) -> None:
        task_from_json(task.to_json())  # what any executor hands over
        self._waiting.append(task)

    def wait(self, timeout_s: float) -> Sequence[Status]:
        assert timeout_s > 0
        began, cpu_began = time.perf_counter(), time.process_time()
        task = self._waiting.pop(0)
        if not self._passes:
            self._measure(task)
        passes = [{**row, **rows.identity(task, "ok", None)} for row in self._passes]
        task.store.write(task.cell.cell_id, task.attempt_id, passes, [])
        assert task.store.commit(task.cell.cell_id, task.attempt_id)
        self.spent_s += time.perf_counter() - began
        self.cpu_s += time.process_time() - cpu_began
        return [
            Status(
                cell_id=task.cell.cell_id,
                attempt_id=task.attempt_id,
                attempt=task.attempt,
                outcome="ok",
                reviews_per_s=1.0,
                cached_share=0.0,
            )
        ]

    def stop(self) -> None:
        self._waiting = []

    def _measure(self, task: Task) -> None:
        """Take rows from a real attempt at a small cell, made elsewhere."""
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder) / "results")
            store.prepare()
            attempt = Attempt(Task(**{**_fields(task), "results": store.absolute}), Path(folder))
            assert attempt.run().outcome == "ok"
            self._passes = store.read_passes().to_pylist()


def _fields(task: Task) -> dict[str, Any]:
    return {name: getattr(task, name) for name in Task.__slots__}


@dataclass
class Figures:
    """What was measured: wall clock, CPU time of this process, and its peak memory up to then."""

    num_cells: int = 0
    driver_ms_per_cell: float = 0.0
    driver_cpu_ms_per_cell: float = 0.0
    wall_s: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    peak_mib: dict[str, int] = field(default_factory=dict)

    def timed(self, name: str, function: Callable[[], Any]) -> Any:
        """Call ``function`` and keep what it took."""
        wall, cpu = time.perf_counter(), time.process_time()
        found = function()
        self.wall_s[name] = round(time.perf_counter() - wall, 3)
        self.cpu_s[name] = round(time.process_time() - cpu, 3)
        self.peak_mib[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        return found


def measure(num_cells: int, where: str, model: str = "embedded:llama-3.1-8b") -> Figures:
    """Measure a sweep of ``num_cells`` with results at ``where``."""
    figures = Figures(num_cells=num_cells)
    made: Plan = figures.timed("plan", lambda: plan.make(sweep(num_cells, model)))
    assert len(made.cells) == num_cells
    store = Store(where)
    store.prepare()
    executor = CommittingExecutor()
    limits = LimitsTable()
    driver = Driver(made, store, executor, FakeReporter(), limits)
    assert figures.timed("drive", driver.run).all_well
    driver_s = figures.wall_s["drive"] - executor.spent_s
    figures.driver_ms_per_cell = round(1e3 * driver_s / num_cells, 3)
    driver_cpu_s = figures.cpu_s["drive"] - executor.cpu_s
    figures.driver_cpu_ms_per_cell = round(1e3 * driver_cpu_s / num_cells, 3)
    ids = [planned.cell.cell_id for planned in made.cells]
    done = figures.timed("scan", lambda: store.done(ids))
    assert len(done) == num_cells
    again = Driver(made, store, CommittingExecutor(), FakeReporter(), limits)
    assert figures.timed("resume", again.run).kept == num_cells
    figures.timed("merge", lambda: analysis.merge(store))
    figures.timed("merge again", lambda: analysis.merge(store))
    passes = figures.timed("read", lambda: analysis.to_pandas(store.read_passes()))
    figures.timed("compare", lambda: analysis.compare(passes))
    summary = analysis.summarise(passes)
    figures.timed("plan_table", lambda: _printed(table.plan(_forecast(made))))
    figures.timed("show_table", lambda: _shown(summary))
    return figures


def _forecast(made: Plan) -> Forecast:
    return forecast.make(made, forecast.target("H200"))


def _shown(summary: list[dict[str, Any]]) -> None:
    _printed(fit.table(fit.fit(table_show.summary(summary), 160)))


def _printed(renderable: Any) -> None:
    from rich.console import Console

    with Path("/dev/null").open("w", encoding="utf-8") as nowhere:
        Console(file=nowhere, width=160).print(renderable, crop=False)


def main() -> None:
    """Measure as many cells as the command line says; results in its second argument or nowhere."""
    num_cells = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        where = sys.argv[2] if len(sys.argv) > 2 else f"{folder}/results"
        sys.stdout.write(json.dumps(asdict(measure(num_cells, where)), indent=1) + "\n")


if __name__ == "__main__":
    main()
