"""``packsweep doctor``: what is wrong with this machine, and what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packsweep.cli.options import JsonOpt
from packsweep.cli.output import open_console, print_json

if TYPE_CHECKING:
    from packsweep.machine.doctor import Check, Finding

FAILED = 1
_STYLE = {"ok": "green", "warn": "yellow", "wrong": "bold red"}


def doctor_command(
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="FOLDER", help="Where results are to go."),
    ] = None,
    json: JsonOpt = False,
) -> None:
    """Check this machine: packages, GPU, folders, limits, network; say what mends what is wrong.

    Starts nothing. Exit status 1 if something would keep a real engine from running.
    """
    from packsweep.machine import doctor, survey

    found = doctor.examine(survey.look(results))
    num_wrong = sum(finding.status == "wrong" for _, finding in found)
    if json:
        print_json(
            {
                "num_wrong": num_wrong,
                "checks": [
                    {
                        "name": check.name,
                        "status": finding.status,
                        "told": finding.told,
                        "remedy": finding.remedy or None,
                    }
                    for check, finding in found
                ],
            }
        )
    else:
        _print(found, num_wrong)
    raise typer.Exit(FAILED if num_wrong else 0)


def _print(found: Sequence[tuple[Check, Finding]], num_wrong: int) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check, finding in found:
        status = Text(finding.status, style=_STYLE[finding.status])
        table.add_row(status, check.name, Text(finding.told))
        if finding.remedy:
            table.add_row("", "", Text(f"-> {finding.remedy}", style="bold"))
    console = open_console()
    console.print(table)
    said = f"{num_wrong} wrong: a real engine will not run" if num_wrong else "nothing is wrong"
    console.print(said, highlight=False)
