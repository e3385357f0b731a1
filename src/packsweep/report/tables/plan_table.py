"""What ``packsweep plan`` says: its table, the lines below it, and all of it as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from rich.text import Text

from packsweep.analysis import axes, frames
from packsweep.errors import counted
from packsweep.machine import devices
from packsweep.plan.cells import Plan
from packsweep.plan.forecast import CellForecast, Forecast, Target
from packsweep.plan.pass_time import StartTime
from packsweep.report import format as fmt
from packsweep.report.tables import cells_table, footer
from packsweep.report.tables.table import Column, Table
from packsweep.results import schema
from packsweep.results.store import Store
from packsweep.run.rows import cell_values
from packsweep.sweep.cells import Cell


def table(forecast: Forecast) -> Table:
    """Return a line per cell, with durations where a GPU is named."""
    cells = forecast.cells
    figures = _KNOWN | (_TIMES if forecast.reason is None else _LENGTHS)
    several = any(cell.planned.cell.num_gpus > 1 for cell in cells)
    replicated = any(cell.planned.cell.replicate for cell in cells)
    processes = tuple(str(cell.planned.cell.replicate + 1) for cell in cells)
    columns = (
        *cells_table.cell_columns([_row(cell.planned.cell) for cell in cells]),
        *([Column(heading="process", cells=processes, rank=7)] if replicated else []),
        *(
            Column(
                heading=_KV_A_GPU if several and heading == _KV else heading,
                cells=tuple(map(text, cells)),
                rank=rank,
            )
            for heading, (text, rank) in figures.items()
        ),
        Column(heading="state", cells=tuple(map(_state, cells)), left=True),
    )
    return Table(columns=columns)


def _row(cell: Cell) -> dict[str, Any]:
    return {**cell_values(cell), "num_gpus": cell.num_gpus}


def _gigabytes(num_bytes: int | None) -> str:
    return fmt.number(None if num_bytes is None else num_bytes / 1e9)


# Heading -> what stands below it, and its rank: the largest goes first where room is short.
_KV, _KV_A_GPU = "KV\nGB", "KV GB\nper GPU"
_Figures = dict[str, tuple[Callable[[CellForecast], str], int]]
_KNOWN: _Figures = {
    "requests": (lambda cell: fmt.count(cell.planned.num_requests), 4),
    "prompt\ntokens": (lambda cell: fmt.count(cell.planned.prompt_tokens), 3),
    "output\ntokens": (lambda cell: fmt.count(cell.planned.output_tokens), 6),
    _KV: (lambda cell: _gigabytes(cell.planned.kv_pass_bytes), 5),
}
_TIMES: _Figures = {
    "pass\ns": (lambda cell: fmt.number(cell.pass_s), 2),
    "cell\ns": (lambda cell: fmt.count(cell.warm_s), 1),
}
_LENGTHS: _Figures = {
    "longest\nprompt": (lambda cell: fmt.count(cell.planned.longest_prompt_tokens), 1),
}


def _state(cell: CellForecast) -> Text:
    if cell.planned.infeasible:
        return Text("infeasible", style="yellow")
    if cell.done:
        return Text("done", style="green")
    return Text("too big", style="yellow") if cell.too_big else Text("missing")


def lines(plan: Plan, forecast: Forecast, root: str) -> Iterator[str]:
    """Yield the lines below the table."""
    yield from footer.alike(_not_possible(forecast))
    yield from plan.advice
    missing = [cell for cell in forecast.cells if not cell.done]
    tokens = sum(cell.planned.prompt_tokens for cell in missing if cell.due)
    yield (
        f"{counted(len(forecast.cells), 'cell')}, {len(missing)} missing; {tokens:,} prompt tokens "
        f"in one pass over the missing cells; model {plan.model.name}; results in {root}"
    )
    if forecast.reason:
        yield forecast.reason
    elif any(cell.due for cell in forecast.cells):
        yield from _costs(forecast)
        yield from _not_modelled(forecast)
        yield from _piling_up(forecast)
        yield from _shorter(forecast)
    yield from _hindsight(forecast)


def _not_possible(forecast: Forecast) -> Iterator[tuple[str, str]]:
    """Yield the cells that will not be measured, each with its reason."""
    for cell in forecast.cells:
        cell_id = cell.planned.cell.cell_id
        if cell.planned.infeasible:
            yield cell_id, f"infeasible: {cell.planned.infeasible}"
        elif cell.too_big:
            yield cell_id, f"too big: {cell.too_big}"


def _costs(forecast: Forecast) -> Iterator[str]:
    """Say how long the missing cells take, and on what that rests."""
    assert forecast.target is not None
    assert forecast.gpu_s is not None
    on, constants = forecast.target, forecast.target.constants
    usd = "" if forecast.usd is None else f", ${fmt.small(forecast.usd)}"
    passes = f"timed passes {_span(forecast.passes_s)}"
    if on.is_processor:
        yield (
            f"predicted on {on.name}: {_span(forecast.wall_s)}; {passes}; from a short calibration "
            "of this processor, accurate within a factor of two if nothing else runs"
        )
        yield _starts(forecast)
        return
    how = ", one cell at a time" if forecast.one_at_a_time and forecast.num_gpus > 1 else ""
    yield (
        f"predicted on {forecast.num_gpus} x {on.name}{how}: {_span(forecast.wall_s)}, "
        f"{fmt.small(forecast.gpu_s / 3600)} GPU hours{usd}; {passes}"
    )
    yield f"{_starts(forecast)}; reading real weights not included"
    dtypes = dict.fromkeys(cell.peak_dtype for cell in forecast.cells if cell.due)
    shares = (f"{constants.mfu[dtype]:.0%} of its {dtype} FLOP/s" for dtype in dtypes if dtype)
    yield (
        f"assumes, as measured on one H200: {', '.join(shares)}, {constants.mbu:.0%} of its "
        "bandwidth (docs/PREDICTION.md)"
    )


def _starts(forecast: Forecast) -> str:
    """Say how many engines start, and how long each takes."""
    assert forecast.timeline is not None
    warm, cold = forecast.timeline.warm, forecast.timeline.cold
    groups = [f"{num} in {start.warm_s:.0f} s" for start, num in _quick_first(warm)]
    groups += [f"{num} cold in {start.cold_s:.0f} s" for start, num in _quick_first(cold)]
    num_shared = sum(each.due for each in forecast.cells) - warm.total() - cold.total()
    shared = f"; {num_shared} cells share the engine of another" if num_shared else ""
    return f"engine starts: {', '.join(groups)}{shared}"


def _quick_first(starts: Counter[StartTime]) -> list[tuple[StartTime, int]]:
    return sorted(starts.items(), key=lambda pair: pair[0].warm_s)


def _not_modelled(forecast: Forecast) -> Iterator[str]:
    """Say what the times of engines over several GPUs leave out, where there are such."""
    sizes = sorted({each.planned.cell.num_gpus for each in forecast.cells if each.due} - {1})
    if sizes:
        assert forecast.target is not None
        ranks = "processes" if forecast.target.is_processor else "GPUs"
        yield (
            f"engines across {' and '.join(map(str, sizes))} {ranks}: communication between them "
            f"is not modelled, so their times are lower bounds"
        )


def _shorter(forecast: Forecast) -> Iterator[str]:
    """Say of simulated passes that a run does not wait for them; simulated servers take as long."""
    cells = (cell.planned.cell for cell in forecast.cells)
    if any(cell.engine == schema.SIMULATED and cell.mode == "offline" for cell in cells):
        yield (
            "engine.kind is simulated: these are the times of a real engine; a simulated run is "
            "shorter"
        )


def _piling_up(forecast: Forecast) -> Iterator[str]:
    """Say which rates are above what a server is predicted to bear."""
    above = [cell.planned.cell.cell_id for cell in forecast.cells if cell.due and cell.piles_up]
    if above:
        yield (
            f"arrival rate above the predicted offline throughput: {footer.one_of(above)}; "
            "requests queue up, and a window lasts until all are answered"
        )


def _hindsight(forecast: Forecast) -> Iterator[str]:
    """Say how far the prediction was off, where cells are done."""
    ratios = [
        cell.measured_s / cell.pass_s
        for cell in forecast.cells
        if cell.measured_s is not None and cell.pass_s
    ]
    if ratios:
        yield (
            f"{len(ratios)} measured cells took {min(ratios):.2f} to {max(ratios):.2f} times the "
            "predicted time"
        )


def _span(seconds: float | None) -> str:
    """Return a duration in the unit that suits it."""
    if seconds is None:
        return fmt.DASH
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{fmt.small(seconds)} s"


def measured_s(store: Store, on: Target | None) -> dict[str, float]:
    """Return the median pass of every cell measured on the predicted GPU, simulated ones left out.

    Without a target nothing is asked of the results.
    """
    if on is None:
        return {}
    passes = frames.to_pandas(store.read_passes())
    # A cell that failed may know of no device.
    real = passes[(passes["outcome"] == "ok") & (passes["engine"] != schema.SIMULATED)]
    alike = [
        isinstance(name, str)
        and (name == on.name if on.is_processor else devices.find(name) is on.device)
        for name in real["device"]
    ]
    medians = real.loc[alike].groupby("cell_id", observed=True)["duration_s"].median()
    return {str(cell_id): float(value) for cell_id, value in medians.items()}


def record(plan: Plan, forecast: Forecast) -> dict[str, Any]:
    """Return everything that is known, in plain values; what is not known is null."""
    return {
        "model": plan.model.name,
        "device": forecast.target and forecast.target.name,
        "reason": forecast.reason,
        "num_gpus": forecast.num_gpus,
        "wall_s": forecast.wall_s,
        "gpu_s": forecast.gpu_s,
        "passes_s": forecast.passes_s,
        "gpu_hour_usd": forecast.gpu_hour_usd,
        "usd": forecast.usd,
        "num_cold": 0 if forecast.timeline is None else forecast.timeline.num_cold,
        "num_missing": sum(not cell.done for cell in forecast.cells),
        "advice": plan.advice,
        "cells": [_cell_record(cell) for cell in forecast.cells],
    }


def _cell_record(forecast: CellForecast) -> dict[str, Any]:
    planned, cell = forecast.planned, forecast.planned.cell
    return {
        "cell_id": cell.cell_id,
        **{name: getattr(cell, name) for name in dict.fromkeys((*axes.WORK, *axes.NAMED))},
        "engine_settings": cell.settings,
        "num_gpus": cell.num_gpus,
        "num_requests": planned.num_requests,
        "prompt_tokens": planned.prompt_tokens,
        "cached_tokens": planned.cached_tokens,
        "longest_prompt_tokens": planned.longest_prompt_tokens,
        "output_tokens": planned.output_tokens,
        "kv_bytes_per_token": planned.kv_bytes_per_token,
        "kv_longest_bytes": planned.kv_longest_bytes,
        "kv_pass_bytes": planned.kv_pass_bytes,
        "infeasible": planned.infeasible,
        "too_big": forecast.too_big,
        "done": forecast.done,
        "pass_s": forecast.pass_s,
        "pass_parts": None if forecast.time is None else asdict(forecast.time),
        "start_cold_s": None if forecast.time is None else forecast.start.cold_s,
        "start_warm_s": None if forecast.time is None else forecast.start.warm_s,
        "cell_warm_s": forecast.warm_s,
        "measured_pass_s": forecast.measured_s,
    }
