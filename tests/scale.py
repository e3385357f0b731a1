"""How the driver, the scan and the merge grow with the number of cells.

    python -m tests.scale 10000
    python -m tests.scale 10000 --ray

A sweep of that many cells is worked out and driven with an executor of 64 slots that commits at
once the rows that a simulated engine really gave, and starts no process: what is left is what the
driver itself costs. With ``--ray`` that happens in tasks on a Ray cluster of 64 logical GPUs: Ray's
real executor, but for the supervisor, and for worker processes that are used again, since as many
process starts take hours on two cores.

Then whatever a user does with so many cells is run as commands. Printed as JSON; CPU times say more
than wall clocks on a machine that others use.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from tests.fakes import FakeReporter
from tests.ray_head import ray_head

from packsweep.analysis import contrasts, frames
from packsweep.analysis.frames import Overrides
from packsweep.cli.commands import run
from packsweep.plan import cells as plan_cells
from packsweep.plan.cells import Plan
from packsweep.results import index
from packsweep.results.store import Store
from packsweep.run import rows
from packsweep.run.driver import Driver
from packsweep.run.executors import Executor
from packsweep.run.executors.local import LocalExecutor
from packsweep.run.executors.ray import RayExecutor
from packsweep.run.task import Activity, Status, Task, task_from_json
from packsweep.sweep import read
from packsweep.sweep.spec import LimitsTable

NUM_SLOTS = 64
MODEL = "embedded:llama-3.1-8b"
# What getrusage says of a child counts what its parent had before the exec; VmHWM does not.
_COMMAND = """
import atexit, re, sys, time
from packsweep import cli

def tell():
    peak_kib = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1)
    sys.stderr.write(f"{time.process_time()} {peak_kib}\\n")

atexit.register(tell)
cli.main(sys.argv[1:])
"""
Passes = list[dict[str, Any]]


def tables(num_cells: int, model: str) -> dict[str, dict[str, Any]]:
    """Return a simulated sweep of ``num_cells``, a multiple of 200, in the shape of a real one."""
    return {
        "model": {"name": model, "load_format": "dummy"},
        "texts": {"source": "builtin"},
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
    }


def write_sweep(path: Path, written: dict[str, dict[str, Any]]) -> Path:
    """Write a sweep file; what stands in these tables looks the same in JSON."""
    lines = []
    for name, values in written.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(each)}" for key, each in values.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def measured_passes(made: Plan) -> Passes:
    """Return the rows of one cell that was really run, elsewhere and by a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "results")
        store.prepare()
        one = replace(made, cells=made.cells[:1], schedule=made.cells[:1])
        outcome = Driver(one, store, LocalExecutor(), FakeReporter(), LimitsTable()).run()
        assert outcome.all_well, outcome
        return [dict(row) for row in store.read_passes().to_pylist()]


def commit(task: Task, passes: Passes) -> Status:
    """Commit rows as those of another attempt."""
    own = [{**row, **rows.identity(task, "ok", None)} for row in passes]
    task.store.write(task.cell.cell_id, task.attempt_id, own, [])
    assert task.store.commit(task.cell.cell_id, task.attempt_id)
    return Status(
        cell_id=task.cell.cell_id,
        attempt_id=task.attempt_id,
        attempt=task.attempt,
        outcome="ok",
        texts_per_s=1.0,
        cached_share=0.0,
    )


class Committing(Executor, Protocol):
    """An executor that takes time of this process for what is not the driver's.

    Attributes:
        spent_s, cpu_s: wall clock and CPU time.
    """

    spent_s: float
    cpu_s: float


class CommittingExecutor:
    """Ends every attempt at once with the rows of another, one at a time, as ``ray.wait`` does."""

    num_slots = NUM_SLOTS
    num_at_once = NUM_SLOTS
    num_places = 8

    def __init__(self, passes: Passes) -> None:
        """Take the rows."""
        self.spent_s = self.cpu_s = 0.0
        self._waiting: list[Task] = []
        self._passes = passes

    def start(self, task: Task) -> None:
        task_from_json(task.to_json())  # what any executor hands over
        self._waiting.append(task)

    def wait(self, timeout_s: float) -> Sequence[Status]:
        assert timeout_s > 0
        began, cpu_began = time.perf_counter(), time.process_time()
        status = commit(self._waiting.pop(0), self._passes)
        self.spent_s += time.perf_counter() - began
        self.cpu_s += time.process_time() - cpu_began
        return [status]

    def activity(self) -> Sequence[Activity]:
        return []

    def stop(self) -> None:
        self._waiting = []


class CommittingRayExecutor(RayExecutor):
    """Ray's executor, with tasks that commit at once in worker processes that are used again."""

    spent_s = cpu_s = 0.0  # in other processes

    def __init__(self, address: str, passes: Passes) -> None:
        """Join the cluster at ``address``."""
        super().__init__(address)
        self._attempt = _committing(self._ray, passes)


