"""Small values and stand-ins for the tests: texts, sweeps, cells, rows, an executor, a reporter.

The stand-ins implement the protocols of ``packsweep.run.executors`` and ``packsweep.run.driver``.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, AnyStr

import psutil

from packsweep.plan.cells import PlannedCell
from packsweep.plan.pass_time import Pass
from packsweep.results.store import Store
from packsweep.run import rows
from packsweep.run.task import Activity, Status, Task
from packsweep.sweep import expansion, read, spec
from packsweep.sweep.cells import Cell
from packsweep.sweep.texts import LABELS, LabelledText

CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 1,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 32768,
}
Cli = Callable[..., subprocess.CompletedProcess[str]]

REVIEWS = tuple(LabelledText(text=f"text{index}", label=LABELS[index % 2]) for index in range(12))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def sweep(**tables: dict[str, Any]) -> spec.Sweep:
    """Return a simulated sweep of one cell, with the values of ``tables`` over it.

    It is one of servers if there is a table ``online``.
    """
    values: dict[str, Any] = {
        "mode": "online" if "online" in tables else "offline",
        "model": {"name": "some/model", "load_format": "dummy"},
        "grid": {"strategy": "packed", "n": 2},
        "engine": {"kind": "simulated"},
    }
    for table, changes in tables.items():
        values[table] = {**values.get(table, {}), **changes}
    return read.parse(values, where="test")


def cells(**tables: dict[str, Any]) -> tuple[Cell, ...]:
    """Return the cells of ``sweep`` over ``REVIEWS``."""
    return expansion.expand(
        sweep(**tables), REVIEWS, model_fingerprint="weights", max_model_len=100
    )


def cell(**changes: Any) -> Cell:
    """Return one simulated cell with some of its values changed."""
    return replace(cells()[0], **changes)


def planned(of: Cell, *, infeasible: str | None = None) -> PlannedCell:
    """Return a cell that submits one request of one token, worked out."""
    return PlannedCell(
        cell=of,
        num_requests=1,
        prompt_tokens=1,
        longest_prompt_tokens=1,
        output_tokens=1,
        request_tokens=(2,),
        load=Pass(requests=()),
        kv_bytes_per_token=1,
        kv_pass_tokens=0,
        shared_tokens=0,
        infeasible=infeasible,
    )


def task(
    of: Cell, results: object, *, attempt_id: str = "a0", limits: spec.LimitsTable | None = None
) -> Task:
    """Return the first attempt at a cell."""
    return Task(
        cell=of,
        attempt_id=attempt_id,
        attempt=0,
        results=str(results),
        texts=REVIEWS[: of.n],
        limits=limits or spec.LimitsTable(),
    )


def pass_row(
    of: Cell,
    attempt_id: str = "a0",
    *,
    outcome: str = "ok",
    reason: str | None = None,
    **values: Any,
) -> dict[str, Any]:
    """Return a row of passes; ``values`` are its measured columns."""
    shared = rows.identity(task(of, "x", attempt_id=attempt_id), outcome, reason, NOON)
    return {
        **shared,
        "repeat": 0 if outcome == "ok" else None,
        "device": "simulated",
        "num_gpus": None,
        **values,
    }


def written(store: Store, of: Cell, attempt_id: str = "a0", **values: Any) -> None:
    """Write and commit an attempt of one repeat."""
    store.write(of.cell_id, attempt_id, [pass_row(of, attempt_id, **values)], [])
    assert store.commit(of.cell_id, attempt_id)


def write_byte_model(folder: Path, **changes: object) -> Path:
    """Write a model folder without weights whose tokenizer makes one token of each byte.

    ``changes`` go into its config.
    """
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import BPE

    folder.mkdir(parents=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(CONFIG | changes), encoding="utf-8")
    return folder


@contextlib.contextmanager
def killed_at_end(process: subprocess.Popen[AnyStr]) -> Iterator[subprocess.Popen[AnyStr]]:
    """Leave neither the process nor its pipes to later tests, also where this one fails."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def gone(pid: int) -> bool:
    """Return whether a process has ended, waited for or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class FakeExecutor:
    """Ends every attempt at once, as asked; writes and commits what ends well."""

    def __init__(
        self, ends: Callable[[Task], tuple[str, str | None]], *, num_slots: int = 1
    ) -> None:
        """Take a function from a task to its outcome and reason."""
        self.num_slots = self.num_at_once = num_slots
        self.num_places = 1
        self.started: list[Task] = []
        self.num_stops = 0
        self.most_running = 0
        self._ends = ends
        self._running: list[Task] = []

    def start(self, task: Task) -> None:
        self.started.append(task)
        self._running.append(task)
        self.most_running = max(self.most_running, len(self._running))

    def wait(self, timeout_s: float) -> Sequence[Status]:
        assert timeout_s > 0
        ended, self._running = self._running, []
        return [self._end(each) for each in ended]

    def activity(self) -> Sequence[Activity]:
        return []

    def stop(self) -> None:
        self.num_stops += 1

    @property
    def slugs(self) -> list[str]:
        """The slugs of the cells that were started, in order."""
        return [each.cell.slug for each in self.started]

    def _end(self, ended: Task) -> Status:
        outcome, reason = self._ends(ended)
        cell_id, attempt_id = ended.cell.cell_id, ended.attempt_id
        row = pass_row(ended.cell, attempt_id, outcome=outcome, reason=reason)
        ended.store.write(cell_id, attempt_id, [row], [])
        if outcome == "ok":
            ended.store.commit(cell_id, attempt_id)
        return Status(
            cell_id=cell_id,
            attempt_id=attempt_id,
            attempt=ended.attempt,
            outcome=outcome,
            reason=reason,
        )


class FakeReporter:
    """Keeps what is reported."""

    def __init__(self) -> None:
        """Start with nothing told."""
        self.counts: tuple[int, int] | None = None
        self.attempts: list[int] = []
        self.again: list[bool] = []
        self.statuses: list[Status] = []
        self.reasons: list[str] = []

    def running(self, activities: Sequence[Activity], waiting: Sequence[str]) -> None:
        pass

    def began(self, *, num_cells: int, num_done: int) -> None:
        self.counts = (num_cells, num_done)

    def started(self, cell_id: str, attempt: int) -> None:
        assert cell_id
        self.attempts.append(attempt)

    def ended(self, status: Status, *, again: bool) -> None:
        self.statuses.append(status)
        self.again.append(again)

    def stopped(self, reason: str) -> None:
        self.reasons.append(reason)
