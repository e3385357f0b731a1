"""``packsweep compare``: two results folders side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from packsweep.cli.options import JsonOpt, WhereOpt
from packsweep.cli.output import open_console, print_columns, print_json, say
from packsweep.errors import ResultsError, UserError

if TYPE_CHECKING:
    from packsweep.analysis.compare import Compared, Gate

FAILED = 1


def compare_command(
    a: Annotated[str, typer.Argument(metavar="A", help="Results to compare with.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Results that may have changed.")],
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help="A time, a rate or an energy.")
    ] = "texts_per_s",
    fail_below: Annotated[
        float | None,
        typer.Option(
            "--fail-below",
            metavar="SHARE",
            help="Exit with 1 where B is shown to be below this share of A, e.g. 0.95, or where a "
            "cell that was ok in A is not ok in B.",
        ),
    ] = None,
    where: WhereOpt = None,
    allow_mixed: Annotated[
        bool,
        typer.Option("--allow-mixed", help="Take a folder of several devices or versions as one."),
    ] = False,
    json: JsonOpt = False,
) -> None:
    """Show how much faster B is than A, cell by cell, and which changes are real.

    A cell is found in both by its work (strategy, n, duplication, wording, cache state) and by the
    settings that vary inside a folder; settings, versions and devices that differ between the
    folders are listed.
    """
    from packsweep.analysis import compare
    from packsweep.report import compare_table
    from packsweep.results.store import Store

    if fail_below is not None and not fail_below > 0:
        raise UserError(f"--fail-below {fail_below:g}: expected a share of A above 0, e.g. 0.95")
    if Store(a).absolute == Store(b).absolute:
        raise UserError(f"{a} and {b} are the same folder")
    of_a, of_b = (_passes(folder, where or [], allow_mixed=allow_mixed) for folder in (a, b))
    compared = compare.compare(of_a, of_b, metric)
    gate = None if fail_below is None else compare.gate(compared, fail_below)
    if json:
        print_json({"a": a, "b": b, **compare_table.to_record(compared, gate)})
    else:
        _print(compared, gate, a, b)
    raise typer.Exit(FAILED if gate is not None and gate.failed else 0)


def _passes(folder: str, where: list[str], *, allow_mixed: bool) -> list[dict[str, Any]]:
    """Return the passes of the cells of ``folder`` that are wanted."""
    from packsweep.analysis import frames, selection
    from packsweep.results.store import Store

    store = Store(folder)
    store.check()
    table = store.read_passes()
    passes, frame = table.to_pylist(), frames.to_pandas(table)
    try:
        frames.check_alike(frame, allow_mixed=allow_mixed)
    except ResultsError as error:
        raise ResultsError(f"{folder}: {error}") from None
    if not where:
        return list(passes)
    rows = selection.widened(frames.summarise(frame))
    wanted = selection.where(rows, where)
    if rows and not wanted:
        raise ResultsError(f"{folder}: {selection.nothing_matches(rows, where)}")
    groups = {row["group_id"] for row in wanted}
    return [row for row in passes if row["group_id"] in groups]


def _print(compared: Compared, gate: Gate | None, a: str, b: str) -> None:
    from packsweep.report import compare_table

    console = open_console()
    print_columns(console, compare_table.columns(compared))
    say(console, f"A: {a}")
    say(console, f"B: {b}")
    lines = [
        *compare_table.unpaired(compared),
        *compare_table.legend(compared),
        "differs between A and B:" if compared.differences else "",
        *compare_table.differences(compared.differences),
        *(compare_table.gate(gate, compared.metric) if gate else ()),
    ]
    for line in filter(None, lines):
        say(console, line)
