"""``packsweep plan``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from packsweep.cli.options import (
    MOST_GPUS,
    JsonOpt,
    PriceOpt,
    ResultsOpt,
    SetOpt,
    Start,
    StartOpt,
    SweepArg,
    prepare,
)
from packsweep.cli.output import open_console, print_json, print_table, say


def plan_command(
    sweep: SweepArg,
    set_: SetOpt = None,
    results: ResultsOpt = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="GPU",
            help="Predict the time on this GPU, e.g. H200; this machine's GPU by default.",
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus",
            metavar="G",
            min=1,
            max=MOST_GPUS,
            help="Predict the time on a Ray cluster with G GPUs; by default, on one machine, which "
            "measures one cell at a time.",
        ),
    ] = None,
    start: StartOpt = Start.FORK,
    gpu_hour_usd: PriceOpt = None,
    json: JsonOpt = False,
) -> None:
    """Show what a sweep would do: requests, tokens, memory, time, cost. Runs nothing."""
    from packsweep.plan import forecast
    from packsweep.report.tables import plan_table

    on = forecast.target(device)
    _, planned, store, _ = prepare(sweep, set_, results, on_gpu=device is not None)
    if gpu_hour_usd is not None:
        planned = replace(planned, gpu_hour_usd=gpu_hour_usd)
    done = store.done([cell.cell.cell_id for cell in planned.cells])
    found = forecast.make(
        planned,
        on,
        num_gpus=gpus,
        done=done,
        measured_s=plan_table.measured_s(store, on) if done else {},
        forked=start is Start.FORK,
    )
    if json:
        print_json(plan_table.record(planned, found))
        return
    console = open_console()
    print_table(console, plan_table.table(found))
    for line in plan_table.lines(planned, found, store.root):
        say(console, line)
