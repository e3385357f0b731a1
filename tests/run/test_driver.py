"""The loop that runs what is missing: attempts, retries, early stop, every way out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import fakes
from tests.fakes import REVIEWS, FakeExecutor, FakeReporter, cell, written

from packsweep.errors import ResultsError
from packsweep.models.architecture.config import ModelConfig
from packsweep.models.resolve import Model
from packsweep.plan.cells import Plan
from packsweep.results import index
from packsweep.results.store import Store
from packsweep.run.driver import Driver, Outcome, _signature
from packsweep.run.task import Status, Task
from packsweep.sweep.spec import LimitsTable

Ends = Callable[[Task], tuple[str, str | None]]
CELLS = tuple(cell(n=n) for n in (1, 2, 3, 4))
MODEL = Model(
    name="some/model",
    path="some/model",
    revision=None,
    random_weights=False,
    fingerprint="weights",
    config=ModelConfig.of({}),
    shape=None,
    design="nobody looks at it",
    parameters=None,
    kv_layout=None,
    kv_design=None,
    vocab_size=1,
    max_model_len=1,
    default_model_len=1,
    torch_dtype="bfloat16",
    quantization=None,
    config_path="",
    tokenizer_path="",
)


def _plan(infeasible: dict[int, str] | None = None, num_cells: int = 4) -> Plan:
    """Return the cells of n = 1, 2, ...; ``infeasible`` maps n to a reason."""
    planned = tuple(
        fakes.planned(each, infeasible=(infeasible or {}).get(each.n)) for each in CELLS[:num_cells]
    )
    return Plan(model=MODEL, texts=REVIEWS, cells=planned, schedule=planned)


def _ends(**by_n: Any) -> Ends:
    """Return what ends the cell n as ``n<N>=`` says: an outcome, or a list of one an attempt."""

    def ends(task: Task) -> tuple[str, str | None]:
        told = by_n.get(f"n{task.cell.n}", by_n.get("rest", "ok"))
        outcome = told if isinstance(told, str) else told[min(task.attempt, len(told) - 1)]
        return outcome, None if outcome == "ok" else f"{outcome} of {task.cell.n}"

    return ends


class _Run:
    """A run of the driver and those who watched it."""

    def __init__(self, store: Store, ends: Ends, made: Plan | None = None, **limits: int) -> None:
        """Prepare a run with fakes."""
        self.executor = FakeExecutor(ends)
        self.reporter = FakeReporter()
        given = LimitsTable(**{"stop_after_failures": 99, **limits})
        self.driver = Driver(made or _plan(), store, self.executor, self.reporter, given)

    def run(self) -> Outcome:
        return self.driver.run()

    @property
    def attempts(self) -> list[int]:
        """The n of each attempt, in order."""
        return [task.cell.n for task in self.executor.started]


def test_run_every_cell_once(store: Store) -> None:
    """Every missing cell is attempted once, in the order of the plan."""
    run = _Run(store, _ends())
    outcome = run.run()
    assert run.attempts == [1, 2, 3, 4]
    assert all(store.is_done(each.cell_id) for each in CELLS)
    assert outcome.all_well
    assert run.reporter.counts == (4, 0)


def test_run_task(store: Store) -> None:
    """An attempt is given its cell's texts, an absolute folder and a name of its own."""
    run = _Run(store, _ends())
    run.run()
    assert [len(task.texts) for task in run.executor.started] == [1, 2, 3, 4]
    assert {task.results for task in run.executor.started} == {str(store.root)}
    assert len({task.attempt_id for task in run.executor.started}) == 4


def test_run_done_cells_kept(store: Store) -> None:
    """Cells that are done are not measured again."""
    written(store, CELLS[1])
    run = _Run(store, _ends())
    outcome = run.run()
    assert run.attempts == [1, 3, 4]
    assert (outcome.kept, run.reporter.counts) == (1, (4, 1))


def test_run_again_nothing(store: Store) -> None:
    """The second run of a finished sweep starts nothing."""
    _Run(store, _ends()).run()
    run = _Run(store, _ends())
    assert run.run().all_well
    assert (run.attempts, run.executor.num_stops) == ([], 1)


