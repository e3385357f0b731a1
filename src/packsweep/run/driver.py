"""Run what is missing of a sweep, and lose nothing.

One loop: start attempts while there are free slots, take those that ended, decide which to start
again. What is done is read from the results folder, so running again after any interruption
resumes. The driver starts no engine and imports neither vLLM nor torch.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from packsweep.errors import ResultsError
from packsweep.plan.backlog import Backlog, largest_first
from packsweep.plan.cells import Plan, PlannedCell
from packsweep.results import index
from packsweep.results.store import Store
from packsweep.run import rows
from packsweep.run.executors import Executor
from packsweep.run.task import Activity, Status, Task, done_by_another
from packsweep.sweep.spec import LimitsTable

_WAIT_S = 1.0


class Reporter(Protocol):
    """Reports the progress of a sweep to the user."""

    def began(self, *, num_cells: int, num_done: int) -> None:
        """The driver knows what is missing."""

    def started(self, cell_id: str, attempt: int) -> None:
        """An attempt was started."""

    def running(self, activities: Sequence[Activity], waiting: Sequence[str]) -> None:
        """What the running attempts are at, every second, and the cells that wait."""

    def ended(self, status: Status, *, again: bool) -> None:
        """An attempt ended; ``again`` says that the cell will be tried once more."""

    def stopped(self, reason: str) -> None:
        """The sweep stops early."""


@dataclass(slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        kept: cells that were done before.
        ended: cell id -> how its last attempt of this run ended.
        stopped: why the sweep stopped early, or None.
    """

    kept: int = 0
    ended: dict[str, Status] = field(default_factory=dict)
    stopped: str | None = None

    @property
    def all_well(self) -> bool:
        """Every cell is ok, or infeasible as planned."""
        fine = all(status.outcome in {"ok", "infeasible"} for status in self.ended.values())
        return fine and self.stopped is None


