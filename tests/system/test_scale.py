"""What one more cell costs the driver, the scan, the merge and the tables. See ``scale``.

Costs are counted, not timed: the same on every processor, however busy. ``python -m tests.scale``
prints the seconds.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.counting import Counts, count
from tests.fakes import FakeReporter
from tests.scale import (
    CommittingExecutor,
    Figures,
    Passes,
    measure,
    measured_passes,
    tables,
    write_sweep,
)

from packsweep import cli
from packsweep.analysis import contrasts, frames
from packsweep.plan import cells as plan_cells
from packsweep.results import index
from packsweep.results.store import Store
from packsweep.run.driver import Driver
from packsweep.sweep import read as sweep_read
from packsweep.sweep.spec import LimitsTable

WARM_UP, FEW, MORE, MOST = 2, 20, 40, 60
# The 41st to 60th cell against the 21st to 40th: 1.67 where every cell looks at all others.
MOST_GROWTH = 1.1


class Sweep:
    """A sweep of some size, and what each step of it did."""

    def __init__(self, num_cells: int, folder: Path, model: Path) -> None:
        """Plan it."""
        written = tables(200, str(model))
        written["grid"] |= {"n": [1, 2, 4, 8, 16], "duplication": [1, 10]}
        written["engine"]["max_num_seqs"] = written["engine"]["max_num_seqs"][: num_cells // FEW]
        if num_cells == WARM_UP:
            written["grid"] |= {"n": 1, "duplication": 1}
            written["engine"]["max_num_seqs"] = 64
        self.file = write_sweep(folder / "sweep.toml", written)
        self.plan = plan_cells.make(sweep_read.load(self.file))
        assert len(self.plan.cells) == num_cells
        self.store = Store(folder / "results")
        self.store.prepare()

    def steps(self, passes: Passes) -> dict[str, Counts]:
        """Run it with an executor that commits ``passes`` at once, and all that reads results."""
        results, ids = self.store.root, [each.cell.cell_id for each in self.plan.cells]
        steps = {"drive": self._count(self._driver(passes).run)}
        assert len(self.store.done(ids)) == len(ids)
        steps["scan"] = self._count(lambda: self.store.done(ids))
        steps["resume"] = self._count(self._driver(passes).run)
        steps["merge"] = self._count_command("merge", results)
        shutil.rmtree(Path(results) / index.FOLDER, ignore_errors=True)
        steps["merge, no index"] = self._count_command("merge", results)
        steps["merge again"] = self._count_command("merge", results)
        steps["plan"] = self._count_command("plan", str(self.file), "--results", results)
        steps["show"] = self._count_command("show", results)
        loaded = frames.to_pandas(self.store.read_passes())
        return steps | {"compare": self._count(lambda: contrasts.of(loaded))}

    def _driver(self, passes: Passes) -> Driver:
        executor = CommittingExecutor(passes)
        return Driver(self.plan, self.store, executor, FakeReporter(), LimitsTable())

    def _count(self, function: Callable[[], object]) -> Counts:
        return count(function, Path(self.store.root))

    def _count_command(self, *arguments: str) -> Counts:
        def run() -> None:
            with contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as ended:
                cli.main(list(arguments))
            assert ended.value.code == 0

        return self._count(run)


@pytest.fixture(scope="module")
def steps(
    byte_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[int, dict[str, Counts]]]:
    """What sweeps of each size did; the first warms up what is made once for a process.

    The index is written for so few cells that it helps the smallest one.
    """
    sweeps = {
        size: Sweep(size, tmp_path_factory.mktemp("scale"), byte_model)
        for size in (WARM_UP, FEW, MORE, MOST)
    }
    passes = measured_passes(sweeps[WARM_UP].plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "NUM_TOGETHER", FEW)
        yield {size: sweep.steps(passes) for size, sweep in sweeps.items()}


def _per_cell(counted: Callable[[int], int], fewer: int, more: int) -> float:
    """Return what each of the cells between two sizes cost."""
    return (counted(more) - counted(fewer)) / (more - fewer)


@pytest.mark.parametrize(
    ("step", "most_calls", "most_file_operations"),
    [
        ("drive", 20_000, 20),
        # Of the calls that a scan needs for a cell, about 200 are Arrow's, which lists the columns
        # of the file to find the three by which its rows are known for the cell's own.
        ("scan", 550, 3),
        ("resume", 720, 4),  # a scan, and what the driver does for each cell
        ("merge", 3_000, 4),
        ("merge, no index", 3_000, 4),
        ("merge again", 3_000, 4),
        ("plan", 20_000, 6),  # what is done is read, to be compared with the prediction
        ("show", 20_000, 4),
        ("compare", 1_500, 0),
    ],
)
def test_cell_costs_as_much_among_many(
    steps: dict[int, dict[str, Counts]], step: str, most_calls: int, most_file_operations: int
) -> None:
    """A cell costs a bounded number of calls and files, and no more where there are more cells."""
    for attribute, most in (
        ("num_calls", most_calls),
        ("num_file_operations", most_file_operations),
    ):
        early, late = (
            _per_cell(lambda size: getattr(steps[size][step], attribute), *sizes)  # noqa: B023
            for sizes in ((FEW, MORE), (MORE, MOST))
        )
        assert late <= MOST_GROWTH * early, attribute
        assert max(early, late) <= most, attribute


def test_merge_with_the_index_does_less(steps: dict[int, dict[str, Counts]]) -> None:
    last = steps[MOST]
    assert last["merge again"].num_calls < last["merge, no index"].num_calls


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_memory(byte_model: Path, tmp_path: Path) -> None:
    """The passes of a thousand cells are no burden; of this process, others decide the peak."""
    figures: Figures = measure(1000, tmp_path, str(byte_model))
    assert figures.peak_mib["merge"] < 400
    assert figures.peak_mib["merge, no index"] < 400


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(1800)
def test_ray() -> None:
    """A few hundred cells go through Ray's executor, each once, and the driver stays small."""
    command = [sys.executable, "-m", "tests.scale", "200", "--ray", "--gpus", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads("{" + f"\n{done.stdout}".rpartition("\n{")[2])  # after Ray's warnings
    assert figures["peak_mib"]["end of a run"] < 500