def test_run_crashed_retried(store: Store) -> None:
    """A crashed cell is tried again, after the others, and may end well."""
    run = _Run(store, _ends(n1=["crashed", "ok"]))
    outcome = run.run()
    assert run.attempts == [1, 2, 3, 4, 1]
    assert run.reporter.again == [True, False, False, False, False]
    assert run.reporter.attempts == [0, 0, 0, 0, 1]
    assert outcome.all_well


@pytest.mark.parametrize("kind", ["crashed", "timeout", "gpu_busy"])
def test_run_retried_to_the_limit(store: Store, kind: str) -> None:
    """A cell that keeps failing is tried max_attempts times and then left."""
    run = _Run(store, _ends(n1=kind), _plan(num_cells=1), max_attempts=3)
    outcome = run.run()
    assert run.attempts == [1, 1, 1]
    assert run.reporter.again == [True, True, False]
    assert not outcome.all_well


@pytest.mark.parametrize("kind", ["oom", "invalid"])
def test_run_deterministic_not_retried(store: Store, kind: str) -> None:
    """What would only happen again is not tried again, and the other cells run."""
    run = _Run(store, _ends(n1=kind))
    outcome = run.run()
    assert run.attempts == [1, 2, 3, 4]
    assert not outcome.all_well
    assert outcome.ended[CELLS[0].cell_id].reason == f"{kind} of 1"


def test_run_failed_tried_in_next_run(store: Store) -> None:
    """A failed cell is missing, so the next run tries it, and counts its earlier attempts."""
    _Run(store, _ends(n1="oom")).run()
    run = _Run(store, _ends())
    assert run.run().all_well
    assert (run.attempts, run.reporter.attempts) == ([1], [1])


def test_run_infeasible(store: Store) -> None:
    """An infeasible cell is committed with its reason, and nothing is started for it."""
    run = _Run(store, _ends(), _plan({2: "too long"}))
    outcome = run.run()
    assert run.attempts == [1, 3, 4]
    assert store.is_done(CELLS[1].cell_id)
    rows = store.read_passes().to_pylist()
    assert [row["reason"] for row in rows if row["outcome"] == "infeasible"] == ["too long"]
    assert outcome.all_well


def test_run_stops_at_the_first_failure(store: Store) -> None:
    outcome = _Run(store, _ends(rest="oom"), stop_after_failures=1).run()
    assert outcome.stopped is not None
    assert outcome.stopped.startswith("the first cell failed (oom: oom of 1)")


def test_run_stops_early(store: Store) -> None:
    """When the first N cells fail the same way, up to their numbers, the rest is not started."""
    run = _Run(store, _ends(rest="oom"), stop_after_failures=2)
    outcome = run.run()
    assert run.attempts == [1, 2]
    assert outcome.stopped is not None
    assert "the first 2 cells failed the same way (oom: oom of 2)" in outcome.stopped
    assert run.reporter.reasons == [outcome.stopped]
    assert run.executor.num_stops == 1
    assert not outcome.all_well


def test_run_no_early_stop_other_reasons(store: Store) -> None:
    """Cells that fail in different ways do not stop the sweep."""
    run = _Run(store, _ends(n1="oom", rest="invalid"), stop_after_failures=2)
    assert run.run().stopped is None
    assert run.attempts == [1, 2, 3, 4]


def test_run_no_early_stop_after_success(store: Store) -> None:
    """One cell that ends well shows that not all is broken."""
    run = _Run(store, _ends(n1="ok", rest="oom"), stop_after_failures=2)
    assert run.run().stopped is None
    assert run.attempts == [1, 2, 3, 4]


def test_run_stops_early_infeasible_kept(store: Store) -> None:
    """An infeasible cell, kept from before, shows nothing: the sweep still stops early."""
    made = _plan({1: "too long"})
    _Run(store, _ends(rest="oom"), made, stop_after_failures=2).run()
    run = _Run(store, _ends(rest="oom"), made, stop_after_failures=2)
    assert run.run().stopped is not None
    assert run.attempts == [2, 3]


