"""How commands print and write: lines and tables, JSON, whole files, exit statuses."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from packsweep.errors import UserError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from packsweep.report.tables.table import Table

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130
_PIPE_WIDTH = 160
_NUM_ENDS = 100  # rows of each end that a terminal gets of very many


def open_console() -> Console:
    from rich.console import Console

    class _Console(Console):
        def on_broken_pipe(self) -> None:
            """Raise, where Rich would end the process in the middle of a run."""
            raise BrokenPipeError

    # A log or a pipe has no width that a table would have to fit, unless COLUMNS says so.
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return _Console(highlight=False, width=None if known else _PIPE_WIDTH)


def print_table(console: Console, table: Table, *, brief: bool = False) -> None:
    """Print a table as wide as the console, and name the columns that had no room.

    A terminal gets the two ends of thousands of rows; a pipe gets all of them, unless ``brief``.
    """
    from rich.console import Group

    from packsweep.report.tables import table as table_

    num_rows = len(table.columns[0].cells)
    num_left_out = _num_left_out(console, num_rows, brief=brief)
    shown = table_.ends(table, _NUM_ENDS) if num_left_out else table
    parts, left_out = table_.to_rich(shown, console.width)
    console.print(Group(*parts), crop=False, no_wrap=True, overflow="ignore")
    if left_out:
        say(console, f"columns that do not fit this width: {', '.join(left_out)}")
    if num_left_out:
        where = "packsweep show RESULTS | less" if brief else "| less"
        say(console, f"{num_left_out:,} of {num_rows:,} rows not shown; {where} shows all")


def ends(console: Console, lines: Sequence[str], *, brief: bool = False) -> list[str]:
    """Return the two ends of thousands of lines where ``print_table`` prints those of a table."""
    num_left_out = _num_left_out(console, len(lines), brief=brief)
    if not num_left_out:
        return list(lines)
    return [*lines[:_NUM_ENDS], f"... {num_left_out:,} more ...", *lines[-_NUM_ENDS:]]


def _num_left_out(console: Console, num_lines: int, *, brief: bool) -> int:
    """Return how many lines to leave out on a terminal; 0 where it would be a few."""
    num_more = num_lines - 2 * _NUM_ENDS
    return num_more if (brief or console.is_terminal) and num_more > _NUM_ENDS else 0


def say(console: Console, text: str) -> None:
    """Print a line: broken between words on a terminal, indented alike, whole in a pipe."""
    from packsweep.report.wrap import fitted

    for part in fitted(printable(text), console):
        console.print(part, markup=False, highlight=False, soft_wrap=True)


def complain(text: str) -> None:
    """Print one line on stderr."""
    print(f"packsweep: {printable(text, one_line=True)}", file=sys.stderr)


def print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2, default=str))


def write_file(path: Path, content: bytes) -> None:
    """Write a user's ``--output`` whole, in a folder that is made where it is missing.

    Raises:
        UserError: something other than a file is there, or it cannot be written.
    """
    from packsweep.files import replace_file

    where = f"--output {path}"
    if path.is_symlink() or (path.exists() and not path.is_file()):
        kind = "symbolic link" if path.is_symlink() else "folder" if path.is_dir() else "device"
        raise UserError(f"{where}: is a {kind}, which is never replaced; name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{where}: cannot be written: {reason}") from None