def _committing(ray: Any, passes: Passes) -> Any:
    """Return the remote function of ``executors.ray``, but for ``max_calls`` and the supervisor."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # nodes do not have it

    # max_calls=0: without it Ray gives every task on a GPU a new process.
    @ray.remote(num_gpus=1, max_calls=0, max_retries=0, num_returns="streaming")  # type: ignore[untyped-decorator]
    def attempt(task_json: str) -> Iterator[dict[str, str] | str]:
        from packsweep.run import supervisor
        from packsweep.run.executors.ray import stream_attempt

        supervisor.Supervisor = partial(_Supervisor, passes)  # type: ignore[assignment,misc]
        node_id = ray.get_runtime_context().get_node_id()
        yield from stream_attempt(task_from_json(task_json), node_id)

    return attempt


class _Supervisor:
    """Ends an attempt at the first look."""

    phase = "spawn"

    def __init__(self, passes: Passes, task: Task) -> None:
        self._passes, self._task = passes, task

    def poll(self) -> Status:
        return commit(self._task, self._passes)

    def stop(self) -> None:
        pass


@dataclass
class Figures:
    """What was measured: wall clock, CPU time and peak memory.

    The driver's share of a cell is that of the whole run, without what the executor took in this
    process; that of the later half, when a cluster has started its processes, is with it.

    Of steps of this process, which is the driver, the peak is that up to their end. What runs as a
    command has a process of its own.
    """

    num_cells: int = 0
    driver_ms_per_cell: float = 0.0
    driver_cpu_ms_per_cell: float = 0.0
    later_half_ms_per_cell: float = 0.0
    later_half_cpu_ms_per_cell: float = 0.0
    wall_s: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    peak_mib: dict[str, int] = field(default_factory=dict)

    def timed(self, name: str, function: Callable[[], Any]) -> Any:
        """Call ``function`` and keep what it took."""
        wall, cpu = time.perf_counter(), time.process_time()
        found = function()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._keep(name, time.perf_counter() - wall, time.process_time() - cpu, usage.ru_maxrss)
        return found

    def command(self, name: str, *arguments: str) -> None:
        """Run ``packsweep ARGUMENT...`` into nowhere and keep what it took."""
        wall = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        _, told = process.communicate()
        assert process.returncode == 0, told
        cpu_s, peak_kib = told.split()[-2:]
        self._keep(name, time.perf_counter() - wall, float(cpu_s), int(peak_kib))

    def _keep(self, name: str, wall_s: float, cpu_s: float, peak_kib: int) -> None:
        self.wall_s[name] = round(wall_s, 3)
        self.cpu_s[name] = round(cpu_s, 3)
        self.peak_mib[name] = peak_kib >> 10


def measure(
    num_cells: int, folder: Path, model: str = MODEL, address: str | None = None
) -> Figures:
    """Measure a sweep of ``num_cells`` in ``folder``; at ``address`` is a Ray cluster or none."""
    figures = Figures(num_cells=num_cells)
    file = write_sweep(folder / "scale.toml", tables(num_cells, model))
    made: Plan = figures.timed("plan", lambda: plan_cells.make(read.load(file)))
    assert len(made.cells) == num_cells
    store = Store(folder / "results")
    store.prepare()
    passes = measured_passes(made)
    make = partial(CommittingRayExecutor, address) if address else CommittingExecutor
    _drive(figures, made, store, make(passes))
    _resume(figures, made, store, make(passes))
    figures.timed("end of a run", lambda: _end_of_run(made, store))
    _commands(figures, file, store)
    return figures


def _drive(figures: Figures, made: Plan, store: Store, executor: Committing) -> None:
    reporter = _Clock()
    driver = Driver(made, store, executor, reporter, LimitsTable())
    assert figures.timed("drive", driver.run).all_well
    wall_s = (figures.wall_s["drive"] - executor.spent_s) / figures.num_cells
    cpu_s = (figures.cpu_s["drive"] - executor.cpu_s) / figures.num_cells
    figures.driver_ms_per_cell, figures.driver_cpu_ms_per_cell = _ms(wall_s), _ms(cpu_s)
    later = reporter.times[figures.num_cells // 2 :]
    wall_s, cpu_s = (
        (last - first) / (len(later) - 1) for first, last in zip(later[0], later[-1], strict=True)
    )
    figures.later_half_ms_per_cell, figures.later_half_cpu_ms_per_cell = _ms(wall_s), _ms(cpu_s)


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 3)


class _Clock(FakeReporter):
    """Notes wall clock and CPU time, in seconds, when an attempt ends."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[tuple[float, float]] = []

    def ended(self, status: Status, *, again: bool) -> None:
        super().ended(status, again=again)
        self.times.append((time.perf_counter(), time.process_time()))


def _resume(figures: Figures, made: Plan, store: Store, executor: Committing) -> None:
    ids = [planned.cell.cell_id for planned in made.cells]
    assert len(figures.timed("scan", lambda: store.done(ids))) == len(ids)
    again = Driver(made, store, executor, FakeReporter(), LimitsTable())
    assert figures.timed("resume", again.run).kept == len(ids)


def _end_of_run(made: Plan, store: Store) -> None:
    """Merge and print as ``packsweep run`` does last, in the same process."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        run._print_measured(made, store, Overrides(), allow_mixed=False)


def _commands(figures: Figures, file: Path, store: Store) -> None:
    """Run what reads results: with the index of the run, without any, and with that of a merge."""
    figures.command("help", "--help")
    figures.command("merge", "merge", store.root)
    shutil.rmtree(Path(store.root) / index.FOLDER, ignore_errors=True)
    figures.command("merge, no index", "merge", store.root)
    figures.command("merge again", "merge", store.root)
    figures.command("plan, printed", "plan", str(file), "--results", store.root)
    figures.command("show, printed", "show", store.root)
    loaded = figures.timed("read", lambda: frames.to_pandas(store.read_passes()))
    figures.timed("compare", lambda: contrasts.of(loaded))


def main() -> None:
    """Measure as many cells as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("num_cells", type=int)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--gpus", type=int, default=NUM_SLOTS, help="of the Ray cluster")
    parser.add_argument("--folder", type=Path, help="an empty one for the results; else none stays")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = None
        if given.ray:
            options = (f"--num-gpus={given.gpus}", f"--num-cpus={given.gpus}")
            address = stack.enter_context(ray_head(*options)).address
        figures = measure(given.num_cells, folder, address=address)
    sys.stdout.write(json.dumps(asdict(figures), indent=1) + "\n")


if __name__ == "__main__":
    main()
