"""``packsweep show`` and ``merge``: what a results folder holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from packsweep.cli_options import (
    CeilingOpt,
    JsonOpt,
    MixedOpt,
    PriceOpt,
    ResultsArg,
    held_against,
)
from packsweep.cli_output import open_console, print_json, print_table, say
from packsweep.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from packsweep.analysis import Comparison
    from packsweep.store import Store

_NUM_RANGES = 10  # of positions: what fits a screen beside other cells


def show_command(
    results: ResultsArg,
    vllm: Annotated[
        bool, typer.Option("--vllm", help="Print every cell as vllm bench throughput does.")
    ] = False,
    positions: Annotated[
        bool,
        typer.Option("--positions", help="Print labels found and right by position in the prompt."),
    ] = False,
    confusion: Annotated[
        bool, typer.Option("--confusion", help="Print expected labels against those found.")
    ] = False,
    time: Annotated[
        bool, typer.Option("--time", help="Print where the wall clock of every cell went.")
    ] = False,
    ceiling: CeilingOpt = None,
    gpu_hour_usd: PriceOpt = None,
    json: JsonOpt = False,
    allow_mixed: MixedOpt = False,
) -> None:
    """Show the table of a results folder."""
    from packsweep import analysis
    from packsweep.store import Store

    if vllm + positions + confusion > 1:
        raise UserError("--vllm, --positions and --confusion exclude each other")
    store = Store(results)
    store.check()
    passes = analysis.to_pandas(store.read_passes())
    mixed = analysis.check_alike(passes, allow_mixed=allow_mixed)
    regarded = held_against(ceiling, gpu_hour_usd).apply(passes)
    rows = analysis.records(analysis.summarise(regarded))
    if positions or confusion:
        _print_labels(store, rows, by_position=positions, json=json)
    elif json:
        print_json(rows)
    elif vllm:
        _print_vllm(rows)
    elif time:
        _print_time(open_console(), rows)
    else:
        print_summary(open_console(), rows, mixed, analysis.compare(passes))


def merge_command(
    results: ResultsArg,
    ceiling: CeilingOpt = None,
    gpu_hour_usd: PriceOpt = None,
    allow_mixed: MixedOpt = False,
) -> None:
    """Write summary.parquet and summary.csv of a results folder from its committed cells."""
    from packsweep import analysis
    from packsweep.store import Store

    store = Store(results)
    store.check()
    against = held_against(ceiling, gpu_hour_usd)
    rows = analysis.merge(store, allow_mixed=allow_mixed, against=against)
    ok = sum(row["outcome"] == "ok" for row in rows)
    print(f"{store.summary}.parquet and .csv: {len(rows)} cells, {ok} ok")


def print_summary(
    console: Console,
    rows: Sequence[dict[str, Any]],
    mixed: Sequence[str],
    compared: Sequence[Comparison],
) -> None:
    from packsweep import table

    if not rows:
        say(console, "no cells yet")
        return
    print_table(console, table.summary(rows))
    lines = [
        *table.reasons(rows),
        *table.warnings(rows),
        *(f"MIXED {line}" for line in mixed),
        *table.conditions(rows),
    ]
    if compared:
        lines += [
            "",
            "reviews/s compared, 95% interval of the ratio:",
            *table.comparisons(compared),
        ]
    for line in lines:
        say(console, line)


def _print_labels(
    store: Store, cells: Sequence[dict[str, Any]], *, by_position: bool, json: bool
) -> None:
    """Print what the answers held; JSON has a row for each position, the table one for a range."""
    from packsweep import analysis, labels, table

    found = analysis.load_labels(store)
    if by_position:
        frame = labels.by_position(found, num_ranges=None if json else _NUM_RANGES)
    else:
        frame = labels.confusion(found)
    rows = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    if json:
        print_json(rows)
    elif not rows:
        say(open_console(), "no scored answers: random weights, or no cell ended ok yet")
    else:
        made = table.positions(rows, cells) if by_position else table.confusion(rows, cells)
        print_table(open_console(), made)


def _print_vllm(rows: Sequence[dict[str, Any]]) -> None:
    from packsweep import table

    for row in rows:
        print(row["cell_id"] + ("" if row["outcome"] == "ok" else f": {row['outcome']}"))
        if row["outcome"] == "ok":
            print("\n".join(table.vllm_form(row)))
        print()


def _print_time(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    from packsweep import table, table_time

    for renderable in table_time.tables(rows):
        print_table(console, renderable)
    for line in table.reasons(rows):
        say(console, line)
    say(console, "shares of the seconds to their left, once per attempt; a pass: medians")