class _Lossy(FakeExecutor):
    """Ends attempts as told, and calls every failure a loss of the cluster's."""

    def wait(self, timeout_s: float) -> list[Status]:
        return [replace(each, lost=each.outcome != "ok") for each in super().wait(timeout_s)]


def test_run_lost_attempts_show_nothing(store: Store) -> None:
    """A node that takes many attempts with it does not stop the sweep; they are tried again."""
    executor = _Lossy(_ends(rest=["crashed", "ok"]), num_slots=4)
    driver = Driver(_plan(), store, executor, FakeReporter(), LimitsTable(stop_after_failures=2))
    assert driver.run().all_well
    assert [task.cell.n for task in executor.started] == [1, 2, 3, 4] * 2


def test_run_lost_to_the_limit(store: Store) -> None:
    """Cells that are lost as often as they may be tried do stop it."""
    executor = _Lossy(_ends(rest="crashed"))
    limits = LimitsTable(stop_after_failures=2, max_attempts=2)
    outcome = Driver(_plan(), store, executor, FakeReporter(), limits).run()
    assert outcome.stopped is not None
    assert [task.cell.n for task in executor.started] == [1, 2, 3, 4, 1, 2]


class _Nodes(FakeExecutor):
    """Says on which of two nodes an attempt ran: on the first until it failed there twice."""

    def wait(self, timeout_s: float) -> list[Status]:
        places = ["bad", "bad", "other"]
        index = min(len(self.started), len(places)) - 1
        return [replace(each, place=places[index]) for each in super().wait(timeout_s)]


@pytest.mark.parametrize(("num_places", "num_started"), [(1, 2), (2, 3)])
def test_run_stops_early_everywhere(store: Store, num_places: int, num_started: int) -> None:
    """Where there are more nodes than one, a sweep is not stopped for what one of them does."""
    executor = _Nodes(_ends(rest="oom"))
    executor.num_places = num_places
    limits = LimitsTable(stop_after_failures=2)
    outcome = Driver(_plan(), store, executor, FakeReporter(), limits).run()
    assert outcome.stopped is not None
    assert len(executor.started) == num_started


def test_run_done_by_another(store: Store) -> None:
    """A cell that another run commits meanwhile is not begun, and a line says so."""

    def ends(task: Task) -> tuple[str, str | None]:
        if task.cell.n == 1:
            written(store, CELLS[1], "other")
        return "ok", None

    run = _Run(store, ends)
    assert run.run().all_well
    assert run.attempts == [1, 3, 4]
    told = [status.reason for status in run.reporter.statuses]
    assert told == [None, "another attempt was committed meanwhile", None, None]


def test_run_committed_second(store: Store) -> None:
    """An attempt that ends well after another was committed says which one counts."""

    def ends(task: Task) -> tuple[str, str | None]:
        written(store, task.cell, "other")
        return "ok", None

    run = _Run(store, ends, _plan(num_cells=1))
    assert run.run().all_well
    assert store.committed(CELLS[0].cell_id) == "other"
    told = [status.reason for status in run.reporter.statuses]
    assert told == ["another attempt was committed first and counts"]


def test_run_indexed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """While cells end, the index grows by a part for every so many, and by what failed by none."""
    monkeypatch.setattr(index, "NUM_TOGETHER", 2)
    parts = Path(store.root) / index.FOLDER
    seen: list[int] = []

    def ends(task: Task) -> tuple[str, str | None]:
        seen.append(len(list(parts.glob("*"))))
        return _ends(n2="oom")(task)

    assert not _Run(store, ends).run().all_well
    assert seen == [0, 0, 0, 1]
    with_index = store.read_passes()
    shutil.rmtree(parts)
    assert with_index.equals(store.read_passes())


