"""``packsweep compare-tool``: ours beside vLLM's own benchmark."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from packsweep.cli.options import JsonOpt, ResultsOpt, SetOpt, SweepArg, place
from packsweep.cli.output import print_json
from packsweep.errors import EngineError, UserError, printable

if TYPE_CHECKING:
    from packsweep.run.parity import Parity
    from packsweep.run.task import Activity, Status, Task

PairsOpt = Annotated[
    int, typer.Option("--pairs", min=2, max=1000, metavar="N", help="Processes per side.")
]


def compare_tool_command(
    sweep: SweepArg,
    set_: SetOpt = None,
    results: ResultsOpt = None,
    pairs: PairsOpt = 4,
    json: JsonOpt = False,
) -> None:
    """Check one cell against vLLM's own benchmark: same requests and settings, in alternation.

    Each side runs in processes of its own. Run the same command again to resume.
    """
    from packsweep.plan import cells as plan_cells
    from packsweep.results.store import Store
    from packsweep.run import parity
    from packsweep.run.executors.local import LocalExecutor
    from packsweep.sweep import read as sweep_read

    where = place(results or f"results/{sweep.stem}-compare-tool")
    if isinstance(where, str):
        raise UserError(f"--results: compare-tool keeps its files in a folder, not at {where}")
    read = sweep_read.load(sweep, [*(set_ or ()), f"measure.replicates={pairs}"])
    planned = plan_cells.make(read)
    parity.check(planned)
    store = Store(where)
    store.prepare()
    made = parity.Pairs(
        plan=planned,
        store=store,
        limits=read.limits,
        reporter=StderrReporter(),
        make_executor=LocalExecutor,
        bench=_timed(parity.run_bench),
    )
    try:
        found = made.run()
    except EngineError as error:
        raise UserError(str(error)) from None
    if json:
        print_json(record(found))
        return
    print("\n".join(lines(found)))


class StderrReporter:
    """Prints on stderr how our attempts end; a ``driver.Reporter``."""

    def began(self, *, num_cells: int, num_done: int) -> None:
        """Nothing: a pair is one cell."""

    def running(self, activities: Sequence[Activity], waiting: Sequence[str]) -> None:
        """Nothing: a pair takes as long as its cell."""

    def started(self, cell_id: str, attempt: int) -> None:
        """Nothing."""

    def ended(self, status: Status, *, again: bool) -> None:  # noqa: ARG002  (the protocol's)
        """Say how an attempt ended."""
        speed = "" if status.texts_per_s is None else f", {status.texts_per_s:.2f} texts/s"
        _say(f"packsweep: {status.outcome}{speed} [{status.wall_s:.0f} s]")

    def stopped(self, reason: str) -> None:
        """Say why it stops."""
        _say(reason)


def _timed(bench: Callable[[Task, Path], None]) -> Callable[[Task, Path], None]:
    def run(task: Task, path: Path) -> None:
        began = time.monotonic()
        bench(task, path)
        _say(f"vllm bench throughput: ok [{time.monotonic() - began:.0f} s]")

    return run


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)


def lines(found: Parity) -> list[str]:
    from packsweep.report import format as fmt
    from packsweep.results import stats

    printed = []
    for name, processes in (("packsweep", found.ours), ("vllm bench throughput", found.theirs)):
        side, _ = stats.nested(processes)
        printed.append(f"{name}: {_with_interval(side)} requests/s, {len(processes)} processes")
    ratio = found.ratio
    interval = (
        f"95% interval {ratio.ci_low:.4f} to {ratio.ci_high:.4f}"
        if ratio.ci_low is not None
        else "no interval"
    )
    printed.append(f"packsweep / vllm bench throughput: {ratio.value:.4f}, {interval}")
    printed.append(f"tokens per pass: {found.tokens[0]:,} / {found.tokens[1]:,}")
    printed.append(f"cached tokens: {fmt.count(found.cached[0])} / {found.cached[1]:,}")
    return printed


def record(found: Parity) -> dict[str, Any]:
    """Return the comparison as JSON has it."""
    ratio = found.ratio
    return {
        "ratio": ratio.value,
        "ratio_ci_low": ratio.ci_low,
        "ratio_ci_high": ratio.ci_high,
        "between_processes": ratio.between_processes,
        "requests_per_s": found.ours,
        "vllm_requests_per_second": found.theirs,
        "tokens": found.tokens,
        "cached_tokens": found.cached,
    }


def _with_interval(side: Any) -> str:  # noqa: ANN401  (stats.Estimate)
    if side.ci_low is None:
        return f"{side.mean:.2f}"
    return f"{side.mean:.2f} ±{(side.ci_high - side.ci_low) / 2 / side.mean:.1%}"
