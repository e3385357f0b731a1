"""``packsweep compare-tool``: ours beside vLLM's own benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from packsweep.parity import Parity

PairsOpt = Annotated[
    int, typer.Option("--pairs", min=2, metavar="N", help="Processes of each; an even number.")
]


def lines(found: Parity) -> list[str]:
    """Return what is printed of a comparison."""
    from packsweep import stats

    told = []
    for name, processes in (("packsweep", found.ours), ("vllm bench throughput", found.theirs)):
        side, _ = stats.nested(processes)
        told.append(f"{name}: {_with_interval(side)} requests/s, {len(processes)} processes")
    ratio = found.ratio
    interval = (
        f"95% interval {ratio.ci_low:.4f} to {ratio.ci_high:.4f}"
        if ratio.ci_low is not None
        else "no interval"
    )
    told.append(f"ours / theirs: {ratio.value:.4f}, {interval}")
    told.append(f"tokens of a pass: {found.tokens[0]:,} / {found.tokens[1]:,}")
    told.append(f"of them cached: {_count(found.cached[0])} / {found.cached[1]:,}")
    return told


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


def prepare(sweep: Path, overrides: list[str], pairs: int) -> tuple[Any, Any]:
    """Return the sweep with a replicate for each pair, and its plan."""
    from packsweep import parity, plan, spec

    read = spec.load(sweep, [*overrides, f"measure.replicates={pairs}"])
    planned = plan.make(read)
    parity.check(planned)
    return read, planned


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _with_interval(side: Any) -> str:  # noqa: ANN401  (stats.Estimate)
    if side.ci_low is None:
        return f"{side.mean:.2f}"
    return f"{side.mean:.2f} ±{(side.ci_high - side.ci_low) / 2 / side.mean:.1%}"