@pytest.mark.parametrize("written", [False, True])
def test_run_killed_while_indexing(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, written: bool
) -> None:
    """A driver that dies before or after it wrote a part of the index loses and doubles nothing."""
    monkeypatch.setattr(index, "NUM_TOGETHER", 2)
    whole = Store.add_to_index

    def dying(self: Store, cell_ids: Sequence[str]) -> None:
        if written:
            whole(self, cell_ids)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_to_index", dying)
        with pytest.raises(KeyboardInterrupt):
            _Run(store, _ends()).run()
    again = _Run(store, _ends())
    assert again.run().kept == 2
    found = store.read_passes(keep=True).column("cell_id").to_pylist()
    assert found == sorted(each.cell_id for each in CELLS)


def test_run_not_indexed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that cannot be written takes nothing from the run."""
    monkeypatch.setattr(index, "NUM_TOGETHER", 2)
    (Path(store.root) / index.FOLDER).write_text("in the way")
    assert _Run(store, _ends()).run().all_well
    assert store.read_passes(keep=False).num_rows == 4


def test_run_several_slots(store: Store) -> None:
    """As many attempts run at once as there are slots, and no more."""
    run = _Run(store, _ends())
    run.executor.num_slots = run.executor.num_at_once = 3
    run.run()
    assert run.executor.most_running == 3
    assert sorted(run.attempts) == [1, 2, 3, 4]


class _Interrupted(FakeExecutor):
    """Ends as somebody presses Ctrl-C, or as something breaks."""

    error: BaseException = KeyboardInterrupt()

    def wait(self, timeout_s: float) -> list[Status]:
        assert timeout_s > 0
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk full")])
def test_run_interrupted(store: Store, error: BaseException) -> None:
    """Whatever ends the loop, the executor is stopped."""
    executor = _Interrupted(_ends())
    executor.error = error
    driver = Driver(_plan(), store, executor, FakeReporter(), LimitsTable())
    with pytest.raises(type(error)):
        driver.run()
    assert executor.num_stops == 1


class _InterruptedReporter(FakeReporter):
    """Ctrl-C while the first line is printed."""

    def ended(self, status: Status, *, again: bool) -> None:
        super().ended(status, again=again)
        raise KeyboardInterrupt


@pytest.mark.parametrize("infeasible", [{}, {1: "too long"}])
def test_run_interrupted_report(store: Store, infeasible: dict[int, str]) -> None:
    """The executor is stopped also where an infeasible cell is being told when the end comes."""
    executor = FakeExecutor(_ends())
    driver = Driver(_plan(infeasible), store, executor, _InterruptedReporter(), LimitsTable())
    with pytest.raises(KeyboardInterrupt):
        driver.run()
    assert executor.num_stops == 1


KINDS = st.sampled_from(["ok", "crashed", "timeout", "gpu_busy", "oom", "invalid"])


@settings(max_examples=15)
@given(st.lists(st.lists(KINDS, min_size=1, max_size=3), min_size=4, max_size=4), st.integers(1, 4))
def test_run_laws(
    tmp_path_factory: pytest.TempPathFactory, ends: list[list[str]], max_attempts: int
) -> None:
    """However cells end: each is tried, none too often or once done, and the two files agree."""
    store = Store(tmp_path_factory.mktemp("store"))
    store.prepare()
    told = {f"n{index + 1}": kinds for index, kinds in enumerate(ends)}
    run = _Run(store, _ends(**told), max_attempts=max_attempts)
    outcome = run.run()
    for n, kinds in enumerate(ends, start=1):
        tries = run.attempts.count(n)
        seen = [kinds[min(index, len(kinds) - 1)] for index in range(tries)]
        assert 1 <= tries <= max_attempts
        assert not set(seen[:-1]) & {"ok", "oom", "invalid"}
        assert store.is_done(CELLS[n - 1].cell_id) == (seen[-1] == "ok")
    done = all(store.is_done(each.cell_id) for each in CELLS)
    assert outcome.all_well == done


def test_all_well_infeasible() -> None:
    """Infeasible as planned is well; any failure or an early stop is not."""

    def outcome(kind: str, stopped: str | None = None) -> bool:
        status = Status(cell_id="c", attempt_id="a", attempt=0, outcome=kind)
        return Outcome(ended={"c": status}, stopped=stopped).all_well

    assert outcome("ok")
    assert outcome("infeasible")
    assert not outcome("crashed")
    assert not outcome("ok", stopped="hopeless")


class _Changing(FakeExecutor):
    """Ends attempts as told, and then does something to how they ended."""

    def __init__(self, outcome: str, change: Callable[[Status], Status]) -> None:
        super().__init__(lambda _: (outcome, None if outcome == "ok" else "refused"))
        self._change = change

    def _end(self, ended: Task) -> Status:
        return self._change(super()._end(ended))


def _run_on(store: Store, executor: FakeExecutor) -> None:
    Driver(_plan(), store, executor, FakeReporter(), LimitsTable(stop_after_failures=99)).run()


def test_run_final_not_retried(store: Store) -> None:
    """A failure that every attempt would repeat is not tried again."""
    executor = _Changing("crashed", lambda status: replace(status, final=True))
    _run_on(store, executor)
    assert len(executor.started) == len(CELLS)


def test_run_results_deleted(store: Store) -> None:
    """Results that are deleted meanwhile end the run with an error, not with success."""

    def delete(status: Status) -> Status:
        shutil.rmtree(store.root)
        return status

    executor = _Changing("ok", delete)
    with pytest.raises(ResultsError, match="no such results folder"):
        _run_on(store, executor)
    assert (len(executor.started), executor.num_stops) == (1, 1)


def test_run_storage_fails(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage that takes no more is reported once, not as the failure of every cell."""

    def full(*_: object) -> None:
        raise ResultsError("no space left")

    monkeypatch.setattr(Store, "check_writable", full)
    executor = _Changing("crashed", lambda status: replace(status, unwritten=True))
    with pytest.raises(ResultsError, match="no space left"):
        _run_on(store, executor)
    assert len(executor.started) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ipc:///tmp/3f2b8c1e-0a4d-4c6e-9b7f-1234567890ab in use", "ipc:///tmp/x/9 in use"),
        ("(pid=12) at 0x7f2c died after 1.5 s", "(pid=1234) at 0xabcdef died after 22 s"),
        ("id 3f2b8c1e-0a4d-4c6e-9b7f-1234567890ab", "id 00000000-0a4d-4c6e-9b7f-abcdefabcdef"),
        ("no file /a/b-c/d.json, key deadbeef99", "no file /e.json, key 0123456789ab"),
    ],
)
def test_signature_same(one: str, other: str) -> None:
    """UUIDs, paths, addresses and numbers make no difference between failures."""
    assert _signature(one) == _signature(other)


