"""``packsweep compare``: two results folders side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from packsweep.cli.options import JsonOpt, MixedOpt, WhereOpt, finite, place
from packsweep.cli.output import FAILED, open_console, print_json, print_table, say
from packsweep.cli.results import open_results
from packsweep.errors import ResultsError, UserError

if TYPE_CHECKING:
    from packsweep.analysis.compare import Compared, Gate
    from packsweep.analysis.quality import Answers


def compare_command(
    a: Annotated[str, typer.Argument(metavar="A", help="Baseline results.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Results to compare with the baseline.")],
    metric: Annotated[
        str,
        typer.Option(
            "--metric", metavar="NAME", help="Column to compare: a time, a rate or an energy."
        ),
    ] = "texts_per_s",
    fail_below: Annotated[
        float | None,
        typer.Option(
            "--fail-below",
            metavar="SHARE",
            max=1000.0,
            callback=finite,
            help="Exit with 1 if B is significantly below this share of A, e.g. 0.95, or if a "
            "cell that was ok in A is not ok in B.",
        ),
    ] = None,
    where: WhereOpt = None,
    allow_mixed: MixedOpt = False,
    json: JsonOpt = False,
) -> None:
    """Compare two results folders cell by cell: B / A, and which changes are significant.

    Answers to the same texts are compared too: correct labels of B minus those of A.

    Cells are matched by their work (strategy, n, duplication, wording, cache state) and by the
    settings that vary within a folder. Other settings, versions and devices that differ are listed.
    """
    from packsweep.analysis import compare
    from packsweep.report.tables import compare_table
    from packsweep.results.store import Store

    if fail_below is not None and not fail_below > 0:
        raise UserError(f"--fail-below {fail_below:g}: expected a share of A above 0, e.g. 0.95")
    if Store(place(a)).absolute == Store(place(b)).absolute:
        raise UserError(f"{a} and {b} are the same folder")
    (of_a, answers_a), (of_b, answers_b) = (
        _measured(folder, where or [], allow_mixed=allow_mixed) for folder in (a, b)
    )
    compared = compare.compare(of_a, of_b, metric, (answers_a, answers_b))
    gate = None if fail_below is None else compare.gate(compared, fail_below)
    if json:
        print_json({"a": a, "b": b, **compare_table.to_record(compared, gate)})
    else:
        _print(compared, gate, a, b)
    raise typer.Exit(FAILED if gate is not None and gate.failed else 0)


def _measured(
    folder: str, where: list[str], *, allow_mixed: bool
) -> tuple[list[dict[str, Any]], dict[str, Answers]]:
    """Return the passes of the cells of ``folder`` that are wanted, and their answers."""
    from packsweep.analysis import frames

    found = open_results(folder, where=where, allow_mixed=allow_mixed)
    if found.nothing:
        raise ResultsError(f"{folder}: {found.nothing}")
    return frames.plain_rows(found.passes), frames.load_answers(found.store, found.passes)


def _print(compared: Compared, gate: Gate | None, a: str, b: str) -> None:
    from packsweep.report.tables import compare_table

    console = open_console()
    print_table(console, compare_table.table(compared))
    say(console, f"A: {a}")
    say(console, f"B: {b}")
    lines = [
        *compare_table.unpaired(compared),
        *compare_table.answers(compared.changes),
        *compare_table.legend(compared),
        "differs between A and B:" if compared.differences else "",
        *compare_table.differences(compared.differences),
        *(compare_table.gate(gate, compared.metric) if gate else ()),
    ]
    for line in filter(None, lines):
        say(console, line)
