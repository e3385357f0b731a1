"""How commands print: lines and tables for a terminal or a pipe, and JSON."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType

    from packsweep.report.columns import Shown

_PIPE_WIDTH = 160
_NUM_ENDS = 100  # rows of each end that a terminal gets of very many


def print_table(console: Console, renderable: RenderableType) -> None:
    console.print(renderable, crop=False)


def print_columns(
    console: Console,
    columns: Sequence[Shown],
    sections: Sequence[int] = (),
    *,
    brief: bool = False,
) -> None:
    """Print a table as wide as the console, and say what had no room.

    A terminal gets the two ends of thousands of rows; a pipe gets all of them, unless ``brief``.
    """
    from packsweep.report import columns as report_columns

    num_rows = len(columns[0].cells)
    num_left_out = _num_left_out(console, num_rows, brief=brief)
    if num_left_out:
        columns = report_columns.ends(columns, _NUM_ENDS)
        sections = [row for row in sections if row < _NUM_ENDS] + [
            row - num_left_out + 1 for row in sections if row >= num_rows - _NUM_ENDS
        ]
    fitted = report_columns.fit(columns, console.width)
    print_table(console, report_columns.table(fitted, sections))
    if fitted.left_out:
        say(console, f"not shown at this width: {', '.join(fitted.left_out)}")
    if num_left_out:
        where = "packsweep show RESULTS | less has all" if brief else "a pipe gets all: | less"
        say(console, f"{num_left_out:,} of {num_rows:,} rows not shown; {where}")


def ends(console: Console, lines: Sequence[str], *, brief: bool = False) -> list[str]:
    """Return the two ends of thousands of lines where ``print_columns`` prints those of a table."""
    num_left_out = _num_left_out(console, len(lines), brief=brief)
    if not num_left_out:
        return list(lines)
    return [*lines[:_NUM_ENDS], f"... {num_left_out:,} more ...", *lines[-_NUM_ENDS:]]


def _num_left_out(console: Console, num_lines: int, *, brief: bool) -> int:
    """Return how many of so many lines a terminal is spared; a few are not worth it."""
    num_more = num_lines - 2 * _NUM_ENDS
    return num_more if (brief or console.is_terminal) and num_more > _NUM_ENDS else 0


def say(console: Console, text: str) -> None:
    """Print a line: broken between words on a terminal, whole in a pipe."""
    console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)


def print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2, default=str))


def open_console() -> Console:
    from rich.console import Console

    # A log or a pipe has no width that a table would have to fit, unless COLUMNS says so.
    told = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(highlight=False, width=None if told else _PIPE_WIDTH)


FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130