class Driver:
    def __init__(
        self,
        plan: Plan,
        store: Store,
        executor: Executor,
        reporter: Reporter,
        limits: LimitsTable,
        expected_s: Mapping[str, float] | None = None,
    ) -> None:
        """Take a worked-out sweep and where to run it.

        Args:
            plan: the sweep.
            store: where its results are kept.
            executor: where its attempts run.
            reporter: what tells the user.
            limits: when to give up.
            expected_s: cell_id -> how long it should hold its GPU, where that is known.
        """
        self._plan = plan
        self._store = store
        self._executor = executor
        self._reporter = reporter
        self._limits = limits
        self._before: dict[str, int] = {}
        self._tries: dict[str, int] = {}
        expected = expected_s or {}
        self._waiting: Backlog[PlannedCell] = Backlog(lambda each: expected.get(each.cell.cell_id))
        self._running: dict[str, PlannedCell] = {}
        self._outcome = Outcome()
        self._to_index: list[str] = []
        self._any_measured = False
        self._num_places = executor.num_places

    def run(self) -> Outcome:
        """Measure every cell that is not done; leave nothing running, however this ends."""
        ids = [planned.cell.cell_id for planned in self._plan.cells]
        are_done = self._store.done(ids)
        done = {
            c.cell for c, cell_id in zip(self._plan.cells, ids, strict=True) if cell_id in are_done
        }
        missing = [c for c in self._plan.schedule if c.cell not in done]
        if self._executor.num_at_once > 1:
            missing = largest_first(missing, lambda each: each.cell)
        self._before = {each: len(ids) for each, ids in self._store.all_attempts().items()}
        self._outcome.kept = len(done)
        self._any_measured = any(c.cell in done and not c.infeasible for c in self._plan.cells)
        try:
            self._reporter.began(num_cells=len(self._plan.cells), num_done=self._outcome.kept)
            for planned in missing:
                if planned.infeasible:
                    self._record_infeasible(planned)
                else:
                    self._waiting.append(planned)
            while self._waiting or self._running:
                self._fill()
                self._take(self._executor.wait(_WAIT_S))
                waiting = [planned.cell.cell_id for planned in self._waiting]
                self._reporter.running(self._executor.activity(), waiting)
        finally:
            self._executor.stop()
        return self._outcome

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._executor.num_slots:
            planned = self._waiting.take(self._executor.num_at_once)
            task = self._task(planned)
            if self._store.is_done(task.cell.cell_id):  # another run's, or one given up for lost
                self._report(done_by_another(task), again=False)
                continue
            self._tries[task.cell.cell_id] = self._tries.get(task.cell.cell_id, 0) + 1
            self._running[task.attempt_id] = planned
            self._reporter.started(task.cell.cell_id, task.attempt)
            self._executor.start(task)

    def _take(self, statuses: Iterable[Status]) -> None:
        for status in statuses:
            planned = self._running.pop(status.attempt_id)
            self._check_storage(status)
            again = self._try_again(status)
            self._report(self._with_winner(status), again=again)
            if again:
                self._waiting.append(planned)
            self._abort_on_common_failure(status)
            if status.outcome == "ok":
                self._to_index.append(status.cell_id)
        if len(self._to_index) >= index.NUM_TOGETHER:
            self._index()

    def _check_storage(self, status: Status) -> None:
        """Stop where results can be kept no more: every other cell would fail the same way.

        Raises:
            ResultsError: the results were deleted, or cannot be written from here either.
        """
        if status.outcome == "ok" and not status.unwritten:
            self._store.check()
        elif status.unwritten:
            self._store.check_writable()

    def _index(self) -> None:
        """Spare the readers of a large sweep some decoding; what goes wrong with it is no loss."""
        with contextlib.suppress(ResultsError):
            self._store.add_to_index(self._to_index)
        self._to_index = []

    def _report(self, status: Status, *, again: bool) -> None:
        self._outcome.ended[status.cell_id] = status
        self._any_measured |= status.outcome == "ok"
        self._reporter.ended(status, again=again)

    def _with_winner(self, status: Status) -> Status:
        """Say of an attempt that ended well where another was committed before it."""
        first = self._store.committed(status.cell_id)
        if status.outcome != "ok" or status.reason or first in {None, status.attempt_id}:
            return status
        return replace(status, reason="another attempt was committed first and counts")

    def _try_again(self, status: Status) -> bool:
        """Return whether another attempt may end better than this one."""
        return status.is_retryable and self._tries[status.cell_id] < self._limits.max_attempts

    def _abort_on_common_failure(self, status: Status) -> None:
        """Stop when the first cells all failed the same way, and not on one bad node alone."""
        if self._any_measured:
            return
        ended = self._outcome.ended.values()
        failed = [e for e in ended if e.outcome != "infeasible" and not self._only_lost(e)]
        same = {f"{each.outcome}: {_signature(each.reason)}" for each in failed}
        if len(failed) < self._limits.stop_after_failures or len(same) > 1:
            return
        if len({each.place for each in failed}) < min(2, self._num_places):
            return
        if self._waiting or self._running:
            several = f"first {len(failed)} cells failed the same way"
            self._outcome.stopped = (
                f"the {several if len(failed) > 1 else 'first cell failed'} "
                f"({status.outcome}: {status.reason}); log: {status.log}"
            )
            self._reporter.stopped(self._outcome.stopped)
            self._waiting.clear()
            self._running.clear()

    def _only_lost(self, status: Status) -> bool:
        """Return whether the failure is one of the node, which says nothing of the cell."""
        return status.lost and self._try_again(status)

    def _task(self, planned: PlannedCell) -> Task:
        cell, cell_id = planned.cell, planned.cell.cell_id
        return Task(
            cell=cell,
            attempt_id=uuid.uuid4().hex,
            attempt=self._before.get(cell_id, 0) + self._tries.get(cell_id, 0),
            results=self._store.absolute,
            texts=self._plan.texts_of(cell),
            limits=self._limits,
            chat=self._plan.chat,
            gpu_hour_usd=self._plan.gpu_hour_usd,
            api_key_env=self._plan.api_key_env,
        )

    def _record_infeasible(self, planned: PlannedCell) -> None:
        """Commit a row that says why; no engine is started."""
        task = self._task(planned)
        row = rows.unmeasured(task, "infeasible", planned.infeasible)
        self._store.write(task.cell.cell_id, task.attempt_id, [row], [])
        self._store.commit(task.cell.cell_id, task.attempt_id)
        status = Status(
            cell_id=task.cell.cell_id,
            attempt_id=task.attempt_id,
            attempt=task.attempt,
            outcome="infeasible",
            reason=planned.infeasible,
        )
        self._report(status, again=False)


# UUIDs, paths, addresses and other hexadecimal numbers, numbers: what differs in the same failure.
_VARIABLE = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|(?:[a-z]+://|~|\.{1,2})?(?:/[\w.@%+=:,~#-]+)+/?"
    r"|0x[0-9a-f]+|(?<![a-z])(?=[a-f]*\d)[0-9a-f]{6,}(?![a-z])|\d+(?:\.\d+)?",
    re.IGNORECASE,
)


def _signature(reason: str | None) -> str:
    """Return a reason without what changes from one attempt to the next."""
    return re.sub(r"#+", "#", _VARIABLE.sub("#", reason or ""))
