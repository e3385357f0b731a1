"""``packsweep show`` and ``merge``: what a results folder holds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from packsweep.cli.options import (
    CeilingOpt,
    ColumnsOpt,
    JsonOpt,
    MixedOpt,
    PriceOpt,
    ResultsArg,
    SortOpt,
    WhereOpt,
    overrides,
    split,
)
from packsweep.cli.output import ends, open_console, print_json, print_table, say
from packsweep.cli.results import Results, open_results, open_store
from packsweep.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from packsweep.analysis.contrasts import Comparison

_NUM_RANGES = 10  # of positions: what fits a screen beside other cells


def _view(name: str, what: str) -> Any:  # noqa: ANN401  (typer's)
    """Return the option that prints something else than the table."""
    return typer.Option(f"--{name}", help=f"Print {what}.")


def show_command(
    results: ResultsArg,
    vllm: Annotated[bool, _view("vllm", "each cell as vllm bench throughput does")] = False,
    positions: Annotated[bool, _view("positions", "accuracy by position in the prompt")] = False,
    confusion: Annotated[bool, _view("confusion", "expected against predicted labels")] = False,
    quality: Annotated[
        bool, _view("quality", "accuracy, macro F1, and precision and recall")
    ] = False,
    time: Annotated[bool, _view("time", "where the time of each cell went")] = False,
    where: WhereOpt = None,
    sort: SortOpt = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Reverse the order.")] = False,
    group_by: Annotated[
        str | None,
        typer.Option("--group-by", metavar="A,B", help="Group cells by these columns."),
    ] = None,
    columns: ColumnsOpt = None,
    ceiling: CeilingOpt = None,
    gpu_hour_usd: PriceOpt = None,
    json: JsonOpt = False,
    allow_mixed: MixedOpt = False,
) -> None:
    """Print the table of a results folder, with as many columns as fit the terminal.

    docs/METRICS.md lists the columns; write their names without _median.
    """
    if vllm + positions + confusion + quality + time > 1:
        raise UserError("--vllm, --positions, --confusion, --quality and --time exclude each other")
    if (vllm or positions or confusion or quality or time) and (columns or group_by):
        raise UserError("--columns and --group-by belong to the table of cells")
    found = open_results(
        results,
        where=where or (),
        sort=sort,
        reverse=reverse,
        overrides=overrides(ceiling, gpu_hour_usd),
        allow_mixed=allow_mixed,
    )
    rows, console = found.rows, open_console()
    if found.nothing and not json:
        say(console, found.nothing)
    elif quality:
        _print_quality(found, json=json)
    elif positions or confusion:
        _print_labels(found, by_position=positions, json=json)
    elif json:
        print_json(_with_columns(rows, columns))
    elif vllm:
        _print_vllm(console, rows)
    elif time:
        _print_time(console, rows)
    elif columns:
        _print_chosen(console, rows, columns, group_by)
    else:
        _print_cells(console, found, group_by)


def _print_cells(console: Console, found: Results, group_by: str | None) -> None:
    """Print the table of cells and what was compared."""
    from packsweep.analysis import contrasts, frames

    compared = contrasts.of(found.passes, frames.load_answers(found.store, found.passes))
    if group_by is None:
        print_summary(console, found.rows, found.mixed, compared)
    else:
        _print_chosen(console, found.rows, None, group_by)
        _print_footer(console, found.rows, found.mixed, compared)


def _print_chosen(
    console: Console, rows: list[dict[str, Any]], columns: str | None, group_by: str | None
) -> None:
    """Print the columns that are asked for, in groups."""
    from packsweep.report.tables import cells_table

    ordered, groups = cells_table.grouped(rows, split(group_by))
    words = split(columns)
    own = cells_table.chosen(ordered, words) if words else cells_table.summary(ordered)
    named = {group.name for group in groups.columns}
    others = (column for column in own.columns if column.name not in named)
    print_table(console, replace(groups, columns=(*groups.columns, *others)))


def _with_columns(rows: list[dict[str, Any]], columns: str | None) -> list[dict[str, Any]]:
    """Return rows of these columns alone, and of cell_id."""
    if not columns:
        return rows
    from packsweep.analysis import selection

    wide = selection.widened(rows)
    names = [selection.name_of(word, wide, option="--columns") for word in split(columns)]
    return [{name: row.get(name) for name in ("cell_id", *names)} for row in wide]


def merge_command(
    results: ResultsArg,
    ceiling: CeilingOpt = None,
    gpu_hour_usd: PriceOpt = None,
    allow_mixed: MixedOpt = False,
) -> None:
    """Write summary.parquet and summary.csv of a results folder."""
    from packsweep.analysis import frames

    store = open_store(results)
    rows = frames.merge(store, allow_mixed=allow_mixed, overrides=overrides(ceiling, gpu_hour_usd))
    ok = sum(row["outcome"] == "ok" for row in rows)
    say(open_console(), f"{store.summary}.parquet and .csv: {len(rows)} cells, {ok} ok")


def print_summary(
    console: Console,
    rows: Sequence[dict[str, Any]],
    mixed: Sequence[str],
    compared: Sequence[Comparison],
    *,
    brief: bool = False,
) -> None:
    """Print the table of a sweep and what must be known to read it.

    Args:
        console: where to.
        rows: of the summary.
        mixed: what the rows do not share and should.
        compared: the comparisons of the cells.
        brief: of thousands of rows the two ends alone, as in a log.
    """
    from packsweep.report.tables import cells_table

    if not rows:
        say(console, "no cells yet")
        return
    print_table(console, cells_table.summary(rows), brief=brief)
    _print_footer(console, rows, mixed, compared, brief=brief)


def _print_footer(
    console: Console,
    rows: Sequence[dict[str, Any]],
    mixed: Sequence[str],
    compared: Sequence[Comparison],
    *,
    brief: bool = False,
) -> None:
    from packsweep.report import verdict
    from packsweep.report.tables import footer, quality_table

    warnings = [f"measured under different conditions: {line}" for line in mixed]
    warnings += footer.warnings(rows)
    lines = [*ends(console, footer.reasons(rows), brief=brief), *footer.conditions(rows)]
    if warnings:
        lines += ["", "Warnings:", *(f"  {line}" for line in warnings)]
    if compared:
        shown = ends(console, footer.comparisons(compared, rows), brief=brief)
        meaning = verdict.explained([c.ratio for c in compared], [c.answers for c in compared])
        lines += ["", "Comparisons of texts/s, with the 95% interval of the ratio:"]
        lines += [f"  {line}" for line in (*shown, *meaning)]
    if engines := footer.several_gpus(compared, rows):
        lines += ["", "Engines of several GPUs:", *(f"  {line}" for line in engines)]
    answers = quality_table.comparisons(compared, rows)
    if answers:
        shown = ends(console, answers, brief=brief)
        lines += [
            "",
            "Comparisons of accuracy on the same texts, with the 95% interval of the difference:",
        ]
        lines += [f"  {line}" for line in shown]
    for line in lines:
        say(console, line)


def _print_labels(found: Results, *, by_position: bool, json: bool) -> None:
    """Print what the answers held; JSON has a row for each position, the table one for a range."""
    from packsweep.analysis import frames, labels
    from packsweep.report.tables import quality_table

    answers = frames.load_labels(found.store)
    if by_position:
        frame = labels.by_position(answers, num_ranges=None if json else _NUM_RANGES)
    else:
        frame = labels.confusion(answers)
    shown = {cell["cell_id"] for cell in found.rows}
    rows = [row for row in labels.records(frame) if row["cell_id"] in shown]
    if json:
        print_json(rows)
    elif not rows:
        say(open_console(), _why_none(found.rows, read=bool(answers["cell_id"].isin(shown).any())))
    else:
        console = open_console()
        table = (
            quality_table.positions(rows, found.rows)
            if by_position
            else quality_table.confusion(rows, found.rows, console.width)
        )
        print_table(console, table)
        if table.note:
            say(console, f"{table.note}; --json has all")


def _print_quality(results: Results, *, json: bool) -> None:
    """Print how good each cell's labels are, and how far they agree with the baseline's."""
    from packsweep.analysis import frames, quality
    from packsweep.report.tables import quality_table

    rows, answers = results.rows, frames.load_answers(results.store, results.passes)
    baseline = quality.baseline(rows, answers)
    found = [quality.of_cell(own, baseline) for row in rows if (own := answers.get(row["cell_id"]))]
    console = open_console()
    if json:
        print_json([quality_table.to_record(each) for each in found])
    elif not found:
        say(console, _why_none(rows))
    else:
        print_table(console, quality_table.table(found, rows))
        say(console, "\n".join(quality_table.meaning(found)))


def _why_none(rows: Sequence[dict[str, Any]], *, read: bool = False) -> str:
    """Say why cells have nothing to print; ``read``: their answers are there."""
    from packsweep.analysis import recommend

    if all(row["outcome"] != "ok" for row in rows):
        why = "no cell is ok yet"
    elif read:
        why = "the texts have no labels; --quality shows which labels were given"
    elif any(row["coverage"] is not None for row in rows):
        why = recommend.REQUESTS_GONE
    else:
        why = "the weights are random"
    return f"no scored answers: {why}"


def _print_vllm(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    from packsweep.report import cell

    for row in rows:
        ok = row["outcome"] == "ok"
        say(console, row["cell_id"] + ("" if ok else f": {row['outcome']}"))
        for line in (*(cell.vllm_form(row) if ok else ()), ""):
            say(console, line)


def _print_time(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    from packsweep.report.tables import cells_table, footer

    for table in cells_table.time_tables(rows):
        print_table(console, table)
    for line in footer.reasons(rows):
        say(console, line)
    say(
        console,
        "percentages are shares of the seconds to their left; attempt: single values, pass: "
        "medians",
    )
