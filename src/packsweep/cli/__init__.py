"""The command line.

Registers commands and turns their arguments into calls; every import that costs time stands inside
the command that needs it. What a user can cause is one line on stderr and exit status 2.

Exit status: 0 all cells ok or infeasible as planned, 1 some failed, 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from packsweep.cli.calc import app as calc_app
from packsweep.cli.compare import compare_command
from packsweep.cli.compare_tool import compare_tool_command
from packsweep.cli.doctor import doctor_command
from packsweep.cli.export import export_command
from packsweep.cli.output import FAILED, INTERRUPTED, WRONG_USE
from packsweep.cli.plan import plan_command
from packsweep.cli.recommend import recommend_command
from packsweep.cli.report import report_command
from packsweep.cli.run import run_command
from packsweep.cli.show import merge_command, show_command
from packsweep.cli.signals import ignore_signals, interrupt_on_signals
from packsweep.errors import UserError
from packsweep.machine import home
from packsweep.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence


app = typer.Typer(
    name="packsweep",
    help="Measure how to ask an LLM to label many short texts: join them, or send them one by one?",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(calc_app)


@app.callback(invoke_without_command=True)
def packsweep(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Measure how to ask an LLM to label many short texts: join them, or send them one by one?"""
    if version:
        print(__version__)
        raise typer.Exit


app.command("plan")(plan_command)
app.command("run")(run_command)
app.command("show")(show_command)
app.command("merge")(merge_command)
app.command("report")(report_command)
app.command("recommend")(recommend_command)
app.command("compare-tool")(compare_tool_command)
app.command("compare")(compare_command)
app.command("export")(export_command)
app.command("doctor")(doctor_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    interrupt_on_signals()
    if line := home.provide():
        print(f"packsweep: {line}", file=sys.stderr)
    try:
        status = app(args=given or ["--help"], standalone_mode=False)
    except UserError as error:
        print(f"packsweep: {error}", file=sys.stderr)
        sys.exit(WRONG_USE)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        # A wrong option; which package the class lives in depends on Typer's version.
        if not hasattr(error, "format_message"):
            raise
        told = " ".join(str(error.format_message()).split()) or "a command is missing"
        print(f"packsweep: {told} (packsweep --help)", file=sys.stderr)
        sys.exit(WRONG_USE)
    if status == INTERRUPTED:
        ignore_signals()
    sys.exit(status if isinstance(status, int) else 0)
