"""``packsweep doctor``: what is wrong with this machine, and the fix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packsweep.cli.options import JsonOpt
from packsweep.cli.output import FAILED, open_console, print_json, say
from packsweep.errors import printable

if TYPE_CHECKING:
    from packsweep.machine.doctor import Check, Finding

_STYLE = {"ok": "green", "warn": "yellow", "wrong": "bold red"}


def doctor_command(
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="FOLDER", help="Check this results folder too."),
    ] = None,
    json: JsonOpt = False,
) -> None:
    """Check this machine (packages, GPU, folders, limits, network) and print the fix.

    Starts nothing. Exit status 1 if a real engine could not run.
    """
    from packsweep.machine import doctor
    from packsweep.machine.doctor import survey

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
                        "message": finding.message,
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
        table.add_row(status, check.name, Text(printable(finding.message)))
        if finding.remedy:
            table.add_row("", "", Text(printable(f"-> {finding.remedy}"), style="bold"))
    console = open_console()
    console.print(table)
    warnings = sum(finding.status == "warn" for _, finding in found)
    ready = "a real engine can run here" + (f"; {warnings} to check (warn)" if warnings else "")
    say(console, f"{num_wrong} wrong: a real engine cannot run" if num_wrong else ready)
