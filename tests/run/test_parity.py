"""Ours beside vLLM's benchmark: the order of pairs, what is measured again, what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from tests import fakes
from tests.fakes import FakeExecutor, FakeReporter, pass_row
from tests.run.test_driver import MODEL

from packsweep.cli.commands import compare_tool
from packsweep.errors import EngineError, SpecError
from packsweep.plan.cells import Plan
from packsweep.results.store import Store
from packsweep.run import parity
from packsweep.run.parity import Pairs, Parity
from packsweep.run.task import Status, Task
from packsweep.sweep.cells import Cell
from packsweep.sweep.spec import LimitsTable

CELLS = fakes.cells(grid={"strategy": "separate"}, measure={"replicates": 4})


class Sides:
    """Both sides of a comparison: ours at 10 requests/s, theirs at 8, and who went when."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder`` for the results."""
        self.store = Store(folder / "results")
        self.store.prepare()
        self.went: list[str] = []
        self.outcome = "ok"

    def run(self) -> Parity:
        pairs = Pairs(
            plan=plan(),
            store=self.store,
            limits=LimitsTable(),
            reporter=FakeReporter(),
            make_executor=lambda: Ours(self),
            bench=self.bench,
        )
        return pairs.run()

    def bench(self, task: Task, path: Path) -> None:
        self.went.append(f"theirs {task.cell.replicate}")
        found = {"requests_per_second": 8.0, "cached_tokens": 0, "total_num_tokens": 30}
        path.write_text(json.dumps(found), encoding="utf-8")


class Ours(FakeExecutor):
    """Ends every attempt as the sides say, with a row of one pass."""

    def __init__(self, sides: Sides) -> None:
        """Note into ``sides`` what was started."""
        super().__init__(lambda _: (sides.outcome, None))
        self._sides = sides

    def _end(self, ended: Task) -> Status:
        self._sides.went.append(f"ours {ended.cell.replicate}")
        if self._sides.outcome == "ok":
            tokens: dict[str, Any] = {"prompt_tokens": 28, "output_tokens": 2, "cached_tokens": 0}
            row = pass_row(ended.cell, ended.attempt_id, requests_per_s=10.0, **tokens)
            ended.store.write(ended.cell.cell_id, ended.attempt_id, [row], [])
            ended.store.commit(ended.cell.cell_id, ended.attempt_id)
        return Status(
            cell_id=ended.cell.cell_id,
            attempt_id=ended.attempt_id,
            attempt=0,
            outcome=self._sides.outcome,
            reason="of its own",
        )


def plan(*cells: Cell, infeasible: str | None = None) -> Plan:
    planned = tuple(fakes.planned(each, infeasible=infeasible) for each in cells or CELLS)
    return Plan(model=MODEL, texts=fakes.REVIEWS, cells=planned, schedule=planned)


def test_who_goes_first_alternates(tmp_path: Path) -> None:
    """Ours, theirs; theirs, ours; ..."""
    sides = Sides(tmp_path)
    sides.run()
    assert [each.split()[0] for each in sides.went] == ["ours", "theirs", "theirs", "ours"] * 2
    assert [each.split()[1] for each in sides.went] == list("00112233")


def test_ratio_is_ours_over_theirs(tmp_path: Path) -> None:
    found = Sides(tmp_path).run()
    assert (found.ours, found.theirs) == ([[10.0]] * 4, [[8.0]] * 4)
    assert found.ratio.value == pytest.approx(1.25)
    assert found.ratio.between_processes
    assert (found.tokens, found.cached) == ((30, 30), (0, 0))
    lines = compare_tool.lines(found)
    assert lines[2] == "packsweep / vllm bench throughput: 1.2500, 95% interval 1.2500 to 1.2500"


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    """After a stop in the third pair only what is missing is measured."""
    sides = Sides(tmp_path)
    sides.run()
    (Path(sides.store.root) / parity.FOLDER / f"{CELLS[2].cell_id}.json").unlink()
    sides.went.clear()
    sides.run()
    assert sides.went == ["theirs 2"]


def test_failure_of_ours_ends_it(tmp_path: Path) -> None:
    sides = Sides(tmp_path)
    sides.outcome = "oom"
    with pytest.raises(EngineError, match="oom: of its own"):
        sides.run()


def test_more_than_one_cell_is_refused() -> None:
    two = fakes.cells(grid={"strategy": "separate", "n": [1, 2]})
    with pytest.raises(SpecError, match="the sweep has 2"):
        parity.check(plan(*two))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": "simulated"}, "engine.kind must be vllm"),
        ({"answer": "choice"}, "use answer free"),
        ({"template": "chat"}, "use answer free"),
        ({"cache_state": "primed"}, "cache_state cold"),
    ],
)
def test_what_the_benchmark_cannot_do_is_refused(changes: dict[str, str], message: str) -> None:
    cell = dataclasses.replace(CELLS[0], engine="vllm")
    with pytest.raises(SpecError, match=message):
        parity.check(plan(dataclasses.replace(cell, **changes)))  # type: ignore[arg-type]


def test_infeasible_cell_is_refused() -> None:
    with pytest.raises(SpecError, match="infeasible: too long"):
        parity.check(plan(CELLS[0], infeasible="too long"))


def test_failure_of_the_benchmark_names_its_log(tmp_path: Path) -> None:
    """A task that it cannot read ends it at once."""
    task = fakes.task(dataclasses.replace(CELLS[0], model=str(tmp_path)), tmp_path)
    with pytest.raises(EngineError, match=r"it ended with 1; log: .*\.log") as caught:
        parity.run_bench(task, tmp_path / "out.json")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.json").exists()
