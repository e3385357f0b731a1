"""Ours and vLLM's own benchmark on the same requests, in alternation.

A pair is one process of each: a worker that measures a cell as any sweep does, and one that calls
what ``vllm bench throughput`` times (``python -m packsweep.run.parity TASK OUTPUT``). Which of the
two goes first changes from pair to pair, so that whatever drifts falls on both. Each is written to
a file as it ends, so a comparison that was stopped resumes.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packsweep.engines import Request, vllm_bench
from packsweep.errors import EngineError, SpecError
from packsweep.files import replace_file
from packsweep.machine import environment
from packsweep.models.tokenizer import load as load_tokenizer
from packsweep.plan.cells import Plan, PlannedCell
from packsweep.results import stats
from packsweep.results.store import Store
from packsweep.run import lifeline
from packsweep.run.driver import Driver, Reporter
from packsweep.run.executors import Executor
from packsweep.run.measure.workload import Workload
from packsweep.run.task import Task, task_from_json
from packsweep.sweep.spec import LimitsTable

FOLDER = "vllm-bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """What both said of one cell.

    Attributes:
        ours: requests per second, a list of repeats for each process.
        theirs: likewise, one repeat a process.
        cached: cached tokens of a pass, ours and theirs; alike where the comparison is fair.
        tokens: prompt and output tokens of a pass, ours and theirs.
    """

    ours: Sequence[Sequence[float]]
    theirs: Sequence[Sequence[float]]
    cached: tuple[int | None, int]
    tokens: tuple[int, int]

    @property
    def ratio(self) -> stats.Ratio:
        """Ours over theirs, with its 95 % interval over processes."""
        return stats.ratio(self.ours, self.theirs)


def check(plan: Plan) -> None:
    """Refuse a sweep that the benchmark cannot do as well.

    Raises:
        SpecError: more than one cell, or one that is not free text into a cold cache.
    """
    cells = {planned.cell.group_id: planned for planned in plan.cells}
    if len(cells) != 1:
        message = f"compare-tool takes one cell, the sweep has {len(cells)}: choose with --set"
        raise SpecError(message)
    (planned,) = cells.values()
    cell = planned.cell
    if planned.infeasible:
        raise SpecError(f"{cell.cell_id}: infeasible: {planned.infeasible}")
    if cell.engine != "vllm":
        raise SpecError("compare-tool compares with vLLM's benchmark: engine.kind must be vllm")
    asked = (cell.answer, cell.template == "chat", cell.prompt_type, cell.cache_state)
    if asked != ("free", False, "text", "cold"):
        raise SpecError(
            "compare-tool: vllm bench throughput has free answers to plain text in a new engine: "
            "use answer free, any template but chat, prompt_type text, cache_state cold"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """A comparison and where it is made.

    Attributes:
        plan: of one cell, a replicate for each pair.
        store: where ours go; theirs go into its folder ``vllm-bench``.
        limits: deadlines.
        reporter: of our attempts.
        make_executor: gives a place to run ours.
        bench: measures theirs and writes it to a file.
    """

    plan: Plan
    store: Store
    limits: LimitsTable
    reporter: Reporter
    make_executor: Callable[[], Executor]
    bench: Callable[[Task, Path], None]

    def run(self) -> Parity:
        """Measure every pair that is missing and return what was found.

        Raises:
            EngineError: one side failed.
        """
        pairs = sorted(self.plan.cells, key=lambda planned: planned.cell.replicate)
        for planned in pairs:
            first, second = self._ours, self._theirs
            if planned.cell.replicate % 2:
                first, second = second, first
            first(planned)
            second(planned)
        return read(self.store, [self._path(planned) for planned in pairs])

    def _path(self, planned: PlannedCell) -> Path:
        return Path(self.store.root) / FOLDER / f"{planned.cell.cell_id}.json"

    def _ours(self, planned: PlannedCell) -> None:
        alone = dataclasses.replace(self.plan, cells=(planned,), schedule=(planned,))
        driver = Driver(alone, self.store, self.make_executor(), self.reporter, self.limits)
        for status in driver.run().ended.values():
            if status.outcome != "ok":
                message = f"{status.cell_id}: {status.outcome}: {status.reason}; log: {status.log}"
                raise EngineError(message, outcome=status.outcome)

    def _theirs(self, planned: PlannedCell) -> None:
        path = self._path(planned)
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        task = Task(
            cell=planned.cell,
            attempt_id=uuid.uuid4().hex,
            attempt=0,
            results=self.store.absolute,
            texts=self.plan.texts_of(planned.cell),
            limits=self.limits,
            chat=self.plan.chat,
        )
        self.bench(task, path)


def read(store: Store, files: Sequence[Path]) -> Parity:
    """Return what both sides wrote."""
    passes = [row for row in store.read_passes().to_pylist() if row["outcome"] == "ok"]
    theirs = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    cells = dict.fromkeys(row["cell_id"] for row in passes)
    ours = [[row["requests_per_s"] for row in passes if row["cell_id"] == cell] for cell in cells]
    last = passes[-1]
    return Parity(
        ours=ours,
        theirs=[[found["requests_per_second"]] for found in theirs],
        cached=(last["cached_tokens"], theirs[-1]["cached_tokens"]),
        tokens=(last["prompt_tokens"] + last["output_tokens"], theirs[-1]["total_num_tokens"]),
    )


def run_bench(task: Task, path: Path) -> None:
    """Run vLLM's benchmark in a process that dies with this one."""
    given, log = path.with_suffix(".task"), path.with_suffix(".log")
    given.write_text(task.to_json(), encoding="utf-8")
    limit_s = task.limits.engine_start_timeout_s + task.limits.pass_timeout_s
    try:
        with log.open("wb") as out:
            subprocess.run(  # noqa: S603  (our own program)
                lifeline.command(
                    *(sys.executable, "-m", "packsweep.run.parity", str(given), str(path))
                ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment.engine_environ(),
                timeout=limit_s,
                check=True,
            )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        message = f"vLLM's benchmark: {_ended(error)}; log: {log}"
        raise EngineError(message, outcome="crashed") from None
    finally:
        given.unlink(missing_ok=True)


def main(given: str, output: str) -> None:
    """Measure theirs in this process and write vLLM's figures to ``output`` as JSON."""
    task = task_from_json(Path(given).read_text(encoding="utf-8"))
    cell = task.cell
    model = task.resolve_model()
    workload = Workload.of(cell, task.texts, task.chat)
    encode = load_tokenizer(model)

    def sized(requests: Sequence[Request]) -> list[vllm_bench.Sized]:
        lengths = encode.count([request.text for request in requests])
        return list(zip(requests, lengths, strict=True))

    warmup = workload.warmup if cell.warmup_passes else []
    found = vllm_bench.measure(cell, model, sized(workload.requests), sized(warmup))
    replace_file(Path(output), json.dumps(found).encode())


def _ended(error: Any) -> str:  # noqa: ANN401  (either of two)
    code = getattr(error, "returncode", None)
    return "took too long" if code is None else f"it ended with {code}"


if __name__ == "__main__":
    main(*sys.argv[1:])