def test_signature_other() -> None:
    """Other words do."""
    assert _signature("out of memory") != _signature("no device")
    assert _signature("a facade failed") != _signature("a decade failed")


def test_long_cell_is_not_left_for_the_end(store: Store) -> None:
    """Of four cells on two GPUs the last takes as long as all others: it is started first."""
    plan = _plan()
    executor = FakeExecutor(_ends(rest="ok"), num_slots=2)
    expected_s = {each.cell.cell_id: (1.0, 1.0, 1.0, 3.0)[each.cell.n - 1] for each in plan.cells}
    Driver(plan, store, executor, FakeReporter(), LimitsTable(), expected_s).run()
    assert [task.cell.n for task in executor.started] == [4, 1, 2, 3]


@pytest.mark.parametrize(
    ("num_slots", "sizes"), [(1, [1, 2, 1, 2]), (2, [2, 2, 1, 1])], ids=["one", "several"]
)
def test_engines_of_one_size_follow_each_other(
    store: Store, num_slots: int, sizes: Sequence[int]
) -> None:
    """Several at once start the largest first; one after the other keep the order of chance."""
    two = (("tensor_parallel_size", 2),)
    made = [replace(each, engine_settings=two) if each.n % 2 == 0 else each for each in CELLS]
    planned = tuple(map(fakes.planned, made))
    plan = Plan(model=MODEL, texts=REVIEWS, cells=planned, schedule=planned)
    executor = FakeExecutor(_ends(rest="ok"), num_slots=num_slots)
    Driver(plan, store, executor, FakeReporter(), LimitsTable()).run()
    assert [task.cell.num_gpus for task in executor.started] == sizes
