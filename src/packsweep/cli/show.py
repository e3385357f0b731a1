"""``packsweep show`` and ``merge``: what a results folder holds."""

from __future__ import annotations

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
    held_against,
    selected,
    selection_is_empty,
    split,
)
from packsweep.cli.output import ends, open_console, print_columns, print_json, print_table, say
from packsweep.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from packsweep.analysis.contrasts import Comparison
    from packsweep.analysis.quality import Answers
    from packsweep.results.store import Store

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
    quality: Annotated[
        bool,
        typer.Option("--quality", help="Print accuracy, macro F1, and precision and recall."),
    ] = False,
    time: Annotated[
        bool, typer.Option("--time", help="Print where the wall clock of every cell went.")
    ] = False,
    where: WhereOpt = None,
    sort: SortOpt = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Turn the order around.")] = False,
    group_by: Annotated[
        str | None,
        typer.Option("--group-by", metavar="A,B", help="Put cells alike in these together."),
    ] = None,
    columns: ColumnsOpt = None,
    ceiling: CeilingOpt = None,
    gpu_hour_usd: PriceOpt = None,
    json: JsonOpt = False,
    allow_mixed: MixedOpt = False,
) -> None:
    """Show the table of a results folder: as many columns as the terminal has room for.

    Names are those of docs/METRICS.md, without _median, and of engine settings.
    """
    from packsweep.analysis import contrasts, frames
    from packsweep.results.store import Store

    if vllm + positions + confusion + quality + time > 1:
        raise UserError("--vllm, --positions, --confusion, --quality and --time exclude each other")
    if (vllm or positions or confusion or quality or time) and (columns or group_by):
        raise UserError("--columns and --group-by belong to the table of cells")
    store = Store(results)
    store.check()
    passes = frames.to_pandas(store.read_passes())
    regarded = held_against(ceiling, gpu_hour_usd).apply(passes)
    found = frames.summarise(regarded)
    rows = selected(found, where or [], sort, reverse=reverse)
    passes = passes[passes["group_id"].isin({row["group_id"] for row in rows})]
    mixed = frames.check_alike(passes, allow_mixed=allow_mixed)
    if found and not rows and not json:
        print(selection_is_empty(found, where or []))
    elif quality:
        _print_quality(rows, frames.load_answers(store, passes), json=json)
    elif positions or confusion:
        _print_labels(store, rows, by_position=positions, json=json)
    elif json:
        print_json(_with_columns(rows, columns))
    elif vllm:
        _print_vllm(rows)
    elif time:
        _print_time(open_console(), rows)
    elif columns:
        _print_chosen(open_console(), rows, columns, group_by)
    else:
        compared = contrasts.of(passes, frames.load_answers(store, passes))
        _print_cells(rows, mixed, compared, group_by)


def _print_cells(
    rows: list[dict[str, Any]],
    mixed: Sequence[str],
    compared: Sequence[Comparison],
    group_by: str | None,
) -> None:
    console = open_console()
    if group_by is None:
        print_summary(console, rows, mixed, compared)
    else:
        _print_chosen(console, rows, None, group_by)
        _print_footer(console, rows, mixed, compared)


def _print_chosen(
    console: Console, rows: list[dict[str, Any]], columns: str | None, group_by: str | None
) -> None:
    """Print the columns that are asked for, one below the other where they do not fit beside."""
    from packsweep.report import cells_table
    from packsweep.report import columns as report_columns

    ordered, groups, ends = cells_table.grouped(rows, split(group_by))
    words = split(columns)
    own = cells_table.chosen(ordered, words) if words else cells_table.summary(ordered)
    named = {group.name for group in groups}
    shown = [*groups, *(column for column in own if column.name not in named)]
    if words and report_columns.total(shown, report_columns.NARROW) > console.width:
        for line in report_columns.records(shown):
            say(console, line)
    else:
        print_columns(console, shown, ends)


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
    """Write summary.parquet and summary.csv of a results folder from its committed cells."""
    from packsweep.analysis import frames
    from packsweep.results.store import Store

    store = Store(results)
    store.check()
    against = held_against(ceiling, gpu_hour_usd)
    rows = frames.merge(store, allow_mixed=allow_mixed, against=against)
    ok = sum(row["outcome"] == "ok" for row in rows)
    print(f"{store.summary}.parquet and .csv: {len(rows)} cells, {ok} ok")


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
    from packsweep.report import cells_table

    if not rows:
        say(console, "no cells yet")
        return
    print_columns(console, cells_table.summary(rows), brief=brief)
    _print_footer(console, rows, mixed, compared, brief=brief)


def _print_footer(
    console: Console,
    rows: Sequence[dict[str, Any]],
    mixed: Sequence[str],
    compared: Sequence[Comparison],
    *,
    brief: bool = False,
) -> None:
    from packsweep.report import footer, quality_table

    lines = [
        *ends(console, footer.reasons(rows), brief=brief),
        *footer.warnings(rows),
        *(f"MIXED {line}" for line in mixed),
        *footer.conditions(rows),
    ]
    if compared:
        lines += [
            "",
            "texts/s compared, 95% interval of the ratio:",
            *ends(console, footer.comparisons(compared), brief=brief),
        ]
    answers = quality_table.comparisons(compared, rows)
    if answers:
        lines += ["", "right labels compared over the same texts, 95% interval of the difference:"]
        lines += ends(console, answers, brief=brief)
    say(console, "\n".join(lines))


def _print_labels(
    store: Store, cells: Sequence[dict[str, Any]], *, by_position: bool, json: bool
) -> None:
    """Print what the answers held; JSON has a row for each position, the table one for a range."""
    from packsweep.analysis import frames, labels
    from packsweep.report import labels_table

    found = frames.load_labels(store)
    if by_position:
        frame = labels.by_position(found, num_ranges=None if json else _NUM_RANGES)
    else:
        frame = labels.confusion(found)
    rows = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    shown = {cell["cell_id"] for cell in cells}
    rows = [row for row in rows if row["cell_id"] in shown]
    if json:
        print_json(rows)
    elif not rows:
        say(open_console(), "no scored answers: random weights, or no cell ended ok yet")
    else:
        made = (
            labels_table.positions(rows, cells)
            if by_position
            else labels_table.confusion(rows, cells)
        )
        print_table(open_console(), made)


def _print_quality(
    rows: Sequence[dict[str, Any]], answers: Mapping[str, Answers], *, json: bool
) -> None:
    """Print how good each cell's labels are, and how far they agree with the baseline's."""
    from packsweep.analysis import quality
    from packsweep.report import quality_table

    baseline = quality.baseline(rows, answers)
    found = [quality.of_cell(own, baseline) for row in rows if (own := answers.get(row["cell_id"]))]
    console = open_console()
    if json:
        print_json([quality_table.to_record(each) for each in found])
    elif not found:
        say(console, "no scored answers: random weights, or no cell ended ok yet")
    else:
        print_table(console, quality_table.table(found, rows))
        say(console, "\n".join(quality_table.meaning(found)))


def _print_vllm(rows: Sequence[dict[str, Any]]) -> None:
    from packsweep.report import format as fmt

    for row in rows:
        print(row["cell_id"] + ("" if row["outcome"] == "ok" else f": {row['outcome']}"))
        if row["outcome"] == "ok":
            print("\n".join(fmt.vllm_form(row)))
        print()


def _print_time(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    from packsweep.report import cells_table, footer

    for columns in cells_table.time_tables(rows):
        print_columns(console, columns)
    for line in footer.reasons(rows):
        say(console, line)
    say(console, "shares of the seconds to their left, once per attempt; a pass: medians")
