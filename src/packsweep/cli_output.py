"""How commands print: lines and tables for a terminal or a pipe, and JSON."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType

    from packsweep.fit import Shown

_PIPE_WIDTH = 160


def print_table(console: Console, renderable: RenderableType) -> None:
    console.print(renderable, crop=False)


def print_columns(console: Console, columns: Sequence[Shown], sections: Sequence[int] = ()) -> None:
    """Print a table as wide as the console, and say what had no room."""
    from packsweep import fit

    fitted = fit.fit(columns, console.width)
    print_table(console, fit.Lines(fitted, sections))
    if fitted.left_out:
        say(console, f"not shown at this width: {', '.join(fitted.left_out)}")


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
