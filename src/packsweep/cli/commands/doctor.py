"""``packsweep doctor``: what is wrong with this machine, and the fix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packsweep.cli.options import JsonOpt
from packsweep.cli.output import FAILED, open_console, print_json, say
from packsweep.errors import printable

if TYPE_CHECKING:
    from rich.text import Text

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


def _lines(found: Sequence[tuple[Check, Finding]], width: int) -> Iterator[Text]:
    """Yield what was found, broken between words, the fix below it."""
    from rich.text import Text

    from packsweep.report.wrap import wrapped

    status, name = (max(map(len, words)) for words in (_STYLE, [check.name for check, _ in found]))
    indent = status + name + 4
    for check, finding in found:
        first = Text.assemble(
            (f"{finding.status:{status}}", _STYLE[finding.status]), f"  {check.name:{name}}  "
        )
        for line in wrapped(printable(finding.message), width - indent):
            yield first.append(line)
            first = Text(" " * indent)
        if finding.remedy:
            for line in wrapped(printable(f"-> {finding.remedy}"), width - indent):
                yield Text(" " * indent).append(line, style="bold")


def _print(found: Sequence[tuple[Check, Finding]], num_wrong: int) -> None:
    console = open_console()
    for line in _lines(found, console.width):
        console.print(line, soft_wrap=True)
    warnings = sum(finding.status == "warn" for _, finding in found)
    ready = "a real engine can run here" + (f"; {warnings} to check (warn)" if warnings else "")
    say(console, f"{num_wrong} wrong: a real engine cannot run" if num_wrong else ready)
