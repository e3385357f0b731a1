"""The command line.

Registers commands and turns their arguments into calls; every import that costs time stands inside
the command that needs it. What a user can cause is one line on stderr and exit status 2.

Exit status: 0 all cells ok or infeasible as planned, 1 some failed, 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from packsweep.cli.commands.calc import app as calc_app
from packsweep.cli.commands.compare import compare_command
from packsweep.cli.commands.compare_tool import compare_tool_command
from packsweep.cli.commands.doctor import doctor_command
from packsweep.cli.commands.export import export_command
from packsweep.cli.commands.plan import plan_command
from packsweep.cli.commands.recommend import recommend_command
from packsweep.cli.commands.report import report_command
from packsweep.cli.commands.run import run_command
from packsweep.cli.commands.show import merge_command, show_command
from packsweep.cli.output import FAILED, INTERRUPTED, WRONG_USE, complain
from packsweep.cli.signals import ignore_signals, interrupt_on_signals
from packsweep.errors import UserError
from packsweep.machine import home
from packsweep.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_HELP = "Measure how to label many short texts with vLLM: packing, prompts, engine settings."
_COMMANDS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Measure": {"plan": plan_command, "run": run_command},
    "Read results": {
        "show": show_command,
        "recommend": recommend_command,
        "report": report_command,
        "compare": compare_command,
        "export": export_command,
        "merge": merge_command,
    },
    "Check": {"doctor": doctor_command, "calc": calc_app, "compare-tool": compare_tool_command},
}


class _Groups(TyperGroup):
    """Lists commands under what they are for."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002  (click's)
        """Write a section for each group."""
        for title, names in _COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(name, self.commands[name].get_short_help_str(90)) for name in names]
                )


app = typer.Typer(
    name="packsweep",
    cls=_Groups,
    help=_HELP,
    epilog="Start with: packsweep run sweeps/quick.toml",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True, help=_HELP)
def packsweep(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Print the version where that is asked for."""
    if version:
        print(__version__)
        raise typer.Exit


for _group in _COMMANDS.values():
    for _name, _command in _group.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name)
        else:
            app.command(_name)(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed before the start
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w")))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an ASCII terminal has no ±
    try:
        interrupt_on_signals()
        if line := home.provide():
            complain(line)
        status = _status(sys.argv[1:] if arguments is None else list(arguments))
        _flush()
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status == INTERRUPTED:
        ignore_signals()
    sys.exit(status)


def _status(arguments: list[str]) -> int:
    """Run a command and return its exit status; what a user can cause is one line."""
    try:
        status = app(args=arguments or ["--help"], standalone_mode=False, prog_name="packsweep")
    except UserError as error:
        complain(str(error))
        return WRONG_USE
    except typer.Abort:
        return INTERRUPTED
    except OSError as error:  # nobody reads, or what reads is full or gone
        _silence()
        if not isinstance(error, BrokenPipeError):
            complain(str(error))
        return FAILED
    except Exception as error:
        # A wrong option; which package the class lives in depends on Typer's version.
        if not hasattr(error, "format_message"):
            raise
        asked = getattr(getattr(error, "ctx", None), "command_path", "packsweep")
        complain(f"{_wrong_option(error.format_message())} ({asked} --help)")
        return WRONG_USE
    return status if isinstance(status, int) else 0


def _wrong_option(said: str) -> str:
    """Return what is wrong with a command line, without the words of the libraries that say it."""
    if not said or said.lstrip().startswith("Usage:"):
        return "a command is missing"
    return said.replace("Value error, ", "").replace("Input should be", "expected")


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _silence()


def _silence() -> None:
    """Give stdout a place to go: nobody reads it any more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
